"""Losses come as (sum, weight): only a sum can be added over devices and micro-batches and stay a true mean.

A mean of per-device means is another number whenever the devices hold different amounts of padding: the train steps
(`training.span_corruption.make_train_step`, say) `psum` sum and weight, and divide once. See lesson 05.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from tlqa_jax.core.precision import at_least_float32


def cross_entropy(
    logits: Float[Array, "*batch V"], targets: Int[Array, "*batch"], weights: Float[Array, "*batch"]
) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """Weighted sum of -log softmax(logits)[target] in nats, and the sum of the weights. Computed in float32 at least.

    log-sum-exp minus the target's logit: no one-hot array and no second [.., V] array is made.
    """
    logits = at_least_float32(logits)
    target_logits = jnp.take_along_axis(logits, targets[..., None], axis=-1)[..., 0]
    negative_log_likelihood = jax.nn.logsumexp(logits, axis=-1) - target_logits
    return jnp.sum(negative_log_likelihood * weights), jnp.sum(weights)


def correct_predictions(
    logits: Float[Array, "*batch V"], targets: Int[Array, "*batch"], weights: Float[Array, "*batch"]
) -> Float[Array, ""]:
    """Weighted number of positions whose highest logit is the target's."""
    return jnp.sum(jnp.where(jnp.argmax(logits, axis=-1) == targets, weights, 0.0))
