"""Attention masks. Boolean everywhere, True = may attend, and applied in one place: `apply_mask`."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int


def padding_mask(tokens: Int[Array, "B S"], pad_id: int = 0) -> Bool[Array, "B S"]:
    """True where there is a token, False where there is padding.

    >>> padding_mask(jnp.array([[7, 8, 0]])).tolist()
    [[True, True, False]]
    """
    return tokens != pad_id


def causal_mask(length: int) -> Bool[Array, "L L"]:
    """Query i (row) may attend to keys 0..i (columns): itself and the past.

                keys
              0  1  2
    query 0   1  0  0
          1   1  1  0
          2   1  1  1
    """
    position = jnp.arange(length)
    return position[:, None] >= position[None, :]


def segment_mask(queries: Int[Array, "B L"], keys: Int[Array, "B S"]) -> Bool[Array, "B L S"]:
    """Of several examples in one row, a query may attend to the keys of its own: those with the same segment number.

                keys
              1  1  2  0
    query 1   1  1  0  0
          2   0  0  1  0
          0   0  0  0  1

    Padding, 0, is a segment like any other: nobody sees it but itself.
    """
    return queries[:, :, None] == keys[:, None, :]


def apply_mask(scores: Float[Array, "B H L S"], mask: Bool[Array, "#B #H #L S"] | None) -> Float[Array, "B H L S"]:
    """Scores with the forbidden ones set to the lowest finite number, so that softmax gives them exactly 0.

    Finite rather than -inf: a row with every key forbidden (a batch's padding row) then averages evenly instead of
    becoming NaN and poisoning the gradients of the whole batch.
    """
    if mask is None:
        return scores
    return jnp.where(mask, scores, jnp.finfo(scores.dtype).min)
