"""Questions to arrays and predictions to text, with ids that can be counted by hand: one word, one id (`words`)."""

import numpy as np
import pytest
from hypothesis import given, strategies as st

import tlqa_jax.tasks.text_to_text as module
from tlqa_jax.errors import UserError
from tlqa_jax.examples import QAExample
from tlqa_jax.tasks.text_tasks import TextTask
from tlqa_jax.tasks.text_to_text import (
    decode_predictions,
    encode_examples,
    encode_sources,
    encode_texts,
    longest_target,
    qa_source,
)
from tlqa_jax.text.sentencepiece import SentencePieceTokenizer

PAD, EOS, QUESTION, CONTEXT, A, B, C, D, E, F = 0, 1, *range(3, 11)  # 2 is the unknown word

texts = st.lists(st.sampled_from("abcdef"), max_size=9).map(" ".join)


def test_source_text():
    assert qa_source("Who?", "Mira did.") == "question: Who? context: Mira did."
    assert qa_source("Who?") == qa_source(" Who? ", "") == qa_source("Who?", " \n") == "question: Who?"


def test_rows_end_with_the_end_token_and_are_padded(words):
    rows, truncated = encode_sources(words, ["a b", "", "a b c d e"], 4)
    assert rows.tolist() == [[A, B, EOS, PAD], [EOS, PAD, PAD, PAD], [A, B, C, EOS]]
    assert rows.dtype == np.int32
    assert truncated == 1


def test_a_text_that_just_fits_is_not_truncated(words):
    assert encode_sources(words, ["a b c"], 4)[1] == 0
    assert encode_sources(words, ["a b c d"], 4)[1] == 1


def test_no_room_for_the_end_token(words):
    with pytest.raises(ValueError, match="length is 0"):
        encode_sources(words, ["a"], 0)


@given(st.lists(texts, max_size=5), st.integers(1, 8))
def test_rows_hold_the_beginning_of_each_text(words, batch, length):
    rows, truncated = encode_sources(words, batch, length)
    assert rows.shape == (len(batch), length)
    for text, row in zip(batch, rows.tolist(), strict=True):
        kept = words.encode_batch([text])[0][: length - 1]
        assert row == kept + [EOS] + [PAD] * (length - 1 - len(kept))
    assert truncated == sum(len(text.split()) >= length for text in batch)
    untouched = [" ".join(text.split()[: length - 1]) for text in batch]
    assert decode_predictions(words, rows) == untouched


def test_examples_with_a_context(words):
    examples = [
        QAExample("1", "a", ("b", "c"), "d b d"),
        QAExample("2", "a b", (), None),  # unanswerable, and nothing to read
    ]
    arrays = encode_examples(words, examples, input_length=8, target_length=3)
    assert arrays.inputs.tolist() == [
        [QUESTION, A, CONTEXT, D, B, D, EOS, PAD],
        [QUESTION, A, B, EOS, PAD, PAD, PAD, PAD],
    ]
    assert arrays.targets.tolist() == [[B, EOS, PAD], [EOS, PAD, PAD]]  # the first answer; the empty answer
    assert arrays.input_lengths.tolist() == [7, 4]
    assert arrays.target_lengths.tolist() == [2, 1]
    assert arrays.report() == (
        "2 examples: none cut to the input length of 8 tokens, none cut to the target length of 3 tokens"
    )


@pytest.mark.parametrize("at_once", [1, 2, 3, 7])
def test_few_texts_are_encoded_at_a_time(words, at_once, monkeypatch):
    """Whole texts as lists of ids take far more room than their rows."""
    sizes = []

    class Counted(SentencePieceTokenizer):
        def encode_batch(self, texts):
            sizes.append(len(texts))
            return super().encode_batch(texts)

    examples = [QAExample(str(i), "a", ("b c d"[: 2 * i + 1],), "d " * i) for i in range(5)]
    rows = encode_examples(words, examples, input_length=5, target_length=3)
    monkeypatch.setattr(module, "TEXTS_AT_ONCE", at_once)
    some = encode_examples(Counted(words.model_file), examples, input_length=5, target_length=3)
    assert all(np.array_equal(getattr(rows, name), getattr(some, name)) for name in vars(rows))
    assert longest_target(Counted(words.model_file), examples) == 4 and max(sizes) <= at_once


def test_what_stands_behind_the_last_field_is_not_cut(words):
    task = TextTask("t", "a {x} b {y} c d", "z")
    examples = [task.example({"x": "e", "y": y, "z": "a"}, "") for y in ("f", "f e f", "f e f e f e")]
    assert [(example.head, example.tail) for example in examples] == [("a e", " c d")] * 3
    arrays = encode_texts(words, examples, input_length=9, target_length=2)
    ids = lambda text: words.encode_batch([text])[0]
    assert arrays.inputs.tolist() == [
        [*ids("a e b f c d"), EOS, PAD, PAD], [*ids("a e b f e f c d"), EOS], [*ids("a e b f e f c d"), EOS],
    ]
    assert arrays.inputs_cut.tolist() == [False, False, True]
    none_left = encode_texts(words, examples, input_length=5, target_length=2)
    assert none_left.inputs[2].tolist() == [*ids("a e c d"), EOS]
    with pytest.raises(UserError, match="alone takes 5 tokens: set --input-length"):
        encode_texts(words, examples, input_length=4, target_length=2)
    braces = TextTask("t", "{{x}} {x} {{y}}", "z").example({"x": "1", "z": "a"}, "")
    assert (braces.input, braces.head, braces.tail) == ("{x} 1 {y}", "{x}", " {y}")


