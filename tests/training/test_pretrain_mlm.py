"""Masked-LM pretraining: it learns, resumes, and cuts its batches as it likes; its masks are fresh in each epoch."""

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

from tlqa_jax.checkpoints.bert_runs import load_bert_model
from tlqa_jax.checkpoints.huggingface import save_pretrained
from tlqa_jax.checkpoints.runs import read_config
from tlqa_jax.data.batches import Devices, evaluation_batches, training_batches
from tlqa_jax.data.tiny_world import bundled
from tlqa_jax.data.tiny_world.phrases import LAST_NAMES
from tlqa_jax.errors import UserError
from tlqa_jax.models.bert import Bert, BertConfig
from tlqa_jax.models.bert_heads import BertForMaskedLM, BertForPreTraining
from tlqa_jax.models.functional import as_function
from tlqa_jax.tasks.masked_lm import MaskedTokens, reassemble
from tlqa_jax.text.wordpiece import WordPieceTokenizer
from tlqa_jax.training import pretrain_mlm as mlm
from tlqa_jax.training.evaluation import mean_over_examples, summed_over_devices
from tlqa_jax.training.pretrain_mlm import (
    MaskedLMData,
    PretrainMLMSettings,
    evaluation_sums,
    make_train_step,
    per_prediction,
    pretrain_mlm,
    pretraining_logits,
)

from .comparing import assert_leaves_close, assert_same_arrays, final_state, train, with_biases

SIZES = dict(
    hidden_size=12, num_hidden_layers=1, num_attention_heads=3, intermediate_size=20, max_position_embeddings=40
)
TOKENIZER = WordPieceTokenizer(bundled("wordpiece.txt"))
TEXT = "tiny_world:pretraining_dev.txt"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mlm")
    (folder / "model.json").write_text(json.dumps(SIZES))
    return folder


@pytest.fixture(scope="module")
def pretraining(folder):
    """A short run with everything in it: pairs, accumulation, dropout, a checkpoint on the way."""
    config = PretrainMLMSettings(
        out=str(folder / "run"), texts=TEXT, held_out=TEXT, model=str(folder / "model.json"), input_length=32,
        batch_size=16, accumulate=2, steps=6, warmup=2, learning_rate=0.02, log_every=1, evaluate_every=3, save_every=3,
    )  # fmt: skip
    pretrain_mlm(config, quiet=True)
    return config


def rows(run):
    return [json.loads(line) | {"tokens_per_second": 0} for line in (run / "metrics.jsonl").read_text().splitlines()]


def test_it_learns_and_leaves_a_whole_run_behind(folder, pretraining):
    run = folder / "run"
    losses = [row["loss"] for row in rows(run) if "loss" in row]
    assert len(losses) == 6 and losses[-1] < losses[0] - 0.3
    held_out = [row for row in rows(run) if "eval_loss" in row]
    assert held_out[1]["eval_mlm_loss"] < held_out[0]["eval_mlm_loss"]
    for row in held_out:
        assert row["eval_loss"] == pytest.approx(row["eval_mlm_loss"] + row["eval_nsp_loss"])
        assert 0 <= row["eval_mlm_accuracy"] < 0.5 and 0 < row["eval_nsp_accuracy"] < 1
    left = {path.name for path in run.iterdir()}
    assert left == {"config.json", "vocab.txt", "checkpoints", "metrics.jsonl", "curves.png"}
    record = read_config(run)
    assert (record["program"], record["architecture"]) == ("mlm", "BertForPreTraining")
    assert (record["training"]["lowercase"], record["training"]["attention"]) == (True, "plain")
    model, tokenizer = load_bert_model(run)
    assert isinstance(model, BertForPreTraining) and (model.config.vocab_size, tokenizer.vocab_size) == (1024, 1000)


