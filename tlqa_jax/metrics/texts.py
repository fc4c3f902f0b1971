"""Scores of written texts against the right ones, for whole groups of examples, in percent. Each is found by its name:

    accuracy        the text is one of the right ones
    exact_match f1  SQuAD's, see `squad`
    matthews        Matthews correlation of classes: 0 for guessing, 100 for all right, whatever the classes' sizes
    pearson         correlation of the numbers
    spearman        correlation of their ranks
    rouge1 rouge2 rougeL    n-grams shared with a summary (Lin 2004), by rouge-score
    bleu            n-grams shared with a translation (Papineni et al. 2002), by sacrebleu

GLUE takes Matthews correlation for CoLA, and Pearson and Spearman for STS-B (Wang et al. 2019, section 3).
"""

import importlib
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from tlqa_jax.errors import UserError
from tlqa_jax.metrics import squad

Texts = Sequence[str]
Answers = Sequence[Sequence[str]]  # of each example one or more right texts; the first is the one to learn
NO_NUMBER = -1.0  # what a text without a number counts as


def score(names: Sequence[str], predictions: Texts, answers: Answers) -> dict[str, float]:
    """The metrics called `names`, each over all examples. Raises ValueError if there are none."""
    if not predictions or len(predictions) != len(answers):
        raise ValueError(f"{len(predictions)} predictions for {len(answers)} examples")
    return {name: float(METRICS[name](predictions, answers)) for name in names}


def accuracy(predictions: Texts, answers: Answers) -> float:
    """Share of predictions that are, to the letter, one of the right texts."""
    return 100 * _mean([prediction in right for prediction, right in zip(predictions, answers)])


def exact_match(predictions: Texts, answers: Answers) -> float:
    return 100 * _mean([squad.exact_match(prediction, right) for prediction, right in zip(predictions, answers)])


def f1(predictions: Texts, answers: Answers) -> float:
    return 100 * _mean([squad.f1(prediction, right) for prediction, right in zip(predictions, answers)])


def matthews(predictions: Texts, answers: Answers) -> float:
    """Matthews correlation of two or more classes (Gorodkin 2004); any text is a class. 0 where it is undefined."""
    classes = {text: number for number, text in enumerate(dict.fromkeys([*predictions, *(r[0] for r in answers)]))}
    counts = np.zeros((len(classes), len(classes)))
    np.add.at(counts, ([classes[right[0]] for right in answers], [classes[text] for text in predictions]), 1)
    true, said, total = counts.sum(1), counts.sum(0), counts.sum()
    covariance = np.trace(counts) * total - true @ said
    spread = math.sqrt(total**2 - true @ true) * math.sqrt(total**2 - said @ said)
    return float(100 * covariance / spread) if spread else 0.0


def pearson(predictions: Texts, answers: Answers) -> float:
    """Linear correlation of the numbers that the texts say; 0 where one side is constant. Text is `NO_NUMBER`."""
    return _correlation(*_numbers(predictions, answers))


def spearman(predictions: Texts, answers: Answers) -> float:
    """Pearson's correlation of ranks; equal numbers share the mean of their ranks."""
    return _correlation(*(_ranks(numbers) for numbers in _numbers(predictions, answers)))


def rouge(name: str, predictions: Texts, answers: Answers) -> float:
    """F-measure of rouge-score with stemming, the best of the right texts; "rougeL" takes a text as one sentence."""
    scorer = _library("rouge_score.rouge_scorer", name).RougeScorer([name], use_stemmer=True)
    best = [max(scorer.score(one, text)[name].fmeasure for one in right) for text, right in zip(predictions, answers)]
    return 100 * _mean(best)


def bleu(predictions: Texts, answers: Answers) -> float:
    """Corpus BLEU by sacrebleu, with its tokenizer and smoothing; the number of right texts may differ."""
    most = max(map(len, answers))
    references = [[right[i] if i < len(right) else None for right in answers] for i in range(most)]
    return float(_library("sacrebleu", "bleu").corpus_bleu(list(predictions), references).score)


METRICS: dict[str, Callable[[Texts, Answers], float]] = {
    "accuracy": accuracy, "exact_match": exact_match, "f1": f1, "matthews": matthews, "pearson": pearson,
    "spearman": spearman, "bleu": bleu,
} | {
    name: lambda predictions, answers, name=name: rouge(name, predictions, answers)
    for name in ("rouge1", "rouge2", "rougeL")
}  # fmt: skip


def check_metrics(names: Sequence[str]) -> None:
    """Raise UserError, before any work is done, for a metric whose library is not installed."""
    for name in names:
        if name.startswith("rouge"):
            _library("rouge_score.rouge_scorer", name)
        elif name == "bleu":
            _library("sacrebleu", name)


def _library(module: str, metric: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0].replace("_", "-")
        raise UserError(f"the metric {metric} needs {package}: pip install 'tlqa-jax[metrics]' ({error})") from None


def _mean(values: Sequence[float | bool]) -> float:
    return float(np.mean(values))


def _numbers(predictions: Texts, answers: Answers) -> tuple[Float[np.ndarray, "n"], Float[np.ndarray, "n"]]:
    return np.array([number(text) for text in predictions]), np.array([number(right[0]) for right in answers])


def number(text: str) -> float:
    """The number that a text is, `NO_NUMBER` if it is none; so does T5's own evaluation."""
    try:
        value = float(text)
    except ValueError:
        return NO_NUMBER
    return value if math.isfinite(value) else NO_NUMBER


def _correlation(a: Float[np.ndarray, "n"], b: Float[np.ndarray, "n"]) -> float:
    if a.min() == a.max() or b.min() == b.max():
        return 0.0
    a, b = a - a.mean(), b - b.mean()
    return float(100 * (a @ b) / math.sqrt((a @ a) * (b @ b)))


def _ranks(numbers: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    _, places, counts = np.unique(numbers, return_inverse=True, return_counts=True)
    last: Int[np.ndarray, "m"] = np.cumsum(counts)
    return (last - (counts - 1) / 2)[places]
