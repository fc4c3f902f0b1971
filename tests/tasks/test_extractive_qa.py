"""Windows over long contexts, with a vocabulary whose ids can be counted by hand: 10 is "a", 11 "b" (`letters`)."""

import numpy as np
import pytest
from hypothesis import given, strategies as st

from tlqa_jax.errors import UserError
from tlqa_jax.examples import QAExample
from tlqa_jax.tasks.extractive_qa import NOWHERE, make_windows

PAD, CLS, SEP = 0, 1, 2


def ask(question, context, answers=(), starts=()):
    return QAExample("q", question, answers, context, starts)


@pytest.fixture(scope="module")
def windows_of(letters):
    def windows_of(*examples, input_length=9, stride=2, max_question_length=3):
        lengths = dict(input_length=input_length, stride=stride, max_question_length=max_question_length)
        return make_windows(letters, examples, **lengths)

    return windows_of


def every(windows):
    return np.arange(len(windows.example))


def pointed_at(windows, context, window=0):
    """The text between the targets of a window."""
    batch = windows.batch(np.array([window]))
    starts, ends = windows.characters(np.array([window]))
    return context[starts[0, batch["start"][0]] : ends[0, batch["end"][0]]]


def test_one_window_by_hand(windows_of):
    windows = windows_of(ask("x y", "a b c", ("b c",), (2,)))
    batch = windows.batch(every(windows))
    assert batch["tokens"].tolist() == [[CLS, 33, 34, SEP, 10, 11, 12, SEP, PAD]]
    assert batch["token_types"].tolist() == [[0, 0, 0, 0, 1, 1, 1, 1, 0]]
    assert (batch["start"].tolist(), batch["end"].tolist()) == ([5], [6])
    assert windows.context_tokens(every(windows)).tolist() == [[-1, -1, -1, -1, 0, 1, 2, -1, -1]]
    assert windows.lengths.tolist() == [8]
    starts, ends = windows.characters(every(windows))
    assert starts.tolist() == [[-1, -1, -1, -1, 0, 2, 4, -1, -1]]
    assert ends.tolist() == [[-1, -1, -1, -1, 1, 3, 5, -1, -1]]
    assert all(array.dtype == np.int32 for array in batch.values())


def test_three_windows_by_hand(windows_of):
    # behind a question of one token there is room for 4 (8 - 3 - 1), 2 of them shared: windows abcd, cdef, efg
    windows = windows_of(
        ask("x", "a b c d e f g", ("d e",), (6,)), ask("y", "a"),
        input_length=8, stride=2, max_question_length=2,
    )
    assert windows.example.tolist() == [0, 0, 0, 1]
    assert windows.begins.tolist() == [0, 3, 4]
    batch = windows.batch(every(windows))
    assert batch["tokens"].tolist() == [
        [CLS, 33, SEP, 10, 11, 12, 13, SEP],
        [CLS, 33, SEP, 12, 13, 14, 15, SEP],
        [CLS, 33, SEP, 14, 15, 16, SEP, PAD],
        [CLS, 34, SEP, 10, SEP, PAD, PAD, PAD],
    ]
    assert batch["start"].tolist() == [0, 4, 0, 0]  # "d e" is whole in the second only; the others point at [CLS]
    assert batch["end"].tolist() == [0, 5, 0, 0]
    # c has 1 neighbour on its right in the first window, none on its left in the second; g's end is the document's
    most = windows.most_context(every(windows))
    shown = [[chr(87 + t) for t in row[here]] for row, here in zip(batch["tokens"], most)]
    assert shown == [["a", "b", "c"], ["d", "e"], ["f", "g"], ["a"]]


def test_rows_can_be_asked_for_in_any_order_and_shorter(windows_of):
    windows = windows_of(ask("x", "a b c d e f g"), ask("y", "a"), input_length=8, max_question_length=2)
    whole = windows.batch(every(windows))
    some = windows.batch(np.array([3, 1]), 7)
    assert some["tokens"].tolist() == whole["tokens"][[3, 1], :7].tolist()
    most_context = windows.most_context(every(windows))
    assert windows.most_context(np.array([3, 1]), 7).tolist() == most_context[[3, 1], :7].tolist()


