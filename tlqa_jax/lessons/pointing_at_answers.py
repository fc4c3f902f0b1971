"""The checks of lesson 9: the tokens of an answer, the loss, the best span, windows over a long text."""

import itertools
import re
from collections.abc import Callable

import numpy as np
from jaxtyping import Float, Int
from scipy.special import log_softmax

from tlqa_jax.lessons.checks import NotYet, compare

Offsets = list[tuple[int, int]]
Span = tuple[int, int]


def pieces(text: str) -> Offsets:
    """Where the pieces of a text stand, for a tokenizer without a vocabulary: five letters at most, or one mark."""
    return [match.span() for match in re.finditer(r"\w{1,5}|[^\w\s]", text)]


def answer_tokens(answer_tokens: Callable[[Offsets, int, int], Span]) -> None:
    """`answer_tokens(offsets, start, end)` -> (first, last): the fewest tokens that cover characters [start, end)."""
    texts = {
        "Mira was born in Oss (1910).": ("Oss", "1910", "Mira", "born in"),  # marks without a space beside them
        "Edda's house dates from the 1910s, they say.": ("the 1910",),  # an answer that ends within a piece
        "Nobody beats the Ironbridge weavers.": ("bridge weavers", "Ironbridge", "the Iron"),  # begins, or ends, within
    }
    cases = [
        (pieces(text), text.index(answer), text.index(answer) + len(answer))
        for text, answers in texts.items() for answer in answers
    ]  # fmt: skip

    def each(first: Callable[[int, int, int, int], bool], last=None, more: int = 0) -> list[Span]:
        """The first and the last token for which `first` and `last` hold: (its start and end, the answer's)."""
        chosen = []
        for offsets, start, end in cases:
            one, other = (
                [i for i, (s, e) in enumerate(offsets) if holds(s, e, start, end)] for holds in (first, last or first)
            )
            chosen.append((one[0], other[-1] + more))
        return chosen

    each_from_1 = lambda spans: [(first + 1, last + 1) for first, last in spans]
    overlaps = lambda s, e, start, end: e > start and s < end
    begins_within = lambda s, e, start, end: start <= s < end
    ends_within = lambda s, e, start, end: start < e <= end
    got = []
    for offsets, start, end in cases:
        try:
            got.append(answer_tokens(offsets, start, end))
        except (ValueError, IndexError):
            if start in (s for s, _ in offsets) and end in (e for _, e in offsets):
                raise
            raise NotYet(
                "answer_tokens: it finds no token for some answer. An answer may begin or end in the middle of a piece "
                "(\"1910\" in \"1910s\"), so that no token begins, or ends, just there: what is wanted is the fewest "
                "tokens that cover all of the answer."
            ) from None
    compare(
        "answer_tokens",
        got,
        each(overlaps),
        {
            "your last token is one too far. A slice of characters ends after its last one, but here the last token "
            "itself is wanted: it has a logit of its own.": each(overlaps, more=1),
            "an answer may begin or end in the middle of a piece (\"1910\" in \"1910s\"). You left such a piece out; "
            "what is wanted is the fewest tokens that cover all of the answer.": each(
                lambda *at: begins_within(*at) and ends_within(*at)),
            "where the answer begins in the middle of a piece, you lose its beginning: the first token is the first "
            "that *ends* after the answer's start.": each(begins_within, overlaps),
            "where the answer ends in the middle of a piece, you lose its end: the last token is the last that "
            "*begins* before the answer's end.": each(overlaps, ends_within),
            "you take a neighbour in that only touches the answer, such as the bracket before \"1910\". Offsets are "
            "[start, end): a token that ends where the answer starts has none of it.": each(
                lambda s, e, start, end: e >= start and s <= end),
            "that is (first, number of tokens). Wanted is the last token itself.": [
                (first, last - first + 1) for first, last in each(overlaps)],
            "tokens are counted from 0.": each_from_1(each(overlaps)),
            "these are the characters. Wanted are the numbers of the tokens.":
                [(start, end) for _, start, end in cases],
            "you take in the token before the answer, which only touches it. Offsets are [start, end): a token that "
            "ends where the answer starts has none of it.": each(lambda s, e, start, end: e >= start and s < end),
            "you take in the token behind the answer, which only touches it. A token that starts where the answer ends "
            "has none of it.": each(lambda s, e, start, end: e > start and s <= end),
            "your last token is the first one again. An answer may have several tokens.": [
                (first, first) for first, _ in each(overlaps)],
        },
    )  # fmt: skip


