"""Packed and unpacked, the same examples give the same loss and gradients; a packed run learns and resumes."""

import json
import shutil
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from io import StringIO

import jax
import numpy as np
import pytest
from flax import nnx

from tlqa_jax.checkpoints.runs import flatten
from tlqa_jax.core.losses import cross_entropy
from tlqa_jax.models.functional import as_function
from tlqa_jax.models.t5 import T5, T5Config
from tlqa_jax.tasks.packing import Packing
from tlqa_jax.training import finetune_qa as qa
from tlqa_jax.training.sequence_loss import predict

from .comparing import assert_same_arrays, final_state, train

SIZES = {"d_model": 12, "d_kv": 4, "d_ff": 20, "num_layers": 1, "num_heads": 3}
VARIANTS = {"1.0": {}, "1.1": {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}}


@dataclass
class Rows:
    inputs: np.ndarray
    targets: np.ndarray
    input_lengths: np.ndarray
    target_lengths: np.ndarray


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
    return Rows(*rows, *lengths)


def losses_per_target(apply, params, rows):
    """-log p of each target token, [B, L], 0 in the padding."""
    logits, targets, weights = jax.jit(lambda params, rows: predict(apply, params, rows))(params, rows)
    each = jax.vmap(jax.vmap(lambda *token: cross_entropy(*token)[0]))
    return np.asarray(each(logits, targets, weights))


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


def loss_and_gradients(model, rows, devices, accumulation):
    fill = -len(rows["inputs"]) % (devices * accumulation)  # rows of padding, which weigh nothing
    batch = {name: np.pad(x, ((0, fill), (0, 0))) for name, x in rows.items()}
    trained = train(qa.make_train_step, *model, batch, devices, accumulation)
    return trained.losses[0], flatten(trained.gradients)


@pytest.mark.parametrize("devices, accumulation", [(1, 3), (8, 1)])
def test_a_packed_batch_has_the_loss_and_gradients_of_its_examples(model, examples, devices, accumulation):
    packing = Packing(examples, 0)
    rows = {"inputs": examples.inputs, "targets": examples.targets}
    loss, gradients = loss_and_gradients(model, rows, 1, 1)
    packed_loss, packed = loss_and_gradients(model, packing.build(np.arange(packing.size)), devices, accumulation)
    assert packed_loss == pytest.approx(loss, rel=1e-6)
    assert packed.keys() == gradients.keys()
    for name in gradients:
        assert np.abs(packed[name] - gradients[name]).max() <= 1e-5 * np.abs(gradients[name]).max(), name


# --- the program


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packed")
    (folder / "model.json").write_text(json.dumps(SIZES))
    return qa.FinetuneQASettings(
        out=str(folder / "run"), model=str(folder / "model.json"), pack=True, optimizer="adafactor", decay="constant",
        closed_book_questions="tiny_world:closed_book_train.json", input_length=56, target_length=6, steps=6,
        batch_size=16, accumulate=2, warmup=0, learning_rate=0.05, log_every=1, save_every=3,
    )  # fmt: skip


@pytest.fixture(scope="module")
def run_and_output(config):
    with redirect_stdout(StringIO()) as output:
        return qa.finetune_qa(config), output.getvalue()


@pytest.fixture
def run(run_and_output):
    return run_and_output[0]


def losses(run):
    return [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_a_packed_run_learns(run):
    assert len(losses(run)) == 6 and losses(run)[-1] < losses(run)[0] - 0.3


def test_a_packed_run_that_stopped_and_resumed_equals_the_one_that_did_not(config, run):
    stopped = run.with_name("stopped")
    shutil.copytree(run, stopped)
    shutil.rmtree(stopped / "checkpoints" / "6")
    qa.finetune_qa(replace(config, out=str(stopped), resume=True), quiet=True)
    whole = final_state(run)
    assert any("v_row" in name for name in whole)
    assert_same_arrays(final_state(stopped), whole)


def test_it_says_how_much_padding_it_saves(run_and_output):
    [line] = [line for line in run_and_output[1].splitlines() if "packed" in line]
    before, after = (float(share.rstrip("%,")) for share in line.split("inputs ")[1].split(" of")[0].split(" -> "))
    assert before > 70 and after < 10
