"""Writing by chance: each token is drawn from the model's distribution, made flatter, sharper or shorter before.

    p(token) = softmax(logits / temperature), of which top-k keeps the k likeliest tokens (Fan et al. 2018) and top-p,
    or nucleus sampling, the fewest that have the share p together (Holtzman et al. 2020); what is kept is drawn from.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int, Key

from tlqa_jax.inference.generate import Choose, Generated, write
from tlqa_jax.models.functional import Params


def sample(
    apply: Callable,
    params: Params,
    inputs: Int[Array, "B S"],
    input_mask: Bool[Array, "B S"] | None,
    keys: Key[Array, "B"],
    *,
    max_length: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    **ids: int,
) -> Generated:
    """As `generate.greedy`, but each token is drawn. The log-probabilities are those of the model as it is.

    Args:
        keys: one for each row, [B]. The same key writes the same text, whatever else is in the batch.
        temperature: above 0; below 1 makes the likely likelier.
        top_k, top_p: keep only so many, or only the fewest tokens that together have this share, in this order.
        ids: start_id, eos_id, pad_id, as `greedy` has them.
    """
    choose = drawn(keys, temperature=temperature, top_k=top_k, top_p=top_p)
    return write(apply, params, inputs, input_mask, choose, max_length=max_length, **ids)


def drawn(
    keys: Key[Array, "B"], *, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> Choose:
    """The way to choose of `sample`: row b's token at step t is drawn with its key and t."""

    def choose(logits: Float[Array, "B V"], step: Int[Array, ""]) -> Int[Array, "B"]:
        kept = shaped(logits, temperature=temperature, top_k=top_k, top_p=top_p)
        return jax.vmap(jax.random.categorical)(jax.vmap(partial(fold_in, step))(keys), kept)

    return choose


def fold_in(step: Int[Array, ""], key: Key[Array, ""]) -> Key[Array, ""]:
    return jax.random.fold_in(key, step)


def shaped(
    logits: Float[Array, "B V"], *, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> Float[Array, "B V"]:
    """The logits to draw from: divided by the temperature, -inf where top-k or after it top-p leaves a token out.

    Of equally likely tokens at the border all are kept.
    """
    logits = logits / temperature
    if top_k is not None and top_k < logits.shape[-1]:
        least = jax.lax.top_k(logits, top_k)[0][:, -1:]
        logits = jnp.where(logits < least, -jnp.inf, logits)
    if top_p is not None and top_p < 1:
        falling = -jnp.sort(-logits, axis=-1)
        shares = jax.nn.softmax(falling, axis=-1)
        before = jnp.cumsum(shares, axis=-1) - shares  # what the likelier ones have: below p, one more is needed
        least = jnp.where(before < top_p, falling, jnp.inf).min(axis=-1, keepdims=True)
        logits = jnp.where(logits < least, -jnp.inf, logits)
    return logits
