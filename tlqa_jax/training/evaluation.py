"""Evaluation over every held-out example exactly once, and the scores of the answers to questions."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from tlqa_jax.checkpoints.save import update_usage
from tlqa_jax.core.devices import AXIS
from tlqa_jax.data.batches import evaluation_batches
from tlqa_jax.examples import LabelledText, QAExample, TextExample
from tlqa_jax.inference.answers import Answer, no_answer_score
from tlqa_jax.inference.classifier import TextClass
from tlqa_jax.inference.generator import Generation
from tlqa_jax.metrics.squad import (
    best_threshold, bootstrap_interval, official_report, score_answers, with_threshold, write_predictions,
)  # fmt: skip
from tlqa_jax.tasks.task_rows import rows_of
from tlqa_jax.tasks.text_tasks import TextTask
from tlqa_jax.tasks.text_to_text import TextArrays


def held_out_source(held_out: str | None, texts: str, tiny_worlds: str) -> str | None:
    """What to evaluate on: `held_out`; if it is "auto", `tiny_worlds` where the tiny world's texts are learned."""
    if held_out != "auto":
        return held_out
    return tiny_worlds if texts.startswith(tiny_worlds.split("_dev")[0]) else None


def summed_over_devices(sums: Callable) -> Callable:
    """pmap of `sums(params, batch) -> dict of sums`, added over all devices of all processes."""
    added = lambda params, batch: jax.lax.psum(sums(params, batch), AXIS)
    return jax.pmap(added, axis_name=AXIS, in_axes=(None, 0), out_axes=None)


def mean_over_examples(step: Callable, params: Any, batches: Iterable[dict]) -> dict[str, float]:
    """Run `step` (see `summed_over_devices`) over the batches; every sum divided by the sum called "weight".

    Sums are added and divided once at the end, so the result does not depend on how the examples were batched.
    """
    totals: dict[str, float] = {}
    for batch in batches:
        for name, value in step(params, batch).items():
            totals[name] = totals.get(name, 0.0) + float(value)
    weight = totals.pop("weight", 0.0)
    return {name: total / weight if weight else math.nan for name, total in totals.items()}


def mean_loss(step: Callable, params: Any, rows: TextArrays, batch_size: int = 32) -> float:
    """The loss in nats per target token over all rows."""
    build = lambda indices, *_: rows_of(rows.trimmed(), indices)
    return mean_over_examples(step, params, evaluation_batches(len(rows.inputs), batch_size, build))["loss"]


def score_task(
    task: TextTask, examples: Sequence[TextExample], written: Sequence[Generation | Answer], normalize: Callable[[str], str]
) -> tuple[dict[str, float], dict[str, str]]:
    """(a task's metrics in percent, the predictions by id) of what a T5 wrote for `examples`.

    Questions are scored by `score_questions`. Texts are compared after `normalize`, the vocabulary's.
    """
    if task.questions:
        questions = [QAExample(e.id, e.input, with_normalized(e.answers, normalize)) for e in examples]
        texts = {example.id: one.text for example, one in zip(examples, written, strict=True)}
        scores = {example.id: no_answer_score(one.probability) for example, one in zip(examples, written)}
        return score_questions(questions, texts, scores)
    outputs = [one.text for one in written]
    predictions = {example.id: task.prediction(text) for example, text in zip(examples, outputs, strict=True)}
    return task.score(outputs, examples, normalize), predictions


def with_normalized(answers: Sequence[str], normalize: Callable[[str], str]) -> tuple[str, ...]:
    """The answers, and each as a T5 can write it: a vocabulary that makes "km2" of "km²" cannot write the second."""
    return tuple(dict.fromkeys([*answers, *map(normalize, answers)]))


def score_questions(
    examples: Sequence[QAExample], predictions: Mapping[str, str], no_answer_scores: Mapping[str, float]
) -> tuple[dict[str, float], dict[str, str]]:
    """(EM, F1 and an interval around it; the predictions that were scored) of the answers to held-out questions.

    If some questions have no answer, the no-answer threshold is tuned for F1 on the same questions and applied, and the
    scores of those with and those without an answer are reported apart, under the official script's names.
    """
    predictions, scores = dict(predictions), {}
    if not all(example.answers for example in examples):
        _, threshold = best_threshold(predictions, no_answer_scores, examples)
        predictions = with_threshold(predictions, no_answer_scores, threshold)
        parts = official_report(predictions, examples)
        parts = {name: value for name, value in parts.items() if "Ans_" in name and not name.endswith("total")}
        scores = {"no_answer_threshold": threshold, **parts}
    score = score_answers(predictions, examples)
    low, high = bootstrap_interval(score.f1_per_example)
    return {"em": score.exact_match, "f1": score.f1, "f1_low": low, "f1_high": high, **scores}, predictions


def save_answers(run: Path, name: str, scores: Mapping[str, float], predictions: Mapping[str, str]) -> None:
    """Write the predictions into the run, and the no-answer threshold into its config.json, if there is one."""
    if jax.process_index() == 0:
        write_predictions(run / name, predictions)
        if "no_answer_threshold" in scores:
            update_usage(run, no_answer_threshold=scores["no_answer_threshold"])


def score_classes(
    examples: Sequence[LabelledText], classes: Sequence[TextClass], labels: Sequence[str]
) -> dict[str, float]:
    """Means over all texts: -log p of the true class in nats, and whether the most probable class is the true one."""
    pairs = list(zip(examples, classes, strict=True))
    loss = [-given.log_probabilities[labels.index(example.label)] for example, given in pairs]
    right = [example.label == given.label for example, given in pairs]
    return {"loss": float(np.mean(loss)), "accuracy": float(np.mean(right))}
