"""Evaluation: each held-out example once, whatever the batches; the scores of answers and classes by hand."""

import json
import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tlqa_jax.core.devices import replicate
from tlqa_jax.data.batches import Devices, evaluation_batches
from tlqa_jax.data.sources import open_labelled_texts, open_questions
from tlqa_jax.examples import LabelledText, QAExample, TextExample
from tlqa_jax.inference.answer_spans import SpanAnswerer
from tlqa_jax.inference.answers import Answer
from tlqa_jax.inference.classifier import Classifier, TextClass
from tlqa_jax.models.bert import BertConfig
from tlqa_jax.models.bert_heads import BertForPreTraining, BertForQuestionAnswering, BertForSequenceClassification
from tlqa_jax.models.functional import as_function
from tlqa_jax.tasks.masked_lm_rows import MaskedLMRows
from tlqa_jax.tasks.classification import labels_of
from tlqa_jax.tasks.text_tasks import TASKS
from tlqa_jax.text.wordpiece import WordPieceTokenizer
from tlqa_jax.training.evaluation import (
    held_out_source, mean_over_examples, save_answers, score_classes, score_questions, score_task, summed_over_devices,
)  # fmt: skip
from tlqa_jax.training.pretrain_mlm import per_prediction, pretraining_logits, pretraining_sums

from .programs import BERT_SIZES, random_model

CONFIG = BertConfig(vocab_size=128, id2label=("0", "2", "10"), **BERT_SIZES)


def tiny(kind):
    return as_function(random_model(kind, CONFIG))


@pytest.mark.parametrize("held_out, texts, source", [
    ("auto", "tiny_world:pretraining.txt", "own"),
    ("auto", "tiny_world:pretraining_spans.jsonl", "own"),
    ("auto", "tiny_world:context_train.json", None),
    ("auto", "corpus.txt", None),
    ("dev.txt", "corpus.txt", "dev.txt"),
    (None, "tiny_world:pretraining.txt", None),
])  # fmt: skip
def test_the_tiny_world_is_evaluated_on_only_where_it_is_learned(held_out, texts, source):
    own = "tiny_world:pretraining_dev.txt"
    assert held_out_source(held_out, texts, own) == (own if source == "own" else source)


def test_evaluation_sees_each_row_once_whatever_the_batch_size_and_devices(files):
    tokenizer, (apply, params) = WordPieceTokenizer(files / "vocab.txt"), tiny(BertForPreTraining)
    held_out = MaskedLMRows(str(files / "texts.txt"), tokenizer, input_length=24, seed=0, batch_size=24)
    assert held_out.size == 34
    predict = partial(pretraining_logits, apply, tokenizer.pad_id)
    step = summed_over_devices(partial(pretraining_sums, predict))
    found = []
    for devices, batch_size in ((8, 24), (1, 20)):
        place = Devices(0, 1, devices)
        batches = evaluation_batches(held_out.size, batch_size, held_out.build_evaluation, devices=place)
        found.append(per_prediction(mean_over_examples(step, params, batches)))
    assert found[0].keys() == {"loss", "mlm_loss", "mlm_accuracy", "nsp_loss", "nsp_accuracy"}
    assert found[1] == pytest.approx(found[0], rel=1e-6)
    assert found[0]["loss"] == pytest.approx(found[0]["mlm_loss"] + found[0]["nsp_loss"])
    rows = held_out.build_evaluation(np.arange(34), slice(0, 34), 0)
    logits = jax.jit(predict)(params, jax.tree.map(jnp.asarray, rows))
    asked = rows["weights"] > 0
    right = np.asarray(logits.masked_lm).argmax(-1)[asked] == rows["targets"][asked]
    assert found[0]["mlm_accuracy"] == pytest.approx(right.mean())
    right = np.asarray(logits.next_sentence).argmax(-1) == rows["next_sentence"]
    assert found[0]["nsp_accuracy"] == pytest.approx(right.mean())
    without_pairs = per_prediction({"mlm_loss": 0.5, "mlm_accuracy": 0.25, "predictions": 0.25})
    assert without_pairs == {"loss": 2.0, "mlm_loss": 2.0, "mlm_accuracy": 1.0}


def test_answers_do_not_depend_on_batch_size_or_devices(files, monkeypatch):
    (apply, params), lengths = tiny(BertForQuestionAnswering), dict(input_length=24, stride=8, max_question_length=6)
    tokenizer, examples = WordPieceTokenizer(files / "vocab.txt"), list(open_questions(files / "questions.jsonl"))[:16]
    found = []
    for devices, batch_size in ((8, 24), (1, 3)):
        monkeypatch.setattr(jax, "local_device_count", lambda devices=devices: devices)
        answerer = SpanAnswerer(apply, tokenizer, **lengths, batch_size=batch_size, no_answer_threshold=np.inf)
        found.append(answerer(replicate(params), examples))
    first, second = found
    assert [answer.text for answer in second] == [answer.text for answer in first]
    scores = [[answer.no_answer_score for answer in answers] for answers in found]
    np.testing.assert_allclose(scores[1], scores[0], rtol=1e-4, atol=1e-6)


