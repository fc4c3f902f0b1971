"""Greedy decoding, and the loop that generates one text for each row, token by token (`sampling.py` shares it)."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from tlqa_jax.models.functional import Params

PAD_ID = 0  # T5's padding, and the first token that its decoder reads
# (logits [B V] in float32, number of the step) -> tokens [B]
Choose = Callable[[Array, Array], Array]


class GeneratedTokens(NamedTuple):
    """Tokens up to and including eos, then padding; and the natural log of the probability of each (0 in the padding)."""

    tokens: Int[Array, "B T"]
    log_probabilities: Float[Array, "B T"]


class DecodeState(NamedTuple):
    """The state of decoding between two tokens."""

    step: Int[Array, ""]  # number of tokens generated
    token: Int[Array, "B"]  # the last one, which the next step reads
    ended: Bool[Array, "B"]
    cache: Any
    out: GeneratedTokens


def greedy_choice(logits: Float[Array, "B V"], step: Int[Array, ""]) -> Int[Array, "B"]:
    return jnp.argmax(logits, axis=-1)


def greedy(
    apply: Callable, params: Params, inputs: Int[Array, "B S"], input_mask: Bool[Array, "B S"] | None = None,
    *, max_new_tokens: int, eos_id: int = 1,
) -> GeneratedTokens:  # fmt: skip
    """Takes the most probable token again and again, until every row has ended or has `max_new_tokens` tokens.

    `apply` is a T5 as a function (`models.functional.as_function`). This is a pure function: bind `apply` and the sizes
    with `partial`, then `jax.jit` or `jax.pmap` it. The encoder runs once, and its output is projected to the keys and
    values of cross-attention once. Each step then costs one token, because a cache keeps the keys and values of the
    earlier ones.
    """
    return generate_tokens(
        apply, params, inputs, input_mask, greedy_choice, max_new_tokens=max_new_tokens, eos_id=eos_id
    )  # fmt: skip


def generate_tokens(
    apply: Callable, params: Params, inputs: Int[Array, "B S"], input_mask: Bool[Array, "B S"] | None, choose: Choose,
    *, max_new_tokens: int, eos_id: int = 1,
) -> GeneratedTokens:  # fmt: skip
    """`greedy` with any choice of tokens. The log-probabilities are the model's own, whatever `choose` does to them."""
    first = prefill(apply, params, inputs, input_mask, max_new_tokens=max_new_tokens)
    unfinished = lambda state: (state.step < max_new_tokens) & ~jnp.all(state.ended)
    one_more = partial(decode_step, apply, choose, params, input_mask, eos_id=eos_id)
    return jax.lax.while_loop(unfinished, one_more, first).out


def prefill(
    apply: Callable, params: Params, inputs: Int[Array, "B S"], input_mask: Bool[Array, "B S"] | None,
    *, max_new_tokens: int,
) -> DecodeState:  # fmt: skip
    """The state before the first token: the encoder has read the inputs."""
    batch = inputs.shape[0]
    encoded = apply(params, inputs, input_mask=input_mask, method="encode")
    cache = apply(params, encoded, max_new_tokens, method="start_cache")
    shape = batch, max_new_tokens
    out = GeneratedTokens(jnp.full(shape, PAD_ID, jnp.int32), jnp.zeros(shape, jnp.float32))
    return DecodeState(jnp.int32(0), jnp.full(batch, PAD_ID, jnp.int32), jnp.zeros(batch, bool), cache, out)


def decode_step(
    apply: Callable, choose: Choose, params: Params, input_mask: Bool[Array, "B S"] | None, state: DecodeState,
    *, eos_id: int = 1,
) -> DecodeState:  # fmt: skip
    """One more token in every row; padding where a row has ended."""
    step, token, ended, cache, out = state
    logits, cache = apply(params, token, step, cache, input_mask=input_mask, method="decode_step")
    logits = logits.astype(jnp.float32)
    token = choose(logits, step).astype(jnp.int32)
    chosen = jnp.take_along_axis(logits, token[:, None], axis=-1)[:, 0] - jax.nn.logsumexp(logits, axis=-1)
    token, chosen = jnp.where(ended, PAD_ID, token), jnp.where(ended, 0.0, chosen)
    out = GeneratedTokens(out.tokens.at[:, step].set(token), out.log_probabilities.at[:, step].set(chosen))
    return DecodeState(step + 1, token, ended | (token == eos_id), cache, out)
