"""Packed and unpacked, the same examples give the same loss and gradients."""

from functools import partial

import jax
import numpy as np
import pytest
from flax import nnx

from tlqa_jax.checkpoints.named_arrays import flatten
from tlqa_jax.core.losses import cross_entropy
from tlqa_jax.models.functional import as_function
from tlqa_jax.models.t5 import T5, T5Config
from tlqa_jax.tasks.packing import Packing
from tlqa_jax.tasks.text_to_text import TextArrays
from tlqa_jax.training.sequence_loss import sequence_loss, target_logits, target_tokens

from .comparing import train

SIZES = {"d_model": 12, "d_kv": 4, "d_ff": 20, "num_layers": 1, "num_heads": 3}
VARIANTS = {"1.0": {}, "1.1": {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}}


@pytest.fixture(scope="module", params=VARIANTS)
def model(request):
    config = T5Config(vocab_size=61, dropout_rate=0.0, **SIZES, **VARIANTS[request.param])
    return as_function(T5(config, rngs=nnx.Rngs(0)))


@pytest.fixture(scope="module")
def examples():
    """37 examples of 2 to 11 inputs and 1 to 5 targets."""
    rng = np.random.default_rng(5)
    lengths = rng.integers(2, 12, 37, np.int32), rng.integers(1, 6, 37, np.int32)
    rows = [
        np.where(np.arange(width) < n[:, None], rng.integers(2, 61, (37, width)), 0).astype(np.int32)
        for n, width in zip(lengths, (29, 11))
    ]
    return TextArrays(*rows, *lengths, np.zeros(37, bool), np.zeros(37, bool))


def losses_per_target(apply, params, rows):
    """-log p of each target token, [B, L], 0 in the padding."""
    logits = jax.jit(partial(target_logits, apply))(params, rows)
    each = jax.vmap(jax.vmap(lambda *token: cross_entropy(*token)[0]))
    return np.asarray(each(logits, rows["targets"], (rows["targets"] != 0).astype("float32")))


def test_each_example_has_the_loss_it_has_alone(model, examples):
    apply, params = model
    packing = Packing(examples, 0)
    assert packing.size < 13 and packing.borders[-1] == 37
    packed = packing.build(np.arange(packing.size))
    alone = losses_per_target(apply, params, {"inputs": examples.inputs, "targets": examples.targets}).sum(axis=1)
    together = losses_per_target(apply, params, packed)
    found = [
        together[row][packed["target_segments"][row] == number].sum()
        for row in range(packing.size) for number in range(1, packed["target_segments"][row].max() + 1)
    ]
    np.testing.assert_allclose(found, alone[packing.members], rtol=1e-5)


@pytest.mark.parametrize("devices, accumulate", [(8, 1), pytest.param(1, 3, marks=pytest.mark.slow)])
@pytest.mark.parametrize("model", ["1.0", pytest.param("1.1", marks=pytest.mark.slow)], indirect=True)
def test_a_packed_batch_has_the_loss_and_gradients_of_its_examples(model, examples, devices, accumulate):
    apply, params = model

    def loss_and_gradients(rows, devices, accumulate):
        fill = -len(rows["inputs"]) % (devices * accumulate)  # rows of padding, which weigh nothing
        batch = {name: np.pad(x, ((0, fill), (0, 0))) for name, x in rows.items()}
        trained = train(partial(sequence_loss, apply), target_tokens, params, batch, devices, accumulate)
        return trained.losses[0], flatten(trained.gradients)

    packing = Packing(examples, 0)
    rows = {"inputs": examples.inputs, "targets": examples.targets}
    loss, gradients = loss_and_gradients(rows, 1, 1)
    packed_loss, packed = loss_and_gradients(packing.build(np.arange(packing.size)), devices, accumulate)
    assert packed_loss == pytest.approx(loss, rel=1e-6)
    assert packed.keys() == gradients.keys()
    for name in gradients:
        assert np.abs(packed[name] - gradients[name]).max() <= 1e-5 * np.abs(gradients[name]).max(), name
