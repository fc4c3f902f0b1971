"""One batch, cut differently: 8 devices, 1 device, and accumulation give the same loss and gradients."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from tlqa_jax.models.functional import as_function
from tlqa_jax.models.t5 import T5, T5Config
from tlqa_jax.training import qa, span_corruption
from tlqa_jax.training.devices import replicate, unreplicate
from tlqa_jax.training.optimizers import adamw, schedule
from tlqa_jax.weights.checkpoints import flatten

CONFIG = T5Config(vocab_size=61, d_model=12, d_kv=4, d_ff=20, num_layers=2, num_heads=3, dropout_rate=0.0)
APPLY, PARAMS = as_function(T5(CONFIG, rngs=nnx.Rngs(0)))
KEEP_GRADIENTS = optax.GradientTransformation(
    init=lambda params: jax.tree.map(jnp.zeros_like, params),
    update=lambda gradients, state, params=None: (jax.tree.map(jnp.zeros_like, gradients), gradients),
)
BOTH_LOOPS = pytest.mark.parametrize("make_train_step", [span_corruption.make_train_step, qa.make_train_step])


def uneven_batch(rows: int = 32) -> dict[str, np.ndarray]:
    """Rows of 1 to 9 target tokens, short ones first: the devices' shares weigh very differently."""
    rng = np.random.default_rng(3)
    inputs = rng.integers(2, 61, (rows, 11)).astype(np.int32)
    targets = rng.integers(2, 61, (rows, 9)).astype(np.int32)
    lengths = np.linspace(1, 9, rows).astype(int)
    targets[np.arange(9) >= lengths[:, None]] = 0
    inputs[np.arange(11) >= 3 + lengths[:, None]] = 0
    return {"inputs": inputs, "targets": targets}


def run(make_train_step, optimizer, devices: int, accumulation: int = 1, steps: int = 1, model=(APPLY, PARAMS)):
    """(losses, final state as numpy) of training on `devices` of the 8 virtual devices."""
    apply, params = model
    step = make_train_step(apply, optimizer, 0, accumulation)
    batch = {name: x.reshape(devices, -1, x.shape[1]) for name, x in uneven_batch().items()}
    state = {"params": params, "opt_state": optimizer.init(params), "step": jnp.int32(0)}
    state = jax.tree.map(np.array, state)
    losses = []
    for _ in range(steps):
        state, metrics = step(state, batch)
        losses.append(float(metrics["loss"]))
    return losses, unreplicate(state)


def assert_leaves_close(found, expected, tolerance):
    found, expected = flatten(found), flatten(expected)
    assert found.keys() == expected.keys()
    for name in expected:
        largest = max(np.abs(expected[name]).max(), 1e-9)
        assert np.abs(found[name] - expected[name]).max() <= tolerance * largest, name


WAYS_TO_CUT = pytest.mark.parametrize("devices, accumulation", [(8, 1), (1, 8), (1, 4), (4, 4)])


@BOTH_LOOPS
@WAYS_TO_CUT
def test_loss_and_gradients_do_not_depend_on_how_the_batch_is_cut(make_train_step, devices, accumulation):
    [whole_loss], whole = run(make_train_step, KEEP_GRADIENTS, devices=1)
    [loss], cut = run(make_train_step, KEEP_GRADIENTS, devices, accumulation)
    assert loss == pytest.approx(whole_loss, rel=1e-6)
    assert_leaves_close(cut["opt_state"], whole["opt_state"], 3e-6)  # the rounding of float32: 1.9e-6 was seen


@pytest.mark.parametrize("devices, accumulation", [(1, 8), (2, 4)])
def test_cut_into_the_same_slices_they_agree_more_closely_still(devices, accumulation):
    """What one device has more of is rounding in its longer sums over tokens: float64 is nearer to the slices."""
    cuts = ((8, 1), (devices, accumulation))
    (_, eight), (_, fewer) = (run(qa.make_train_step, KEEP_GRADIENTS, *cut) for cut in cuts)
    assert_leaves_close(fewer["opt_state"], eight["opt_state"], 1e-6)  # 4e-7 was seen


