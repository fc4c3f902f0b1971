"""One batch, cut differently: 8 devices, 1 device, and accumulation give the same loss and gradients."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from tlqa_jax.core.devices import replicate
from tlqa_jax.models.functional import as_function
from tlqa_jax.models.t5 import T5, T5Config
from tlqa_jax.training import finetune_qa as qa, pretrain_spans as span_corruption
from tlqa_jax.training.optimizers import adamw, schedule

from .comparing import assert_leaves_close, train

CONFIG = T5Config(vocab_size=61, d_model=12, d_kv=4, d_ff=20, num_layers=2, num_heads=3, dropout_rate=0.0)
APPLY, PARAMS = as_function(T5(CONFIG, rngs=nnx.Rngs(0)))
BOTH_LOOPS = pytest.mark.parametrize("make_train_step", [span_corruption.make_train_step, qa.make_train_step])


def uneven_batch(rows=32, vocab_size=61, input_length=11, target_length=9) -> dict[str, np.ndarray]:
    """Rows of 1 to 9 target tokens, short ones first: the devices' shares weigh very differently."""
    rng = np.random.default_rng(3)
    inputs = rng.integers(2, vocab_size, (rows, input_length)).astype(np.int32)
    targets = rng.integers(2, vocab_size, (rows, target_length)).astype(np.int32)
    lengths = np.linspace(1, target_length, rows).astype(int)
    targets[np.arange(target_length) >= lengths[:, None]] = 0
    inputs[np.arange(input_length) >= input_length - target_length + 1 + lengths[:, None]] = 0
    return {"inputs": inputs, "targets": targets}


def run(make_train_step, devices=1, accumulation=1, *, model=(APPLY, PARAMS), **settings):
    return train(make_train_step, *model, uneven_batch(), devices, accumulation, **settings)


WAYS_TO_CUT = pytest.mark.parametrize("devices, accumulation", [(8, 1), (1, 8), (1, 4), (4, 4)])


@BOTH_LOOPS
@WAYS_TO_CUT
def test_loss_and_gradients_do_not_depend_on_how_the_batch_is_cut(make_train_step, devices, accumulation):
    whole, cut = run(make_train_step), run(make_train_step, devices, accumulation)
    assert cut.losses == pytest.approx(whole.losses, rel=1e-6)
    assert_leaves_close(cut.gradients, whole.gradients, 3e-6)  # the rounding of float32: 2.2e-6 was seen


@pytest.mark.parametrize("devices, accumulation", [(1, 8), (2, 4)])
def test_cut_into_the_same_slices_they_agree_more_closely_still(devices, accumulation):
    """So it is not how the slices are added up that shows above. It is how each token is computed: products of narrow
    matrices are rounded otherwise for 32 rows than for 4, by 4e-7 of the largest logit here, and that goes through all
    layers and back."""
    eight, fewer = run(qa.make_train_step, 8), run(qa.make_train_step, devices, accumulation)
    assert_leaves_close(fewer.gradients, eight.gradients, 1e-6)  # 4e-7 was seen


@pytest.mark.slow
@pytest.mark.parametrize("devices, accumulation", [(8, 1), (1, 8), (1, 4)])
def test_at_a_width_that_models_have_they_agree_to_a_millionth(devices, accumulation):
    """Gated, as in T5 1.1: relu bends at 0, and one of its million inputs may be rounded to the other side. Then a leaf
    differs by some percent, as it does from float64."""
    config = T5Config(
        vocab_size=512, d_model=64, d_kv=16, d_ff=256, num_layers=2, num_heads=4, dropout_rate=0.0,
        feed_forward_proj="gated-gelu", tie_word_embeddings=False,
    )  # fmt: skip
    model = as_function(T5(config, rngs=nnx.Rngs(0)))
    batch = uneven_batch(vocab_size=512, input_length=48, target_length=16)
    whole, cut = (train(qa.make_train_step, *model, batch, *how) for how in ((1, 1), (devices, accumulation)))
    assert cut.losses == pytest.approx(whole.losses, rel=1e-6)
    assert_leaves_close(cut.gradients, whole.gradients, 1e-6)  # 6.4e-7 was seen, over four seeds


@pytest.fixture
def float64_model():
    jax.config.update("jax_enable_x64", True)
    apply, params = as_function(T5(CONFIG, rngs=nnx.Rngs(0), dtype=jnp.float64))
    yield apply, jax.tree.map(lambda x: x.astype(np.float64), params)
    jax.config.update("jax_enable_x64", False)


@WAYS_TO_CUT
def test_in_float64_they_do_not_depend_on_it_at_all(float64_model, devices, accumulation):
    """What float32 leaves between them is rounding, nothing else."""
    step = partial(run, qa.make_train_step, model=float64_model)
    whole, cut = step(), step(devices, accumulation)
    assert cut.losses == pytest.approx(whole.losses, rel=1e-7)  # they are divided by a number of tokens in float32
    assert_leaves_close(cut.gradients, whole.gradients, 1e-10)


def test_the_loss_is_the_mean_over_all_target_tokens():
    batch = uneven_batch()
    [loss] = run(span_corruption.make_train_step, devices=8).losses
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
    one, eight = (run(span_corruption.make_train_step, devices, optimizer=optax.sgd(0.1)) for devices in (1, 8))
    assert_leaves_close(eight.params, one.params, 1e-6)


def test_adamw_follows_the_same_curve_on_8_devices_and_on_1():
    optimizer = adamw(schedule(1e-2, 20, warmup=4), weight_decay=0.01, relative_bias_rate=30.0)
    step = partial(run, qa.make_train_step, optimizer=optimizer, steps=20)
    one, eight = step().losses, step(8).losses
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

