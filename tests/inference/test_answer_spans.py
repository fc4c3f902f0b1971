"""The best spans against a plain loop over all pairs, on random logits; and the rules about no answer by hand."""

import json
import string
import tracemalloc
import weakref

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from tlqa_jax.core.devices import replicate
from tlqa_jax.examples import QAExample
from tlqa_jax.inference import length_buckets as buckets
from tlqa_jax.inference.answer_spans import (
    NO_SPAN,
    SpanAnswerer,
    best_distinct,
    best_spans,
    choose_answer,
    span_scores,
    write_n_best,
)
from tlqa_jax.inference.length_buckets import groups_of_questions, length_buckets
from tlqa_jax.tasks.extractive_qa import NOWHERE, make_windows
from tlqa_jax.text.wordpiece import SPECIALS, WordPieceTokenizer

VOCABULARY = 40  # rows of the tables of logits


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    """Each letter is a token, and so is each of a few words."""
    letters, words = string.ascii_lowercase, "in the mill it was zoe who made ?".split()
    path = tmp_path_factory.mktemp("letters") / "vocab.txt"
    path.write_text("\n".join([*SPECIALS, *letters, *(f"##{letter}" for letter in letters), *words]) + "\n")
    return WordPieceTokenizer(path)


def asked(id: str, question: str, context: str | None) -> QAExample:
    return QAExample(id, question, (), context)


def apply(params, tokens, *, token_types, mask, key=None):
    """Logits that depend on the token, its place and what is next to it, and would be wrong for padding."""
    place = jnp.arange(tokens.shape[1])[None]
    look_up = lambda table: jnp.where(mask, table[(tokens + 7 * place * token_types) % VOCABULARY], jnp.inf)
    return look_up(params["start"]), look_up(params["end"])


def params(seed):
    rng = np.random.default_rng(seed)
    # few different values: many ties
    return {name: rng.integers(-4, 5, VOCABULARY).astype(np.float32) / 4 for name in ("start", "end")}


def by_brute_force(tokenizer, params, example, *, max_answer_length, n, **lengths):
    """(no answer's score, [(score, start, text)]): every window alone, every pair in it."""
    windows = make_windows(tokenizer, [example], **lengths)
    every, candidates, no_answer = np.arange(len(windows.example)), [], []
    rows, tokens, may_start = windows.batch(every), windows.context_tokens(every), windows.most_context(every)
    starts, ends = windows.characters(every)
    for w in every:
        mask = rows["tokens"][[w]] != 0
        logits = apply(params, rows["tokens"][[w]], token_types=rows["token_types"][[w]], mask=mask)
        start, end = (np.asarray(x)[0] for x in logits)
        no_answer.append(float(start[0] + end[0]))
        for i in range(len(start)):
            for j in range(i, min(i + max_answer_length, len(end))):
                if may_start[w, i] and tokens[w, j] != NOWHERE:
                    text = example.context[starts[w, i] : ends[w, j]]
                    candidates.append((float(start[i] + end[j]), int(starts[w, i]), text))
    candidates.sort(key=lambda c: (-c[0], c[1], len(c[2])))
    distinct = []
    for candidate in candidates:
        if candidate[2] not in [text for _, _, text in distinct]:
            distinct.append(candidate)
    return min(no_answer), distinct[:n]


contexts = st.text(st.sampled_from("aab c"), max_size=60)
# two lengths of rows and two sizes of batches: little to compile
settings_of_answerer = st.fixed_dictionaries(
    {"max_answer_length": st.integers(1, 6), "n": st.integers(1, 7), "stride": st.integers(0, 8)}
)
APPLIED = {}


