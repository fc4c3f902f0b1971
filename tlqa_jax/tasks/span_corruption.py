"""Span corruption, the pretraining task of T5: hide spans of tokens and predict them.

    source    Thank you for inviting me to your party last week
    mask                ^^^ ^^^^^^^^                  ^^^^
    inputs    Thank you <X> me to your party <Y> week </s>
    targets   <X> for inviting <Y> last </s>

Each hidden span is replaced by one sentinel, a token that occurs nowhere else. The targets are each sentinel and the
tokens that it replaced. So the decoder generates only what is missing (15% of the text), and a training step is much
cheaper than with the whole text as targets. Raffel et al. 2020, sections 3.1.4, 3.3.3 and 3.3.4. (In their figure the
targets end with one more sentinel; in T5's code, and here, only with </s>.)

All functions work on a batch at once, in numpy, on the host. B is the number of rows, N the number of source tokens in
each, I and T are the lengths of the inputs and the targets.
"""

import numpy as np
from jaxtyping import Bool, Int, Int32, Integer

NOISE_DENSITY = 0.15  # the share of tokens that is hidden (Raffel et al. 2020, table 6)
MEAN_SPAN = 3.0  # tokens in a hidden span, on average (table 7)


# Lengths: all follow from the number of source tokens, so that every array has a fixed shape.


def noise_counts(
    tokens_length: int, noise_density: float = NOISE_DENSITY, mean_span: float = MEAN_SPAN
) -> tuple[int, int]:
    """How many of `tokens_length` tokens are hidden, and in how many spans: (noise tokens, noise spans).

    A row needs as many sentinels as spans. At any density at least one token is hidden and at least one is kept. Raises
    ValueError if this is not possible.
    """
    if tokens_length < 2:
        raise ValueError(f"tokens_length is {tokens_length}: at least 2 are needed, one to hide and one to keep")
    if not 0 < noise_density < 1:
        raise ValueError(f"noise_density is {noise_density}: it must lie between 0 and 1")
    if mean_span < 1:
        raise ValueError(f"mean_span is {mean_span}: a span has at least 1 token")
    # Python's round, half to even, as T5's: 10 tokens at .15 hide 2, 30 tokens hide 4.
    noise = min(max(round(tokens_length * noise_density), 1), tokens_length - 1)
    # Each span follows at least one kept token: at a high density many short spans would not fit.
    spans = min(max(round(noise / mean_span), 1), tokens_length - noise)
    return noise, spans


def corrupted_lengths(
    tokens_length: int, noise_density: float = NOISE_DENSITY, mean_span: float = MEAN_SPAN
) -> tuple[int, int]:
    """What `tokens_length` tokens become: (inputs length, targets length), each with its end token."""
    noise, spans = noise_counts(tokens_length, noise_density, mean_span)
    return (tokens_length - noise) + spans + 1, noise + spans + 1


def tokens_length_for(
    inputs_length: int, noise_density: float = NOISE_DENSITY, mean_span: float = MEAN_SPAN
) -> tuple[int, int]:
    """How many tokens to take from the text so that the inputs have exactly `inputs_length` tokens.

    Returns (tokens length, targets length). The tokens are the most that fit: 568 for inputs of 512, with targets of
    114, and a batch has no padding. (If half or more is hidden, some lengths are not possible; `corrupt` then adds one
    token of padding.) Raises ValueError for inputs shorter than 3.
    """
    if inputs_length < 3:
        raise ValueError(f"inputs_length is {inputs_length}: at least 3 are needed (a token, a sentinel, the end)")
    # The search starts below inputs_length, because with spans of one token the inputs are longer than the source.
    tokens_length = inputs_length - 1
    while corrupted_lengths(tokens_length + 1, noise_density, mean_span)[0] <= inputs_length:
        tokens_length += 1
    # T5's exception: if half is hidden, one token less may give inputs and targets the same length, a round number.
    if noise_density == 0.5:
        fewer = corrupted_lengths(tokens_length - 1, noise_density, mean_span)
        if fewer == (inputs_length, inputs_length):
            tokens_length -= 1
    return tokens_length, corrupted_lengths(tokens_length, noise_density, mean_span)[1]


# Masks over the source tokens, True = hidden.


def random_spans_mask(
    rng: np.random.Generator,
    batch: int,
    length: int,
    noise_density: float = NOISE_DENSITY,
    mean_span: float = MEAN_SPAN,
) -> Bool[np.ndarray, "{batch} {length}"]:
    """Draws the tokens to hide in `batch` rows of `length` tokens: the same number in the same number of spans in each.

    A row begins with a kept span and ends with a hidden one. The lengths of its kept spans, and of its hidden ones, are
    drawn uniformly among all ways to cut that many tokens into that many non-empty pieces, so a span may be longer or
    shorter than `mean_span`. The result depends only on `rng`.
    """
    noise, spans = noise_counts(length, noise_density, mean_span)
    kept_starts = _random_segment_starts(rng, batch, length - noise, spans)
    noise_starts = _random_segment_starts(rng, batch, noise, spans)
    # Hidden span j begins after kept spans 0 to j and hidden spans 0 to j - 1, and ends one hidden span later.
    borders = np.zeros((batch, length + 1), bool)
    row = np.arange(batch)[:, None]
    borders[row, kept_starts[:, 1:] + noise_starts[:, :-1]] = True  # kept -> hidden
    borders[row, kept_starts[:, 1:] + noise_starts[:, 1:]] = True  # hidden -> kept
    return np.logical_xor.accumulate(borders, axis=1)[:, :length]  # hidden after an odd number of borders


