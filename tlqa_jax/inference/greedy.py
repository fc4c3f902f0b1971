"""Greedy decoding, and the loop that generates one text for each row, token by token (`sampling.py` shares it)."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from tlqa_jax.models.functional import Params

# (logits [B V] in float32, number of the step) -> tokens [B]
Choose = Callable[[Array, Array], Array]


class GeneratedTokens(NamedTuple):
    """Tokens up to and with eos, then padding; and the natural log of the probability of each (0 in the padding)."""

    tokens: Int[Array, "B T"]
    log_probabilities: Float[Array, "B T"]


class DecodeState(NamedTuple):
    """The state of decoding between two tokens."""

    step: Int[Array, ""]  # number of tokens generated
    token: Int[Array, "B"]  # the last one
    ended: Bool[Array, "B"]
    cache: Any
    out: GeneratedTokens


def greedy_choice(logits: Float[Array, "B V"], step: Int[Array, ""]) -> Int[Array, "B"]:
    return jnp.argmax(logits, axis=-1)


def greedy(
    apply: Callable,
    params: Params,
    inputs: Int[Array, "B S"],
    input_mask: Bool[Array, "B S"] | None = None,
    *,
    max_new_tokens: int,
    **ids: int,
) -> GeneratedTokens:
    """Takes the most probable token again and again, until every row has ended or has `max_new_tokens` tokens.

    `apply` is a T5 as a function (`models.functional.as_function`). This is a pure function: bind `apply` and the sizes
    with `partial`, then `jax.jit` or `jax.pmap` it. The encoder runs once, and its output is projected to the keys and
    values of cross-attention once. Each step then costs one token, because a cache keeps the keys and values of the
    earlier ones. `ids` may name another start_id, eos_id or pad_id.
    """
    return generate_tokens(apply, params, inputs, input_mask, greedy_choice, max_new_tokens=max_new_tokens, **ids)


def generate_tokens(
    apply: Callable,
    params: Params,
    inputs: Int[Array, "B S"],
    input_mask: Bool[Array, "B S"] | None,
    choose: Choose,
    *,
    max_new_tokens: int,
    start_id: int = 0,
    eos_id: int = 1,
    pad_id: int = 0,
) -> GeneratedTokens:
    """`greedy` with any choice of tokens. The log-probabilities are the model's own, whatever `choose` does to them."""
    first = prefill(
        apply, params, inputs, input_mask, max_new_tokens=max_new_tokens, start_id=start_id, pad_id=pad_id
    )  # fmt: skip
    unfinished = lambda state: (state.step < max_new_tokens) & ~jnp.all(state.ended)
    one_more = partial(decode_step, apply, choose, eos_id, pad_id, params, input_mask)
    return jax.lax.while_loop(unfinished, one_more, first).out


def prefill(
    apply: Callable, params: Params, inputs: Int[Array, "B S"], input_mask: Bool[Array, "B S"] | None,
    *, max_new_tokens: int, start_id: int = 0, pad_id: int = 0,
) -> DecodeState:  # fmt: skip
    """The state before the first token: the encoder has read the inputs."""
    batch = inputs.shape[0]
    encoded = apply(params, inputs, input_mask=input_mask, method="encode")
    cache = apply(params, encoded, max_new_tokens, method="start_cache")
    out = GeneratedTokens(
        jnp.full((batch, max_new_tokens), pad_id, jnp.int32), jnp.zeros((batch, max_new_tokens), jnp.float32)
    )
    return DecodeState(jnp.int32(0), jnp.full(batch, start_id, jnp.int32), jnp.zeros(batch, bool), cache, out)


def decode_step(
    apply: Callable, choose: Choose, eos_id: int, pad_id: int,
    params: Params, input_mask: Bool[Array, "B S"] | None, state: DecodeState,
) -> DecodeState:  # fmt: skip
    """One more token in every row; padding where a row has ended."""
    step, token, ended, cache, out = state
    logits, cache = apply(params, token, step, cache, input_mask=input_mask, method="decode_step")
    logits = logits.astype(jnp.float32)
    token = choose(logits, step).astype(jnp.int32)
    chosen = jnp.take_along_axis(logits, token[:, None], axis=-1)[:, 0] - jax.nn.logsumexp(logits, axis=-1)
    token, chosen = jnp.where(ended, pad_id, token), jnp.where(ended, 0.0, chosen)
    out = GeneratedTokens(out.tokens.at[:, step].set(token), out.log_probabilities.at[:, step].set(chosen))
    return DecodeState(step + 1, token, ended | (token == eos_id), cache, out)


class Stream:
    """The same loop in Python, which yields each token as soon as it is generated.

        stream = Stream(apply, max_new_tokens=32)
        for token, log_probability in stream(params, inputs, input_mask, choose_arguments...): ...

    Compiled once for each shape of the inputs. `chooser(*arguments)` returns the `Choose` of one text; its arguments
    are arrays, such as keys.
    """

    def __init__(
        self, apply: Callable, *, max_new_tokens: int, chooser: Callable[..., Choose] = lambda: greedy_choice,
        start_id: int = 0, eos_id: int = 1, pad_id: int = 0,
    ):  # fmt: skip
        self.max_new_tokens = max_new_tokens
        self._prefill = jax.jit(
            partial(prefill, apply, max_new_tokens=max_new_tokens, start_id=start_id, pad_id=pad_id)
        )
        self._decode_step = jax.jit(
            lambda params, mask, state, *arguments: decode_step(
                apply, chooser(*arguments), eos_id, pad_id, params, mask, state
            )
        )

    def __call__(
        self, params: Params, inputs: Int[Array, "B S"], input_mask: Bool[Array, "B S"] | None = None, *arguments
    ) -> Iterator[tuple[Int[Array, "B"], Float[Array, "B"]]]:
        """(tokens, log-probabilities) of one step after the other, until every row has ended."""
        state = self._prefill(params, inputs, input_mask)
        for step in range(self.max_new_tokens):
            state = self._decode_step(params, input_mask, state, *arguments)
            yield state.token, state.out.log_probabilities[:, step]
            if state.ended.all():
                return
