"""The checks of lesson 10: a record of a task, numbers as text, mixing rates, Matthews correlation."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tlqa_jax.errors import UserError
from tlqa_jax.lessons.checks import NotYet, compare, filled, right
from tlqa_jax.tasks.text_tasks import TextTask

HEADLINES = [  # rows of a task that a learner writes a record for
    {"headline": "Harrow wins the cup", "is_sport": 1},
    {"headline": "Bread dearer again", "is_sport": 0},
    {"headline": "Rain stops the rowers", "is_sport": 1},
]


def record(task: Any) -> None:
    """`task`: a TextTask for `HEADLINES`, with "sport: " before the headline, the words yes and no, and accuracy."""
    exercise = "record"
    filled(task, exercise)
    if not isinstance(task, TextTask):
        raise NotYet(f"{exercise}: a TextTask is wanted, and this is {type(task).__name__}.")
    try:
        examples = [task.example(row, "a row") for row in HEADLINES]
    except UserError as error:
        about_target = f'"{task.target}"' in str(error) and task.target not in HEADLINES[0]
        advice = "`target` is the *name of the field* with the answer, not the answer." if about_target else (
            "the names in braces, and `target`, are names of fields of the rows: headline and is_sport."
        )  # fmt: skip
        raise NotYet(f"{exercise}: {advice} ({error})") from None
    inputs, targets = [example.input for example in examples], [example.target for example in examples]
    headlines = [row["headline"] for row in HEADLINES]
    if targets == headlines:
        raise NotYet(f"{exercise}: your model would write the headline itself. What is to be written is the answer.")
    if inputs == headlines:
        raise NotYet(
            f"{exercise}: there is no prefix. Nothing would tell the model that it is asked about sport, and not about "
            "sentiment."
        )
    if any("is_sport" in name for name in task.fields):
        raise NotYet(f"{exercise}: the answer stands in the input. That is learned in no time, and worth nothing.")
    wanted = ["sport: " + headline for headline in headlines]
    compare_texts(exercise, inputs, wanted, "the input is to be the prefix `sport: ` and then the headline")
    for message, wrong in (
        ("the model would write digits. They are right, too, but a word is what it may have met in pretraining: "
         "map the values to words with `labels`.", ["1", "0", "1"]),
        ("yes and no are exchanged: 1 means that it is sport.", ["no", "yes", "no"]),
    ):  # fmt: skip
        if targets == wrong:
            raise NotYet(f"{exercise}: {message}")
    compare_texts(exercise, targets, ["yes", "no", "yes"], "the words to write are yes and no")
    if tuple(task.metrics) != ("accuracy",):
        raise NotYet(
            f"{exercise}: `metrics` is {task.metrics}. What counts here is whether the word is the right one: accuracy."
        )
    right(exercise)


def compare_texts(exercise: str, got: Sequence[str], want: Sequence[str], rule: str) -> None:
    for one, other in zip(got, want, strict=True):
        if one != other:
            raise NotYet(f"{exercise}: {rule}; you have {one!r}, not {other!r}.")


def number_text(number_text: Callable[[float], str]) -> None:
    """`number_text(2.57)` -> "2.6": the nearest multiple of 0.2, as a text with one decimal."""
    values = [0.0, 0.09, 1.25, 2.57, 2.75, 3.0, 3.39, 4.95, 5.0]
    nearest = [round(value * 5) / 5 for value in values]
    compare(
        "number_text",
        [number_text(value) for value in values],
        [f"{value:.1f}" for value in nearest],
        {
            "that is a number. The decoder writes tokens: a text is wanted, such as \"2.6\".": nearest,
            "you cut the rest off, but the *nearest* multiple is wanted: 2.57 is nearer to 2.6 than to 2.4.": [
                f"{int(value * 5) / 5:.1f}" for value in values],
            "you rounded to tenths. There are 51 of them from 0 to 5, too many to see each often; of the fifths there "
            "are 26.": [f"{value:.1f}" for value in values],
            "you rounded to whole numbers: the people who judged did not, and the correlation would suffer.": [
                f"{round(value):.1f}" for value in values],
            "you rounded up. The *nearest* multiple is wanted.": [f"{-(-value * 5 // 1) / 5:.1f}" for value in values],
            "you rounded to whole numbers, and one decimal is wanted: 2.57 is 2.6.":
                [f"{round(value)}" for value in values],
            "you rounded to halves. A fifth is 0.2: multiply by 5, round, divide by 5.": [
                f"{round(value * 2) / 2:.1f}" for value in values],
            "that is the number of fifths. Divide by 5 again: the text is the number itself.": [
                f"{round(value * 5)}" for value in values],
            "there are more digits than one: 0.2 has no exact form in a computer, so 13 * 0.2 is 2.6000000000000001. "
            "f\"{x:.1f}\" writes one decimal.": [str(round(value * 5) * 0.2) for value in values],
            "one decimal is wanted, also where it is 0: \"3.0\", not \"3\".": [f"{value:g}" for value in nearest],
            "you wrote two decimals. Each number should have one way to be written, and a short one.": [
                f"{value:.2f}" for value in nearest],
        },
    )  # fmt: skip


def rates(rates: Callable[[Sequence[int], float, float], Sequence[float]]) -> None:
    """`rates(sizes, cap, temperature)`: capped, then to the power 1/temperature, adding up to 1."""
    cases = [([900, 100], np.inf, 2.0), ([10_000, 100], 400, 1.0), ([50_000, 2_000, 30], 8_000, 4.0)]

    def each(of: Callable[[np.ndarray, float, float], np.ndarray]) -> list[np.ndarray]:
        return [of(np.array(sizes, float), cap, temperature) for sizes, cap, temperature in cases]

    share = lambda x: x / x.sum()
    got = [rates(*case) for case in cases]
    compare(
        "rates",
        [one if one is None or one is ... else np.asarray(one, float) for one in got],
        each(lambda n, cap, t: share(np.minimum(n, cap) ** (1 / t))),
        {
            "these do not add up to 1. Divide by their sum, after the last step.": each(
                lambda n, cap, t: np.minimum(n, cap) ** (1 / t)),
            "divide by the sum *after* the power, too: the powers of shares no longer add up to 1.": each(
                lambda n, cap, t: share(np.minimum(n, cap)) ** (1 / t)),
            "you raised to the power T. That makes large tasks larger still; the exponent is 1/T.": each(
                lambda n, cap, t: share(np.minimum(n, cap) ** t)),
            "the cap is missing: no task counts for more than `cap` examples.": each(
                lambda n, cap, t: share(n ** (1 / t))),
            "you took the temperature first and then the cap. The cap is a number of *examples*: it comes first.": each(
                lambda n, cap, t: share(np.minimum(n ** (1 / t), cap))),
            "the temperature is missing: raise to the power 1/T.": each(
                lambda n, cap, t: share(np.minimum(n, cap))),
            "that is a softmax of the sizes. Here the sizes themselves are raised to the power 1/T, which is the "
            "softmax of their *logarithms* divided by T.": each(
                lambda n, cap, t: share(np.exp((np.minimum(n, cap) - np.minimum(n, cap).max()) / t))),
            "these are equal rates, whatever the sizes. That is what a very large temperature comes to, and only that.":
                each(lambda n, cap, t: np.full(len(n), 1 / len(n))),
            "these are in percent: rates add up to 1.": each(
                lambda n, cap, t: 100 * share(np.minimum(n, cap) ** (1 / t))),
            "you divide by the largest. Rates add up to 1: divide by the sum.": each(
                lambda n, cap, t: np.minimum(n, cap) ** (1 / t) / (np.minimum(n, cap) ** (1 / t)).max()),
            "you divide by the sum of what was not capped. Divide by the sum of the same numbers.": each(
                lambda n, cap, t: np.minimum(n, cap) ** (1 / t) / (n ** (1 / t)).sum()),
            "the large tasks come out small: the power is 1/T, not -1/T.": each(
                lambda n, cap, t: share(np.minimum(n, cap) ** (-1 / t))),
            "`cap` is the most that a task may count, not the least: minimum, not maximum.": each(
                lambda n, cap, t: share(np.maximum(n, min(cap, 1e9)) ** (1 / t))),
            "`cap` is the most that a task may count, not the least: np.minimum, not np.maximum.": each(
                lambda n, cap, t: share(np.maximum(n, cap) ** (1 / t)) if np.isfinite(cap) else n * np.nan),
        },
    )  # fmt: skip


def matthews(matthews: Callable[[Sequence[bool], Sequence[bool]], float]) -> None:
    """`matthews(said, right)` of two lists of True and False; 0 where the formula is 0/0."""
    rng = np.random.default_rng(0)
    right_ones = rng.random(40) < 0.7
    mostly = np.where(rng.random(40) < 0.3, ~right_ones, right_ones)
    cases = [(mostly, right_ones), (right_ones | True, right_ones), (~mostly, right_ones)]

    def each(of: Callable[[float, float, float, float], float]) -> list[float]:
        return [
            float(of((said & true).sum(), (said & ~true).sum(), (~said & true).sum(), (~said & ~true).sum()))
            for said, true in cases
        ]

    def either(message: str, of: Callable[[float, float, float, float], float]) -> dict[str, list[float]]:
        """Another formula, with the 0 for 0/0 or without it."""
        guarded = each(lambda *c: of(*c) if product(*c) else 0.0)
        return {message: each(of), f"{message} (And what you do for 0/0 is right.)": guarded}

    product = lambda tp, fp, fn, tn: (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
    try:
        got = [matthews(said.tolist(), true.tolist()) for said, true in cases]
    except ZeroDivisionError:
        raise NotYet(
            "matthews: who always says the same divides 0 by 0. By convention that is 0: it tells nothing."
        ) from None
    compare(
        "matthews",
        got,
        each(lambda *c: (c[0] * c[3] - c[1] * c[2]) / np.sqrt(product(*c)) if product(*c) else 0.0),
        {
            "who always says the same divides 0 by 0. By convention that is 0: it tells nothing.": each(
                lambda *c: (c[0] * c[3] - c[1] * c[2]) / np.sqrt(product(*c)) if product(*c) else np.nan),
            "if the formula is 0/0, the score is 0 and not 1: who always says the same tells nothing.": each(
                lambda *c: (c[0] * c[3] - c[1] * c[2]) / np.sqrt(product(*c)) if product(*c) else 1.0),
            **either("that is the accuracy. It praises the one who always says \"acceptable\".",
                     lambda tp, fp, fn, tn: (tp + tn) / (tp + fp + fn + tn)),
            **either("that is F1. It, too, praises the one who always says True: it never looks at the true negatives.",
                     lambda tp, fp, fn, tn: 2 * tp / (2 * tp + fp + fn)),
            **either("that is recall, of one class. Matthews correlation looks at both classes.",
                     lambda tp, fp, fn, tn: tp / (tp + fn)),
            **either("that is what stands above the line. Divide by the square root.",
                     lambda tp, fp, fn, tn: tp * tn - fp * fn),
            "that is in percent. The correlation is between -1 and 1.": each(
                lambda *c: 100 * (c[0] * c[3] - c[1] * c[2]) / np.sqrt(product(*c)) if product(*c) else 0.0),
            "a guesser who is always wrong has -1, not 1: the sign stays.": each(
                lambda *c: abs(c[0] * c[3] - c[1] * c[2]) / np.sqrt(product(*c)) if product(*c) else 0.0),
            "the sign: what was right times what was right comes first, TP TN - FP FN.": each(
                lambda *c: (c[1] * c[2] - c[0] * c[3]) / np.sqrt(product(*c)) if product(*c) else 0.0),
            "the square root below the line is missing.": each(
                lambda *c: (c[0] * c[3] - c[1] * c[2]) / product(*c) if product(*c) else 0.0),
            "above the line stands a difference of two products: TP TN *minus* FP FN.": each(
                lambda *c: (c[0] * c[3] + c[1] * c[2]) / np.sqrt(product(*c)) if product(*c) else 0.0),
            "above the line the pairs are TP TN and FP FN: what was right times what was right.": each(
                lambda *c: (c[0] * c[1] - c[2] * c[3]) / np.sqrt(product(*c)) if product(*c) else 0.0),
        },
    )  # fmt: skip
