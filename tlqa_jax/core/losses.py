"""Losses are returned as (sum, weight). Sums are added over devices and micro-batches; their quotient is the mean.

A mean of the devices' means would be a different number, because the devices hold different amounts of padding. The
update (`training/step.py`) adds sums and weights with `psum` and divides once. See lesson 05.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tlqa_jax.core.precision import at_least_float32


def cross_entropy(
    logits: Float[Array, "*batch V"], targets: Int[Array, "*batch"], weights: Float[Array, "*batch"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Weighted sum of -log softmax(logits)[target] in nats, and the sum of the weights. Computed in float32 at least.

    It is log-sum-exp minus the target's logit: this needs neither a one-hot array nor a second array [..., V].
    """
    logits = at_least_float32(logits)
    target_logits = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    negative_log_likelihood = jax.nn.logsumexp(logits, axis=-1) - target_logits
    return jnp.sum(negative_log_likelihood * weights), jnp.sum(weights)


def correct_predictions(
    logits: Float[Array, "*batch V"], targets: Int[Array, "*batch"], weights: Float[Array, "*batch"]
) -> Float[Array, ""]:
    """Weighted number of positions at which the target has the highest logit."""
    return jnp.sum(jnp.where(jnp.argmax(logits, axis=-1) == targets, weights, 0.0))
