"""Sums of many terms need float32, even if a model computes in bfloat16."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def at_least_float32(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """x as float32; float64 stays float64."""
    return x if x.dtype == jnp.float64 else x.astype(jnp.float32)
