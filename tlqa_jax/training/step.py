"""The one update of all training programs: a step along the gradient of a global mean, over all devices.

    train_step = jax.pmap(
        partial(update, loss, weight, optimizer, seed=0), axis_name=AXIS, in_axes=(None, 0), out_axes=None, donate_argnums=0
    )
    state, metrics = train_step(state, batch)

The state is a dict of "params", "opt_state" and "step", the same on all devices. Of the batch each device gets its own
rows. `out_axes=None` and the donation let XLA write the new state over the old one.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PRNGKeyArray

from tlqa_jax.core.devices import AXIS, on_host
from tlqa_jax.errors import UserError
from tlqa_jax.training.freezing import check_freeze, combine, partition

State = dict[str, Any]


def initial_state(
    params: Any, optimizer: optax.GradientTransformation, freeze: tuple[str, ...] = (), say: Callable = print
) -> State:
    """The state before the first step, as numpy arrays. The optimizer keeps nothing for frozen parameters.

    `say` prints how many parameters are trained. Raises UserError where `check_freeze` does.
    """
    say(check_freeze(params, freeze))
    trained, _ = partition(params, freeze)
    return on_host({"params": params, "opt_state": optimizer.init(trained), "step": np.int32(0)})


def update(
    loss: Callable, weight: Callable, optimizer: optax.GradientTransformation, state: State, batch: dict[str, Array],
    waiting: tuple[str, ...] = (), *, seed: int = 0, accumulate: int = 1, freeze: tuple[str, ...] = (),
) -> tuple[State, dict[str, Array]]:  # fmt: skip
    """The state after one step, and the step's "loss" and "gradient_norm".

    Args:
        waiting: the parameters that are not trained yet (`freezing.unfreezing_stages`). The optimizer has their state
            already, with gradients of 0. For pmap they are a static argument: each stage is compiled by itself.
        loss: (params, rows, key) -> the sum of the losses over the rows; of several tasks, a dict of sums.
        weight: rows -> what the loss is a mean over: the number of target tokens, say; of several tasks, a dict.
        seed: of dropout. The key is a function of (seed, step, device).
        accumulate: gradient accumulation steps.
        freeze: the parameters that are not trained (`freezing.partition`).
    """
    key = jax.random.fold_in(jax.random.key(seed), state["step"])
    key = jax.random.fold_in(key, jax.lax.axis_index(AXIS))
    trained, others = partition(state["params"], (*freeze, *waiting))
    later, _ = partition(others, freeze)
    # the weight on all devices together: the loss is a mean over that, not a mean of the devices' means
    total = jax.tree.map(lambda own: jnp.maximum(jax.lax.psum(own, AXIS), 1), weight(batch))

    def share(trained: Any, rows: dict[str, Array], key: PRNGKeyArray) -> Array:
        sums = loss(combine(trained, others), rows, key)
        return sum(jax.tree.leaves(jax.tree.map(jnp.divide, sums, total)))

    own = accumulated(jax.value_and_grad(share), trained, batch, key, accumulate)
    mean, gradients = jax.lax.psum(own, AXIS)
    known = combine(gradients, jax.tree.map(jnp.zeros_like, later))
    updates, opt_state = optimizer.update(known, state["opt_state"], combine(trained, later))
    params = combine(optax.apply_updates(trained, partition(updates, waiting)[0]), others)
    metrics = {"loss": mean, "gradient_norm": optax.tree.norm(gradients)}
    return {"params": params, "opt_state": opt_state, "step": state["step"] + 1}, metrics


def accumulated(
    value_and_grad: Callable, params: Any, batch: dict[str, Array], key: PRNGKeyArray, steps: int
) -> tuple[Any, Any]:
    """The sum of `value_and_grad(params, micro_batch, key)` over `steps` equal micro-batches of this device's rows.

    A sum, not a mean: the loss has been divided by the weight of the whole global batch, so the micro-batches add up to
    what the batch in one piece gives, however unevenly padding is spread over them.
    """
    if steps == 1:
        return value_and_grad(params, batch, key)
    micro_batches = jax.tree.map(lambda x: x.reshape(steps, x.shape[0] // steps, *x.shape[1:]), batch)

    def add(total, micro):
        return jax.tree.map(jnp.add, total, value_and_grad(params, *micro)), None

    shapes = jax.eval_shape(value_and_grad, params, jax.tree.map(lambda x: x[0], micro_batches), key)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    return jax.lax.scan(add, zeros, (micro_batches, jax.random.split(key, steps)))[0]


def check_batch_size(batch_size: int, accumulate: int) -> None:
    """Raise UserError for a global batch that devices times accumulation steps do not divide."""
    parts = jax.device_count() * accumulate
    if batch_size % parts:
        below, above = batch_size // parts * parts, (batch_size // parts + 1) * parts
        raise UserError(
            f"--batch-size {batch_size} cannot be split over {jax.device_count()} device(s) x "
            f"--accumulate {accumulate}: use {f'{below} or ' if below else ''}{above}"
        )