@settings(max_examples=60)
@given(st.lists(contexts, min_size=1, max_size=12), settings_of_answerer, st.integers(0, 99))
def test_the_answerer_equals_a_loop_over_all_pairs(tokenizer, contexts, options, seed):
    examples = [asked(str(i), "xyz"[: i % 4], context) for i, context in enumerate(contexts)]
    lengths = dict(input_length=16, stride=options["stride"], max_question_length=3)
    n, max_answer_length = options["n"], options["max_answer_length"]
    answerer = SpanAnswerer(
        apply, tokenizer, **lengths, batch_size=16, max_answer_length=max_answer_length, n_best=n, no_answer_threshold=0.5
    )
    answerer.predict = APPLIED.setdefault("predict", answerer.predict)  # compiled once
    for example, answer in zip(examples, answerer(replicate(params(seed)), examples), strict=True):
        no_answer, wanted = by_brute_force(tokenizer, params(seed), example, max_answer_length=max_answer_length, n=n, **lengths)
        assert answer == choose_answer(wanted, no_answer, no_answer_threshold=0.5)
        assert len(answer.n_best) == len(wanted) + 1
        assert sum(candidate.probability for candidate in answer.n_best) == pytest.approx(1)
        for text, start, _, _ in answer.n_best:
            assert text == (example.context[start : start + len(text)] if start != NOWHERE else "")


@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 12), st.integers(1, 30))
def test_best_spans_of_one_window(seed, length, max_answer_length, n):
    rng = np.random.default_rng(seed)
    start, end = rng.normal(size=(2, 1, length)).astype(np.float32)
    may_start, may_end = rng.random((2, 1, length)) < 0.7
    texts = rng.integers(0, 4, (length, length))
    scores = span_scores(start, end, may_start, may_end, max_answer_length)
    found = best_spans(scores[0], n, lambda i, j: str(texts[i, j]))
    wanted = {}
    pairs = [(float(start[0, i] + end[0, j]), i, j) for i in range(length) for j in range(i, length)]
    for score, i, j in sorted(pairs, key=lambda pair: (-pair[0], *pair[1:])):
        if may_start[0, i] and may_end[0, j] and j - i < max_answer_length:
            wanted.setdefault(texts[i, j], (score, i, j))
    assert found == list(wanted.values())[:n]


def test_the_best_of_equal_texts_counts():
    assert best_distinct([(1.0, 5, "a"), (2.0, 9, "b"), (3.0, 20, "a"), (2.0, 30, "c")], 2) == [(3.0, 20, "a"), (2.0, 9, "b")]


def test_the_answer_is_none_only_above_the_threshold():
    found = [(2.0, 4, "oss"), (1.0, 9, "mira")]
    sure = choose_answer(found, 1.5, no_answer_threshold=-0.5)  # the no-answer score is 1.5 - 2
    assert (sure.text, sure.start, sure.no_answer_score) == ("oss", 4, -0.5)
    none = choose_answer(found, 1.5, no_answer_threshold=-0.6)
    assert (none.text, none.start, none.no_answer_score) == ("", NOWHERE, -0.5)
    assert [candidate.text for candidate in none.n_best] == ["oss", "", "mira"]
    weights = np.exp([2.0, 1.5, 1.0]) / np.exp([2.0, 1.5, 1.0]).sum()
    assert [candidate.probability for candidate in none.n_best] == pytest.approx(weights)
    assert none.probability == pytest.approx(weights[1]) and sure.probability == pytest.approx(weights[0])
    never = choose_answer(found, 99.0, no_answer_threshold=None)
    assert never.text == "oss" and never.no_answer_score == 97 and len(never.n_best) == 2


@pytest.mark.parametrize("no_answer_threshold", [None, 0.0, float("inf")])
def test_a_context_without_a_token_has_an_explicit_no_answer(tokenizer, no_answer_threshold):
    answerer = SpanAnswerer(
        apply, tokenizer, input_length=16, stride=1, max_question_length=3, no_answer_threshold=no_answer_threshold, n_best=3
    )
    [answer] = answerer(replicate(params(0)), [asked("q", "long question", "  ")])
    assert (answer.text, answer.start, answer.probability, answer.no_answer_score) == ("", NOWHERE, 1.0, NO_SPAN)
    assert answer.n_best[0].text == "" and len(answer.n_best) == 1
    assert answer.question_cut


def test_logits_that_are_no_numbers_give_no_answer_and_no_crash():
    nan = np.full((5, 2), np.nan, np.float32)
    assert best_spans(nan, 3, lambda i, j: "a") == []
    nan[2, 1] = 1.5
    assert best_spans(nan, 3, lambda i, j: "a") == [(1.5, 2, 3)]


