"""Writing token by token: the loop that all share who write one text for each row, and greedy decoding.

`sampling.py` writes by chance, `beam.py` keeps several texts in view.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from tlqa_jax.models.functional import Params

# (logits [B V] in float32, number of the step) -> tokens [B]
Choose = Callable[[Array, Array], Array]


class Generated(NamedTuple):
    """Tokens up to and with eos, then padding; and the natural log of the probability of each (0 in the padding)."""

    tokens: Int[Array, "B T"]
    log_probabilities: Float[Array, "B T"]


class Writing(NamedTuple):
    """What is there between two tokens: how many are written, the last one, which rows have ended, caches, the text."""

    step: Int[Array, ""]
    token: Int[Array, "B"]
    ended: Bool[Array, "B"]
    cache: Any
    out: Generated


def likeliest(logits: Float[Array, "B V"], step: Int[Array, ""]) -> Int[Array, "B"]:
    return jnp.argmax(logits, axis=-1)


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
    ids = dict(start_id=start_id, eos_id=eos_id, pad_id=pad_id)
    return write(apply, params, inputs, input_mask, likeliest, max_length=max_length, **ids)


def write(
    apply: Callable,
    params: Params,
    inputs: Int[Array, "B S"],
    input_mask: Bool[Array, "B S"] | None,
    choose: Choose,
    *,
    max_length: int,
    start_id: int = 0,
    eos_id: int = 1,
    pad_id: int = 0,
) -> Generated:
    """`greedy` with another way to choose. The log-probabilities are the model's, whatever `choose` makes of them."""
    first = begin(apply, params, inputs, input_mask, max_length=max_length, start_id=start_id, pad_id=pad_id)
    unfinished = lambda writing: (writing.step < max_length) & ~jnp.all(writing.ended)
    one_more = partial(write_one, apply, choose, eos_id, pad_id, params, input_mask)
    return jax.lax.while_loop(unfinished, one_more, first).out


def begin(
    apply: Callable, params: Params, inputs: Int[Array, "B S"], input_mask: Bool[Array, "B S"] | None,
    *, max_length: int, start_id: int = 0, pad_id: int = 0,
) -> Writing:  # fmt: skip
    """The inputs are read, and nothing is written yet."""
    batch = inputs.shape[0]
    encoded = apply(params, inputs, input_mask=input_mask, method="encode")
    cache = apply(params, encoded, max_length, method="start_cache")
    out = Generated(jnp.full((batch, max_length), pad_id, jnp.int32), jnp.zeros((batch, max_length), jnp.float32))
    return Writing(jnp.int32(0), jnp.full(batch, start_id, jnp.int32), jnp.zeros(batch, bool), cache, out)


def write_one(
    apply: Callable, choose: Choose, eos_id: int, pad_id: int,
    params: Params, input_mask: Bool[Array, "B S"] | None, writing: Writing,
) -> Writing:  # fmt: skip
    """One more token in every row; padding where a row has ended."""
    step, token, ended, cache, out = writing
    logits, cache = apply(params, token, step, cache, input_mask=input_mask, method="decode_step")
    logits = logits.astype(jnp.float32)
    token = choose(logits, step).astype(jnp.int32)
    chosen = jnp.take_along_axis(logits, token[:, None], axis=-1)[:, 0] - jax.nn.logsumexp(logits, axis=-1)
    token, chosen = jnp.where(ended, pad_id, token), jnp.where(ended, 0.0, chosen)
    out = Generated(out.tokens.at[:, step].set(token), out.log_probabilities.at[:, step].set(chosen))
    return Writing(step + 1, token, ended | (token == eos_id), cache, out)


class Stream:
    """The same loop with Python between two steps, so that each token can be seen as soon as it is written.

        stream = Stream(apply, max_length=32)
        for token, log_probability in stream(params, inputs, input_mask, choose_arguments...): ...

    Compiled once for each shape of inputs. `chooser(*arguments)` gives the `Choose` of one text; its arguments are
    arrays, such as keys.
    """

    def __init__(
        self, apply: Callable, *, max_length: int, chooser: Callable[..., Choose] = lambda: likeliest,
        start_id: int = 0, eos_id: int = 1, pad_id: int = 0,
    ):  # fmt: skip
        self.max_length = max_length
        self._begin = jax.jit(partial(begin, apply, max_length=max_length, start_id=start_id, pad_id=pad_id))
        self._write_one = jax.jit(
            lambda params, mask, writing, *arguments: write_one(
                apply, chooser(*arguments), eos_id, pad_id, params, mask, writing
            )
        )

    def __call__(
        self, params: Params, inputs: Int[Array, "B S"], input_mask: Bool[Array, "B S"] | None = None, *arguments
    ) -> Iterator[tuple[Int[Array, "B"], Float[Array, "B"]]]:
        """(tokens, log-probabilities) of one step after the other, until every row has ended."""
        writing = self._begin(params, inputs, input_mask)
        for step in range(self.max_length):
            writing = self._write_one(params, input_mask, writing, *arguments)
            yield writing.token, writing.out.log_probabilities[:, step]
            if writing.ended.all():
                return
