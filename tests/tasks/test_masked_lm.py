"""Masked LM: what may be chosen, how much of it, what is put in its place; whole words against slow code."""

import math

import numpy as np
import pytest
from hypothesis import given, strategies as st
from hypothesis.extra import numpy as arrays

from tlqa_jax.tasks.masked_lm import mask_tokens, most_predictions, reassemble

PAD, UNK, CLS, SEP, MASK = SPECIALS = (0, 1, 2, 3, 4)
VOCABULARY = 30


def masked(rng, tokens, **options):
    tokens = np.asarray(tokens)
    options = {"maskable": np.ones(tokens.shape, bool), "max_predictions": 5, **options}
    return mask_tokens(rng, tokens, mask_id=MASK, vocab_size=VOCABULARY, special_ids=SPECIALS, **options)


def within_binomial_bounds(successes: int, trials: int, rate: float) -> bool:
    """Five standard deviations: wrong once in two million."""
    return abs(successes - trials * rate) < 5 * math.sqrt(trials * rate * (1 - rate))


batches = arrays.arrays(np.int32, arrays.array_shapes(min_dims=2, max_dims=2, max_side=40), elements=st.integers(0, 29))
seeds = st.integers(0, 2**32)


def test_a_row_by_hand():
    #             [CLS]  the  mill sold flour [SEP] [PAD]
    tokens = [[CLS, 10, 11, 12, 13, SEP, PAD]]
    batch = masked(np.random.default_rng(0), tokens, rate=0.5, max_predictions=3)
    assert batch.weights.tolist() == [[1, 1, 0]]  # half of four
    first, second = batch.positions[0, :2]
    assert 1 <= first < second <= 4 and batch.positions[0, 2] == 0
    assert batch.targets.tolist() == [[9 + first, 9 + second, 0]]
    assert reassemble(batch).tolist() == tokens
    assert [array.dtype.name for array in batch] == ["int32", "int32", "int32", "float32"]


@given(batches, seeds, st.integers(1, 9), st.sampled_from([0.0, 0.15, 0.5, 1.0]), st.data())
def test_any_batch(tokens, seed, most, rate, data):
    maskable = data.draw(arrays.arrays(bool, tokens.shape))
    batch = masked(np.random.default_rng(seed), tokens, maskable=maskable, max_predictions=most, rate=rate)
    assert reassemble(batch).tolist() == tokens.tolist()
    for row, hidden, positions, targets, weights, may in zip(tokens, *batch, maskable):
        allowed = [i for i, token in enumerate(row) if may[i] and token not in SPECIALS]
        count = min(most, max(1, round(rate * len(allowed)))) if allowed else 0
        assert weights.tolist() == [1] * count + [0] * (most - count)
        assert not positions[count:].any() and not targets[count:].any()
        chosen = positions[:count].tolist()
        assert chosen == sorted(set(chosen)) and set(chosen) <= set(allowed), "specials and padding are never chosen"
        assert targets[:count].tolist() == row[chosen].tolist()
        unchosen = np.setdiff1d(np.arange(len(row)), chosen)
        assert hidden[unchosen].tolist() == row[unchosen].tolist()
        assert all(token == MASK or token not in SPECIALS for token in hidden[chosen])


def test_rates():
    tokens = np.random.default_rng(0).integers(5, VOCABULARY, (400, 128))
    batch = masked(np.random.default_rng(1), tokens, max_predictions=20)
    chosen = int(batch.weights.sum())
    assert chosen == 400 * 19  # round(.15 * 128)
    seen = np.take_along_axis(batch.tokens, batch.positions, axis=1)
    hidden = int((batch.weights * (seen == MASK)).sum())
    kept = int((batch.weights * (seen == batch.targets)).sum())
    assert within_binomial_bounds(hidden, chosen, 0.8)
    assert within_binomial_bounds(kept, chosen, 0.1 + 0.1 / 25)  # a random token may be the same
    other = seen[(batch.weights > 0) & (seen != MASK) & (seen != batch.targets)]
    counts = np.bincount(other, minlength=VOCABULARY)
    assert all(within_binomial_bounds(int(count), len(other), 1 / 25) for count in counts[5:]), "uniform"
    places = np.bincount(batch.positions[batch.weights > 0], minlength=128)
    assert all(within_binomial_bounds(int(count), 400, 19 / 128) for count in places), "everywhere alike"


