"""Fine-tuning a classifier: learns, resumes, cuts its batches as it likes; its scores by hand."""

import json
import shutil
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from tlqa_jax.data.sources import open_labelled_texts
from tlqa_jax.errors import UserError
from tlqa_jax.examples import LabelledText
from tlqa_jax.inference.classifier import Classifier, TextClass, class_logits
from tlqa_jax.models.bert import BertConfig
from tlqa_jax.models.bert_heads import BertForSequenceClassification
from tlqa_jax.models.functional import as_function
from tlqa_jax.tasks.classification import encode_labelled
from tlqa_jax.text.wordpiece import SPECIALS, WordPieceTokenizer
from tlqa_jax.training.finetune_classifier import (
    FinetuneClassifierSettings,
    finetune_classifier,
    labels_of,
    make_train_step,
    score_classes,
    without_classifier,
)
from tlqa_jax.training.initial_bert import taken_over

from .comparing import assert_leaves_close, assert_same_arrays, final_state, rows, train, with_biases

SIZES = dict(hidden_size=12, num_hidden_layers=1, num_attention_heads=3, intermediate_size=20)
SIZES |= dict(max_position_embeddings=16, initializer_range=0.2)
SUBJECTS, VERDICTS = ["soup", "room", "lamp"], {"fine": 2, "grand": 2, "dull": 0, "poor": 0, "fair": 10}


def texts(count: int) -> list[dict]:
    rng = np.random.default_rng(0)
    picked = [(rng.choice(SUBJECTS), rng.choice(list(VERDICTS))) for _ in range(count)]
    rows = [{"review": f"the {one} was {verdict} .", "stars": VERDICTS[verdict]} for one, verdict in picked]
    rows[1]["review"] += " fair" * 9  # too long
    return rows


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classes")
    (folder / "vocab.txt").write_text("\n".join([*SPECIALS, *SUBJECTS, *VERDICTS, "the", "was", "."]) + "\n")
    (folder / "model.json").write_text(json.dumps(SIZES))
    (folder / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in texts(40)))
    return folder


@pytest.fixture(scope="module")
def finetuning(folder):
    """A short run with everything in it: accumulation, dropout, a checkpoint on the way."""
    config = FinetuneClassifierSettings(
        out=str(folder / "run"), texts=str(folder / "texts.jsonl"), held_out=str(folder / "texts.jsonl"),
        text_field="review", label_field="stars", vocabulary=str(folder / "vocab.txt"),
        model=str(folder / "model.json"), input_length=10, epochs=16.0, batch_size=16,
        accumulate=2, learning_rate=0.02, log_every=1, evaluate_every=40, save_every=30,
    )  # fmt: skip
    finetune_classifier(config, quiet=True)
    return config


def test_it_learns_and_leaves_a_whole_run_behind(folder, finetuning):
    run = folder / "run"
    losses = [row["loss"] for row in rows(run) if "loss" in row]
    assert len(losses) == 40  # 40 texts, 16 times, 16 at once
    assert np.mean(losses[-5:]) < np.mean(losses[:5]) - 0.3
    last = rows(run)[-1]
    assert last["eval_loss"] < losses[0] - 0.3 and last["eval_accuracy"] > 0.6
    assert {path.name for path in run.iterdir()} == {
        "config.json", "vocab.txt", "checkpoints", "metrics.jsonl", "curves.png", "predictions.json"
    }  # fmt: skip
    config = json.loads((run / "config.json").read_text())
    assert config["model"]["id2label"] == ["0", "2", "10"] and config["architecture"] == "BertForSequenceClassification"
    assert config["training"]["epochs"] == 16.0 and config["training"]["steps"] is None
    predictions = json.loads((run / "predictions.json").read_text())
    right = [predictions[str(number)] == str(row["stars"]) for number, row in enumerate(texts(40), 1)]
    assert len(predictions) == 40 and np.mean(right) == pytest.approx(last["eval_accuracy"])


def test_a_run_that_stopped_and_resumed_equals_the_one_that_did_not(folder, finetuning):
    shutil.copytree(folder / "run", folder / "stopped")
    shutil.rmtree(folder / "stopped" / "checkpoints" / "40")  # as if killed between the two checkpoints
    finetune_classifier(replace(finetuning, out=str(folder / "stopped"), resume=True), quiet=True)
    assert_same_arrays(final_state(folder / "stopped"), final_state(folder / "run"))
    assert rows(folder / "run")[-1] == rows(folder / "stopped")[-1]


def test_the_head_of_other_classes_is_not_taken_over():
    fresh = {"encoder": {"norm": 0}, "classifier": {"matrix": 0}}
    other = {"encoder": {"norm": 1}, "classifier": {"matrix": 2}}
    assert taken_over(fresh, without_classifier(other)) == {"encoder": {"norm": 1}, "classifier": {"matrix": 0}}
    assert taken_over(fresh, other) == other


