"""Evaluation over every held-out example exactly once."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax

from tlqa_jax.core.devices import AXIS
from tlqa_jax.examples import QAExample
from tlqa_jax.inference.answer_spans import SpanAnswer
from tlqa_jax.inference.answers import Answer
from tlqa_jax.metrics.squad import best_threshold, bootstrap_interval, evaluate, official_report, with_threshold


def held_out_source(config: Any, tiny_worlds: str) -> str | None:
    """What to evaluate on: `config.held_out`; where that is "auto", `tiny_worlds` if its training texts are learned."""
    if config.held_out != "auto":
        return config.held_out
    return tiny_worlds if config.texts.startswith(tiny_worlds.split("_dev")[0]) else None


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


def as_written(examples: Sequence[QAExample], normalize: Callable[[str], str]) -> list[QAExample]:
    """The examples, where each gold answer is right also as a T5 can write it.

    `normalize` is its vocabulary's (`SentencePieceTokenizer.normalize`): one that makes "km2" of "km²" cannot write it.
    """
    both = lambda answers: tuple(dict.fromkeys([*answers, *map(normalize, answers)]))
    return [dataclasses.replace(e, answers=both(e.answers), answer_starts=()) for e in examples]


def score_answers(
    examples: Sequence[QAExample], answers: Sequence[Answer | SpanAnswer], normalize: Callable[[str], str] = str
) -> tuple[dict[str, float], dict[str, str]]:
    """(EM, F1 and an interval around it, and the predictions they are of) of the answers to held-out questions.

    `normalize` is for answers that a T5 wrote: see `as_written`.

    Where some of these have no answer, the no-answer threshold is tuned for F1 on the same questions and applied, and
    the figures of those with and those without an answer are reported apart, under the official script's names.
    """
    examples = as_written(examples, normalize)
    predictions = {example.id: answer.text for example, answer in zip(examples, answers, strict=True)}
    scores = {}
    if not all(example.answers for example in examples):
        no_answer_scores = {example.id: answer.no_answer_score for example, answer in zip(examples, answers)}
        _, threshold = best_threshold(predictions, no_answer_scores, examples)
        predictions = with_threshold(predictions, no_answer_scores, threshold)
        parts = official_report(predictions, examples)
        parts = {name: value for name, value in parts.items() if "Ans_" in name and not name.endswith("total")}
        scores = {"no_answer_threshold": threshold, **parts}
    score = evaluate(predictions, examples)
    low, high = bootstrap_interval(score.f1_per_example)
    return {"em": score.exact_match, "f1": score.f1, "f1_low": low, "f1_high": high, **scores}, predictions