def test_a_run_that_stopped_and_resumed_equals_the_one_that_did_not(folder, pretraining):
    shutil.copytree(folder / "run", folder / "stopped")
    shutil.rmtree(folder / "stopped" / "checkpoints" / "6")  # as if killed between the two checkpoints
    pretrain_mlm(replace(pretraining, out=str(folder / "stopped"), resume=True), quiet=True)
    assert_same_arrays(final_state(folder / "stopped"), final_state(folder / "run"))
    assert rows(folder / "stopped") == rows(folder / "run")


def test_going_on_from_a_run_and_looking_back_only(folder, pretraining):
    config = replace(
        pretraining, out=str(folder / "causal"), start_from=pretraining.out, attention="causal", next_sentence=False,
        whole_words=True, accumulate=1, steps=1, warmup=0, learning_rate=1e-9, weight_decay=0.0,
    )  # fmt: skip
    run = pretrain_mlm(config, quiet=True)
    model, _ = load_bert_model(run)
    assert isinstance(model, BertForMaskedLM) and model.encoder.causal
    assert "eval_nsp_loss" not in rows(run)[-1] and rows(run)[-1]["eval_loss"] == rows(run)[-1]["eval_mlm_loss"]
    before, after = final_state(folder / "run"), final_state(run)
    names = [name for name in after if name.startswith("params/")]
    assert "params/masked_lm/bias" in names and "params/next_sentence/matrix" not in names
    for name in names:  # the head as well
        np.testing.assert_allclose(after[name], before[name], atol=1e-7)


def test_it_looks_where_the_model_looked_that_it_goes_on_from(folder, pretraining, monkeypatch):
    class Stop(Exception):
        pass

    def no_batches(*arguments, **settings):
        raise Stop

    encoder = Bert(BertConfig(vocab_size=TOKENIZER.vocab_size, **SIZES), rngs=nnx.Rngs(0), attention="causal")
    save_pretrained(encoder, folder / "looks_back", TOKENIZER)
    monkeypatch.setattr(mlm, "training_batches", no_batches)
    further = replace(
        pretraining, out=str(folder / "on"), start_from=str(folder / "looks_back"), vocabulary="", next_sentence=False
    )
    for given, seen in ((None, "causal"), ("plain", "plain")):
        with pytest.raises(Stop):
            mlm.pretrain_mlm(replace(further, attention=given, overwrite=True), quiet=True)
        assert json.loads((folder / "on" / "config.json").read_text())["training"]["attention"] == seen
    with pytest.raises(UserError, match="add --no-next-sentence"):
        pretrain_mlm(replace(further, next_sentence=True, overwrite=True), quiet=True)


def test_what_cannot_work_is_refused_before_anything_is_compiled(folder, pretraining):
    (folder / "one.txt").write_text("One document.\nOf two sentences.\n")
    (folder / "none.txt").write_text("\n")
    for changes, message in (
        (dict(attention="causal"), "--attention causal: .* add --no-next-sentence"),
        (dict(input_length=4), "--input-length is 4: a row has at least 5 tokens"),
        (dict(input_length=48), "--input-length 48: this model reads at most 40 tokens"),
        (dict(mask_rate=0.0), "--mask-rate is 0"),
        (dict(mask_rate=1.0), "--mask-rate is 1.0"),
        (dict(texts=str(folder / "one.txt")), "one.txt: the text has 1 documents: .*--no-next-sentence"),
        (dict(texts=str(folder / "none.txt")), "none.txt"),
        (dict(batch_size=12), "12 cannot be split"),
        (dict(dtype="float16"), '--dtype is "float16"'),
        (dict(out=pretraining.out), "is already in use"),
        (dict(out=pretraining.out, resume=True, mask_rate=0.2), "training.mask_rate was 0.15, is 0.2"),
    ):
        with pytest.raises(UserError, match=message):
            pretrain_mlm(replace(pretraining, **{"out": str(folder / "refused"), **changes}), quiet=True)
    wrong = replace(pretraining, out=str(folder / "refused"))
    object.__setattr__(wrong, "attention", "casual")  # as a user may, where types are not checked
    with pytest.raises(UserError, match='--attention is "casual": known are plain, causal'):
        pretrain_mlm(wrong)
    assert not (folder / "refused").exists()