@pytest.fixture
def float64_model():
    jax.config.update("jax_enable_x64", True)
    apply, params = as_function(T5(CONFIG, rngs=nnx.Rngs(0), dtype=jnp.float64))
    yield apply, jax.tree.map(lambda x: x.astype(np.float64), params)
    jax.config.update("jax_enable_x64", False)


@WAYS_TO_CUT
def test_in_float64_they_do_not_depend_on_it_at_all(float64_model, devices, accumulation):
    """What float32 leaves between them is rounding, nothing else."""
    step = partial(run, qa.make_train_step, KEEP_GRADIENTS, model=float64_model)
    ([whole_loss], whole), ([loss], cut) = step(devices=1), step(devices=devices, accumulation=accumulation)
    assert loss == pytest.approx(whole_loss, rel=1e-7)  # the loss is divided by a number of tokens in float32
    assert_leaves_close(cut["opt_state"], whole["opt_state"], 1e-10)


def test_the_loss_is_the_mean_over_all_target_tokens():
    batch = uneven_batch()
    [loss], _ = run(span_corruption.make_train_step, KEEP_GRADIENTS, devices=8)
    targets = batch["targets"]
    inputs = jnp.asarray(batch["inputs"])
    logits = APPLY(PARAMS, inputs, jnp.pad(targets[:, :-1], ((0, 0), (1, 0))), input_mask=inputs != 0)
    log_probabilities = jax.nn.log_softmax(np.asarray(logits, np.float32))
    picked = np.take_along_axis(np.asarray(log_probabilities), targets[..., None], -1)[..., 0]
    per_token = -picked[targets != 0]
    assert loss == pytest.approx(per_token.mean(), rel=1e-5)
    mean_of_means = np.mean([-picked[i : i + 4][targets[i : i + 4] != 0].mean() for i in range(0, 32, 4)])
    assert abs(mean_of_means - per_token.mean()) > 1e-3  # the batch can tell the wrong way from the right one


def test_a_donated_replica_leaves_what_it_was_made_of():
    original = {"jax": jnp.arange(5.0), "numpy": np.arange(5.0, dtype=np.float32)}
    once = replicate(original)
    again = replicate(once)
    step = jax.pmap(lambda state, x: state, in_axes=(None, 0), out_axes=None, donate_argnums=0)
    for replica in (once, again):
        assert replica["jax"].shape == (5,) and len(replica["jax"].addressable_shards) == 8
        step(replica, np.zeros(8))
        assert replica["jax"].is_deleted()
        assert original["jax"].tolist() == original["numpy"].tolist() == [0.0, 1.0, 2.0, 3.0, 4.0]


def test_one_sgd_step_is_the_same_on_8_devices_and_on_1():
    step = partial(run, span_corruption.make_train_step, optax.sgd(0.1))
    (_, one), (_, eight) = step(1), step(8)
    assert_leaves_close(eight["params"], one["params"], 1e-6)


def test_adamw_follows_the_same_curve_on_8_devices_and_on_1():
    optimizer = adamw(schedule(1e-2, 20, warmup=4), weight_decay=0.01, relative_bias_rate=30.0)
    (one, _), (eight, _) = (run(qa.make_train_step, optimizer, devices, steps=20) for devices in (1, 8))
    np.testing.assert_allclose(eight, one, rtol=1e-4)
    assert one[-1] < 0.8 * one[0]  # and it falls


def test_dropout_differs_between_devices_and_steps_but_not_between_runs():
    config = T5Config(vocab_size=61, d_model=12, d_kv=4, d_ff=20, num_layers=1, num_heads=3, dropout_rate=0.5)
    apply, params = as_function(T5(config, rngs=nnx.Rngs(0)))
    rows = {name: np.stack([x[-4:]] * 8) for name, x in uneven_batch().items()}  # the same rows on every device

    def losses_per_device(step_number):
        def loss(rows, step):
            key = span_corruption.dropout_key(0, step)
            logits, targets, weights = span_corruption.predict(apply, params, rows, key)
            return span_corruption.cross_entropy(logits, targets, weights)[0]

        return np.asarray(jax.pmap(loss, axis_name=span_corruption.AXIS, in_axes=(0, None))(rows, step_number))

    first, again, second = losses_per_device(0), losses_per_device(0), losses_per_device(1)
    assert first.tolist() == again.tolist()
    assert len(set(first.tolist() + second.tolist())) == 16

