"""Where a number format is too small for what is computed in it."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def at_least_float32(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """x as float32, or as float64 where it already is: for sums of many terms in a model that computes in bfloat16."""
    return x if x.dtype == jnp.float64 else x.astype(jnp.float32)