def _random_segment_starts(
    rng: np.random.Generator, batch: int, items: int, segments: int
) -> Int[np.ndarray, "{batch} {segments}+1"]:
    """Cuts `items` into non-empty segments in each row: where each segment starts, and where the row ends."""
    starts = np.zeros((batch, segments + 1), np.intp)
    starts[:, -1] = items
    if segments > 1:
        # segments - 1 of the items - 1 gaps between neighbours are cut. The places of the smallest among independent
        # uniform numbers are a uniformly random subset, and are faster to find than a shuffle of the gaps.
        gaps = rng.random((batch, items - 1)).argpartition(segments - 2, axis=1)[:, : segments - 1]
        starts[:, 1:-1] = np.sort(gaps, axis=1) + 1
    return starts


def salient_spans_mask(
    rng: np.random.Generator, spans: Integer[np.ndarray, "B N"], rate: float, most: int | None = None
) -> Bool[np.ndarray, "B N"]:
    """Hides whole marked spans, such as names and dates: what a model must know, not what it can guess from grammar.

    `spans` holds for each token the number of its marked span, or 0. In each row the spans have small numbers, from 1
    (`number_spans`). Of the n marked spans of a row, round(rate * n) are hidden, drawn uniformly: at least one, if there
    is any, and at most `most`, since each needs a sentinel. Chosen spans that touch become one hidden span. Rows hide
    different numbers of tokens, so `corrupt` needs longer targets. Raises ValueError for a rate outside [0, 1] or a
    number below 0.

    Salient span masking: Guu et al. 2020 (REALM), section 3.4; for T5, Roberts et al. 2020.
    """
    spans = np.asarray(spans)
    if not 0 <= rate <= 1:
        raise ValueError(f"rate is {rate}: it must lie between 0 and 1")
    if spans.min(initial=0) < 0:
        raise ValueError("spans holds a negative number: 0 means no span, spans are numbered from 1")
    row = np.arange(len(spans))[:, None]
    present = np.zeros((len(spans), spans.max(initial=0) + 1), bool)
    present[row, spans] = True
    present[:, 0] = False
    available = present.sum(axis=1, keepdims=True)
    wanted = np.minimum(available, _salient_count(rate, available, most))
    # Spans that a row does not have are sorted behind all others; the first `wanted` in random order are chosen.
    order = np.where(present, rng.random(present.shape), np.inf).argsort(axis=1)
    chosen = np.zeros_like(present)
    chosen[row, order] = np.arange(present.shape[1]) < wanted
    return chosen[row, spans]


def number_spans(spans: Int[np.ndarray, "B N"]) -> Int32[np.ndarray, "B N"]:
    """Numbers the marked spans of each row from 1, in the order of their old numbers; 0 stays 0."""
    numbered = np.empty(spans.shape, np.int32)
    for row, numbers in zip(numbered, spans, strict=True):
        row[:] = np.searchsorted(np.unique(np.append(numbers, 0)), numbers)
    return numbered


def _salient_count(rate: float, available, most: int | None):
    """How many of the marked spans are hidden, if there are so many."""
    return np.clip(np.rint(rate * available), 1, most)


def longest_salient_targets(spans: Int[np.ndarray, "B N"], rate: float, most: int | None = None) -> int:
    """The targets length that is enough for all that `salient_spans_mask` may hide in any of these rows."""
    longest = 1
    for numbers in spans:
        lengths = np.sort(np.unique(numbers[numbers > 0], return_counts=True)[1])[::-1]
        hidden = min(len(lengths), int(_salient_count(rate, len(lengths), most)))
        longest = max(longest, int(lengths[:hidden].sum()) + hidden + 1)
    return longest


# The two sequences, and back.


