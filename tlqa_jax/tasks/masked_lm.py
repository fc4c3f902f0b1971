"""Masked language modelling, the pretraining task of BERT: hide some tokens, ask what they were.

    source      [CLS] the mill er sold flour to the bak ##er [SEP]
    tokens      [CLS] the mill er [MASK] flour to the bak ##er [SEP]
    positions   4, 8          of a hidden token, and of one that was chosen but stands there as it was
    targets     sold, bak

Of the text 15% is chosen to be predicted. Eight of ten chosen tokens become [MASK], one becomes a random token and one
stays: when the model is fine-tuned there is no [MASK], so it must not learn that all other tokens are as they should
be. With whole words, "bak ##er" is chosen together or not at all, else one half gives the other away.
Devlin et al. 2019, section 3.1 and appendix A.1; whole words: their repository.

Everything here works on a whole batch at once, in numpy, on the host. B is the number of rows, L their length, P the
most predictions a row can have.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32, Int32, Integer

MASKED_SHARE, RANDOM_SHARE = 0.8, 0.1  # of the chosen tokens; the rest stays as it is


class MaskedTokens(NamedTuple):
    """What the model sees, and what it is asked. Unused predictions have position 0, target 0 and weight 0."""

    tokens: Int32[np.ndarray, "B L"]
    positions: Int32[np.ndarray, "B P"]  # ascending
    targets: Int32[np.ndarray, "B P"]
    weights: Float32[np.ndarray, "B P"]  # 1, or 0 where a row has fewer predictions


def most_predictions(length: int, rate: float = 0.15) -> int:
    """The predictions that rows of `length` tokens have at most: 20 for 128, 77 for 512."""
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
    is 0. Special ids are never chosen, whatever `maskable` says, and never put in as random tokens.

    With `word_starts` (for WordPiece `~tokenizer.continuation[tokens]`) whole words are chosen: in random order, each
    that still fits into the predictions, so a row may have fewer of them (none, if all its words are too long). A word
    goes on until the next start or the next token that may not be chosen.

    `rng` is one generator for the batch, or one for each row: then a row does not depend on the batch it stands in.
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
    # Half to even, as Python's round. Every row with any text asks something.
    budget = np.where(count > 0, np.clip(np.rint(rate * count), 1, max_predictions), 0).astype(int)
    chosen = _choose_words(order, maskable, maskable if word_starts is None else word_starts, budget)

    weights = np.arange(max_predictions) < chosen.sum(axis=1, keepdims=True)
    positions = np.zeros((batch, max_predictions), np.int32)
    positions[weights] = np.nonzero(chosen)[1]  # row by row, in order: just as the weights are filled
    targets = np.where(weights, np.take_along_axis(tokens, positions, axis=1), 0)
    ordinary = np.flatnonzero(~special)
    random_tokens = ordinary[(replacement * len(ordinary)).astype(int)]
    seen = np.where(action < MASKED_SHARE + RANDOM_SHARE, random_tokens, targets)
    seen = np.where(action < MASKED_SHARE, mask_id, seen)
    masked = tokens.astype(np.int32)
    masked[chosen] = seen[weights]
    return MaskedTokens(masked, positions, targets.astype(np.int32), weights.astype(np.float32))


def reassemble(masked: MaskedTokens) -> Int32[np.ndarray, "B L"]:
    """The source: every target back in its position."""
    tokens = masked.tokens.copy()
    rows, numbers = np.nonzero(masked.weights)
    tokens[rows, masked.positions[rows, numbers]] = masked.targets[rows, numbers]
    return tokens


def _choose_words(
    order: np.ndarray, maskable: np.ndarray, word_starts: np.ndarray, budget: np.ndarray
) -> Bool[np.ndarray, "B L"]:
    """The tokens of the words that are chosen: by their `order`, each that fits into what is left of the budget [B]."""
    batch, length = maskable.shape
    starts = maskable & word_starts
    starts[:, 1:] |= maskable[:, 1:] & ~maskable[:, :-1]  # text that begins in the middle of a word
    starts[:, :1] |= maskable[:, :1]
    row = np.arange(batch)[:, None]
    start_of = np.maximum.accumulate(np.where(starts, np.arange(length), 0), axis=1)  # where a token's word starts
    # how many tokens the word has that starts here
    sizes = np.bincount((row * length + start_of)[maskable], minlength=maskable.size).reshape(batch, length)

    places = np.where(starts, order, np.inf).argsort(axis=1)  # the starts, in random order
    sizes, waiting = sizes[row, places], starts[row, places]
    taken = np.zeros_like(waiting)
    left = budget[:, None]
    # Each round takes the words up to the first that is too long by then, and that one never fits again. All words
    # alike long need one round, others two to four.
    while (waiting := waiting & (sizes <= left)).any():
        fits = waiting & (np.cumsum(sizes * waiting, axis=1) <= left)
        taken |= fits
        waiting &= ~fits
        left = left - (sizes * fits).sum(axis=1, keepdims=True)
    chosen_starts = np.zeros_like(taken)
    chosen_starts[row, places] = taken
    return maskable & chosen_starts[row, start_of]
