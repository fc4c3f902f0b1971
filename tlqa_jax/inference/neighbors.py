"""The nearest neighbours of words, and analogies: king - man + woman (Mikolov et al. 2013).

    nearest(vectors, tokenizer, ["flute"])                              # [Neighbor("lute", 0.83), …]
    nearest(vectors, tokenizer, ["king", "woman"], ["man"], n=3)

Two words are near if the angle between their vectors is small: similarity is its cosine. Of an analogy the words' vectors
are divided by their lengths, then added and subtracted (Levy and Goldberg 2014).
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float32

from tlqa_jax.errors import UserError
from tlqa_jax.models.word_vectors import CBOW
from tlqa_jax.text.wordpiece import WordPieceTokenizer


class Neighbor(NamedTuple):
    """A word, and the cosine of the angle between its vector and what was asked for."""

    word: str
    similarity: float


def nearest(
    model: CBOW, tokenizer: WordPieceTokenizer, plus: Sequence[str], minus: Sequence[str] = (), *, n: int = 10
) -> list[Neighbor]:
    """The n nearest of the words that are one piece, without those asked for, nearest first.

    A word of several pieces has the mean of their vectors. Raises UserError for a word that is none, or that was in no
    text that the vectors were learned from.
    """
    vectors, seen = np.asarray(model.vectors.table[...]), seen_in_training(model)[: tokenizer.vocab_size]
    target, asked = np.zeros(vectors.shape[1], np.float32), set()
    for word, sign in [*((word, 1) for word in plus), *((word, -1) for word in minus)]:
        ids = tokenizer.encode(word)
        if not ids or set(ids) & set(tokenizer.special_ids):
            raise UserError(f"{word!r} is no word of the vocabulary: give another")
        if not seen[ids].all():
            raise UserError(f"{word!r} is in no text that these vectors were learned from: give another")
        target += sign * unit(vectors[ids].mean(axis=0))
        asked |= set(ids)
    similarities = unit(vectors[: tokenizer.vocab_size]) @ unit(target)
    similarities[~seen | tokenizer.continuation] = -np.inf
    similarities[list(asked)] = -np.inf
    best = np.argsort(-similarities)[:n]
    return [Neighbor(tokenizer.piece(int(id)), float(similarities[id])) for id in best if similarities[id] > -np.inf]


def seen_in_training(model: CBOW) -> Bool[np.ndarray, "V"]:
    """Whether a word was in the text: all output vectors are 0 at first, and those of other words stay so."""
    return np.asarray(model.outputs.table[...]).any(axis=1)


def unit(vectors: Float32[np.ndarray, "*N D"]) -> Float32[np.ndarray, "*N D"]:
    """The vectors divided by their lengths."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)


def analogy(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """(added, subtracted) of "king - man + woman" as a list of words and signs.

    Raises UserError if words and signs do not take turns.
    """
    signs = ["+", *words[1::2]]
    if len(words) % 2 == 0 or not set(signs) <= {"+", "-"} or {"+", "-"} & set(words[::2]):
        raise UserError(f"{' '.join(words)!r}: give a word, or words with + or - between them: king - man + woman")
    pairs = list(zip(signs, words[::2]))
    return [word for sign, word in pairs if sign == "+"], [word for sign, word in pairs if sign == "-"]
