"""How texts are written, as settings: greedily, by beam search or by chance, and how many of each.

    write = jax.jit(partial(Method(beams=4).write, apply, max_length=32))
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int, Key, UInt32

from tlqa_jax.errors import UserError
from tlqa_jax.inference.beam_search import EarlyStopping, beam_search
from tlqa_jax.inference.generate import Generated, Stream, greedy
from tlqa_jax.inference.sampling import drawn, sample
from tlqa_jax.models.functional import Params

Seed = int | UInt32[Array, ""]


@dataclass(frozen=True)
class Method:
    """The settings. Without any, greedy; with a temperature, top_k or top_p, by chance. See `beam.py`, `sampling.py`.

    Raises UserError for settings that cannot be meant, or not together.
    """

    beams: int = 1
    length_penalty: float = 1.0
    early_stopping: EarlyStopping = False
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    seed: int = 0
    n: int = 1  # texts for each input: the best n of the beams, or n drawn ones

    def __post_init__(self):
        for name, wanted, fits in (
            ("beams", "at least 1", lambda x: x >= 1),
            ("length_penalty", "a number", math.isfinite),
            ("early_stopping", "False, True or 'never'", lambda x: isinstance(x, bool) or x == "never"),
            ("temperature", "above 0 (greedy is what it is without)", lambda x: math.isfinite(x) and x > 0),
            ("top_k", "at least 1", lambda x: x >= 1),
            ("top_p", "above 0 and at most 1", lambda x: 0 < x <= 1),
            ("seed", "0 or more and below 2**32", lambda x: 0 <= x < 2**32),
            ("n", "at least 1", lambda x: x >= 1),
        ):
            value = getattr(self, name)
            if value is not None and not fits(value):
                raise UserError(f"{name.replace('_', '-')} is {value}: it has to be {wanted}")
        if self.by_chance and self.beams > 1:
            raise UserError("beams look for the best text, temperature, top-k, top-p draw one: give one or the other")
        if not self.by_chance and self.n > max(self.beams, 1):
            raise UserError(f"{self.n} texts want at least {self.n} beams, or a temperature to draw them with")

    @property
    def by_chance(self) -> bool:
        return any(value is not None for value in (self.temperature, self.top_k, self.top_p))

    @property
    def shape(self) -> dict[str, float | int | None]:
        """What shapes the distribution that is drawn from."""
        return dict(temperature=self.temperature or 1.0, top_k=self.top_k, top_p=self.top_p)

    def keys(self, rows: Int[Array, "B"], seed: Seed) -> Key[Array, "B n"]:
        """A key for each text, [B n]: a function of the seed, the number of its input, and its own."""
        key = lambda row: jax.random.split(jax.random.fold_in(jax.random.key(seed), row), self.n)
        return jax.vmap(key)(rows)

    def write(
        self, apply: Callable, params: Params, inputs: Int[Array, "B S"], input_mask: Bool[Array, "B S"],
        rows: Int[Array, "B"], seed: Seed | None = None, *, max_length: int,
    ) -> Generated:  # fmt: skip
        """n texts for each input, [B n T] each, the best first.

        For what is drawn: `rows` are the inputs' numbers, and `seed` stands in for the method's own, so that one
        compiled function draws with any.
        """
        if self.beams > 1:
            found = beam_search(
                apply, params, inputs, input_mask, beams=self.beams, max_length=max_length,
                length_penalty=self.length_penalty, early_stopping=self.early_stopping,
            )
            return Generated(found.tokens[:, : self.n], found.log_probabilities[:, : self.n])
        if not self.by_chance:
            return Generated(*(x[:, None] for x in greedy(apply, params, inputs, input_mask, max_length=max_length)))
        inputs, input_mask = (jnp.repeat(x, self.n, axis=0) for x in (inputs, input_mask))
        keys = self.keys(rows, self.seed if seed is None else seed).reshape(-1)
        written = sample(apply, params, inputs, input_mask, keys, max_length=max_length, **self.shape)
        return Generated(*(x.reshape(-1, self.n, max_length) for x in written))

    def stream(self, apply: Callable, *, max_length: int) -> Stream:
        """The same token by token, of one text for each input; by chance, it is to be called with `keys`, too.

        Raises UserError where there are several beams: which of them is the text is known at the end only.
        """
        if self.beams > 1:
            raise UserError(f"beams is {self.beams}: a text that is shown while it is written has one beam")
        if self.by_chance:
            return Stream(apply, max_length=max_length, chooser=lambda keys: drawn(keys, **self.shape))
        return Stream(apply, max_length=max_length)
