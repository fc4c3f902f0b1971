"""Masked language modelling, the pretraining task of BERT: hide some tokens and predict them.

    source      [CLS] the mill er sold flour to the bak ##er [SEP]
    tokens      [CLS] the mill er [MASK] flour to the bak ##er [SEP]
    positions   4, 8          of a hidden token, and of one that was chosen but not changed
    targets     sold, bak

15% of the text is chosen to be predicted. Of ten chosen tokens, eight become [MASK], one becomes a random token and one
is not changed: fine-tuning has no [MASK], so the model must not learn that all other tokens are correct. With whole
words, "bak ##er" is chosen together or not at all; otherwise one half would reveal the other.
Devlin et al. 2019, section 3.1 and appendix A.1; whole words: their repository.

All functions work on a batch at once, in numpy, on the host. B is the number of rows, L their length, P the largest
number of predictions in a row.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int32, Integer

MASKED_SHARE, RANDOM_SHARE = 0.8, 0.1  # of the chosen tokens; the rest is not changed


class MaskedTokens(NamedTuple):
    """What the model reads, and what it must predict. Unused predictions have position 0, target 0 and weight 0."""

    tokens: Int32[np.ndarray, "B L"]
    positions: Int32[np.ndarray, "B P"]  # ascending
    targets: Int32[np.ndarray, "B P"]
    weights: Float32[np.ndarray, "B P"]  # 1, or 0 where a row has fewer predictions


def most_predictions(length: int, rate: float = 0.15) -> int:
    """The largest number of predictions in a row of `length` tokens: 20 for 128, 77 for 512."""
    return math.ceil(rate * length)


def mask_tokens(
    rng: np.random.Generator | Sequence[np.random.Generator],
    tokens: Integer[np.ndarray, "B L"],
    *,
    maskable: Bool[np.ndarray, "B L"],
    mask_id: int,
    vocab_size: int,
    special_ids: Sequence[int],
    max_predictions: int,
    rate: float = 0.15,
    word_starts: Bool[np.ndarray, "B L"] | None = None,
) -> MaskedTokens:
    """Chooses the tokens to predict and hides most of them.

    A row with n tokens that may be chosen has min(max_predictions, max(1, round(rate * n))) predictions, none if n
    is 0. Special ids are never chosen, whatever `maskable` says, and are never used as random tokens.

    With `word_starts` (for WordPiece `~tokenizer.continuation[tokens]`) whole words are chosen: in random order, each
    that still fits. So a row may have fewer predictions (none, if all its words are too long). A word ends before the
    next start or the next token that may not be chosen.

    `rng` is one generator for the batch, or one for each row: then a row does not depend on the rest of its batch.
    Raises ValueError for a rate outside [0, 1], for max_predictions below 1, or a token that is not in the vocabulary.
    """
    if not 0 <= rate <= 1:
        raise ValueError(f"rate is {rate}: it must lie between 0 and 1")
    if max_predictions < 1:
        raise ValueError(f"max_predictions is {max_predictions}: at least 1 is needed")
    if tokens.size and not 0 <= tokens.min() <= tokens.max() < vocab_size:
        raise ValueError(f"tokens has ids from {tokens.min()} to {tokens.max()}: the vocabulary has {vocab_size}")
    batch, length = tokens.shape
    draws = [length, max_predictions, max_predictions]
    if isinstance(rng, np.random.Generator):
        drawn = rng.random((batch, sum(draws)))
    else:
        drawn = np.array([one.random(sum(draws)) for one in rng]).reshape(batch, sum(draws))
    order, action, replacement = np.split(drawn, np.cumsum(draws)[:2], axis=1)

    special = np.zeros(vocab_size, bool)
    special[list(special_ids)] = True
    maskable = maskable & ~special[tokens]
    count = maskable.sum(axis=1)
    # Half to even, as Python's round. Every row with text has a prediction.
    budget = np.where(count > 0, np.clip(np.rint(rate * count), 1, max_predictions), 0).astype(int)
    chosen = _choose_words(order, maskable, maskable if word_starts is None else word_starts, budget)

    weights = np.arange(max_predictions) < chosen.sum(axis=1, keepdims=True)
    positions = np.zeros((batch, max_predictions), np.int32)
    positions[weights] = np.nonzero(chosen)[1]  # row by row, in order, as the weights
    targets = np.where(weights, np.take_along_axis(tokens, positions, axis=1), 0)
    ordinary = np.flatnonzero(~special)
    random_tokens = ordinary[(replacement * len(ordinary)).astype(int)]
    seen = np.where(action < MASKED_SHARE + RANDOM_SHARE, random_tokens, targets)
    seen = np.where(action < MASKED_SHARE, mask_id, seen)
    masked = tokens.astype(np.int32)
    masked[chosen] = seen[weights]
    return MaskedTokens(masked, positions, targets.astype(np.int32), weights.astype(np.float32))


def reassemble(masked: MaskedTokens) -> Int32[np.ndarray, "B L"]:
    """Undoes `mask_tokens`: every target at its position."""
    tokens = masked.tokens.copy()
    rows, numbers = np.nonzero(masked.weights)
    tokens[rows, masked.positions[rows, numbers]] = masked.targets[rows, numbers]
    return tokens


def _choose_words(
    order: np.ndarray, maskable: np.ndarray, word_starts: np.ndarray, budget: np.ndarray
) -> Bool[np.ndarray, "B L"]:
    """The tokens of the chosen words: in their `order`, each word that fits into the rest of the budget [B]."""
    batch, length = maskable.shape
    starts = maskable & word_starts
    starts[:, 1:] |= maskable[:, 1:] & ~maskable[:, :-1]  # text that begins within a word
    starts[:, :1] |= maskable[:, :1]
    row = np.arange(batch)[:, None]
    start_of = np.maximum.accumulate(np.where(starts, np.arange(length), 0), axis=1)  # where a token's word starts
    # the number of tokens of the word that starts here
    sizes = np.bincount((row * length + start_of)[maskable], minlength=maskable.size).reshape(batch, length)

    places = np.where(starts, order, np.inf).argsort(axis=1)  # the starts, in random order
    sizes, waiting = sizes[row, places], starts[row, places]
    taken = np.zeros_like(waiting)
    left = budget[:, None]
    # Each round takes the words before the first that does not fit, and that one never fits later. If all words have
    # the same length, this takes one round, otherwise two to four.
    while (waiting := waiting & (sizes <= left)).any():
        fits = waiting & (np.cumsum(sizes * waiting, axis=1) <= left)
        taken |= fits
        waiting &= ~fits
        left = left - (sizes * fits).sum(axis=1, keepdims=True)
    chosen_starts = np.zeros_like(taken)
    chosen_starts[row, places] = taken
    return maskable & chosen_starts[row, start_of]