def test_answers_do_not_depend_on_what_is_asked_beside_them(tokenizer, monkeypatch):
    examples = [asked(str(i), "xy", "ab c" * (1 + 7 * i % 11)) for i in range(20)]
    options = dict(input_length=16, stride=3, max_question_length=3, no_answer_threshold=0.0)
    replicated = replicate(params(5))
    together = SpanAnswerer(apply, tokenizer, **options, batch_size=16)(replicated, examples)
    monkeypatch.setattr(buckets, "CHARACTERS_AT_ONCE", 30)  # a few at a time
    assert SpanAnswerer(apply, tokenizer, **options, batch_size=8)(replicated, iter(examples)) == together
    assert SpanAnswerer(apply, tokenizer, **options)(replicated, []) == []


def test_a_long_document_is_read_to_its_end_in_bounded_memory(tokenizer):
    """10,000 words: of all windows no more than two batches of logits are held, and the scores of one."""

    def finds_zoe(params, tokens, *, token_types, mask, key=None):
        [zoe], _ = tokenizer.encode_with_offsets("Zoe")
        logits = jnp.where(mask & (tokens == zoe) & (token_types == 1), params["sure"], 0.0)
        return logits, logits

    length, longest_answer, stride = 128, 60, 28
    answerer = SpanAnswerer(
        finds_zoe, tokenizer, input_length=length, stride=stride, max_question_length=9, batch_size=8,
        max_answer_length=longest_answer, n_best=3,
    )  # fmt: skip
    predict, given, held = answerer.predict, [], []

    def watched(*arguments):
        held.append(sum(start() is not None for start in given))  # of the batches before, when the next one begins
        logits = predict(*arguments)
        given.append(weakref.ref(logits[0]))
        return logits

    answerer.predict = watched
    sure = replicate({"sure": np.float32(9)})

    def peak_of(words: int) -> int:
        example = asked("q", "Who made it?", "in the mill " * (words // 3) + "it was Zoe")
        tracemalloc.start()
        [answer] = answerer(sure, [example])
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert (answer.text, answer.start) == ("Zoe", len(example.context) - 3) and answer.probability > 0.99
        return peak

    peak_of(1000)  # compiled
    held.clear()
    short, long = peak_of(1000), peak_of(10_000)
    windows = 9000 / (length - stride - 7)  # more of them; 7: [CLS], the question, two [SEP]
    assert len(held) > windows / 8 and max(held) == 1
    assert (long - short) / windows < length * longest_answer * 4 / 2  # bytes: not half of what its scores take


def test_length_buckets_hold_every_row_once():
    lengths = np.array([40, 3, 70, 33, 64])
    batches = [
        (rows.tolist(), count, length)
        for rows, count, length in length_buckets(lengths, longest=70, devices=2, batch_size=3)
    ]
    assert batches == [([2, 4, 0, 3], 4, 70), ([1, 1, 1, 1], 1, 32)]  # 3 rounded up to 4; 128 is more than the longest
    assert [len(rows) for rows, _, _ in length_buckets(lengths[:2], longest=70, devices=2, batch_size=8)] == [2]


def test_n_best_are_written_as_json(tmp_path):
    answer = choose_answer([(2.0, 4, "Zürich")], 2.0, no_answer_threshold=0.0)
    write_n_best(tmp_path / "n.json", ["q"], [answer])
    text = (tmp_path / "n.json").read_text(encoding="utf-8")
    assert "Zürich" in text
    assert json.loads(text)["q"] == [
        {"text": "Zürich", "start": 4, "probability": 0.5, "score": 2.0},
        {"text": "", "start": -1, "probability": 0.5, "score": 2.0},
    ]


def test_groups_are_bounded_by_their_questions_too(monkeypatch):
    monkeypatch.setattr(buckets, "CHARACTERS_AT_ONCE", 30)
    questions = [asked(str(i), "who made it?", None) for i in range(7)]
    assert [len(group) for group in groups_of_questions(questions)] == [3, 3, 1]
