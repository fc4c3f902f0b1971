"""T5's relative position buckets (Raffel et al. 2020, section 2.1)."""

import jax.numpy as jnp
from jaxtyping import Array, Int


def relative_position_bucket(
    relative_position: Int[Array, "..."], *, bidirectional: bool, num_buckets: int = 32, max_distance: int = 128
) -> Int[Array, "..."]:
    """The bucket, 0..num_buckets-1, of each relative position `key position - query position`.

    Small distances have a bucket each. Larger ones share buckets whose width grows logarithmically; all distances from
    `max_distance` on share the last. In a bidirectional encoder, half of the buckets are for keys after the query. In a
    causal decoder such keys are masked, and their bucket is 0.
    """
    if bidirectional:
        num_buckets //= 2
        offset = jnp.where(relative_position > 0, num_buckets, 0)
        distance = jnp.abs(relative_position)
    else:
        offset = jnp.zeros_like(relative_position)
        distance = jnp.maximum(-relative_position, 0)
    exact = num_buckets // 2
    # growth is 0 at distance == exact and 1 at max_distance; the maximum avoids log(0), whose result is not used
    growth = jnp.log(jnp.maximum(distance, 1).astype(jnp.float32) / exact) / jnp.log(max_distance / exact)
    # 1e-4: if a bucket starts at a whole distance (16, 32, 64), an accelerator's log may round to just below it
    far = exact + (growth * (num_buckets - exact) + 1e-4).astype(jnp.int32)
    return offset + jnp.where(distance < exact, distance, jnp.minimum(far, num_buckets - 1))


def relative_positions(queries: Int[Array, "L"], keys: Int[Array, "S"]) -> Int[Array, "L S"]:
    """`key position - query position` for every pair."""
    return keys[None, :] - queries[:, None]
