"""What two trainings are compared by: what runs leave behind, and the loss, gradients and parameters of a step."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tlqa_jax.checkpoints.named_arrays import flatten
from tlqa_jax.checkpoints.resume import Checkpoints
from tlqa_jax.core.devices import AXIS, unreplicate
from tlqa_jax.training.step import initial_state, update

# Runs


def saved_state(run, step=None) -> dict[str, np.ndarray]:
    """What the newest checkpoint of a run holds, or that of `step`: path -> array."""
    with Checkpoints(run) as checkpoints:
        return flatten(checkpoints._manager.restore(step or int(checkpoints.latest().name)))


def metrics(run) -> list[dict[str, Any]]:
    """The rows of `metrics.jsonl`, without the speeds."""
    rows = map(json.loads, (Path(run) / "metrics.jsonl").read_text().splitlines())
    return [{name: value for name, value in row.items() if name != "tokens_per_second"} for row in rows]


def assert_same_arrays(found, expected):
    """Bit for bit, all of them."""
    assert found.keys() == expected.keys()
    wrong = [name for name in expected if not np.array_equal(found[name], expected[name])]
    assert not wrong, wrong


# Steps


class Trained(NamedTuple):
    losses: list[float]
    """Of each step."""
    gradients: Any
    """Of the last one."""
    params: Any
    """After it."""


def keeping_gradients(optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    """`optimizer`; the first part of its state is the gradients it was given."""
    keep = optax.GradientTransformation(
        init=lambda params: jax.tree.map(jnp.zeros_like, params),
        update=lambda gradients, state, params=None: (gradients, gradients),
    )
    return optax.chain(keep, optimizer)


def train(
    loss: Callable, weight: Callable, params: Any, batch: dict[str, np.ndarray], devices: int = 1, accumulate: int = 1,
    *, optimizer: optax.GradientTransformation = optax.sgd(0.1), steps: int = 1, freeze: tuple[str, ...] = (),
    waiting: tuple[str, ...] = (),
) -> Trained:  # fmt: skip
    """`steps` steps, all on the same batch, split over `devices` of the virtual devices of all processes together."""
    optimizer = keeping_gradients(optimizer)
    step = jax.pmap(
        partial(update, loss, weight, optimizer, accumulate=accumulate, freeze=freeze, waiting=waiting),
        axis_name=AXIS, in_axes=(None, 0), out_axes=None, donate_argnums=0,
    )  # fmt: skip
    local = devices // jax.process_count()
    own = slice(jax.process_index() * local, (jax.process_index() + 1) * local)
    batch = {name: x.reshape(devices, -1, *x.shape[1:])[own] for name, x in batch.items()}
    state, losses = jax.tree.map(np.array, initial_state(params, optimizer, freeze)), []
    for _ in range(steps):
        state, reported = step(state, batch)
        losses.append(float(reported["loss"]))
    state = unreplicate(state)
    return Trained(losses, state["opt_state"][0], state["params"])


def assert_leaves_close(found, expected, tolerance, zero=()):
    """Each leaf to `tolerance` of its own largest entry; what is truly 0, to that of the largest in the tree."""
    found, expected = flatten(found), flatten(expected)
    assert found.keys() == expected.keys()
    largest = {name: np.abs(x).max() for name, x in expected.items()}
    for name in zero:
        largest[name] = max(largest.values())
    errors = {name: np.abs(found[name] - x).max() / max(largest[name], 1e-9) for name, x in expected.items()}
    wrong = {name: error for name, error in errors.items() if not error <= tolerance}
    assert not wrong, wrong


def with_biases(params):
    """All biases, and the norm scales, 0.1 larger: of biases still 0, no error would be a small share."""
    return jax.tree.map(lambda x: x + 0.1 if x.ndim == 1 else x, params)
