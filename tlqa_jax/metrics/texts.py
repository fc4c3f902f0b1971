"""Scores of generated texts against the right ones, for groups of examples, in percent. Each has a name:

    accuracy        the text is one of the right ones
    exact_match f1  SQuAD's, see `squad`
    matthews        Matthews correlation of classes: 0 for guessing, 100 for all right, whatever the classes' sizes
    pearson         correlation of the numbers
    spearman        correlation of their ranks
    rouge1 rouge2 rougeL    n-grams shared with a summary (Lin 2004), by rouge-score
    bleu            n-grams shared with a translation (Papineni et al. 2002), by sacrebleu

GLUE uses Matthews correlation for CoLA, and Pearson and Spearman for STS-B (Wang et al. 2019, section 3).
"""

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from jaxtyping import Float

from tlqa_jax.metrics import squad

Texts = Sequence[str]
Answers = Sequence[Sequence[str]]  # of each example one or more right texts; the first is the one to learn
NO_NUMBER = -1.0  # what a text without a number counts as


def score_texts(names: Sequence[str], predictions: Texts, answers: Answers) -> dict[str, float]:
    """The metrics called `names`, each over all examples. Raises ValueError if there are none."""
    if not predictions or len(predictions) != len(answers):
        raise ValueError(f"{len(predictions)} predictions for {len(answers)} examples")
    return {name: float(METRICS[name](predictions, answers)) for name in names}


def mean_score(score: Callable[[str, Sequence[str]], float], predictions: Texts, answers: Answers) -> float:
    """The mean of a score of one text against its right texts."""
    return float(100 * np.mean([score(prediction, right) for prediction, right in zip(predictions, answers)]))


def accuracy(predictions: Texts, answers: Answers) -> float:
    """Share of predictions that are exactly one of the right texts."""
    return mean_score(lambda prediction, right: prediction in right, predictions, answers)


def matthews(predictions: Texts, answers: Answers) -> float:
    """Matthews correlation of two or more classes (Gorodkin 2004); every text is a class. 0 if it is undefined."""
    classes = {text: number for number, text in enumerate(dict.fromkeys([*predictions, *(r[0] for r in answers)]))}
    counts = np.zeros((len(classes), len(classes)))
    np.add.at(counts, ([classes[right[0]] for right in answers], [classes[text] for text in predictions]), 1)
    true, said, total = counts.sum(1), counts.sum(0), counts.sum()
    covariance = np.trace(counts) * total - true @ said
    spread = math.sqrt(total**2 - true @ true) * math.sqrt(total**2 - said @ said)
    return float(100 * covariance / spread) if spread else 0.0


def pearson(predictions: Texts, answers: Answers) -> float:
    """Linear correlation of the numbers in the texts; 0 if one side is constant. Other texts are `NO_NUMBER`."""
    return _correlation(*_numbers(predictions, answers))


def spearman(predictions: Texts, answers: Answers) -> float:
    """Pearson's correlation of ranks; equal numbers share the mean of their ranks."""
    return _correlation(*(_ranks(numbers) for numbers in _numbers(predictions, answers)))


def rouge(name: str, predictions: Texts, answers: Answers) -> float:
    """F-measure of rouge-score with stemming, the best of the right texts; for "rougeL" a text is one sentence."""
    from rouge_score.rouge_scorer import RougeScorer  # takes a while to import

    scorer = RougeScorer([name], use_stemmer=True)
    best = lambda text, right: max(scorer.score(one, text)[name].fmeasure for one in right)
    return mean_score(best, predictions, answers)


def bleu(predictions: Texts, answers: Answers) -> float:
    """Corpus BLEU by sacrebleu, with its tokenizer and smoothing; the number of right texts may differ."""
    from sacrebleu import corpus_bleu

    most = max(map(len, answers))
    references = [[right[i] if i < len(right) else None for right in answers] for i in range(most)]
    return float(corpus_bleu(list(predictions), references).score)


METRICS: dict[str, Callable[[Texts, Answers], float]] = {
    "accuracy": accuracy, "exact_match": partial(mean_score, squad.exact_match), "f1": partial(mean_score, squad.f1),
    "matthews": matthews, "pearson": pearson, "spearman": spearman,
    "rouge1": partial(rouge, "rouge1"), "rouge2": partial(rouge, "rouge2"), "rougeL": partial(rouge, "rougeL"),
    "bleu": bleu,
}  # fmt: skip


def parse_number(value: str | float | int) -> float | None:
    """A text or a number as a finite number; None if it is none."""
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


def _numbers(predictions: Texts, answers: Answers) -> list[Float[np.ndarray, "n"]]:
    texts = (predictions, [right[0] for right in answers])
    numbers = ([parse_number(text) for text in side] for side in texts)
    return [np.array([NO_NUMBER if one is None else one for one in side]) for side in numbers]  # as T5's own evaluation


def _correlation(a: Float[np.ndarray, "n"], b: Float[np.ndarray, "n"]) -> float:
    if a.min() == a.max() or b.min() == b.max():
        return 0.0
    a, b = a - a.mean(), b - b.mean()
    return float(100 * (a @ b) / math.sqrt((a @ a) * (b @ b)))


def _ranks(numbers: Float[np.ndarray, "n"]) -> Float[np.ndarray, "n"]:
    _, places, counts = np.unique(numbers, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[places]
