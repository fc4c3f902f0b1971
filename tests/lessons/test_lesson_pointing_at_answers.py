"""The checks of lesson 9 against right solutions and against wrong ones that run."""

import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tlqa_jax.lessons import NotYet, pointing_at_answers as check


def right_tokens(offsets, start, end):
    first = min(i for i, (_, e) in enumerate(offsets) if e > start)
    return first, max(i for i, (s, _) in enumerate(offsets) if s < end)


def tokens_where(holds):
    def find(offsets, start, end):
        found = [i for i, (s, e) in enumerate(offsets) if holds(s, e, start, end)]
        return found[0], found[-1]

    return find


TOKENS = {
    "one too far": lambda *case: (right_tokens(*case)[0], right_tokens(*case)[1] + 1),
    "left such a piece out": tokens_where(lambda s, e, start, end: start <= s and e <= end),
    "lose its beginning": lambda offsets, start, end: (
        min(i for i, (s, _) in enumerate(offsets) if s >= start), right_tokens(offsets, start, end)[1]
    ),
    "lose its end": lambda offsets, start, end: (
        right_tokens(offsets, start, end)[0], max(i for i, (_, e) in enumerate(offsets) if e <= end)
    ),
    "only touches": tokens_where(lambda s, e, start, end: s <= end and e >= start),
    "the first one again": lambda *case: (right_tokens(*case)[0],) * 2,
    "it finds no token for some answer": lambda offsets, start, end: (
        [s for s, _ in offsets].index(start), [e for _, e in offsets].index(end)
    ),
    "no token begins, or ends, just there": lambda offsets, start, end: (
        [i for i, (s, _) in enumerate(offsets) if s == start][0], right_tokens(offsets, start, end)[1]
    ),
}  # fmt: skip


def test_lesson_answer_tokens_right(capsys):
    check.answer_tokens(right_tokens)
    check.answer_tokens(lambda *case: np.array(right_tokens(*case)))
    assert capsys.readouterr().out == "Right: answer_tokens\n" * 2


def test_lesson_answer_tokens_lets_another_error_through():
    with pytest.raises(IndexError):
        check.answer_tokens(lambda offsets, start, end: offsets[99])


@pytest.mark.parametrize("misconception", TOKENS)
def test_lesson_answer_tokens_wrong(misconception):
    with pytest.raises(NotYet, match=misconception):
        check.answer_tokens(TOKENS[misconception])


def test_lesson_pieces_cover_all_but_the_spaces():
    text = "Edda's house dates from the 1910s."
    assert [text[start:end] for start, end in check.pieces(text)] == [
        "Edda", "'", "s", "house", "dates", "from", "the", "1910s", ".",
    ]  # fmt: skip


def losses(start_logits, end_logits, start, end, *, axis=-1, p=jax.nn.log_softmax, mean=True):
    rows = jnp.arange(len(start))
    both = [-p(x, axis=axis)[rows, i] for x, i in ((start_logits, start), (end_logits, end))]
    return sum(both) / 2 if mean else both


def over_both(start_logits, end_logits, start, end):
    """A softmax over the two numbers of each token."""
    log_p = jax.nn.log_softmax(jnp.stack([start_logits, end_logits]), axis=0)
    rows = jnp.arange(len(start))
    return -(log_p[0, rows, start] + log_p[1, rows, end]) / 2


LOSSES = {
    "sum of the two": lambda *case: sum(losses(*case, mean=False)),
    "rows of the batch": lambda *case: losses(*case, axis=0),
    "two numbers of one token": over_both,
    "end is left out": lambda *case: losses(*case, mean=False)[0],
    "start is left out": lambda *case: losses(*case, mean=False)[1],
    "the sign": lambda *case: -losses(*case),
    "probabilities themselves": lambda *case: -losses(*case, p=jax.nn.softmax),
    "these are logits": lambda *case: losses(*case, p=lambda x, axis: x),
    "one number for the whole batch": lambda *case: losses(*case).mean(),
    "exchanged": lambda start_logits, end_logits, start, end: losses(start_logits, end_logits, end, start),
}


def test_lesson_span_loss_right(capsys):
    check.span_loss(losses)
    check.span_loss(lambda *case: np.mean(losses(*case, mean=False), axis=0))
    assert capsys.readouterr().out == "Right: span_loss\n" * 2


@pytest.mark.parametrize("misconception", LOSSES)
def test_lesson_span_loss_wrong(misconception):
    with pytest.raises(NotYet, match=misconception):
        check.span_loss(LOSSES[misconception])


