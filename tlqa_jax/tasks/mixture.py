"""One stream of examples from several tasks, each at its rate.

How often should each task come? For a task with e examples, Raffel et al. 2020, section 3.5.2, try

    scale=S           S e: as if each task had S times its examples; it matters before a cap
    proportional=K    min(e, K): as often as it has examples, but no task as if it had more than K
    temperature=T     these to the power 1/T: T = 1 changes nothing, a large T makes all tasks equal
    equal             all tasks equally often

Several stages have commas between them, "proportional=2000,temperature=2", and are applied in this order. SeqIO's order
is scale, proportional, temperature.

The stream is a function of (seed, position), so batches need no memory of earlier ones. It consists of periods. In each
period every task comes exactly as often as its rate says, rounded to whole rows and at least once, in an order drawn
from (seed, period). So the place of a position in its task's own stream can be counted, and a task goes through all of
its examples before it repeats one.
"""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int

from tlqa_jax.data.batches import ShuffledOrder
from tlqa_jax.errors import UserError
from tlqa_jax.metrics.texts import parse_number

PERIOD = 2**14  # rows; a task with a smaller share than one row comes more often than its rate says


def mixing_rates(sizes: Sequence[int], mixing: str = "proportional") -> Float[np.ndarray, "tasks"]:
    """The rates of tasks with so many examples; their sum is 1. Raises UserError for an unknown `mixing`."""
    weights = np.asarray(sizes, np.float64)
    for stage in mixing.split(","):
        name, equals, value = stage.strip().partition("=")
        number = parse_number(value) if equals else None
        if equals and not (number or 0) > 0:
            raise UserError(f"--mixing {stage.strip()!r}: {value!r} is not a number above 0")
        if name == "scale" and number is not None:
            weights = weights * number
        elif name == "proportional":
            weights = np.minimum(weights, number or np.inf)
        elif name == "temperature" and number is not None:
            weights = (weights / weights.max()) ** (1 / number)  # the largest stays 1
        elif name == "equal" and not equals:
            weights = np.ones(len(weights))
        else:
            raise UserError(
                f"--mixing {stage.strip()!r}: known are proportional, proportional=CAP, scale=NUMBER, "
                "temperature=NUMBER, equal, and several of them with commas between"
            )
    return weights / weights.sum()


class Mixture:
    """The endless stream of a mixture: `mixture[positions]` are numbers of examples, all tasks' examples in one list.

    The examples of task m begin at `starts[m]`; it has `counts[m]` rows of each period.

    Args:
        orders: the stream of each task's own examples.
        rates: of the tasks; their sum is 1.
        period: number of rows in which every task comes as often as its rate says.
    """

    def __init__(
        self, orders: Sequence[ShuffledOrder], rates: Float[np.ndarray, "tasks"], seed: int, period: int = PERIOD
    ):
        if len(orders) != len(rates) or period < len(orders):
            raise ValueError(f"{len(orders)} tasks, {len(rates)} rates, and a period of {period} rows")
        self.orders, self.seed, self.counts = orders, seed, _whole(rates, period)
        self.num_examples = sum(order.num_examples for order in orders)
        self.starts = np.cumsum([0, *(order.num_examples for order in orders)])
        self._last: tuple[int, np.ndarray, np.ndarray] | None = None

    def __getitem__(self, positions: Int[np.ndarray, "n"]) -> Int[np.ndarray, "n"]:
        tasks, places = self.tasks_and_places(positions)
        rows = np.empty(len(positions), np.int64)
        for task in np.unique(tasks).tolist():
            here = tasks == task
            rows[here] = self.starts[task] + self.orders[task][places[here]]
        return rows

    def tasks_and_places(
        self, positions: Int[np.ndarray, "n"]
    ) -> tuple[Int[np.ndarray, "n"], Int[np.ndarray, "n"]]:
        """The task at each position, and the place of that position in the task's own stream."""
        periods, offsets = np.divmod(np.asarray(positions, np.int64), self.counts.sum())
        tasks, places = np.empty_like(periods), np.empty_like(periods)
        for period in np.unique(periods).tolist():
            here = periods == period
            tasks_of_period, before = self._period(period)
            tasks[here] = tasks_of_period[offsets[here]]
            places[here] = period * self.counts[tasks[here]] + before[offsets[here]]
        return tasks, places

    def _period(self, period: int) -> tuple[Int[np.ndarray, "period"], Int[np.ndarray, "period"]]:
        """(the task of each row, how often the task came before in this period)"""
        if self._last is None or self._last[0] != period:
            tasks = np.repeat(np.arange(len(self.counts)), self.counts)
            before = np.arange(len(tasks)) - np.repeat(np.cumsum(self.counts) - self.counts, self.counts)
            order = np.random.default_rng([self.seed, period]).permutation(len(tasks))
            tasks = tasks[order]
            by_task = np.argsort(tasks, kind="stable")
            counted = np.empty_like(before)
            counted[by_task] = before
            self._last = period, tasks, counted
        return self._last[1:]


def _whole(rates: Float[np.ndarray, "tasks"], period: int) -> Int[np.ndarray, "tasks"]:
    """Whole rows, at least one for each task; their sum is the period. The largest remainders are rounded up."""
    exact = np.asarray(rates, np.float64) * period
    counts = np.maximum(np.floor(exact).astype(np.int64), 1)
    for _ in range(counts.sum() - period):  # the rows that the smallest tasks got are taken from the largest
        counts[np.argmax(counts)] -= 1
    counts[np.argsort(counts - exact, kind="stable")[: period - counts.sum()]] += 1
    return counts
