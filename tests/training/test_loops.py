"""The two programs as a whole: they learn, stop, go on, and leave behind what they promise."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest

from tlqa_jax.checkpoints.runs import load_t5
from tlqa_jax.errors import UserError
from tlqa_jax.training import finetune_qa as qa
from tlqa_jax.training.finetune_qa import FinetuneQASettings, finetune_qa
from tlqa_jax.training.pretrain_spans import PretrainSpansSettings, SpanCorruptionData, pretrain_spans

from .comparing import assert_it_goes_on_without, assert_same_arrays, final_state, rows

SIZES = {"d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 1, "num_heads": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("loops")
    (folder / "model.json").write_text(json.dumps(SIZES))
    return folder


@pytest.fixture(scope="module")
def pretraining(folder):
    """A short run with everything in it: salient spans, questions, accumulation, dropout, a checkpoint on the way."""
    config = PretrainSpansSettings(
        out=str(folder / "pretrained"), texts="tiny_world:pretraining_spans.jsonl", model=str(folder / "model.json"),
        questions="tiny_world:context_dev.json", questions_share=0.25, salient_share=0.25,
        input_length=56, batch_size=16, accumulate=2, steps=6, warmup=2,
        learning_rate=0.01, log_every=1, evaluate_every=6, save_every=3,
    )
    pretrain_spans(config, quiet=True)
    return config


def test_pretraining_learns_and_leaves_a_whole_run_behind(folder, pretraining):
    run = folder / "pretrained"
    losses = [row["loss"] for row in rows(run) if "loss" in row]
    assert len(losses) == 6 and losses[-1] < losses[0] - 0.1
    assert {"eval_loss", "eval_accuracy"} <= rows(run)[-1].keys()
    assert {path.name for path in run.iterdir()} == {
        "config.json", "vocabulary.model", "checkpoints", "metrics.jsonl", "curves.png",
    }
    assert sorted(path.name for path in (run / "checkpoints").iterdir() if path.name.isdigit()) == ["3", "6"]
    config, params, tokenizer = load_t5(run)
    assert config.d_model == 16 and params["embedding"]["table"].shape == (config.vocab_size, 16)
    assert tokenizer.vocab_size <= config.vocab_size


def test_a_run_that_stopped_and_resumed_equals_the_one_that_did_not(folder, pretraining):
    stopped = replace(pretraining, out=str(folder / "stopped"))
    pretrain_spans(stopped, quiet=True)
    shutil.rmtree(folder / "stopped" / "checkpoints" / "6")  # as if killed between the two checkpoints
    with (folder / "stopped" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 7, "lo')  # in the middle of a line
    pretrain_spans(replace(stopped, resume=True), quiet=True)
    assert_same_arrays(final_state(folder / "stopped"), final_state(folder / "pretrained"))
    assert [row["step"] for row in rows(folder / "stopped")] == [row["step"] for row in rows(folder / "pretrained")]


def test_an_evaluation_that_was_stopped_is_done_when_the_run_resumes(folder, pretraining, monkeypatch):
    config = FinetuneQASettings(
        out=str(folder / "unevaluated"), start_from=pretraining.out, context_questions="tiny_world:context_dev.json",
        held_out_context="tiny_world:context_dev.json", input_length=56, target_length=6, steps=2, batch_size=64,
        warmup=1, log_every=1, evaluate_every=2, save_every=2,
    )  # fmt: skip
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("tlqa_jax.training.finetune_qa.score_answers", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        finetune_qa(config, quiet=True)
    run = folder / "unevaluated"
    assert "eval_context_em" not in rows(run)[-1] and not (run / "predictions_context.json").exists()
    for _ in range(2):  # and once more, when all is done: the row is written anew, not twice
        finetune_qa(replace(config, resume=True, evaluate_every=1, save_every=1), quiet=True)
        assert [("eval_context_em" in row, row["step"]) for row in rows(run)] == [(False, 1), (False, 2), (True, 2)]
    assert (run / "predictions_context.json").exists()


def test_a_run_goes_on_without_what_it_started_from(folder, pretraining):
    start = shutil.copytree(folder / "pretrained", folder / "start")
    config = FinetuneQASettings(
        out=str(folder / "orphan"), start_from=str(start), context_questions="tiny_world:context_dev.json",
        input_length=56, target_length=6, steps=2, batch_size=64, warmup=1, save_every=1,
    )  # fmt: skip
    assert_it_goes_on_without(start, finetune_qa, config)
    shutil.rmtree(folder / "orphan" / "checkpoints")
    with pytest.raises(UserError, match="start.* there is no such directory"):  # there is nothing to go on from
        finetune_qa(replace(config, resume=True), quiet=True)


def test_resuming_with_other_settings_is_refused(folder, pretraining):
    with pytest.raises(UserError, match="learning_rate was 0.01, is 0.02"):
        pretrain_spans(replace(pretraining, resume=True, learning_rate=0.02), quiet=True)


def test_finetuning_learns_scores_and_writes_predictions(folder, pretraining):
    config = FinetuneQASettings(
        out=str(folder / "finetuned"), start_from=pretraining.out, context_questions="tiny_world:context_train.json",
        held_out_context="tiny_world:context_dev.json", held_out_closed_book="tiny_world:closed_book_dev.json",
        input_length=56, target_length=6, steps=4, batch_size=64, warmup=1, learning_rate=0.01, log_every=1,
        evaluate_every=4, save_every=2,
    )  # fmt: skip
    run = finetune_qa(config, quiet=True)
    losses = [row["loss"] for row in rows(run) if "loss" in row]
    assert losses[-1] < losses[0]
    last = rows(run)[-1]
    assert {"eval_context_loss", "eval_context_em", "eval_context_f1", "eval_closed_book_em"} <= last.keys()
    assert last["eval_loss"] == pytest.approx((last["eval_context_loss"] + last["eval_closed_book_loss"]) / 2)
    predictions = json.loads((run / "predictions_context.json").read_text())
    assert len(predictions) == 300 and all(isinstance(text, str) for text in predictions.values())

    before = final_state(run)
    shutil.rmtree(run / "checkpoints" / "4")
    finetune_qa(replace(config, resume=True), quiet=True)
    assert_same_arrays(final_state(run), before)


def test_pretraining_goes_on_from_another_run(folder, pretraining):
    further = replace(
        pretraining, out=str(folder / "further"), start_from=pretraining.out, vocabulary="none", model="none",
        steps=1, save_every=1, warmup=0, learning_rate=1e-9, weight_decay=0.0,
    )  # fmt: skip
    pretrain_spans(further, quiet=True)
    before, after = final_state(folder / "pretrained"), final_state(folder / "further")
    names = [name for name in before if name.startswith("params/")]
    assert names and all(np.allclose(before[name], after[name], atol=1e-7) for name in names)


def test_rows_of_pretraining_depend_on_seed_and_step_alone(folder, pretraining):
    from tlqa_jax.data.sources import local_path
    from tlqa_jax.text.sentencepiece import SentencePieceTokenizer

    tokenizer = SentencePieceTokenizer(local_path(pretraining.vocabulary))
    data = SpanCorruptionData(pretraining, tokenizer, pretraining.texts)
    indices = np.arange(16)
    whole = data.build(indices, slice(0, 16), 5)
    halves = [data.build(indices[rows], rows, 5) for rows in (slice(0, 8), slice(8, 16))]
    for name in whole:
        assert np.array_equal(whole[name], np.concatenate([half[name] for half in halves]))
    assert not np.array_equal(whole["inputs"], data.build(indices, slice(0, 16), 6)["inputs"])
    assert ((whole["inputs"] == 1).sum(1) == 1).all() and ((whole["targets"] == 1).sum(1) == 1).all()  # one end each


def test_a_batch_of_questions_is_no_longer_than_the_longest_needs(folder, monkeypatch):
    class Stop(Exception):
        pass

    def first_batch(size, batch_size, seed, build, *, start):
        raise Stop({name: rows.shape for name, rows in build(np.arange(batch_size)).items()})

    monkeypatch.setattr(qa, "training_batches", first_batch)
    config = FinetuneQASettings(
        out=str(folder / "short"), model=str(folder / "model.json"), warmup=0, batch_size=8,
        closed_book_questions="tiny_world:closed_book_train.json",
    )  # fmt: skip
    with pytest.raises(Stop) as stopped:
        finetune_qa(config, quiet=True)
    assert stopped.value.args[0] == {"inputs": (8, 16), "targets": (8, 8)}
