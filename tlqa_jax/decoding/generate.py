"""Writing an answer: greedy decoding in one compiled loop."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from tlqa_jax.models.functional import Params


class Generated(NamedTuple):
    """Tokens up to and with eos, then padding; and the natural log of the probability of each (0 in the padding)."""

    tokens: Int[Array, "B T"]
    log_probabilities: Float[Array, "B T"]


def greedy(
    apply: Callable,
    params: Params,
    inputs: Int[Array, "B S"],
    input_mask: Bool[Array, "B S"] | None = None,
    *,
    max_length: int,
    start_id: int = 0,
    eos_id: int = 1,
    pad_id: int = 0,
) -> Generated:
    """Take the likeliest token again and again, at most `max_length` times, until every row has written eos.

    `apply` is a T5 as a function (`models.functional.as_function`). A pure function: `jax.jit` or `jax.pmap` it with
    `apply` and the sizes bound. The encoder runs once, and so do the projections of its output to the keys and
    values of cross-attention; each step then costs one token, because the keys and values of the earlier ones are
    kept in a cache.
    """
    encoded = apply(params, inputs, input_mask=input_mask, method="encode")
    batch = inputs.shape[0]
    cache = apply(params, encoded, max_length, method="start_cache")

    def unfinished(carry):
        step, _, ended, *_ = carry
        return (step < max_length) & ~jnp.all(ended)

    def write_one(carry):
        step, token, ended, cache, out = carry
        logits, cache = apply(params, token, step, cache, input_mask=input_mask, method="decode_step")
        logits = logits.astype(jnp.float32)
        token = jnp.where(ended, pad_id, jnp.argmax(logits, axis=-1).astype(jnp.int32))
        chosen = jnp.where(ended, 0.0, jnp.max(logits, axis=-1) - jax.nn.logsumexp(logits, axis=-1))
        out = Generated(out.tokens.at[:, step].set(token), out.log_probabilities.at[:, step].set(chosen))
        return step + 1, token, ended | (token == eos_id), cache, out

    empty = Generated(jnp.full((batch, max_length), pad_id, jnp.int32), jnp.zeros((batch, max_length), jnp.float32))
    start = (jnp.int32(0), jnp.full(batch, start_id, jnp.int32), jnp.zeros(batch, bool), cache, empty)
    return jax.lax.while_loop(unfinished, write_one, start)[-1]
