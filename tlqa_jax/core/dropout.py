"""Dropout whose random bits cost almost nothing.

`jax.random.bernoulli` runs threefry, some hundred integer operations a number: it takes more than a third of a
T5-small step on a CPU. Dropout needs no cryptographic quality, so a 32-bit integer hash of (element number, key)
is enough, and XLA fuses its few operations into whatever uses the mask. `tests/core/test_dropout.py` holds the
bits to statistical tests.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray, UInt32


def hash_bits(shape: tuple[int, ...], key: PRNGKeyArray) -> UInt32[Array, "..."]:
    """A 32-bit integer for each element: a multiply-xorshift hash of its number and two words drawn from `key`.

    The constants are those of the published `lowbias32` search (C. Wellons, hash-prospector). The first word enters by
    xor on a Weyl sequence (the odd multiplier), the second in mid-hash, so that two keys do not give shifted copies of
    one stream.
    """
    word = jax.random.bits(key, (2,), jnp.uint32)
    size = 1
    for n in shape:
        size *= n
    x = jax.lax.iota(jnp.uint32, size).reshape(shape) * jnp.uint32(0x9E3779B1) ^ word[0]
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15) ^ word[1]) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)


def dropout(x: Float[Array, "..."], rate: float, key: PRNGKeyArray | None) -> Float[Array, "..."]:
    """x with each element zeroed with probability `rate`, the others divided by 1 - rate. `key=None`: x unchanged."""
    if key is None or rate == 0.0:
        return x
    keep = hash_bits(x.shape, key) >= jnp.uint32(int(rate * 2**32))
    return jnp.where(keep, x * (1.0 / (1.0 - rate)), jnp.zeros((), x.dtype))


def split_keys(key: PRNGKeyArray | None, count: int) -> list[PRNGKeyArray | None]:
    """`count` keys from one, or as many None from None (no dropout)."""
    return [None] * count if key is None else list(jax.random.split(key, count))