def test_what_cannot_work_is_refused_before_anything_is_compiled(folder, finetuning):
    (folder / "one.jsonl").write_text('{"review": "fine", "stars": 2}\n')
    (folder / "new.jsonl").write_text('{"review": "fine", "stars": 7}\n')
    for changes, message in (
        (dict(label_field="sterne"), 'no field "sterne"'),
        (dict(texts=str(folder / "one.jsonl")), "every text is of the class '2', so there is nothing to tell apart"),
        (dict(held_out=str(folder / "new.jsonl")), "texts.jsonl has no text of class 7 to learn from"),
        (dict(input_length=17), "--input-length 17: this model reads at most 16 tokens"),
        (dict(input_length=2), "--input-length 2"),
        (dict(epochs=0.0), "--epochs is 0.0"),
        (dict(start_from="nowhere/at/all"), "there is no such directory"),
        (dict(out=finetuning.out), "is already in use"),
    ):
        with pytest.raises(UserError, match=message):
            finetune_classifier(replace(finetuning, **{"out": str(folder / "refused"), **changes}), quiet=True)
    assert not (folder / "refused").exists()


NO_DROPOUT = dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
CONFIG = BertConfig(vocab_size=24, id2label=("0", "2", "10"), **NO_DROPOUT, **SIZES)
APPLY, PARAMS = as_function(BertForSequenceClassification(CONFIG, rngs=nnx.Rngs(0)))
PREDICT = partial(class_logits, APPLY, 0)


@pytest.fixture(scope="module")
def examples(folder):
    return open_labelled_texts(folder / "texts.jsonl", field="review", label_field="stars")


@pytest.fixture(scope="module")
def tokenizer(folder):
    return WordPieceTokenizer(folder / "vocab.txt")


def test_loss_and_gradients_do_not_depend_on_how_the_batch_is_cut(tokenizer, examples):
    batch = encode_labelled(tokenizer, examples, labels=CONFIG.id2label, input_length=10).build(np.arange(16))

    params = with_biases(PARAMS)
    step = partial(train, make_train_step, PREDICT, params, batch, optimizer=optax.sgd(0.1))
    whole = step()
    logs = np.asarray(jax.nn.log_softmax(PREDICT(params, jnp.asarray(batch["tokens"]))))
    assert whole.losses == pytest.approx([-logs[np.arange(16), batch["labels"]].mean()], rel=1e-5)
    cut = step(8, accumulation=2)
    assert cut.losses == pytest.approx(whole.losses, rel=1e-6)
    moves_all_scores_alike = "encoder/layer_0/attention/key_bias"
    assert_leaves_close(cut.gradients, whole.gradients, 3e-6, zero=[moves_all_scores_alike])
    assert_leaves_close(cut.params, whole.params, 1e-6)


def test_classes_do_not_depend_on_batch_size_or_devices(tokenizer, examples, monkeypatch):
    texts, found = [example.text for example in examples], []
    for devices, batch_size in ((8, 24), (1, 3)):
        monkeypatch.setattr(jax, "local_device_count", lambda devices=devices: devices)
        classifier = Classifier(APPLY, tokenizer, CONFIG.id2label, input_length=10, batch_size=batch_size)
        found.append(classifier(PARAMS, texts))
        assert classifier({}, []) == []
    first = found[0]
    assert [given.text_cut for given in first] == [number == 1 for number in range(40)]
    expected = jax.nn.log_softmax(PREDICT(PARAMS, jnp.asarray([[2, *tokenizer.encode(texts[0]), 3]])))[0]
    np.testing.assert_allclose(first[0].log_probabilities, expected, rtol=1e-5)
    second = found[1]
    assert [(given.label, given.text_cut) for given in second] == [(given.label, given.text_cut) for given in first]
    logs = [[given.log_probabilities for given in classes] for classes in found]
    np.testing.assert_allclose(logs[1], logs[0], rtol=1e-5)
    scores = score_classes(examples, second, CONFIG.id2label)
    assert scores == pytest.approx(score_classes(examples, first, CONFIG.id2label), rel=1e-6)


def test_scores_of_classes_by_hand():
    examples = [LabelledText("a", "yes"), LabelledText("b", "no"), LabelledText("c", "no")]
    halves, quarter = (float(np.log(0.5)),) * 2, (float(np.log(0.25)), float(np.log(0.75)))
    given = [*2 * [TextClass("no", 0.5, halves, False)], TextClass("yes", 0.75, quarter, True)]
    scores = score_classes(examples, given, ("no", "yes"))
    assert scores["accuracy"] == pytest.approx(1 / 3)
    assert scores["loss"] == pytest.approx((2 * np.log(2) + np.log(4)) / 3)
    examples += [LabelledText("", label) for label in ("10", "9", "Yes")]
    assert labels_of(examples) == ("9", "10", "Yes", "no", "yes")
