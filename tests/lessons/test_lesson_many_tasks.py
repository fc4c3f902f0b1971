"""The checks of lesson 10 against right solutions and against wrong ones that run."""

import numpy as np
import pytest

from tlqa_jax.lessons import NotYet, many_tasks as check
from tlqa_jax.metrics import texts
from tlqa_jax.tasks.mixture import mixing_rates
from tlqa_jax.tasks.text_tasks import SIMILARITY, TextTask

LABELS = {"0": "no", "1": "yes"}
RIGHT = dict(name="sport", input="sport: {headline}", target="is_sport", labels=LABELS, metrics=("accuracy",))

RECORDS = {
    "a TextTask is wanted": dict(RIGHT),
    "the blank is still empty": ...,
    "not the answer": TextTask(**RIGHT | {"target": "yes"}),
    "names of fields of the rows": TextTask(**RIGHT | {"input": "sport: {text}"}),
    "there is no prefix": TextTask(**RIGHT | {"input": "{headline}"}),
    "the answer stands in the input": TextTask(**RIGHT | {"input": "sport: {headline} {is_sport}"}),
    "you have 'sports: Harrow wins the cup'": TextTask(**RIGHT | {"input": "sports: {headline}"}),
    "write digits": TextTask(**RIGHT | {"labels": {}}),
    "exchanged": TextTask(**RIGHT | {"labels": {"1": "no", "0": "yes"}}),
    "the words to write are yes and no": TextTask(**RIGHT | {"labels": {"0": "other", "1": "sport"}}),
    "write the headline itself": TextTask(**RIGHT | {"target": "headline", "labels": {}}),
    "whether the word is the right one": TextTask(**RIGHT | {"metrics": ("f1",)}),
}


def test_lesson_record_right(capsys):
    check.record(TextTask(**RIGHT))
    assert capsys.readouterr().out == "Right: record\n"


@pytest.mark.parametrize("misconception", RECORDS)
def test_lesson_record_wrong(misconception):
    with pytest.raises(NotYet, match=misconception):
        check.record(RECORDS[misconception])


def fifth(value):
    return round(value * 5) / 5


NUMBERS = {
    "that is a number": fifth,
    "the \\*nearest\\* multiple": lambda value: f"{int(value * 5) / 5:.1f}",
    "rounded to tenths": lambda value: f"{value:.1f}",
    "rounded to whole numbers": lambda value: f"{round(value):.1f}",
    "also where it is 0": lambda value: f"{fifth(value):g}",
    "two decimals": lambda value: f"{fifth(value):.2f}",
    "the blank is still empty": lambda value: ...,
}


def test_lesson_number_text_right(capsys):
    check.number_text(lambda value: f"{fifth(value):.1f}")
    check.number_text(SIMILARITY.rounded)
    assert capsys.readouterr().out == "Right: number_text\n" * 2


@pytest.mark.parametrize("misconception", NUMBERS)
def test_lesson_number_text_wrong(misconception):
    with pytest.raises(NotYet, match=misconception):
        check.number_text(NUMBERS[misconception])


def share(x):
    return x / x.sum()


def with_least(n, cap, t):
    with np.errstate(invalid="ignore"):
        return share(np.maximum(n, cap) ** (1 / t))


RATES = {
    "not the least": with_least,
    "do not add up to 1": lambda n, cap, t: np.minimum(n, cap) ** (1 / t),
    "\\*after\\* the power": lambda n, cap, t: share(np.minimum(n, cap)) ** (1 / t),
    "to the power T": lambda n, cap, t: share(np.minimum(n, cap) ** t),
    "the cap is missing": lambda n, cap, t: share(np.array(n) ** (1 / t)),
    "first and then the cap": lambda n, cap, t: share(np.minimum(np.array(n) ** (1 / t), cap)),
    "the temperature is missing": lambda n, cap, t: share(np.minimum(n, cap)),
    "softmax of the sizes": lambda n, cap, t: share(np.exp((np.minimum(n, cap) - max(np.minimum(n, cap))) / t)),
    "equal rates": lambda n, cap, t: share(np.ones(len(n))),
    "wanted": lambda n, cap, t: share(np.arange(1.0, len(n) + 1)),
    "the blank is still empty": lambda n, cap, t: ...,
}


def test_lesson_rates_right(capsys):
    check.rates(lambda n, cap, t: share(np.minimum(n, cap) ** (1 / t)).tolist())
    check.rates(lambda n, cap, t: mixing_rates(n, f"proportional={min(cap, 1e9)},temperature={t}"))
    assert capsys.readouterr().out == "Right: rates\n" * 2


@pytest.mark.parametrize("misconception", RATES)
def test_lesson_rates_wrong(misconception):
    with pytest.raises(NotYet, match=misconception):
        check.rates(RATES[misconception])


def counts(said, right):
    said, right = np.array(said), np.array(right)
    return (said & right).sum(), (said & ~right).sum(), (~said & right).sum(), (~said & ~right).sum()


def of_counts(formula, undefined=0.0):
    def solution(said, right):
        tp, fp, fn, tn = (int(count) for count in counts(said, right))
        product = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
        return formula(tp, fp, fn, tn, product) if product or undefined is None else undefined

    return solution


MATTHEWS = {
    "divides 0 by 0": of_counts(lambda tp, fp, fn, tn, p: (tp * tn - fp * fn) / p**0.5, None),
    "By convention": of_counts(lambda tp, fp, fn, tn, p: (tp * tn - fp * fn) / p**0.5, float("nan")),
    "that is the accuracy": lambda said, right: float(np.mean(np.array(said) == np.array(right))),
    "that is F1": of_counts(lambda tp, fp, fn, tn, p: 2 * tp / (2 * tp + fp + fn), None),
    "square root": of_counts(lambda tp, fp, fn, tn, p: (tp * tn - fp * fn) / p),
    "\\*minus\\*": of_counts(lambda tp, fp, fn, tn, p: (tp * tn + fp * fn) / p**0.5),
    "the pairs are": of_counts(lambda tp, fp, fn, tn, p: (tp * fp - fn * tn) / p**0.5),
    "the blank is still empty": lambda said, right: None,
}


def test_lesson_matthews_right(capsys):
    check.matthews(of_counts(lambda tp, fp, fn, tn, p: (tp * tn - fp * fn) / p**0.5))
    check.matthews(lambda said, right: texts.matthews([*map(str, said)], [(str(one),) for one in right]) / 100)
    assert capsys.readouterr().out == "Right: matthews\n" * 2


@pytest.mark.parametrize("misconception", MATTHEWS)
def test_lesson_matthews_wrong(misconception):
    with pytest.raises(NotYet, match=misconception):
        check.matthews(MATTHEWS[misconception])