def test_an_empty_context_has_a_window_too(windows_of):
    windows = windows_of(ask("x", " "))
    assert windows.batch(every(windows))["tokens"].tolist() == [[CLS, 33, SEP, SEP, PAD, PAD, PAD, PAD, PAD]]
    assert not windows.most_context(every(windows)).any()


@pytest.mark.parametrize(
    ("answer", "start", "tokens", "text"),
    [
        ("mira", 0, (0, 1), "mira"),  # mir ##a
        ("ira was", 1, (0, 2), "mira was"),  # begins within a token
        ("wa", 5, (2, 2), "was"),  # ends within one
        (" was ", 4, (2, 2), "was"),  # white space is no token
        ("!", 9, (3, 3), "!"),
    ],
)
def test_an_answer_is_the_fewest_tokens_that_cover_it(windows_of, answer, start, tokens, text):
    context = "mira was !"
    windows = windows_of(ask("x", context, (answer, "was"), (start, 5)), input_length=12)
    assert tuple(windows.answers[0].tolist()) == tokens
    assert pointed_at(windows, context) == text


def test_an_answer_without_a_start_is_looked_for_and_one_that_is_nowhere_is_not_learned(windows_of):
    windows = windows_of(ask("x", "a b a b", ("b",)), ask("x", "a b", ("c",)), ask("x", "a b"))
    assert windows.answers.tolist() == [[1, 1], [NOWHERE, NOWHERE], [NOWHERE, NOWHERE]]
    assert windows.answer_missing.tolist() == [False, True, False]
    assert windows.learnable.tolist() == [0, 2]  # that there is no answer can be learned
    assert windows.report() == (
        "3 examples in 3 windows of up to 9 tokens, not learned from because the first answer is not in the context: 1"
    )


def test_a_long_question_loses_its_end_and_that_is_said(windows_of):
    windows = windows_of(ask("u v w x y", "a"), ask("x", "a"))
    assert windows.batch(every(windows))["tokens"][0].tolist() == [CLS, 30, 31, 32, SEP, 10, SEP, PAD, PAD]
    assert windows.question_cut.tolist() == [True, False]
    assert windows.report() == "2 examples in 2 windows of up to 9 tokens, questions cut to 3 tokens: 1"


def test_a_context_asked_about_twice_is_kept_once(windows_of):
    windows = windows_of(ask("x", "a b c"), ask("y", "d"), ask("z", "a b c"))
    assert windows.contexts[0] is windows.contexts[2]
    assert [len(context.tokens) for context in windows.contexts] == [3, 1, 3]


def test_windows_that_cannot_move_on_are_refused(windows_of):
    with pytest.raises(UserError, match="--input-length 9 leaves 3 tokens .* --stride 3"):
        windows_of(ask("x", "a"), stride=3)
    with pytest.raises(UserError, match="question q has no context"):
        windows_of(ask("x", None))


characters = st.text(st.sampled_from("abc .é"), max_size=40)
questions = st.tuples(st.text(st.sampled_from("xy "), max_size=9), characters)
lengths = st.tuples(st.integers(0, 4), st.integers(0, 5), st.integers(1, 5)).map(  # question, stride, step
    lambda x: dict(max_question_length=x[0], stride=x[1], input_length=3 + x[0] + x[1] + x[2])
)