def corrupt(
    tokens: Integer[np.ndarray, "B N"],
    mask: Bool[np.ndarray, "B N"],
    *,
    sentinels: Int[np.ndarray, "S"],
    eos_id: int = 1,
    pad_id: int = 0,
    inputs_length: int,
    targets_length: int,
) -> tuple[Int32[np.ndarray, "B {inputs_length}"], Int32[np.ndarray, "B {targets_length}"]]:
    """Makes inputs and targets of `tokens`, and hides those where `mask` is True.

    With sentinels 999, 998, … and without end tokens and padding:

        tokens    10 11 12 13 14 15
        mask       .  .  x  x  .  x
        inputs    10 11 999   14 998
        targets   999 12 13 998 15

    The first sentinel replaces the first hidden span of a row, the second the second. Each row ends with `eos_id` and
    padding; masks of `random_spans_mask` need no padding at the lengths of `corrupted_lengths`. Any mask is allowed: a
    row may hide its first token, or nothing.

    Raises ValueError if shapes differ, if a row does not fit, if it has more hidden spans than there are sentinels, or
    if the tokens already contain sentinels (the model could not distinguish them from ours).
    """
    tokens = np.asarray(tokens, np.int32)  # sentinels may not fit into 16 bits
    mask, sentinels = np.asarray(mask), np.asarray(sentinels)
    if tokens.ndim != 2 or tokens.shape != mask.shape or mask.dtype != bool:
        raise ValueError(
            f"tokens {tokens.shape} and mask {mask.shape} {mask.dtype} must have one shape [B, N], the mask boolean"
        )
    lowest = sentinels.min(initial=np.iinfo(sentinels.dtype).max)
    if tokens.max(initial=-1) >= lowest and np.isin(tokens, sentinels).any():
        raise ValueError("the tokens already contain sentinels: remove the <extra_id_N> marks from the text")

    starts = mask.copy()  # True at the first token of each hidden span
    starts[:, 1:] &= ~mask[:, :-1]
    spans = starts.sum(axis=1)
    _require(spans, len(sentinels), "hidden spans, more than there are sentinels")
    # One sentinel for each span of the batch, row after row; every row begins with the first.
    before = np.cumsum(spans) - spans
    span_sentinels = sentinels[np.arange(spans.sum()) - np.repeat(before, spans)]

    # Both results are first one flat stream of all rows: selecting by a mask keeps the order.
    replaced = tokens.copy()
    replaced[starts] = span_sentinels
    inputs_stream = replaced[starts | ~mask]
    targets_stream = np.insert(tokens[mask], np.flatnonzero(starts[mask]), span_sentinels)
    hidden = mask.sum(axis=1)
    inputs = _rows(inputs_stream, mask.shape[1] - hidden + spans, inputs_length, eos_id, pad_id, "inputs_length")
    targets = _rows(targets_stream, hidden + spans, targets_length, eos_id, pad_id, "targets_length")
    return inputs, targets


def _rows(
    stream: Int[np.ndarray, "total"], counts: Int[np.ndarray, "B"], length: int, eos_id: int, pad_id: int, name: str
) -> Int32[np.ndarray, "B {length}"]:
    """Cuts a stream into rows of `counts` tokens, each followed by `eos_id` and padding."""
    _require(counts + 1, length, f"tokens with its end, more than {name}")
    rows = np.full((len(counts), length), pad_id, np.int32)
    rows[np.arange(length) < counts[:, None]] = stream
    rows[np.arange(len(counts)), counts] = eos_id
    return rows


def _require(counts: Int[np.ndarray, "B"], limit: int, what: str) -> None:
    """Raises ValueError, which names the fullest row, if a count is above the limit."""
    if counts.max(initial=0) > limit:
        raise ValueError(f"row {counts.argmax()} has {counts.max()} {what} ({limit})")


def reassemble(
    inputs: Int[np.ndarray, "B I"],
    targets: Int[np.ndarray, "B T"],
    *,
    sentinels: Int[np.ndarray, "S"],
    eos_id: int = 1,
    pad_id: int = 0,
) -> list[Int32[np.ndarray, "_"]]:
    """Undoes `corrupt`: puts the spans of the targets in the places of their sentinels in the inputs, row by row.

    Raises ValueError if a row has no end, or if inputs and targets do not have the same sentinels in the same order.
    """
    sources = []
    for row, (kept, hidden) in enumerate(zip(inputs, targets, strict=True)):
        kept, hidden = _without_end(kept, eos_id, pad_id, row), _without_end(hidden, eos_id, pad_id, row)
        asked = kept[np.isin(kept, sentinels)].tolist()
        starts = np.flatnonzero(np.isin(hidden, sentinels))
        before, *spans = np.split(hidden, starts)
        if asked != hidden[starts].tolist() or len(before) or len(set(asked)) < len(asked):
            raise ValueError(f"row {row}: inputs and targets do not have the same sentinels once, in the same order")
        stands_for = {sentinel: span[1:].tolist() for sentinel, span in zip(asked, spans, strict=True)}
        source = [piece for token in kept.tolist() for piece in stands_for.get(token, [token])]
        sources.append(np.array(source, np.int32))
    return sources


def _without_end(ids: Int[np.ndarray, "length"], eos_id: int, pad_id: int, row: int) -> Int[np.ndarray, "n"]:
    """The ids before the last `eos_id`; only padding may follow it. (Text may have earlier ones.)"""
    ends = np.flatnonzero(ids == eos_id)
    if not len(ends) or (ids[ends[-1] + 1 :] != pad_id).any():
        raise ValueError(f"row {row} does not end with the end token {eos_id} and padding")
    return ids[: ends[-1]]
