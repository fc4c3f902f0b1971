"""Scores of written answers where some questions have none, and the threshold that a run keeps of it."""

import json
import math

import pytest

from tlqa_jax.checkpoints.runs import read_threshold
from tlqa_jax.examples import QAExample
from tlqa_jax.inference.answers import Answer
from tlqa_jax.training.evaluation import held_out_source, score_answers
from tlqa_jax.training.finetune_classifier import FinetuneClassifierSettings
from tlqa_jax.training.finetune_qa import FinetuneQASettings, finetune_qa
from tlqa_jax.training.pretrain_spans import PretrainSpansSettings


@pytest.mark.parametrize("settings, source", [
    ({}, "own"),
    ({"texts": "tiny_world:pretraining_spans.jsonl"}, "own"),
    ({"texts": "corpus.txt"}, None),
    ({"texts": "corpus.txt", "held_out": "dev.txt"}, "dev.txt"),
    ({"held_out": None}, None),
])  # fmt: skip
def test_the_tiny_world_is_evaluated_on_only_where_it_is_learned(settings, source):
    own = "tiny_world:pretraining_dev.txt"
    assert held_out_source(PretrainSpansSettings(**settings), own) == (own if source == "own" else source)


def test_classes_of_the_tiny_worlds_reviews_are_its_own():
    own = "tiny_world:reviews_dev.jsonl"
    assert held_out_source(FinetuneClassifierSettings(), own) == own
    assert held_out_source(FinetuneClassifierSettings(texts="tiny_world:context_train.json"), own) is None


def test_the_threshold_for_written_answers_by_hand():
    asked = [QAExample(id, "?", answers) for id, answers in zip("abcd", (("x",), (), ("y",), ()))]
    given = [Answer("x", 0.9, False), Answer("z", 0.1, False), Answer("y", 0.4, False), Answer("", 0.01, False)]
    scores, predictions = score_answers(asked, given)
    assert scores["no_answer_threshold"] == pytest.approx(-math.log(0.4))
    assert predictions == {"a": "x", "b": "", "c": "y", "d": ""} and scores["em"] == 100.0
    scores, _ = score_answers(asked[:1], given[:1])
    assert scores.keys() == {"em", "f1", "f1_low", "f1_high"}


def test_a_run_keeps_the_threshold_only_where_there_may_be_no_answer(tmp_path):
    sizes = {"d_model": 8, "d_kv": 4, "d_ff": 12, "num_layers": 1, "num_heads": 2}
    (tmp_path / "model.json").write_text(json.dumps(sizes))
    rows = [{"id": str(i), "question": "Where?", "context": "In Oss.", "answers": ["Oss"] * (i % 2)} for i in range(4)]
    (tmp_path / "all.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "some.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[1::2]))
    for name in ("all", "some"):
        run = finetune_qa(FinetuneQASettings(
            out=str(tmp_path / f"run_{name}"), model=str(tmp_path / "model.json"), input_length=16, target_length=4,
            context_questions=str(tmp_path / "all.jsonl"), held_out_context=str(tmp_path / f"{name}.jsonl"),
            steps=1, warmup=0, batch_size=8,
        ), quiet=True)  # fmt: skip
        assert (read_threshold(run) is not None) == (name == "all")
