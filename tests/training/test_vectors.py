"""Word vectors: they are learned, continue exactly, split over devices, and become a bag of vectors or a BERT's embeddings."""

import json
import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pytest

from tlqa_jax import cli
from tlqa_jax.checkpoints.load import load
from tlqa_jax.errors import UserError
from tlqa_jax.inference.predictors import classify
from tlqa_jax.models.functional import as_function
from tlqa_jax.models.word_vectors import CBOW, WordVectorsConfig
from tlqa_jax.training.finetune_classifier import FinetuneClassifierSettings, finetune_classifier
from tlqa_jax.training.loop import TrainingRun
from tlqa_jax.training.pretrain_vectors import (
    PretrainVectorsSettings, negative_sampling_loss, number_of_words, pretrain_vectors,
)  # fmt: skip

from .comparing import assert_leaves_close, assert_same_arrays, metrics, saved_state, train
from .programs import BERT_SIZES, Stop, random_model, stop


@pytest.fixture(scope="module")
def settings(files, tmp_path_factory):
    texts, out = str(files / "labelled.jsonl"), str(tmp_path_factory.mktemp("vectors") / "run")
    return PretrainVectorsSettings(
        out=out, texts=texts, held_out=texts, text_field="review", vocabulary=str(files / "vocab.txt"), width=8, window=2, steps=60,
        batch_size=64, accumulate=2, learning_rate=0.05, log_every=1, evaluate_every=30, save_every=30, seed=3,
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(settings):
    return pretrain_vectors(settings, quiet=True)


def table(directory) -> np.ndarray:
    return np.asarray(as_function(load(directory).model())[1]["vectors"]["table"])


def test_it_learns_and_similar_words_are_near(run, capsys):
    rows = metrics(run)
    losses = [row["loss"] for row in rows if "loss" in row]
    assert len(losses) == 60 and np.mean(losses[-5:]) < losses[0] - 1 and rows[-1]["eval_loss"] < losses[0] - 1
    assert rows[-1].keys() == {"step", "eval_loss", "eval_accuracy"} and 0 < rows[-1]["eval_accuracy"] < 1
    pretrained = load(run)
    assert (pretrained.family, pretrained.architecture) == ("tlqa", "CBOW")
    saved = {name: array for name, array in saved_state(run).items() if name.startswith("params/")}
    params = as_function(pretrained.model())[1]
    assert_same_arrays({f"params/{name}/table": params[name]["table"] for name in ("vectors", "outputs")}, saved)
    command, arguments = cli.parse("neighbors", [str(run), "clock", "-n", "1"])
    command(arguments)
    assert capsys.readouterr().out.split()[1] == "lamp"  # both are fine or dull
    command, arguments = cli.parse("neighbors", [str(run), "clock", "-", "lamp", "+", "dull"])
    command(arguments)
    assert len(capsys.readouterr().out.splitlines()) > 2


def test_a_run_that_stopped_equals_the_one_that_did_not(run, settings, tmp_path):
    stopped = shutil.copytree(run, tmp_path / "stopped")
    record = json.loads((stopped / "run.json").read_text())
    del record["finished"]
    (stopped / "run.json").write_text(json.dumps(record))
    shutil.rmtree(stopped / "checkpoints" / "60")
    pretrain_vectors(replace(settings, out=str(stopped)), quiet=True)
    assert_same_arrays(saved_state(stopped), saved_state(run))
    assert metrics(stopped) == metrics(run)
    assert (stopped / "model.safetensors").read_bytes() == (run / "model.safetensors").read_bytes()


def test_eight_devices_equal_one():
    config, random = WordVectorsConfig(vocab_size=31, hidden_size=5), np.random.default_rng(0)
    apply, params = as_function(random_model(CBOW, config))
    counts = np.linspace(0, 4, 32)[:, None] > np.arange(4)  # the devices' shares weigh very differently
    batch = {
        "context": random.integers(0, 31, (32, 4)).astype(np.int32), "mask": counts,
        "candidates": random.integers(0, 31, (32, 3)).astype(np.int32),
        "weights": np.float32(counts[:, :1] & (random.random((32, 3)) < 0.9)),
    }  # fmt: skip
    loss = partial(negative_sampling_loss, apply)
    one, eight = (train(loss, number_of_words, params, batch, devices, 4 // devices or 1) for devices in (1, 8))
    assert eight.losses == pytest.approx(one.losses, rel=1e-6)
    assert_leaves_close(eight.gradients, one.gradients, 3e-6)
    assert_leaves_close(eight.params, one.params, 1e-6)


@pytest.fixture
def classifier(files, run, tmp_path):
    labelled = dict(texts=str(files / "labelled.jsonl"), held_out=str(files / "labelled.jsonl"))
    fields = dict(text_field="review", label_field="stars", input_length=10, batch_size=16)
    return FinetuneClassifierSettings(out=str(tmp_path / "run"), start_from=str(run), **labelled, **fields)


@pytest.mark.parametrize("how", [{"train": "head"}, {"freeze": ("vectors",)}, {}], ids=str)
def test_a_bag_of_vectors_frozen_or_tuned(how, classifier, run):
    settings, freeze = replace(classifier, **how, epochs=24, learning_rate=0.05, dropout=0.0), bool(how)
    bag = finetune_classifier(settings, quiet=True)
    assert load(bag).architecture == "BagOfVectors"
    assert np.array_equal(table(bag), table(run)) == freeze
    losses = [row["loss"] for row in metrics(bag) if "loss" in row]
    assert losses[-1] < losses[0]
    assert finetune_classifier(settings, quiet=True) == bag  # it is complete
    if not freeze:  # frozen, the words that decide are near each other: they stand in the same places
        assert metrics(bag)[-1]["eval_accuracy"] > 0.9
        assert [one.label for one in classify(["the clock was dull .", "the lamp was fair ."], bag)] == ["0", "10"]


def test_vectors_become_the_word_embeddings_of_a_new_bert(classifier, run, files, tmp_path, monkeypatch):
    monkeypatch.setattr(TrainingRun, "training", lambda self, state, *_: stop(state["params"]))
    settings = replace(classifier, start_from=None, vectors=str(run), model=str(files / "bert.json"), steps=1)
    with pytest.raises(Stop) as stopped:
        finetune_classifier(settings, quiet=True)
    embeddings = stopped.value.args[0]["encoder"]["embeddings"]
    assert np.array_equal(embeddings["word"]["table"], table(run))
    assert load(tmp_path / "run").tokenizer.vocab_size == load(run).tokenizer.vocab_size


def test_what_vectors_cannot_be_used_for(classifier, settings, files, run, tmp_path, no_compilation):
    (tmp_path / "wide.json").write_text(json.dumps(BERT_SIZES | {"hidden_size": 12}))
    new = replace(classifier, start_from=None, vectors=str(run), model=str(tmp_path / "wide.json"))
    for changed, message in (
        (new, "has 128 vectors of width 8, and --model .*wide.json needs 128 of 12"),
        (replace(new, vectors=str(files / "bert")), "holds a BertModel: give a run of tlqa pretrain-vectors"),
        (replace(classifier, freeze=("encoder",)), "--freeze encoder matches no parameters; there are classifier/"),
        (replace(classifier, train="lora:2"), "--train lora:2: a bag of vectors has no layers: give all or head"),
        (replace(classifier, start_from=str(files / "t5")), "this program trains a BERT"),
    ):
        with pytest.raises(UserError, match=message):
            finetune_classifier(changed, quiet=True)
    for changes, message in (
        (dict(start_from=str(files / "bert")), "holds a BertModel, and this program trains word vectors"),
        (dict(vocabulary="nowhere"), "nowhere"),
    ):
        with pytest.raises(UserError, match=message):
            pretrain_vectors(replace(settings, out=str(tmp_path / "other"), **changes), quiet=True)
    with pytest.raises(UserError, match="--dropout is 0.1"):
        replace(settings, dropout=0.1)
