"""Span corruption against the lengths T5 asserts, an example worked by hand, and slow code written from the paper."""

import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, strategies as st

from tlqa_jax.tasks.span_corruption import (
    corrupt,
    corrupted_lengths,
    longest_salient_targets,
    noise_counts,
    random_spans_mask,
    reassemble,
    salient_spans_mask,
    tokens_length_for,
)

SENTINELS = np.arange(999, 899, -1)
PAD, EOS = 0, 1


def runs(row) -> list[tuple[bool, int]]:
    """[F, F, T, F] -> [(False, 2), (True, 1), (False, 1)]"""
    out = []
    for value in np.asarray(row).tolist():
        out.append((value, out.pop()[1] + 1) if out and out[-1][0] == value else (value, 1))
    return out


def slow_corrupt(tokens: list[int], mask: list[bool]) -> tuple[list[int], list[int]]:
    """One row, one token at a time: a hidden run becomes the next sentinel; the targets spell it out behind it."""
    inputs, targets, used = [], [], 0
    for i, (token, hidden) in enumerate(zip(tokens, mask, strict=True)):
        if not hidden:
            inputs.append(token)
            continue
        if i == 0 or not mask[i - 1]:
            inputs.append(999 - used)
            targets.append(999 - used)
            used += 1
        targets.append(token)
    return inputs + [EOS], targets + [EOS]


def padded(ids: list[int], length: int) -> list[int]:
    return ids + [PAD] * (length - len(ids))


# Lengths


@pytest.mark.parametrize(
    ("inputs", "density", "span", "tokens", "targets"),
    [
        # Asserted by T5's own tests.
        (64, 0.2, 2.0, 70, 22),
        (64, 0.2, 1.0, 63, 27),
        # Computed from T5's rules.
        (32, 0.15, 3.0, 34, 8),
        (64, 0.15, 3.0, 70, 14),
        (100, 0.15, 3.0, 110, 22),
        (114, 0.15, 3.0, 126, 26),
        (128, 0.15, 3.0, 141, 29),
        (256, 0.15, 3.0, 284, 58),
        (384, 0.15, 3.0, 426, 86),
        (512, 0.15, 3.0, 568, 114),
        (1024, 0.15, 3.0, 1137, 229),
        (2048, 0.15, 3.0, 2274, 456),
        (512, 0.10, 3.0, 548, 74),
        (512, 0.25, 3.0, 614, 206),
        (512, 0.50, 3.0, 766, 512),  # the most that fit would be 767 with targets of 513
    ],
)
def test_lengths_are_those_of_t5(inputs, density, span, tokens, targets):
    assert tokens_length_for(inputs, density, span) == (tokens, targets)
    assert corrupted_lengths(tokens, density, span) == (inputs, targets)


def test_the_default_recipe_at_512():
    assert noise_counts(568) == (85, 28)
    assert corrupted_lengths(568) == (483 + 28 + 1, 85 + 28 + 1)


@pytest.mark.parametrize(
    ("length", "density", "span", "expected"),
    [
        (32, 0.25, 2.0, (8, 4)),
        (10, 0.25, 1.0, (2, 2)),  # 2.5 hidden tokens: half to even
        (14, 0.25, 1.0, (4, 4)),  # 3.5
        (20, 0.25, 2.0, (5, 2)),  # 2.5 spans
        (28, 0.25, 2.0, (7, 4)),  # 3.5
        (5, 0.01, 3.0, (1, 1)),  # at least one token and one span
        (5, 0.99, 3.0, (4, 1)),  # at least one token is kept
        (10, 0.8, 1.0, (8, 2)),  # eight spans would need eight kept tokens between them
    ],
)
def test_counts_round_half_to_even_and_are_clipped(length, density, span, expected):
    assert noise_counts(length, density, span) == expected


densities = st.sampled_from([0.05, 0.1, 0.15, 0.25, 0.4, 0.5, 0.8, 0.95])
mean_spans = st.sampled_from([1.0, 1.5, 2.0, 3.0, 5.0, 10.0])


@given(st.integers(3, 700), st.sampled_from([0.05, 0.1, 0.15, 0.25, 0.3, 0.4]), mean_spans)
def test_inputs_are_filled_exactly_by_as_many_tokens_as_fit(inputs_length, density, span):
    tokens, targets = tokens_length_for(inputs_length, density, span)
    assert corrupted_lengths(tokens, density, span) == (inputs_length, targets)
    assert corrupted_lengths(tokens + 1, density, span)[0] == inputs_length + 1


