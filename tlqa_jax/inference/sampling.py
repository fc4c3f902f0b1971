"""Sampling: each token is drawn from the model's distribution, after a temperature, top-k and top-p have changed it.

    p(token) = softmax(logits / temperature)

Top-k keeps the k most probable tokens (Fan et al. 2018). Top-p, or nucleus sampling, keeps the fewest tokens whose
probabilities add up to at least p (Holtzman et al. 2020).
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Key

from tlqa_jax.inference.greedy import Choose


def sampled_choice(
    keys: Key[Array, "B"], *, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> Choose:
    """A choice for `generate_tokens`: row b's token at step t is drawn with the key of b, folded with t.

    The same key gives the same text, whatever else is in the batch.

    Args:
        temperature: above 0; below 1 makes probable tokens more probable.
        top_k, top_p: keep only the k most probable tokens; of these, only the fewest that have the share p together.
    """

    def choose(logits: Float[Array, "B V"], step: Int[Array, ""]) -> Int[Array, "B"]:
        kept = warp_logits(logits, temperature=temperature, top_k=top_k, top_p=top_p)
        step_keys = jax.vmap(lambda key: jax.random.fold_in(key, step))(keys)
        return jax.vmap(jax.random.categorical)(step_keys, kept)

    return choose


def warp_logits(
    logits: Float[Array, "B V"], *, temperature: float = 1.0, top_k: int | None = None, top_p: float | None = None
) -> Float[Array, "B V"]:
    """The logits to draw from: divided by the temperature, -inf where top-k, or after it top-p, leaves a token out.

    Of equally probable tokens at the border, all are kept.
    """
    logits = logits / temperature
    if top_k is not None and top_k < logits.shape[-1]:
        least = jax.lax.top_k(logits, top_k)[0][:, -1:]
        logits = jnp.where(logits < least, -jnp.inf, logits)
    if top_p is not None and top_p < 1:
        falling = -jnp.sort(-logits, axis=-1)
        shares = jax.nn.softmax(falling, axis=-1)
        before = jnp.cumsum(shares, axis=-1) - shares  # share of the more probable tokens: below p, one more is needed
        least = jnp.where(before < top_p, falling, jnp.inf).min(axis=-1, keepdims=True)
        logits = jnp.where(logits < least, -jnp.inf, logits)
    return logits
