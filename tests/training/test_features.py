"""Features of frozen encoders: any layer, pooled by hand; cached and computed on the fly they give the same score."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from tlqa_jax.checkpoints.load import load
from tlqa_jax.data.sources import open_labelled_texts
from tlqa_jax.errors import UserError
from tlqa_jax.inference.features import FeatureExtractor
from tlqa_jax.inference.predictors import classify, open_model
from tlqa_jax.models.features import layer_numbers
from tlqa_jax.text.wordpiece import WordPieceTokenizer
from tlqa_jax.training.evaluation import score_classes
from tlqa_jax.training.finetune_features import FinetuneFeaturesSettings, finetune_features

from .comparing import assert_same_arrays, metrics, saved_state
from .programs import save_bert

TEXTS = ["the clock was fine .", "the lamp was made by ann in the town . was the clock ?"]


@pytest.fixture
def extractor(files):
    return lambda family, pooling="mean", layers=("last",): FeatureExtractor(
        str(files / family), layers=layers, pooling=pooling, input_length=12
    )


def by_hand(files, family: str, text: str) -> tuple[np.ndarray, ...]:
    """The states of a text alone, [L D] each: of the embeddings and the only layer."""
    pretrained = load(files / family, {"bert": "BertModel", "t5": "T5EncoderModel"}[family])
    model, tokenizer = pretrained.model(), pretrained.tokenizer
    if family == "bert":
        ids = [tokenizer.cls_id, *tokenizer.encode(text)[:10], tokenizer.sep_id]
        return tuple(np.asarray(state[0]) for state in model(jnp.array([ids])).hidden_states)
    ids = jnp.array([[*tokenizer.encode(text)[:11], tokenizer.eos_id]])
    states = model.hidden_states(ids)
    assert np.array_equal(states[-1], model(ids)) and np.array_equal(states[0], model.embedding(ids))
    return tuple(np.asarray(state[0]) for state in states)


@pytest.mark.parametrize("family", ["bert", "t5"])
def test_features_are_the_means_of_layers_side_by_side(family, extractor, files):
    features, cut = extractor(family, layers=["1", "0"])(TEXTS)
    for text, row in zip(TEXTS, features):
        embeddings, last = by_hand(files, family, text)
        np.testing.assert_allclose(row, np.concatenate([last.mean(0), embeddings.mean(0)]), rtol=2e-5, atol=2e-5)
    assert features.dtype == np.float32 and cut.tolist()[1]


def test_cls_is_the_first_token(extractor, files):
    features, _ = extractor("bert", "cls")(TEXTS)
    for text, row in zip(TEXTS, features):
        np.testing.assert_allclose(row, by_hand(files, "bert", text)[-1][0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layers, numbers", [
    (["last"], [12]), (["last:4"], [9, 10, 11, 12]), (["last:12"], [*range(1, 13)]), (["0"], [0]), (["3", "1"], [3, 1]),
])  # fmt: skip
def test_layers_by_name(layers, numbers):
    assert layer_numbers(layers, 12) == numbers


@pytest.mark.parametrize("layers", ["last:13", "last:0", "last:x", "13", "-1", "first", "last,3"])
def test_layers_that_there_are_not(layers):
    with pytest.raises(UserError, match=r"give last, last:N, or numbers from 0 \(the embeddings\) to 12"):
        layer_numbers(layers.split(","), 12)


def test_what_no_features_are_of(extractor, files, tmp_path):
    save_bert(tmp_path / "causal", WordPieceTokenizer(files / "vocab.txt"), attention="causal")
    with pytest.raises(UserError, match="a T5 has none: use --pooling mean"):
        extractor("t5", "cls")
    with pytest.raises(UserError, match="that of a causal BERT sees only itself: use --pooling mean"):
        extractor(str(tmp_path / "causal"), "cls")
    with pytest.raises(UserError, match="--input-length 41: .* reads at most 40 tokens"):
        FeatureExtractor(str(files / "bert"), layers=["last"], pooling="mean", input_length=41)
    with pytest.raises(UserError, match="give --start-from"):
        FinetuneFeaturesSettings()


@pytest.fixture(scope="module")
def settings(files, tmp_path_factory):
    folder, texts = tmp_path_factory.mktemp("features"), str(files / "labelled.jsonl")
    base = shutil.copytree(files / "bert", folder / "base")
    return FinetuneFeaturesSettings(
        out=str(folder / "run"), start_from=str(base), cache=str(folder / "cache"), texts=texts, held_out=texts,
        text_field="review", label_field="stars", input_length=10, layers=("0", "1"), batch_size=16, epochs=60,
        learning_rate=0.05, log_every=1, evaluate_every=75, save_every=75,
    )  # fmt: skip


@pytest.fixture(scope="module")
def run(settings):
    return finetune_features(settings, quiet=True)


def test_it_learns_and_the_score_on_the_fly_is_the_cached_one(run, settings):
    found = metrics(run)
    assert found[-1]["eval_accuracy"] > 0.6 and found[-2]["loss"] < found[0]["loss"] - 0.2
    examples = open_labelled_texts(settings.held_out, field="review", label_field="stars")
    model = open_model(run, to="classify")
    scores = score_classes(examples, model([example.text for example in examples]), model.labels)
    assert {f"eval_{name}": value for name, value in scores.items()} == {
        name: value for name, value in found[-1].items() if name != "step"
    }  # exactly
    assert json.loads((run / "predictions.json").read_text())["1"] in ("0", "2", "10")
    assert [one.text_cut for one in classify([TEXTS[0], "fair " * 12], run)] == [False, True]


def test_features_are_computed_once_and_without_a_cache_the_run_is_the_same(run, settings, tmp_path, monkeypatch):
    files = sorted(Path(settings.cache).iterdir())
    assert len(files) == 1  # the same texts are learned and held out
    again = finetune_features(replace(settings, out=str(tmp_path / "without"), cache=None), quiet=True)
    monkeypatch.setattr(FeatureExtractor, "_features", lambda *_: pytest.fail("features are computed again"))
    cached = finetune_features(replace(settings, out=str(tmp_path / "cached")), quiet=True)
    for other in (again, cached):
        assert_same_arrays(saved_state(other), saved_state(run))
        assert metrics(other) == metrics(run)
    assert sorted(Path(settings.cache).iterdir()) == files


@pytest.mark.parametrize("change", [{"pooling": "cls"}, {"layers": ["0"]}, {"input_length": 9}, {"base": "bert"}])
def test_what_features_depend_on_is_in_their_name(change, files, settings, tmp_path):
    def names(base="base", **how):
        base = str(files / base) if base == "bert" else settings.start_from
        how = {"layers": ["last"], "pooling": "mean", "input_length": 10} | how
        FeatureExtractor(base, **how)(TEXTS, cache=tmp_path)
        return {path.name for path in tmp_path.iterdir()}

    first = names()
    same = change == {"base": "bert"}  # the same weights in another place
    assert len(names(**change)) == (1 if same else 2) and first <= names(**change)


def test_a_run_that_stopped_equals_the_one_that_did_not(run, settings, tmp_path):
    stopped = shutil.copytree(run, tmp_path / "stopped")
    record = json.loads((stopped / "run.json").read_text())
    del record["finished"]
    (stopped / "run.json").write_text(json.dumps(record))
    shutil.rmtree(stopped / "checkpoints" / "150")
    finetune_features(replace(settings, out=str(stopped)), quiet=True)
    assert_same_arrays(saved_state(stopped), saved_state(run))
    assert metrics(stopped) == metrics(run)


def test_a_base_that_has_changed_is_noticed(run, settings, tmp_path):
    other = shutil.copytree(run, tmp_path / "other")
    config = json.loads((other / "config.json").read_text())
    (other / "config.json").write_text(json.dumps(config | {"fingerprint": "sha256:0 1 bytes"}))
    with pytest.raises(UserError, match="base has changed since .*other was trained on its features: train it again"):
        classify(["bo"], other)