def test_closed_book_leaves_the_context_out(words):
    arrays = encode_examples(
        words, [QAExample("1", "a", ("b",), "d " * 90)], input_length=4, target_length=2, use_context=False
    )
    assert arrays.inputs.tolist() == [[QUESTION, A, EOS, PAD]]
    assert not arrays.inputs_cut.any()


def test_a_long_context_is_cut_and_the_question_kept_and_both_cuts_are_reported(words):
    examples = [QAExample("1", "a b", ("c d e",), "c d e f"), QAExample("2", "a b", ("c",), "c d e")] + [
        QAExample("3", "a", ("b",), "c")
    ] * 1000
    arrays = encode_examples(words, examples, input_length=7, target_length=3)
    assert arrays.inputs[:2].tolist() == [[QUESTION, A, B, CONTEXT, C, D, EOS]] * 2
    assert arrays.targets[:2].tolist() == [[C, D, EOS], [C, EOS, PAD]]
    assert (arrays.inputs_cut.sum(), arrays.targets_cut.sum()) == (2, 1)
    assert arrays.input_lengths[:3].tolist() == [7, 7, 5]
    assert arrays.report() == (
        "1,002 examples: 2 (0.2%) cut to the input length of 7 tokens, 1 (0.1%) cut to the target length of 3 tokens"
    )


def test_a_question_that_does_not_fit_names_the_example_and_the_flag(words):
    examples = [QAExample("fits", "a", ("b",), "c d e f"), QAExample("q-7", "a b c d", ("b",), "c")]
    just_fits = encode_examples(words, examples, input_length=6, target_length=2)
    assert just_fits.inputs[1].tolist() == [QUESTION, A, B, C, D, EOS]
    with pytest.raises(UserError, match=r"'q-7' alone takes 6 tokens: set --input-length \(now 5\)") as error:
        encode_examples(words, examples, input_length=5, target_length=2)
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="'closed' alone takes 6 tokens"):
        encode_examples(words, [QAExample("closed", "a b c d", ("b",))], input_length=5, target_length=2)


@given(
    st.lists(st.tuples(texts, texts, st.lists(texts, max_size=2)), max_size=4), st.integers(11, 24), st.integers(1, 6)
)
def test_arrays_keep_the_question_and_the_start_of_the_context(words, rows, input_length, target_length):
    examples = [QAExample(str(i), q, tuple(answers), context) for i, (q, context, answers) in enumerate(rows)]
    arrays = encode_examples(words, examples, input_length=input_length, target_length=target_length)
    assert arrays.inputs.shape == (len(rows), input_length) and arrays.targets.shape == (len(rows), target_length)
    sources = [qa_source(example.question, example.context).split() for example in examples]
    for i, source in enumerate(sources):
        assert decode_predictions(words, arrays.inputs[i : i + 1]) == [" ".join(source[: input_length - 1])]
        assert arrays.input_lengths[i] == (arrays.inputs[i] != PAD).sum()
        assert arrays.target_lengths[i] == (arrays.targets[i] != PAD).sum()
    assert arrays.inputs_cut.sum() == sum(len(source) >= input_length for source in sources)
    assert arrays.targets_cut.sum() == sum(len(e.answers[0].split()) >= target_length for e in examples if e.answers)


def test_no_examples_are_empty_arrays(words):
    arrays = encode_examples(words, [], input_length=5, target_length=3)
    assert arrays.inputs.shape == (0, 5) and arrays.targets.shape == (0, 3)
    assert arrays.report().startswith("0 examples")


def test_predictions_are_read_up_to_the_first_end_token(words):
    generated = np.array([[A, B, EOS, C], [A, B, C, D], [EOS, A, PAD, PAD], [PAD, A, EOS, PAD]])
    assert decode_predictions(words, generated) == ["a b", "a b c d", "", "a"]


def test_columns_of_nothing_but_padding_can_be_left_out(words):
    examples = [QAExample("1", "a", ("b",)), QAExample("2", "a " * 7, ())]
    arrays = encode_examples(words, examples, input_length=50, target_length=9)
    trimmed = arrays.trimmed()
    assert trimmed.inputs.shape == (2, 16) and trimmed.targets.shape == (2, 8)  # 9 and 2 tokens
    assert np.array_equal(trimmed.inputs, arrays.inputs[:, :16]) and not arrays.inputs[:, 9:].any()
    assert trimmed.trimmed().inputs.shape == (2, 16) and trimmed.report().startswith("2 examples: none cut")