def test_classes_do_not_depend_on_batch_size_or_devices(files, monkeypatch):
    (apply, params), tokenizer = tiny(BertForSequenceClassification), WordPieceTokenizer(files / "vocab.txt")
    examples = open_labelled_texts(files / "labelled.jsonl", field="review", label_field="stars")
    texts, found = [example.text for example in examples], []
    for devices, batch_size in ((8, 24), (1, 3)):
        monkeypatch.setattr(jax, "local_device_count", lambda devices=devices: devices)
        classifier = Classifier(apply, tokenizer, CONFIG.id2label, input_length=10, batch_size=batch_size)
        found.append(classifier(replicate(params), texts))
        assert classifier({}, []) == []
    first, second = found
    assert [given.text_cut for given in first] == [number == 1 for number in range(40)]
    ids = jnp.asarray([[tokenizer.cls_id, *tokenizer.encode(texts[0]), tokenizer.sep_id]])
    expected = jax.nn.log_softmax(apply(params, ids, mask=ids != tokenizer.pad_id))[0]
    np.testing.assert_allclose(first[0].log_probabilities, expected, rtol=1e-5)
    assert [(given.label, given.text_cut) for given in second] == [(given.label, given.text_cut) for given in first]
    logs = [[given.log_probabilities for given in classes] for classes in found]
    np.testing.assert_allclose(logs[1], logs[0], rtol=1e-5)
    scores = score_classes(examples, second, CONFIG.id2label)
    assert scores == pytest.approx(score_classes(examples, first, CONFIG.id2label), rel=1e-6)


# Scores by hand


def test_scores_of_answers_and_the_threshold():
    asked = [QAExample("a", "?", ("x",), "x y"), QAExample("b", "?", (), "x y"), QAExample("c", "?", ("x y",), "x y")]
    texts, no_answer = {"a": "x", "b": "y", "c": "x"}, {"a": -3.0, "b": 2.0, "c": 1.0}
    scores, predictions = score_questions(asked, texts, no_answer)
    assert predictions == {"a": "x", "b": "", "c": "x"}
    assert scores["no_answer_threshold"] == 1.0
    assert (scores["em"], scores["f1"]) == (pytest.approx(200 / 3), pytest.approx(800 / 9))
    assert (scores["HasAns_exact"], scores["NoAns_f1"]) == (50.0, 100.0)
    scores, predictions = score_questions(asked[::2], texts, no_answer)
    assert scores.keys() == {"em", "f1", "f1_low", "f1_high"} and predictions["c"] == "x"


def examples_of(answers: dict[str, tuple[str, ...]]) -> list[TextExample]:
    return [TextExample(id, "question: ?", "", of) for id, of in answers.items()]


def test_the_threshold_for_generated_answers():
    asked = examples_of({"a": ("x",), "b": (), "c": ("y",), "d": ()})
    given = [Answer("x", 0.9, False), Answer("z", 0.1, False), Answer("y", 0.4, False), Answer("", 0.01, False)]
    scores, predictions = score_task(TASKS["closed_book_qa"], asked, given, str)
    assert scores["no_answer_threshold"] == pytest.approx(-math.log(0.4))
    assert predictions == {"a": "x", "b": "", "c": "y", "d": ""} and scores["em"] == 100.0


def test_a_gold_answer_is_right_as_it_is_and_as_it_can_be_generated():
    normalize, asked = lambda text: text.replace("²", "2"), examples_of({"a": ("km²", "mile"), "b": ()})
    for generated, right in (("km²", 100), ("km2", 100), ("mile", 100), ("km", 0)):
        given = [Answer(generated, 0.9, False), Answer("", 0.1, False)]
        scores, predictions = score_task(TASKS["closed_book_qa"], asked, given, normalize)
        assert (scores["HasAns_exact"], predictions["a"]) == (right, generated if right else "")


def test_a_run_keeps_the_threshold_only_where_there_may_be_no_answer(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    usage = lambda: json.loads((tmp_path / "config.json").read_text()).get("task_specific_params")
    save_answers(tmp_path, "p.json", {"em": 50.0}, {"a": "x"})
    assert usage() is None and json.loads((tmp_path / "p.json").read_text()) == {"a": "x"}
    save_answers(tmp_path, "p.json", {"em": 50.0, "no_answer_threshold": 0.5}, {"a": ""})
    assert usage() == {"tlqa": {"no_answer_threshold": 0.5}}


def test_scores_of_classes():
    examples = [LabelledText("a", "yes"), LabelledText("b", "no"), LabelledText("c", "no")]
    halves, quarter = (float(np.log(0.5)),) * 2, (float(np.log(0.25)), float(np.log(0.75)))
    given = [*2 * [TextClass("no", 0.5, halves, False)], TextClass("yes", 0.75, quarter, True)]
    scores = score_classes(examples, given, ("no", "yes"))
    assert scores["accuracy"] == pytest.approx(1 / 3)
    assert scores["loss"] == pytest.approx((2 * np.log(2) + np.log(4)) / 3)
    examples += [LabelledText("", label) for label in ("10", "9", "Yes")]
    assert labels_of(examples) == ("9", "10", "Yes", "no", "yes")
