"""Attention masks. All are boolean, True = may attend, and all are applied by `apply_mask`."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def padding_mask(tokens: Int[Array, "B S"], pad_id: int = 0) -> Bool[Array, "B S"]:
    """True up to the last token that is not padding. So a padding token that was typed in the text is a token.

    >>> padding_mask(jnp.array([[7, 0, 8, 0]])).tolist()
    [[True, True, True, False]]
    """
    places = jnp.broadcast_to(jnp.arange(tokens.shape[-1]), tokens.shape)
    return places <= jnp.where(tokens != pad_id, places, -1).max(axis=-1, keepdims=True)


def causal_mask(length: int) -> Bool[Array, "L L"]:
    """Query i (row) may attend to keys 0..i (columns): itself and those before it.

                keys
              0  1  2
    query 0   1  0  0
          1   1  1  0
          2   1  1  1
    """
    position = jnp.arange(length)
    return position[:, None] >= position[None, :]


def segment_mask(queries: Int[Array, "B L"], keys: Int[Array, "B S"]) -> Bool[Array, "B L S"]:
    """With several examples in a row, a query may attend to the keys of its own example: those with the same number.

                keys
              1  1  2  0
    query 1   1  1  0  0
          2   0  0  1  0
          0   0  0  0  1

    Padding, 0, is a segment of its own: only padding attends to it.
    """
    return queries[:, :, None] == keys[:, None, :]


def apply_mask(scores: Float[Array, "B H L S"], mask: Bool[Array, "#B #H #L S"] | None) -> Float[Array, "B H L S"]:
    """The scores. Masked ones become the lowest finite number, so that their weight after softmax is exactly 0.

    The number is finite, not -inf: if all keys of a query are masked (in a row of padding), its weights are then equal.
    With -inf they would be NaN, and so would the gradients of the whole batch.
    """
    if mask is None:
        return scores
    return jnp.where(mask, scores, jnp.finfo(scores.dtype).min)