def span_loss(span_loss: Callable[..., Float[np.ndarray, "B"]]) -> None:
    """`span_loss(start_logits [B L], end_logits [B L], start [B], end [B])` -> [B]: a loss for each row, in nats."""
    rng, rows = np.random.default_rng(0), np.arange(4)
    logits = 2 * rng.standard_normal((2, 4, 7)).astype(np.float32)
    targets = np.array([[2, 5, 0, 1], [4, 5, 0, 6]], np.int32)

    def chosen(log_p: Float[np.ndarray, "2 B L"], targets: Int[np.ndarray, "2 B"] = targets) -> np.ndarray:
        return np.stack([log_p[side, rows, targets[side]] for side in (0, 1)])

    log_p = log_softmax(logits.astype(np.float64), axis=-1)
    each = -chosen(log_p)
    together = log_softmax(logits.astype(np.float64), axis=0)  # over the two numbers of one token
    got = span_loss(*logits, *targets)
    compare(
        "span_loss",
        got if got is None or got is ... else np.asarray(got),
        each.mean(axis=0),
        {
            "that is the sum of the two losses. The mean is wanted, as in BERT's own code: the learning rates that "
            "people report are meant for it.": each.sum(axis=0),
            "the softmax must go over the positions of a row (the last axis): which token of *this* text is it? "
            "Yours goes over the rows of the batch.":
                -chosen(log_softmax(logits.astype(np.float64), axis=1)).mean(axis=0),
            "your softmax is over the two numbers of one token. Start and end do not compete with each other; the "
            "tokens do.": -chosen(together).mean(axis=0),
            "the end is left out: a model trained so would know where answers begin, and nothing else.": each[0],
            "the start is left out.": each[1],
            "the sign: log p is negative, a loss is -log p.": -each.mean(axis=0),
            "these are the probabilities themselves. The loss is -log of them: a token that was given 0.001 must "
            "cost far more than one that was given 0.1.": np.exp(-each).mean(axis=0),
            "these are logits, not logarithms of probabilities: they need log_softmax first. Without it nothing "
            "keeps all logits from growing.": -chosen(logits).mean(axis=0),
            "that is the sum over the batch. One loss for each row is wanted.": each.mean(axis=0).sum(),
            "that is the larger one of the two losses. Wanted is their mean.": each.max(axis=0),
            "the two losses are multiplied. Logarithms add up: wanted is the mean of the two.": each[0] * each[1],
            "1 - p is no loss of this kind: it is never larger than 1, however sure the model was of the wrong place.":
                1 - np.exp(-each).mean(axis=0),
            "that is the logarithm of a mean of probabilities. Wanted is the mean of the logarithms.":
                -np.log(np.exp(-each).mean(axis=0)),
            "the start's logits are used twice.": -log_p[0, rows, targets[0]],
            "the logits of start and end are exchanged, and the targets are not.":
                -chosen(log_p[::-1]).mean(axis=0),
            "one number for the whole batch. Here one for each row is wanted (the mean is taken later, over "
            "all devices).": each.mean(),
            "start and end are exchanged: the start's logits belong to the start's target.":
                -chosen(log_p, targets[::-1]).mean(axis=0),
        },
        tolerance=1e-4,
    )  # fmt: skip


def best_span(best_span: Callable[..., Span]) -> None:
    """`best_span(start [L], end [L], max_length)` -> (i, j), the last token j included."""
    rng, cases = np.random.default_rng(4), []
    for length, longest in [(6, 3)] * 6 + [(9, 2)] * 5 + [(9, 4)] * 5:
        start, end = rng.standard_normal((2, length)).astype(np.float32)
        cases.append((start, end, longest))
    for shift in (3, 100):  # all logits negative: no sum is above 0
        start, end = rng.standard_normal((2, 6)).astype(np.float32) - shift
        cases.append((start, end, 3))

    def each(score=lambda start, end: start + end, shortest: int = 1, more: int = 0, limit: bool = True) -> list[Span]:
        """The best of all spans of `shortest` to max_length + `more` tokens."""
        chosen = []
        for start, end, longest in cases:
            spans = [
                (i, j) for i, j in itertools.product(range(len(start)), repeat=2)
                if shortest <= j - i + 1 and (j - i + 1 <= longest + more or not limit)
            ]  # fmt: skip
            chosen.append(max(spans, key=lambda span: score(start[span[0]], end[span[1]])))
        return chosen

    def in_turn(first_end: bool = False) -> list[Span]:
        """The best of one side, then the best partner for it."""
        chosen = []
        for start, end, longest in cases:
            if first_end:
                j = int(end.argmax())
                low = max(0, j + 1 - longest)
                chosen.append((low + int(start[low : j + 1].argmax()), j))
            else:
                i = int(start.argmax())
                chosen.append((i, i + int(end[i : i + longest].argmax())))
        return chosen

    def search(allowed: Callable[[int, int, int], bool], least: float, turned: bool = False) -> list[Span]:
        """The best pair that is allowed and better than `least`; (0, 0) if there is none."""
        chosen = []
        for start, end, longest in cases:
            one, other = (end, start) if turned else (start, end)
            pairs = [(i, j) for i, j in itertools.product(range(len(one)), repeat=2) if allowed(i, j, longest)]
            best = max(pairs, key=lambda span: one[span[0]] + other[span[1]])
            chosen.append(best if one[best[0]] + other[best[1]] > least else (0, 0))
        return chosen

    answers = lambda i, j, longest: i <= j < i + longest
    from_least = lambda least: search(answers, least)
    backwards = lambda: search(lambda i, j, longest: abs(i - j) < longest, -np.inf)
    exchanged = lambda: search(answers, -np.inf, turned=True)
    argmaxes = [(int(start.argmax()), int(end.argmax())) for start, end, _ in cases]
    right = each()
    compare(
        "best_span",
        [best_span(*case) for case in cases],
        right,
        {
            "you took the best start and the best end, each by itself. Such an answer may end before it begins, or "
            "be as long as the text: only pairs with i <= j < i + max_length are answers.": argmaxes,
            "you took the best start first, and then the best end for it. A start that is second best may have an end "
            "that is far better: what counts is the sum.": in_turn(),
            "you took the best end first, and then the best start for it. What counts is the sum, over all "
            "pairs.": in_turn(first_end=True),
            "max_length is not kept: the best pair may be half of the text.": each(limit=False),
            "your longest span has one token more than max_length: from i to j there are j - i + 1.": each(more=1),
            "your longest span has one token less than max_length: from i to j there are j - i + 1.": each(more=-1),
            "an answer of one token, i = j, is an answer. The commonest ones are.": each(shortest=2),
            "you multiplied the logits. Probabilities are multiplied, their logarithms added; and two bad logits, both "
            "negative, would make a good product.": each(lambda start, end: start * end),
            "your end is one after the last token, as in a slice. Here the last token itself is wanted.": [
                (i, j + 1) for i, j in right],
            "your search begins with a best sum of 0, and with negative logits nothing is better. Begin with -inf, or "
            "with the first pair.": from_least(0.0),
            "your search begins with a best sum that some pairs never reach. Begin with -inf, or with the first pair.":
                from_least(-10.0),
            "your end may come before the start: only pairs with i <= j are answers.": backwards(),
            "the better one of start and end decides. What counts is the sum of the two.": each(max),
            "that is (first, number of tokens). Wanted is the last token itself.": [
                (i, j - i + 1) for i, j in right],
            "start and end are exchanged: start[i] belongs to the first token.": exchanged(),
            "you took the smallest sum.": each(lambda start, end: -start - end),
        },
    )  # fmt: skip


