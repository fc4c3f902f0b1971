"""What two trainings are compared by: what runs leave behind, and the loss, gradients and parameters of a step."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from tlqa_jax.checkpoints.runs import Checkpoints, flatten
from tlqa_jax.core.devices import unreplicate

# Runs


def final_state(run, step=None):
    """What the newest checkpoint of a run holds, or that of `step`: path -> array."""
    with Checkpoints(run) as checkpoints:
        return flatten(checkpoints._manager.restore(step or int(checkpoints.latest().name)))


def rows(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def assert_same_arrays(found, expected):
    """Bit for bit, all of them."""
    assert found.keys() == expected.keys()
    wrong = [name for name in expected if not np.array_equal(found[name], expected[name])]
    assert not wrong, wrong


def assert_it_goes_on_without(start, finetune, config):
    """A run of two steps that was stopped after the first, and what it started from is gone."""
    finetune(config, quiet=True)
    whole = final_state(config.out)
    shutil.rmtree(Path(config.out) / "checkpoints" / "2")
    shutil.rmtree(start)
    finetune(replace(config, resume=True), quiet=True)
    assert_same_arrays(final_state(config.out), whole)


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
    make_train_step: Callable, predict: Callable, params: Any, batch: dict[str, np.ndarray],
    devices: int = 1, accumulation: int = 1, *, optimizer=optax.set_to_zero(), steps: int = 1,
) -> Trained:  # fmt: skip
    """`steps` steps, all on the same batch, cut for `devices` of the virtual devices of all processes together.

    `predict` is what `make_train_step` takes first. Without an optimizer nothing moves.
    """
    optimizer = keeping_gradients(optimizer)
    step = make_train_step(predict, optimizer, 0, accumulation)
    local = devices // jax.process_count()
    own = slice(jax.process_index() * local, (jax.process_index() + 1) * local)
    batch = {name: x.reshape(devices, -1, *x.shape[1:])[own] for name, x in batch.items()}
    state = {"params": params, "opt_state": optimizer.init(params), "step": np.int32(0)}
    state = jax.tree.map(np.array, state)
    losses = []
    for _ in range(steps):
        state, metrics = step(state, batch)
        losses.append(float(metrics["loss"]))
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
