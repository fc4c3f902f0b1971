"""Exact match and F1 for answers, by the rules of SQuAD's official evaluation script.

Two answers are compared after normalisation: "The Eiffel Tower!" and "eiffel tower" are the same. Exact match asks
whether they are equal, F1 how many words they share. If there are several gold answers, the best one counts.
Rajpurkar et al. 2016, section 6.1; with questions that have no answer, Rajpurkar et al. 2018.
"""

import json
import re
import string
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float

from tlqa_jax.errors import UserError
from tlqa_jax.examples import QAExample
from tlqa_jax.text.atomic_write import write_atomically
from tlqa_jax.text.json_files import load_json

_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)  # ASCII only, as the official script: “ ” stay
_ARTICLES = re.compile(r"\b(a|an|the)\b")


@dataclass(frozen=True)
class Score:
    """Means over all examples, in percent, and the same for each example (0 to 100, in the order of the examples)."""

    exact_match: float
    f1: float
    n: int
    missing: int  # examples without a prediction, counted as wrong
    exact_match_per_example: Float[np.ndarray, "n"]
    f1_per_example: Float[np.ndarray, "n"]


def normalize_answer(text: str) -> str:
    """Lower-cases, removes ASCII punctuation, removes the articles a, an, the, joins white space, in this order."""
    text = text.lower().translate(_WITHOUT_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", text).split())


def exact_match(prediction: str, answers: Sequence[str]) -> float:
    """1.0 if the prediction equals one of the gold answers after normalisation, else 0.0."""
    normalized = normalize_answer(prediction)
    return float(any(normalized == gold for gold in _gold(answers)))


def f1(prediction: str, answers: Sequence[str]) -> float:
    """The largest word-overlap F1, from 0.0 to 1.0, between the prediction and any of the gold answers."""
    words = normalize_answer(prediction).split()
    return max(_word_f1(words, gold.split()) for gold in _gold(answers))


def _gold(answers: Sequence[str]) -> list[str]:
    """The gold answers, normalised: [""] if the question has no answer, or if all answers are only punctuation."""
    return [gold for answer in answers if (gold := normalize_answer(answer))] or [""]


def _word_f1(prediction: list[str], gold: list[str]) -> float:
    """2PR / (P + R), where precision P and recall R count shared words as often as both sides have them."""
    if not prediction or not gold:
        return float(prediction == gold)  # two empty answers are equal (the rule of v2.0)
    shared = (Counter(prediction) & Counter(gold)).total()
    return 2 * shared / (len(prediction) + len(gold))  # the same formula, without dividing 0 by 0


def score_answers(predictions: Mapping[str, str], examples: Iterable[QAExample]) -> Score:
    """Scores `predictions`, a text for each example id, against the gold answers of every example.

    Every example counts. An example without a prediction is wrong, even if it has no answer: as in the official script
    of v1.1, while that of v2.0 leaves it out of the mean. Raises ValueError if there are no examples.
    """
    examples = list(examples)
    if not examples:
        raise ValueError("there are no examples to score")
    scores = np.zeros((2, len(examples)))
    missing = 0
    for i, example in enumerate(examples):
        if example.id in predictions:
            prediction = predictions[example.id]
            scores[:, i] = exact_match(prediction, example.answers), f1(prediction, example.answers)
        else:
            missing += 1
    matches, overlaps = 100 * scores
    return Score(float(matches.mean()), float(overlaps.mean()), len(examples), missing, matches, overlaps)


def official_report(predictions: Mapping[str, str], examples: Iterable[QAExample]) -> dict[str, float]:
    """The figures of the official script of v2.0 under its names, in percent: exact, f1, total.

    Then follow the same figures as HasAns_ for the questions with an answer and as NoAns_ for those without one, if
    there are any. For a no-answer threshold give the predictions `with_threshold`. Missing predictions count as in
    `score_answers`. Raises ValueError if there are no examples.
    """
    examples = list(examples)
    score = score_answers(predictions, examples)
    answerable = np.array([bool(example.answers) for example in examples])
    report: dict[str, float] = {}
    for name, group in (("", answerable | True), ("HasAns_", answerable), ("NoAns_", ~answerable)):
        if group.any():
            report[f"{name}exact"] = float(score.exact_match_per_example[group].mean())
            report[f"{name}f1"] = float(score.f1_per_example[group].mean())
            report[f"{name}total"] = int(group.sum())
    return report


def with_threshold(
    predictions: Mapping[str, str], no_answer_scores: Mapping[str, float], threshold: float
) -> dict[str, str]:
    """The predictions, but the empty text where the no-answer score is above the threshold."""
    return {id: "" if no_answer_scores[id] > threshold else text for id, text in predictions.items()}


def best_threshold(
    predictions: Mapping[str, str], no_answer_scores: Mapping[str, float], examples: Iterable[QAExample], *,
    metric: Literal["exact", "f1"] = "f1",
) -> tuple[float, float]:  # fmt: skip
    """(the best score in percent, the lowest threshold that gives it) of all thresholds for `with_threshold`.

    `predictions` are the best texts, also where the answer may be none. One pass over the questions in the order of
    their no-answer scores: up to the threshold the predictions count, above it the empty text does. The threshold is
    tuned on the examples that it is scored on; for an honest figure use others. Raises ValueError if there are none.
    """
    examples = list(examples)
    per_example = [
        getattr(score_answers(texts, examples), "exact_match_per_example" if metric == "exact" else "f1_per_example")
        for texts in (predictions, dict.fromkeys(predictions, ""))
    ]
    asked = np.array([example.id in predictions for example in examples])  # the others are wrong at any threshold
    scores = np.array([no_answer_scores[example.id] for example in examples if example.id in predictions])
    order = np.argsort(scores, kind="stable")
    scores, (answered, empty) = scores[order], ([values[asked][order] for values in per_example])
    totals = empty.sum() + np.concatenate([[0.0], np.cumsum(answered - empty)])  # the first 0, 1, 2, … are answered
    # thresholds: below all scores, then each score in turn; of equal scores only the last can be a threshold
    thresholds = np.concatenate([scores[:1] - 1, scores])
    possible = np.append(thresholds[1:] != thresholds[:-1], True)
    best = int(np.argmax(np.where(possible, totals, -np.inf)))
    return float(totals[best] / len(examples)), float(thresholds[best]) if len(thresholds) else 0.0


def bootstrap_interval(
    per_example_values: Float[np.ndarray, "n"] | Sequence[float], *, seed: int = 0, resamples: int = 1000
) -> tuple[float, float]:
    """A 95% interval (low, high) around the mean: how much it would vary on other samples of as many examples.

    The percentile bootstrap (Efron and Tibshirani 1993, chapter 13): draw n of the n values with replacement, take the
    mean, repeat this `resamples` times, and leave out 2.5% of the means at either end. It says nothing about other
    training seeds. Raises ValueError if there are no values.
    """
    values = np.asarray(per_example_values, np.float64)
    if not len(values):
        raise ValueError("there are no values to resample")
    rng = np.random.default_rng(seed)
    means = [values[rng.integers(len(values), size=len(values))].mean() for _ in range(resamples)]
    low, high = np.percentile(means, [2.5, 97.5])
    return float(low), float(high)


def write_predictions(path: str | Path, predictions: Mapping[str, str]) -> None:
    """Writes {id: answer} as JSON in UTF-8, the file that the official scripts score; atomically."""
    write_atomically(path, json.dumps(dict(predictions), ensure_ascii=False, indent=2) + "\n")


def read_predictions(path: str | Path) -> dict[str, str]:
    """Reads {id: answer} from a file as `write_predictions` and the official scripts write it.

    Raises UserError if it cannot be read, is not JSON in UTF-8, or is not an object of texts.
    """
    predictions = load_json(path)
    if not isinstance(predictions, dict):
        raise UserError(f"{path} is not a file of predictions: an object {{id: answer}}")
    for id, answer in predictions.items():
        if not isinstance(answer, str):
            raise UserError(f"{path}: the prediction for {id!r} is {json.dumps(answer)[:40]}, not text")
    return predictions