@given(st.integers(3, 300), densities, mean_spans)
def test_at_any_density_at_most_one_position_stays_empty(inputs_length, density, span):
    tokens, targets = tokens_length_for(inputs_length, density, span)
    inputs, same_targets = corrupted_lengths(tokens, density, span)
    assert inputs in (inputs_length, inputs_length - 1)
    assert targets == same_targets


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ((1, 0.15, 3.0), "tokens_length"),
        ((9, 0.0, 3.0), "density"),
        ((9, 1.0, 3.0), "density"),
        ((9, 0.15, 0.5), "mean_span"),
    ],
)
def test_impossible_recipes_are_refused(arguments, named):
    with pytest.raises(ValueError, match=named):
        corrupted_lengths(*arguments)


def test_inputs_too_short_are_refused():
    assert tokens_length_for(3) == (2, 3)
    with pytest.raises(ValueError, match="inputs_length"):
        tokens_length_for(2)


# Masks


def test_32_tokens_a_quarter_hidden_in_spans_of_two():
    mask = random_spans_mask(np.random.default_rng(0), 5, 32, 0.25, 2.0)
    assert mask.shape == (5, 32) and mask.dtype == bool
    for row in mask:
        assert row.sum() == 8
        assert [hidden for hidden, _ in runs(row)] == [False, True] * 4


@given(st.integers(0, 2**32), st.integers(1, 4), st.integers(2, 90), densities, mean_spans)
def test_every_row_has_the_counts_and_begins_with_a_kept_token(seed, batch, length, density, span):
    mask = random_spans_mask(np.random.default_rng(seed), batch, length, density, span)
    noise, spans = noise_counts(length, density, span)
    assert mask.shape == (batch, length)
    for row in mask:
        assert row.sum() == noise
        assert [hidden for hidden, _ in runs(row)] == [False, True] * spans


def test_the_mask_is_a_function_of_the_generator():
    first, again, other = (random_spans_mask(np.random.default_rng(seed), 3, 40, 0.15, 3.0) for seed in (7, 7, 8))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert not np.array_equal(first[0], first[1])  # rows differ too


def test_all_masks_are_equally_likely():
    # 8 tokens, 4 hidden in 2 spans: 3 ways to cut 4 kept tokens in two, 3 to cut 4 hidden ones; 9 masks.
    draws = 9000
    mask = random_spans_mask(np.random.default_rng(0), draws, 8, 0.5, 2.0)
    seen = Counter("".join("x" if hidden else "." for hidden in row) for row in mask.tolist())
    kept_and_hidden = [(kept, hidden) for kept in (1, 2, 3) for hidden in (1, 2, 3)]
    assert set(seen) == {"." * k + "x" * h + "." * (4 - k) + "x" * (4 - h) for k, h in kept_and_hidden}
    five_sigma = 5 * math.sqrt(draws * (1 / 9) * (8 / 9))
    assert all(abs(count - draws / 9) < five_sigma for count in seen.values())


def test_span_lengths_have_the_mean_and_the_distribution_of_random_cuts():
    # 85 hidden tokens cut into 28: P(first span has k tokens) = C(84 - k, 26) / C(84, 27).
    mask = random_spans_mask(np.random.default_rng(1), 4000, 568, 0.15, 3.0)
    assert mask.mean() == pytest.approx(85 / 568)
    first = Counter(runs(row)[1][1] for row in mask)
    for k in (1, 2, 3, 6):
        p = float(Fraction(math.comb(84 - k, 26), math.comb(84, 27)))
        assert abs(first[k] - 4000 * p) < 5 * math.sqrt(4000 * p * (1 - p))


# Salient spans

MARKED = np.array(
    [
        [1, 1, 0, 2, 0, 3, 3, 3, 4],  # four spans, the last two touching, the first at the very start
        [0, 0, 0, 0, 0, 0, 0, 0, 0],
        [0, 7, 7, 0, 0, 0, 0, 0, 0],  # a number may be any
    ]
)


def test_salient_masks_hide_whole_spans_and_the_wanted_number():
    mask = salient_spans_mask(np.random.default_rng(0), MARKED, 0.5)
    hidden = [{int(n) for n in np.unique(row_spans[row])} for row_spans, row in zip(MARKED, mask, strict=True)]
    assert [len(numbers) for numbers in hidden] == [2, 0, 1]
    for row_spans, row, numbers in zip(MARKED, mask, hidden, strict=True):
        assert row.tolist() == [int(n) in numbers for n in row_spans]


@pytest.mark.parametrize(("rate", "expected"), [(0.0, [1, 0, 1]), (0.75, [3, 0, 1]), (1.0, [4, 0, 1])])
def test_salient_masks_hide_at_least_one_and_at_most_all(rate, expected):
    mask = salient_spans_mask(np.random.default_rng(3), MARKED, rate)
    assert [len(np.unique(MARKED[i][mask[i]])) for i in range(3)] == expected