def test_the_number_of_predictions():
    assert (most_predictions(128), most_predictions(512)) == (20, 77)
    counts = [
        int(masked(np.random.default_rng(0), np.full((1, n), 9), max_predictions=6).weights.sum())
        for n in (1, 3, 9, 10, 30, 37, 100)
    ]
    assert counts == [1, 1, 1, 2, 4, 6, 6]  # 1.5 and 4.5 are rounded to even


def test_a_generator_for_each_row():
    tokens = np.random.default_rng(0).integers(5, VOCABULARY, (3, 11))
    rngs = lambda *numbers: [np.random.default_rng((7, number)) for number in numbers]
    together = masked(rngs(0, 1, 2), tokens)
    alone = masked(rngs(1), tokens[1:2])
    assert [array[1].tolist() for array in together] == [array[0].tolist() for array in alone]
    assert together.tokens.tolist() != masked(rngs(3, 4, 5), tokens).tokens.tolist()


# Whole words


def slow_words(maskable, starts) -> list[list[int]]:
    """The words of one row, as lists of positions."""
    words = []
    for i, may in enumerate(maskable):
        if may and (starts[i] or i == 0 or not maskable[i - 1]):
            words.append([])
        if may:
            words[-1].append(i)
    return words


@given(batches, seeds, st.integers(1, 9), st.sampled_from([0.15, 0.5, 1.0]), st.data())
def test_whole_words(tokens, seed, most, rate, data):
    starts = data.draw(arrays.arrays(bool, tokens.shape))
    batch = masked(np.random.default_rng(seed), tokens, max_predictions=most, rate=rate, word_starts=starts)
    assert reassemble(batch).tolist() == tokens.tolist()
    for row, start, positions, weights in zip(tokens, starts, batch.positions, batch.weights):
        maskable = ~np.isin(row, SPECIALS)
        words = slow_words(maskable, start)
        chosen = set(positions[weights > 0].tolist())
        budget = min(most, max(1, round(rate * maskable.sum()))) if maskable.any() else 0
        assert len(chosen) <= budget
        left_out = [word for word in words if not chosen & set(word)]
        assert {i for word in words if word not in left_out for i in word} == chosen, "no word is split"
        assert all(len(word) > budget - len(chosen) for word in left_out), "no word that fits is left out"


def test_words_are_chosen_as_one_at_a_time_in_order():
    # sizes 3, 2, 1, 2 in this order, budget 4: take 3; 2 does not fit; take 1; full
    starts = np.array([[1, 0, 0, 1, 0, 1, 1, 0]], bool)

    class InOrder(np.random.Generator):
        def random(self, size):
            return np.linspace(0, 0.99, size)

    batch = masked([InOrder(np.random.PCG64())], np.arange(10, 18)[None], rate=0.5, word_starts=starts)
    assert batch.positions.tolist() == [[0, 1, 2, 5, 0]]


def test_each_word_is_chosen_equally_often():
    starts = np.tile([1, 0, 1, 1, 0, 1, 1, 0], (4000, 1)).astype(bool)  # three words of two tokens, two of one
    batch = masked(np.random.default_rng(0), np.full(starts.shape, 9), rate=0.25, word_starts=starts)
    first_tokens = np.zeros(8, int)
    np.add.at(first_tokens, batch.positions[batch.weights > 0], 1)
    assert first_tokens[0] == first_tokens[1]
    # chosen at once (1/5), or the second of the two single ones in any order that a single one begins
    assert all(within_binomial_bounds(int(first_tokens[i]), 4000, 3 / 5 / 3) for i in (0, 3, 6))
    assert all(within_binomial_bounds(int(first_tokens[i]), 4000, 2 / 5) for i in (2, 5))


@pytest.mark.parametrize(
    ("options", "named"),
    [({"rate": 1.5}, "rate"), ({"max_predictions": 0}, "max_predictions"), ({"tokens": [[30]]}, "ids from 30 to 30")],
)
def test_impossible_requests_are_refused(options, named):
    with pytest.raises(ValueError, match=named):
        masked(np.random.default_rng(0), **{"tokens": [[9, 9]], **options})