def windows(windows: Callable[[int, int, int], list[Span]]) -> None:
    """`windows(length, room, stride)` -> [(first, size)], of every window."""
    cases = [(10, 4, 1), (10, 4, 2), (4, 4, 1), (3, 4, 1), (11, 5, 1), (12, 5, 2), (40, 10, 3), (7, 6, 2)]

    def each(step=lambda room, stride: room - stride, size=min, count=None) -> list[list[Span]]:
        """`size(room, what is left)`; windows begin every `step`, until one reaches the end, or there are `count`."""
        results = []
        for length, room, stride in cases:
            move, first, cut = max(step(room, stride), 1), 0, []
            while len(cut) < count(length, room, move) if count else not cut or first - move + room < length:
                cut.append((first, size(room, length - first)))
                first += move
            results.append(cut)
        return results

    def windows_of(length: int, room: int, stride: int) -> list[Span]:
        cut = [(0, min(room, length))]
        while sum(cut[-1]) < length:
            first = cut[-1][0] + room - stride
            cut.append((first, min(room, length - first)))
        return cut

    right = each()
    full_last = [
        [(max(0, min(first, length - room)), min(room, length)) for first, _ in cut]
        for (length, room, _), cut in zip(cases, right, strict=True)
    ]
    compare(
        "windows",
        [windows(*case) for case in cases],
        right,
        {
            "your windows move on by `stride`. That is what the word means in BERT's own script; here, as in "
            "Transformers, two neighbours *share* `stride` tokens, so the next one begins room - stride further.": each(
                lambda room, stride: stride),
            "your windows share nothing. An answer that lies across the cut is whole in neither of them: begin the "
            "next one room - stride further.": each(lambda room, stride: room),
            "the end of the context is in no window: the last, shorter one is missing.": each(
                count=lambda length, room, move: 1 + max(length - room, 0) // move),
            "your last window holds nothing that the one before it did not hold. Stop at the first that reaches the "
            "end.": each(count=lambda length, room, move: -(-length // move)),
            "your last window reaches beyond the end: its size is what is left, at most `room`.": each(
                size=lambda room, left: room),
            "you moved the last window back until it was full. That can be done, but then two windows share more than "
            "`stride`; here the last one is just shorter.": full_last,
            "(first, size) is wanted, and you gave where a window begins and ends.": [
                [(first, first + size) for first, size in cut] for cut in right],
            "(first, size) is wanted, and you gave the first and the last token of each.": [
                [(first, first + size - 1) for first, size in cut] for cut in right],
            "these are the beginnings. The size belongs to each: (first, size).": [
                [first for first, _ in cut] for cut in right],
            "there is one window alone: what does not fit into it is never read.": [
                cut[:1] for cut in right],
            "your windows have `room + stride` tokens. No more than `room` fit.": [
                windows_of(length, room + stride, stride) for length, room, stride in cases],
            "your windows share half of their room. They share `stride` tokens.": each(lambda room, stride: room // 2),
            "the last window is missing.": [cut[:-1] for cut in right],
            "your neighbours share one token too few.": each(lambda room, stride: room - stride + 1),
            "your neighbours share one token too many.": each(lambda room, stride: room - stride - 1),
        },
    )  # fmt: skip