# The data


def data(**changes) -> MaskedLMData:
    config = PretrainMLMSettings(**{"texts": TEXT, "input_length": 32, "batch_size": 24, **changes})
    return MaskedLMData(config, TOKENIZER, config.texts)


def test_each_epoch_has_its_own_masks_and_nothing_else_changes_them():
    """Of every batch of two epochs and a half: a row is known by its index and by how often that was seen before."""
    pairs = data()
    assert pairs.size % 24  # so that epochs end within a batch
    seen, build = [], pairs.build

    def recorded(indices, rows, step):
        seen.append(indices)
        return build(indices, rows, step)

    place = {"devices": Devices(0, 1, 2)}
    batches = training_batches(pairs.size, 24, 0, recorded, prefetch=0, **place)
    shown = {index: [] for index in range(pairs.size)}
    for step, batch in zip(range(pairs.size * 5 // 2 // 24), batches):
        own = {name: array.reshape(24, *array.shape[2:]) for name, array in batch.items()}
        for row, index in enumerate(seen[step].tolist()):
            expected = pairs._rows(np.array([index]), np.array([len(shown[index])]))
            assert all(np.array_equal(own[name][row], expected[name][0]) for name in own)
            shown[index].append(own["tokens"][row])
    assert {len(tokens) for tokens in shown.values()} == {2, 3}
    assert not any(np.array_equal(*tokens[:2]) for tokens in shown.values())
    other = data(seed=1)._rows(np.arange(9), np.zeros(9, int))
    assert not np.array_equal(other["tokens"], pairs._rows(np.arange(9), np.zeros(9, int))["tokens"])


def test_a_row_is_the_same_in_any_batch_and_on_any_process():
    pairs = data()
    whole = pairs.build(np.arange(24), slice(0, 24), 3)
    halves = [pairs.build(np.arange(24)[rows], rows, 3) for rows in (slice(0, 12), slice(12, 24))]
    alone = [pairs.build_evaluation(np.array([index]), slice(0, 1), step) for step, index in enumerate(range(24))]
    evaluation = pairs.build_evaluation(np.arange(24), slice(0, 24), 0)
    for name in whole:
        assert np.array_equal(whole[name], np.concatenate([half[name] for half in halves]))
        assert np.array_equal(evaluation[name], np.concatenate([row[name] for row in alone]))


def test_pairs_are_half_next_and_say_so_as_google_does():
    batch = data(texts="tiny_world:pretraining.txt")._rows(np.arange(800), np.zeros(800, int))
    assert batch["tokens"].shape == batch["token_types"].shape == (800, 32) and batch["positions"].shape == (800, 5)
    assert 350 < batch["next_sentence"].sum() < 450 and batch["next_sentence"].dtype == np.int32
    assert (batch["tokens"][:, 0] == TOKENIZER.cls_id).all() and batch["token_types"].any(1).all()
    assert batch["tokens"].max() < TOKENIZER.vocab_size  # the model has 24 ids more
    # most documents are about one person: the second segment of a pair that is next (0) speaks of the same
    sources = reassemble(MaskedTokens(*(batch[name] for name in MaskedTokens._fields)))
    last_names = {id for [id] in TOKENIZER.encode_batch(LAST_NAMES)}
    same = {0: [], 1: []}
    for source, types, label in zip(sources, batch["token_types"], batch["next_sentence"].tolist()):
        first, second = (last_names & set(source[types == kind].tolist()) for kind in (0, 1))
        same[label] += [bool(first & second)] if first and second else []
    assert np.mean(same[0]) > 0.8 and np.mean(same[1]) < 0.2


def test_without_pairs_rows_are_full_and_show_all_of_the_text():
    full = data(next_sentence=False, whole_words=True)
    batch = full._rows(np.arange(full.size), np.zeros(full.size, int))
    assert "next_sentence" not in batch and not batch["token_types"].any()
    sources = reassemble(MaskedTokens(*(batch[name] for name in MaskedTokens._fields)))
    assert np.array_equal(sources[sources > 4], full.tokens[full.tokens > 4])
    assert (sources[:-1] != TOKENIZER.pad_id).all()
    continues = TOKENIZER.continuation[sources]
    chosen = np.zeros(sources.shape, bool)
    row, number = np.nonzero(batch["weights"])
    chosen[row, batch["positions"][row, number]] = True
    inside = continues[:, 1:] & (sources[:, :-1] > 4)
    assert (chosen[:, 1:] == chosen[:, :-1])[inside].all()  # a word whole, or not at all
    assert continues[chosen].any()


# The step


CONFIG = BertConfig(vocab_size=1024, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, **SIZES)
APPLY, PARAMS = as_function(BertForPreTraining(CONFIG, rngs=nnx.Rngs(0)))
PREDICT = partial(pretraining_logits, APPLY, TOKENIZER.pad_id)


def test_loss_and_gradients_do_not_depend_on_how_the_batch_is_cut():
    batch = data()._rows(np.arange(32), np.zeros(32, int))
    batch["weights"] *= np.arange(5) <= np.arange(32)[:, None] // 7  # 1 prediction in the first rows, 5 in the last

    params = with_biases(PARAMS)
    step = partial(train, make_train_step, PREDICT, params, batch, optimizer=optax.sgd(0.1))
    whole = step()
    # by hand, from logits at every position: a mean over the predictions and one over the pairs
    rows, weights = jax.tree.map(jnp.asarray, batch), batch["weights"] > 0
    real = rows["tokens"] != TOKENIZER.pad_id
    logits = jax.jit(APPLY)(params, rows["tokens"], token_types=rows["token_types"], mask=real)
    at = np.arange(32)[:, None], batch["positions"], batch["targets"]
    masked = -np.asarray(jax.nn.log_softmax(logits.masked_lm))[at]
    pairs = -np.asarray(jax.nn.log_softmax(logits.next_sentence))[np.arange(32), batch["next_sentence"]]
    assert whole.losses == pytest.approx([masked[weights].mean() + pairs.mean()], rel=1e-5)
    mean_of_means = np.mean([masked[i : i + 4][weights[i : i + 4]].mean() for i in range(0, 32, 4)])
    assert abs(mean_of_means - masked[weights].mean()) > 1e-4  # the batch can tell the wrong way from the right one
    cut = step(8, accumulation=2)
    assert cut.losses == pytest.approx(whole.losses, rel=1e-6)
    moves_all_scores_alike = "encoder/layer_0/attention/key_bias"
    assert_leaves_close(cut.gradients, whole.gradients, 3e-6, zero=[moves_all_scores_alike])
    assert_leaves_close(cut.params, whole.params, 1e-6)


def test_evaluation_sees_each_row_once_whatever_the_batch_size_and_devices():
    held_out = data(input_length=40)
    step = summed_over_devices(partial(evaluation_sums, PREDICT))
    found = []
    for devices, batch_size in ((8, 64), (1, 50)):
        place = {"devices": Devices(0, 1, devices)}
        batches = evaluation_batches(held_out.size, batch_size, held_out.build_evaluation, **place)
        found.append(per_prediction(mean_over_examples(step, PARAMS, batches)))
    assert found[0].keys() == {"loss", "mlm_loss", "mlm_accuracy", "nsp_loss", "nsp_accuracy"}
    assert found[1] == pytest.approx(found[0], rel=1e-6)
    rows = held_out._rows(np.arange(held_out.size), np.zeros(held_out.size, int))
    logits = jax.jit(PREDICT)(PARAMS, jax.tree.map(jnp.asarray, rows))
    asked = rows["weights"] > 0
    right = np.asarray(logits.masked_lm).argmax(-1)[asked] == rows["targets"][asked]
    assert found[0]["mlm_accuracy"] == pytest.approx(right.mean())
    right = np.asarray(logits.next_sentence).argmax(-1) == rows["next_sentence"]
    assert found[0]["nsp_accuracy"] == pytest.approx(right.mean())
