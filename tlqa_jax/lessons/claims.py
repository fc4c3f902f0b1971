"""What a lesson says about its own training: the number of this run, its interval, and a verdict in words.

A training comes out a little differently on other hardware. So a lesson does not write down what "the model" scores: it
prints what this one scores, how much of that may be chance, and stops in one sentence where the text above or below is
no longer true of it.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tlqa_jax.lessons.figures import SMOKE
from tlqa_jax.metrics.squad import bootstrap_interval

Hits = np.ndarray | Sequence[bool]


class Interval(NamedTuple):
    """A mean in percent, or a difference in points, with its 95% interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.1f} (95% {self.low:.1f} to {self.high:.1f})"


def percent(hits: Hits) -> Interval:
    """How many in a hundred are right, of examples that are right (1, True) or wrong."""
    values = 100.0 * np.asarray(hits, float)
    return Interval(float(values.mean()), *bootstrap_interval(values))


def lead(name: str, hits: Hits, other: str, other_hits: Hits) -> Interval:
    """By how many points the first is ahead of the other on the same examples. Prints it, and what it is worth.

    The interval is of the differences, example by example (a paired bootstrap): what both get right or wrong cancels.
    """
    a, b = (100.0 * np.asarray(x, float) for x in (hits, other_hits))
    ahead = Interval(float((a - b).mean()), *bootstrap_interval(a - b))
    if ahead.low > 0:
        verdict = f"{name} is ahead, by more than the choice of examples explains"
    elif ahead.high < 0:
        verdict = f"{other} is ahead, by more than the choice of examples explains"
    else:
        verdict = "the interval contains 0, so these examples do not decide it"
    print(f"{name} {a.mean():.1f} %, {other} {b.mean():.1f} %, of {len(a)}. Difference: {ahead} points: {verdict}.")
    return ahead


def claim(text: str, holds: bool) -> None:
    """Checks a sentence about this run. In smoke mode nothing is trained, so nothing is checked."""
    if SMOKE:
        return
    assert holds, (
        f"This run contradicts the lesson, which says: {text}. Trainings differ a little from machine to machine, so "
        "look at the numbers above and judge for yourself. The cells below do not need this one."
    )
    print(f"This run agrees: {text}.")