def span_by(score=lambda s, e: s + e, first=0, more=0, limit=True):
    """The best of the spans of first + 1 to max_length + more tokens."""

    def find(start, end, max_length):
        most = max_length + more if limit else len(start)
        spans = [(i, j) for i in range(len(start)) for j in range(i + first, min(i + most, len(start)))]
        return max(spans, key=lambda span: score(start[span[0]], end[span[1]]))

    return find


def start_first(start, end, max_length):
    i = start.argmax()
    return i, i + end[i : i + max_length].argmax()


def end_first(start, end, max_length):
    j = end.argmax()
    i, *others = sorted(range(max(0, j - max_length + 1), j + 1), key=lambda i: -start[i])
    return i, j


SPANS = {
    "each by itself": lambda start, end, _: (start.argmax(), end.argmax()),
    "best start first": start_first,
    "best end first": end_first,
    "is not kept": span_by(limit=False),
    "one token more": span_by(more=1),
    "one token less": span_by(more=-1),
    "answer of one token": span_by(first=1),
    "multiplied the logits": span_by(lambda s, e: s * e),
    "after the last token": lambda *case: (span_by()(*case)[0], span_by()(*case)[1] + 1),
    "smallest sum": span_by(lambda s, e: -(s + e)),
}


def test_lesson_best_span_right(capsys):
    check.best_span(span_by())

    def with_a_table(start, end, max_length):
        i, j = np.indices((len(start), len(start)))
        table = np.where((i <= j) & (j - i < max_length), start[:, None] + end, -np.inf)
        return np.unravel_index(table.argmax(), table.shape)

    check.best_span(with_a_table)
    assert capsys.readouterr().out == "Right: best_span\n" * 2


@pytest.mark.parametrize("misconception", SPANS)
def test_lesson_best_span_wrong(misconception):
    with pytest.raises(NotYet, match=misconception):
        check.best_span(SPANS[misconception])


def right_windows(length, room, stride):
    count = 1 + -(-max(length - room, 0) // (room - stride))
    return [(k * (room - stride), min(room, length - k * (room - stride))) for k in range(count)]


def begins(step, length, room, stop=lambda first, length, room: first + room >= length):
    found, first = [], 0
    while True:
        found.append((first, min(room, length - first)))
        if stop(first, length, room):
            return found
        first += step


WINDOWS = {
    "move on by `stride`": lambda length, room, stride: begins(stride, length, room),
    "share nothing": lambda length, room, stride: begins(room, length, room),
    "in no window": lambda length, room, stride: [
        (first, size) for first, size in right_windows(length, room, stride) if size == min(room, length)
    ],
    "holds nothing that the one before": lambda length, room, stride: [
        (first, min(room, length - first)) for first in range(0, length, room - stride)
    ],
    "beyond the end": lambda *case: [(first, case[1]) for first, _ in right_windows(*case)],
    "moved the last window back": lambda length, room, stride: [
        (max(0, min(first, length - room)), min(room, length)) for first, _ in right_windows(length, room, stride)
    ],
    r"\(first, size\) is wanted": lambda *case: [(first, first + size) for first, size in right_windows(*case)],
    "one token too few": lambda length, room, stride: begins(room - stride + 1, length, room),
    "one token too many": lambda length, room, stride: begins(max(room - stride - 1, 1), length, room),
}


def test_lesson_windows_right(capsys):
    check.windows(right_windows)
    check.windows(lambda length, room, stride: begins(room - stride, length, room))
    assert capsys.readouterr().out == "Right: windows\n" * 2


def test_lesson_windows_that_move_on_by_stride_come_to_an_end():
    def cut(length, room, stride):
        found = [(0, min(room, length))]
        while sum(found[-1]) < length:
            assert len(found) <= length, "the loop does not end"
            first = found[-1][0] + stride
            found.append((first, min(room, length - first)))
        return found

    with pytest.raises(NotYet, match="move on by `stride`"):
        check.windows(cut)


@pytest.mark.parametrize("misconception", WINDOWS)
def test_lesson_windows_wrong(misconception):
    with pytest.raises(NotYet, match=misconception):
        check.windows(WINDOWS[misconception])


@pytest.mark.parametrize("name", ["answer_tokens", "span_loss", "best_span", "windows"])
def test_lesson_pointing_blank_is_noticed(name):
    for blank in (None, ...):
        with pytest.raises(NotYet, match=re.escape(f"{name}: the blank is still empty")):
            getattr(check, name)(lambda *case: blank)
