"""Adafactor against the paper's own lines in plain numpy, and what it keeps."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from tlqa_jax.checkpoints.named_arrays import flatten
from tlqa_jax.models.functional import as_function
from tlqa_jax.models.t5 import T5, T5Config
from tlqa_jax.training.optimizers import adafactor, make_optimizer, relative_biases, schedule

rms = lambda x: np.sqrt(np.mean(np.square(x)))


class PaperAdafactor:
    """Algorithms 4 and 5 of Shazeer & Stern 2018 for one vector or one matrix; relative steps, in float64."""

    def __init__(self, x):
        self.x, self.t = np.asarray(x, np.float64), 0
        self.rows = self.columns = self.v = 0.0

    def step(self, gradient, rate, *, factored):
        self.t += 1
        b = 1 - self.t**-0.8
        square = np.asarray(gradient, np.float64) ** 2 + 1e-30
        if factored:  # the paper's R and C are sums over a row and a column; V = R C / sum(R)
            self.rows = b * self.rows + (1 - b) * square.sum(axis=1)
            self.columns = b * self.columns + (1 - b) * square.sum(axis=0)
            self.v = np.outer(self.rows, self.columns) / self.rows.sum()
        else:
            self.v = b * self.v + (1 - b) * square
        return gradient / np.sqrt(self.v)

    def move(self, update, rate, update_rms, parameter_rms):
        self.x = self.x - rate * max(1e-3, parameter_rms) * update / max(1, update_rms)


def follow_the_paper(x, gradients, rates, *, matrices=None):
    """x after these steps. `matrices(x)`: the matrices, views of x, with factored second moments; None: a vector."""
    whole = np.array(x, np.float64)
    parts = [PaperAdafactor(part) for part in (matrices(whole) if matrices else [whole])]
    for gradient, rate in zip(gradients, rates, strict=True):
        pieces = matrices(gradient) if matrices else [gradient]
        updates = [part.step(piece, rate, factored=matrices is not None) for part, piece in zip(parts, pieces)]
        # what is clipped, and what the rate is a share of, is the whole array and not each of its matrices
        update_rms, parameter_rms = rms(np.stack(updates)), rms(np.stack([part.x for part in parts]))
        for part, update in zip(parts, updates):
            part.move(update, rate, update_rms, parameter_rms)
    return [part.x for part in parts]


RATES = [0.0, 0.02, 0.05, 0.03, 0.01, 0.01]
ARRAYS = {
    "vector": ((37,), None),
    "matrix": ((33, 41), lambda x: [x]),
    "small matrix": ((5, 40), None),  # nothing is gained by factoring it
    "heads in the middle": ((40, 3, 35), lambda x: [x[:, h] for h in range(3)]),  # [D H K]
    "heads first": ((3, 35, 40), lambda x: [x[h] for h in range(3)]),  # [H K D]
}


@pytest.mark.parametrize("shape, matrices", ARRAYS.values(), ids=ARRAYS)
@pytest.mark.parametrize("size", [0.3, 1e-5])  # the second is smaller than the least size that steps are relative to
def test_adafactor_is_the_papers(shape, matrices, size):
    rng = np.random.default_rng(0)
    x = (size * rng.standard_normal(shape)).astype(np.float32)
    # gradients that grow: updates then have to be clipped
    gradients = [(3**t * rng.standard_normal(shape)).astype(np.float32) for t in range(len(RATES))]
    optimizer = adafactor(lambda step: jnp.asarray(RATES)[step])
    params = {"x": jnp.asarray(x)}
    state = optimizer.init(params)
    for gradient in gradients:
        updates, state = optimizer.update({"x": jnp.asarray(gradient)}, state, params)
        params = optax.apply_updates(params, updates)
    expected = follow_the_paper(x, gradients, RATES, matrices=matrices)
    found = matrices(np.asarray(params["x"])) if matrices else [np.asarray(params["x"])]
    moved = np.abs(np.stack(expected) - np.stack(matrices(x) if matrices else [x])).max()
    assert moved > 0.01 * max(size, 1e-3)
    np.testing.assert_allclose(np.stack(found), np.stack(expected), rtol=0, atol=2e-5 * moved)


def megabytes(tree):
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree)) / 1e6


def test_what_the_optimizers_keep_for_t5_small():
    params = jax.eval_shape(lambda: as_function(T5(T5Config.small(), rngs=nnx.Rngs(0)))[1])
    kept = {
        name: megabytes(jax.eval_shape(make_optimizer(name, optax.constant_schedule(1e-3)).init, params))
        for name in ("adamw", "adafactor")
    }
    assert megabytes(params) == pytest.approx(242, abs=1)
    assert kept["adamw"] == pytest.approx(484, abs=1)
    assert kept["adafactor"] == pytest.approx(1.8, abs=0.1)


@pytest.mark.parametrize("name", ["adamw", "adafactor"])
def test_relative_biases_may_move_faster(name):
    model = jax.eval_shape(lambda: as_function(T5(T5Config.tiny(), rngs=nnx.Rngs(0)))[1])
    assert {path for path, fast in flatten(relative_biases(model)).items() if fast} == {
        "encoder_bias/table", "decoder_bias/table"
    }  # fmt: skip
    params = {"encoder_bias": jnp.ones((3, 2)), "encoder_0": {"up": jnp.ones((3, 4))}, "decoder_bias": jnp.ones((3, 2))}
    gradients = jax.tree.map(jnp.ones_like, params)

    def update(**options):
        optimizer = make_optimizer(name, optax.constant_schedule(1e-3), clip=None, **options)
        return optimizer.update(gradients, optimizer.init(params), params)[0]

    slow, fast = update(), update(relative_bias_rate=30.0)
    for part in params:
        times = 30 if part.endswith("_bias") else 1
        jax.tree.map(lambda a, b: np.testing.assert_allclose(b, times * a, rtol=1e-5), slow[part], fast[part])


def test_adafactor_scales_its_steps_with_the_parameters():
    optimizer = adafactor(lambda step: 0.1, relative_bias_rate=2.0)
    params = {"small": jnp.full((3, 4), 0.01), "large": jnp.full((3, 4), 10.0), "encoder_bias": jnp.full((3, 4), 10.0)}
    updates, _ = optimizer.update(jax.tree.map(jnp.ones_like, params), optimizer.init(params), params)
    steps = {name: float(jnp.abs(update).max()) for name, update in updates.items()}
    assert steps["large"] == pytest.approx(1000 * steps["small"], rel=1e-3)
    assert steps["encoder_bias"] == pytest.approx(2 * steps["large"]) and (updates["large"] < 0).all()


def test_the_schedules_of_t5():
    constant, rsqrt = schedule(1e-3, 10, decay="constant"), schedule(1e-2, 10**6, warmup=10_000, decay="rsqrt")
    assert [float(constant(step)) for step in (0, 9)] == pytest.approx([1e-3, 1e-3])
    assert [float(rsqrt(step)) for step in (5_000, 10_000, 40_000)] == pytest.approx([5e-3, 1e-2, 5e-3])