@given(st.lists(questions, max_size=3), lengths)
def test_every_context_token_is_in_a_window_and_in_one_with_most_context(letters, windows_of, asked, lengths):
    examples = [ask(*question_and_context) for question_and_context in asked]
    windows = windows_of(*examples, **lengths)
    assert np.bincount(windows.example, minlength=len(examples)).min(initial=1) >= 1
    tokens, best = windows.context_tokens(every(windows)), windows.most_context(every(windows))
    rows = windows.batch(every(windows))["tokens"]
    for i, example in enumerate(examples):
        own = windows.example == i
        ids, offsets = letters.encode_with_offsets(example.context)
        assert set(tokens[own][tokens[own] != NOWHERE]) == set(range(len(ids)))
        assert np.sort(tokens[own][best[own]]).tolist() == list(range(len(ids)))  # each exactly once
        for row, places in zip(rows[own], tokens[own]):
            assert row[places != NOWHERE].tolist() == [ids[place] for place in places if place != NOWHERE]
        spans = (side[own].ravel() for side in windows.characters(every(windows)))
        for token, *span in zip(tokens[own].ravel(), *spans):
            assert span == [NOWHERE, NOWHERE] if token == NOWHERE else tuple(span) == offsets[token]
        held = [set(row[row != NOWHERE].tolist()) for row in tokens[own]]
        assert all(len(a & b) == lengths["stride"] for a, b in zip(held, held[1:]))  # neighbours share the stride
        assert all(b - a for a, b in zip(held, held[1:]))  # and each has something new

        # the window with most context, by its definition
        for token in range(len(ids)):
            sides = [min(token - min(h), max(h) - token) if token in h else -1 for h in held]
            assert best[own][int(np.argmax(sides))][tokens[own][int(np.argmax(sides))] == token].all()
        # and a short answer is whole in that of its first token
        for row, here in zip(tokens[own], best[own]):
            last_held = row.max()
            for first in row[here]:
                assert min(first + (lengths["stride"] + 1) // 2, len(ids)) - 1 <= last_held


@st.composite
def answered(draw):
    """A context, some part of it that is not white space alone, and where the part begins."""
    context = draw(characters.filter(lambda text: text.strip()))
    start = draw(st.integers(0, len(context) - 1))
    end = draw(st.integers(start + 1, len(context)))
    if not context[start:end].strip():
        start, end = 0, len(context)
    return context, context[start:end], start


@given(answered(), lengths)
def test_answers_go_to_tokens_and_back(windows_of, answered, lengths):
    context, answer, start = answered
    example = ask("x", context, (answer,), (start,))
    windows = windows_of(example, **lengths)
    first, last = windows.answers[0].tolist()
    offsets = windows.contexts[0].characters.tolist()
    begin, end = offsets[first][0], offsets[last][1]
    assert answer.strip() in example.context[begin:end]  # covered
    assert offsets[first][1] > start and offsets[last][0] < start + len(answer)  # by as few as possible
    left, right = start + len(answer) - len(answer.lstrip()), start + len(answer.rstrip())
    if left in [o[0] for o in offsets] and right in [o[1] for o in offsets]:
        assert (begin, end) == (left, right)  # exactly, where characters and tokens agree

    batch, tokens = windows.batch(every(windows)), windows.context_tokens(every(windows))
    covering, found = example.context[begin:end], 0
    for window, (row, start, end) in enumerate(zip(tokens, batch["start"], batch["end"])):
        if {first, last} <= set(row.tolist()):
            assert (row[start], row[end]) == (first, last)
            assert pointed_at(windows, example.context, window) == covering
            found += 1
        else:
            assert (start, end) == (0, 0)
    assert found or last - first > lengths["stride"]  # an answer of up to stride + 1 tokens is whole in some window


@pytest.mark.parametrize("input_length, longest", [(100, 16), (12, 12)])
def test_the_length_that_all_windows_fit_in(windows_of, input_length, longest):
    windows = windows_of(ask("x", "a b c d e f g"), ask("y", "a"), input_length=input_length)
    assert windows.lengths.max() == 11 and windows.longest == longest
    whole, trimmed = (windows.batch(every(windows), length)["tokens"] for length in (None, windows.longest))
    assert np.array_equal(trimmed, whole[:, :longest]) and (whole[:, longest:] == PAD).all()