def test_salient_spans_are_chosen_uniformly():
    spans = np.tile(MARKED[:1], (6000, 1))
    mask = salient_spans_mask(np.random.default_rng(0), spans, 0.5)
    pairs = Counter(tuple(np.unique(spans[i][mask[i]]).tolist()) for i in range(6000))
    assert len(pairs) == 6  # the pairs of four spans
    assert all(abs(count - 1000) < 5 * math.sqrt(6000 * (1 / 6) * (5 / 6)) for count in pairs.values())


def test_salient_masks_hide_at_most_as_many_as_there_are_sentinels():
    mask = salient_spans_mask(np.random.default_rng(0), MARKED, 1.0, 3)
    assert [len(np.unique(numbers[row])) for numbers, row in zip(MARKED, mask, strict=True)] == [3, 0, 1]
    spans = np.array([[1, 1, 1, 0, 2, 2, 0, 3, 4]])  # the two longest: 3 + 2 tokens, 2 sentinels and the end
    assert [longest_salient_targets(spans, 1.0, most) for most in (None, 2)] == [7 + 4 + 1, 5 + 2 + 1]


def test_salient_spans_that_touch_share_a_sentinel():
    mask = salient_spans_mask(np.random.default_rng(0), MARKED[:1], 1.0)
    tokens = np.arange(10, 19)[None]
    inputs, targets = corrupt(tokens, mask, sentinels=SENTINELS, inputs_length=7, targets_length=12)
    assert inputs.tolist() == [[999, 12, 998, 14, 997, EOS, PAD]]
    assert targets.tolist() == [[999, 10, 11, 998, 13, 997, 15, 16, 17, 18, EOS, PAD]]


@given(st.data(), st.floats(0, 1), st.integers(0, 2**32))
def test_salient_masks_never_split_a_span(data, rate, seed):
    spans = np.array(data.draw(st.lists(st.lists(st.integers(0, 4), min_size=6, max_size=6), min_size=1, max_size=4)))
    mask = salient_spans_mask(np.random.default_rng(seed), spans, rate)
    for row, hidden in zip(spans, mask, strict=True):
        marked = set(row[row > 0].tolist())
        chosen = set(row[hidden].tolist())
        assert chosen <= marked
        assert hidden.tolist() == [n in chosen for n in row.tolist()]
        assert len(chosen) == (max(1, round(rate * len(marked))) if marked else 0)


def test_salient_masks_refuse_what_makes_no_sense():
    with pytest.raises(ValueError, match="rate"):
        salient_spans_mask(np.random.default_rng(0), MARKED, 1.5)
    with pytest.raises(ValueError, match="negative"):
        salient_spans_mask(np.random.default_rng(0), MARKED - 1, 0.5)


# Corruption


def test_the_worked_example():
    tokens = np.array([[10, 11, 12, 13, 14, 15]], np.uint8)  # a type too small for the sentinels
    mask = np.array([[False, False, True, True, False, True]])
    inputs, targets = corrupt(tokens, mask, sentinels=SENTINELS, inputs_length=6, targets_length=6)
    assert inputs.tolist() == [[10, 11, 999, 14, 998, EOS]]
    assert targets.tolist() == [[999, 12, 13, 998, 15, EOS]]
    assert inputs.dtype == targets.dtype == np.int32


def test_rows_that_hide_different_numbers_are_padded():
    tokens = np.array([[10, 11, 12], [20, 21, 22], [30, 31, 32]])
    mask = np.array([[False, False, False], [True, True, True], [True, False, True]])
    inputs, targets = corrupt(tokens, mask, sentinels=SENTINELS, inputs_length=5, targets_length=6)
    assert inputs.tolist() == [[10, 11, 12, 1, 0], [999, 1, 0, 0, 0], [999, 31, 998, 1, 0]]
    assert targets.tolist() == [[1, 0, 0, 0, 0, 0], [999, 20, 21, 22, 1, 0], [999, 30, 998, 32, 1, 0]]


def test_other_end_and_padding_ids():
    tokens, mask = np.array([[4, 5]]), np.array([[False, True]])
    ids = {"sentinels": SENTINELS, "eos_id": 2, "pad_id": 3}
    inputs, targets = corrupt(tokens, mask, inputs_length=4, targets_length=4, **ids)
    assert inputs.tolist() == [[4, 999, 2, 3]]
    assert targets.tolist() == [[999, 5, 2, 3]]


