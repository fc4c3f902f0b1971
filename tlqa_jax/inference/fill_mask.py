"""What a masked-LM model predicts for each [MASK].

    [guesses] = fill_mask(model, tokenizer, "Mara plays the [MASK].", n=2)      # one list for each mask of the text
    guesses                                              # [Guess("flute", 0.31), Guess("lute", 0.22)]

Each mask is filled on its own; the others stay masks.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Int

from tlqa_jax.core.precision import at_least_float32
from tlqa_jax.errors import UserError
from tlqa_jax.inference.length_buckets import length_buckets
from tlqa_jax.models.bert_heads import BertForMaskedLM, BertForPreTraining
from tlqa_jax.text.wordpiece import WordPieceTokenizer


class Guess(NamedTuple):
    """A piece as it is in the vocabulary, "flute" or "##s", and its probability there."""

    piece: str
    probability: float


def fill_mask(
    model: nnx.Module, tokenizer: WordPieceTokenizer, texts: str | Sequence[str], *, n: int = 5, batch_size: int = 32
) -> list:
    """The n most probable pieces for each [MASK].

    Args:
        model: a `BertForMaskedLM` or `BertForPreTraining`.
        texts: a text with one or more "[MASK]", or several such texts.
        batch_size: rows at once, if there are many.

    Returns for a text a list with n `Guess`es, best first, for each mask; for several texts a list of such lists.

    Raises UserError for a model without a masked-LM head, a text without a mask, or one too long for the model.
    """
    if isinstance(texts, str):
        return fill_mask(model, tokenizer, [texts], n=n, batch_size=batch_size)[0]
    if not isinstance(model, BertForMaskedLM | BertForPreTraining):
        kinds = "BertForMaskedLM or BertForPreTraining"
        raise UserError(f"a {type(model).__name__} has no masked-LM head to fill a mask with: use a {kinds}")
    if not 1 <= n <= tokenizer.vocab_size:
        raise UserError(f"n is {n}: it has to be from 1 to {tokenizer.vocab_size}, the size of the vocabulary")
    encoded = [[tokenizer.cls_id, *ids, tokenizer.sep_id] for ids in tokenizer.encode_batch(texts)]
    places = [[place for place, id in enumerate(ids) if id == tokenizer.mask_id] for ids in encoded]
    longest = model.config.max_position_embeddings
    for text, ids, masks in zip(texts, encoded, places):
        shown = text if len(text) <= 40 else f"{text[:37]}..."
        if not masks:
            raise UserError(f'"{shown}" has no [MASK] to fill')
        if len(ids) > longest:
            raise UserError(f'"{shown}" has {len(ids)} tokens, this model reads at most {longest}: shorten it')

    most = 1
    while most < max(map(len, places), default=1):
        most *= 2  # a few numbers of masks, so that new texts rarely need a compilation
    graph, params = nnx.split(model)  # compiled once for all models of these sizes
    filled: list = [None] * len(texts)
    lengths = np.array([len(ids) for ids in encoded], int)
    for rows, count, length in length_buckets(lengths, longest=longest, devices=1, batch_size=batch_size):
        tokens = np.full((len(rows), length), tokenizer.pad_id, np.int32)
        positions = np.zeros((len(rows), most), np.int32)
        for row, text in enumerate(rows):
            tokens[row, : lengths[text]] = encoded[text]
            positions[row, : len(places[text])] = places[text]
        mask = np.arange(length) < lengths[rows][:, None]
        found = jax.device_get(top_pieces(graph, tokenizer.vocab_size, n, params, tokens, positions, mask))
        ids, probabilities = (x.tolist() for x in found)
        for row, text in enumerate(rows[:count]):
            masks = zip(places[text], ids[row], probabilities[row])  # as many as the text has
            filled[text] = [list(map(Guess, map(tokenizer.piece, pieces), shares)) for _, pieces, shares in masks]
    return filled


@partial(jax.jit, static_argnums=(0, 1, 2))
def top_pieces(
    graph: Any, vocab_size: int, n: int, params: Any,
    tokens: Int[Array, "B L"], positions: Int[Array, "B P"], mask: Bool[Array, "B L"],
) -> tuple[Int[Array, "B P n"], Float[Array, "B P n"]]:  # fmt: skip
    """Ids and probabilities, from a model split by nnx. Rows of its embedding beyond the vocabulary get none."""
    logits = nnx.merge(graph, params)(tokens, positions=positions, mask=mask)
    logits = logits.masked_lm if isinstance(logits, tuple) else logits
    probabilities, ids = jax.lax.top_k(jax.nn.softmax(at_least_float32(logits[..., :vocab_size])), n)
    return ids, probabilities
