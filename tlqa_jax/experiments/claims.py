"""Claims about two ways of training, and what the scores of several seeds say about them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

Scores = Mapping[str, Mapping[str | int, float]]  # way of training -> number of labels, task, … -> score of one seed


@dataclass(frozen=True)
class Claim:
    """`better` scores higher than `worse` by more than `margin`. A margin below 0 claims that it is hardly lower.

    `panel` names the scores that are meant, `at` their columns (none: the mean of all columns that both have), and
    `worse_at` those of `worse` where they are others.
    """

    text: str
    better: str
    worse: str
    panel: str
    at: tuple[str | int, ...] = ()
    worse_at: tuple[str | int, ...] = ()
    margin: float = 0.0

    def difference(self, scores: Scores) -> float:
        """`better` minus `worse` in the scores of one seed."""
        better, worse = scores[self.better], scores[self.worse]
        columns = self.at or [column for column in better if column in worse]
        mean = lambda scores, columns: np.mean([scores[column] for column in columns])
        return float(mean(better, columns) - mean(worse, self.worse_at or columns))


@dataclass(frozen=True)
class Verdict:
    """Whether a claim holds: the mean difference and its 95% interval, which one seed does not give."""

    words: str
    difference: float
    low: float | None
    high: float | None


def judge(claim: Claim, of_seeds: Sequence[Scores]) -> Verdict:
    """What the scores of each seed say about a claim.

    Differences are taken within a seed. The interval is Student's for their mean: a claim "holds" or "does not hold" if
    the whole interval is above or below the margin, and is "undecided" otherwise. One seed decides nothing.
    """
    differences = np.array([claim.difference(scores) for scores in of_seeds])
    mean = float(differences.mean())
    if len(differences) == 1:
        points = "to it" if mean > claim.margin else "against it"
        return Verdict(f"one seed, undecided: it points {points}", mean, None, None)
    half = stats.t.ppf(0.975, len(differences) - 1) * differences.std(ddof=1) / np.sqrt(len(differences))
    low, high = mean - float(half), mean + float(half)
    words = "holds" if low > claim.margin else "does not hold" if high < claim.margin else "undecided"
    return Verdict(words, mean, low, high)