@st.composite
def batches(draw):
    """Any tokens (end and padding ids among them: documents are concatenated) under any mask."""
    batch, length = draw(st.integers(1, 4)), draw(st.integers(1, 12))
    rows = [draw(st.lists(st.integers(0, 40), min_size=length, max_size=length)) for _ in range(batch)]
    masks = [draw(st.lists(st.booleans(), min_size=length, max_size=length)) for _ in range(batch)]
    return np.array(rows, np.int32), np.array(masks, bool)


@given(batches())
def test_corruption_equals_the_slow_definition_and_can_be_undone(batch):
    tokens, mask = batch
    inputs, targets = corrupt(tokens, mask, sentinels=SENTINELS, inputs_length=14, targets_length=20)
    for row in range(len(tokens)):
        slow_inputs, slow_targets = slow_corrupt(tokens[row].tolist(), mask[row].tolist())
        assert inputs[row].tolist() == padded(slow_inputs, 14)
        assert targets[row].tolist() == padded(slow_targets, 20)
    sources = reassemble(inputs, targets, sentinels=SENTINELS)
    assert [source.tolist() for source in sources] == tokens.tolist()


@given(st.integers(0, 2**32), st.integers(3, 120), st.sampled_from([0.1, 0.15, 0.4]), mean_spans)
def test_the_whole_recipe_fills_its_lengths_exactly(seed, inputs_length, density, span):
    rng = np.random.default_rng(seed)
    tokens_length, targets_length = tokens_length_for(inputs_length, density, span)
    tokens = rng.integers(2, 800, (3, tokens_length))
    mask = random_spans_mask(rng, 3, tokens_length, density, span)
    inputs, targets = corrupt(
        tokens, mask, sentinels=SENTINELS, inputs_length=inputs_length, targets_length=targets_length
    )
    spans = noise_counts(tokens_length, density, span)[1]
    for side in (inputs, targets):
        assert (side[:, -1] == EOS).all() and (side[:, :-1] >= 2).all()  # not one position of padding
        for row in side:
            assert row[row >= 900].tolist() == list(range(999, 999 - spans, -1))  # unique, descending
    assert (inputs[:, 0] == tokens[:, 0]).all()
    assert [source.tolist() for source in reassemble(inputs, targets, sentinels=SENTINELS)] == tokens.tolist()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inputs_length": 4}, "row 0 has 5 tokens with its end, more than inputs_length"),
        ({"targets_length": 4}, "row 1 has 5 tokens with its end, more than targets_length"),
        ({"sentinels": SENTINELS[:1]}, "row 1 has 2 hidden spans, more than there are sentinels"),
        ({"sentinels": np.array([13, 14])}, "already contain sentinels"),
    ],
)
def test_what_cannot_be_corrupted_is_refused_clearly(change, message):
    arguments = {
        "tokens": np.array([[10, 11, 12, 13], [10, 11, 12, 13]]),
        "mask": np.array([[False, False, False, True], [False, True, False, True]]),
        "sentinels": SENTINELS,
        "inputs_length": 5,
        "targets_length": 5,
    }
    corrupt(**arguments)
    with pytest.raises(ValueError, match=message):
        corrupt(**(arguments | change))


@pytest.mark.parametrize("mask", [np.ones((1, 3), bool), np.ones((1, 4), int)])
def test_a_mask_that_is_no_mask_of_the_tokens_is_refused(mask):
    tokens = np.array([[10, 11, 12, 13]])
    with pytest.raises((ValueError, TypeError)):  # TypeError where shapes are checked at run time
        corrupt(tokens, mask, sentinels=SENTINELS, inputs_length=9, targets_length=9)


@pytest.mark.parametrize(
    ("inputs", "targets", "message"),
    [
        ([5, 999, 6, 998, 1], [999, 7, 1, 0, 0], "same sentinels"),  # one span is not told
        ([5, 999, 998, 1, 0], [998, 7, 999, 8, 1], "same sentinels"),  # another order
        ([5, 999, 999, 1, 0], [999, 7, 999, 8, 1], "same sentinels"),  # one sentinel twice
        ([5, 999, 1, 0, 0], [7, 999, 8, 1, 0], "same sentinels"),  # a token that stands for nothing
        ([5, 999, 6, 7, 8], [999, 7, 1, 0, 0], "does not end"),
        ([5, 999, 1, 7, 0], [999, 7, 1, 0, 0], "does not end"),
    ],
)
def test_what_does_not_fit_together_is_not_reassembled(inputs, targets, message):
    with pytest.raises(ValueError, match=message):
        reassemble(np.array([inputs]), np.array([targets]), sentinels=SENTINELS)
