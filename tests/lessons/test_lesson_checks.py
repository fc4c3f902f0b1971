"""How checks compare: what counts as equal, what as blank, and in which order they speak."""

import numpy as np
import pytest

from tlqa_jax.lessons.checks import NotYet, compare, equal


def test_lesson_check_says_right_once(capsys):
    compare("add", 4, 4, {"never": 5})
    assert capsys.readouterr().out == "Right: add\n"


@pytest.mark.parametrize("blank", [None, ..., [None, 3], (1, ...)])
def test_lesson_check_recognises_a_blank(blank):
    with pytest.raises(NotYet, match="add: the blank is still empty"):
        compare("add", blank, 4, {})


def test_lesson_check_names_the_first_misconception_that_fits():
    with pytest.raises(NotYet, match="add: you joined the digits"):
        compare("add", 22, 4, {"you subtracted": 0, "you joined the digits": 22, "too late": 22})


def test_lesson_check_shows_an_unknown_mistake_and_a_wrong_shape():
    with pytest.raises(NotYet, match=r"wanted\n4\nand got\n7"):
        compare("add", 7, 4, {})
    with pytest.raises(NotYet, match=r"the shape is \(2, 3\), wanted is \(3, 2\)"):
        compare("turn", np.zeros((2, 3)), np.zeros((3, 2)), {})


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        (1.0, 1.0 + 1e-7, True),
        (1.0, 1.001, False),
        (2, 2.0, True),
        (np.array([True, False]), np.array([1, 0]), False),  # a mask is boolean
        (np.array([1, 0]), np.array([0, 1]), False),
        (np.zeros((2, 1)), np.zeros((1, 2)), False),
        (np.zeros(3), np.zeros(1), False),  # no broadcasting
        (["a", 1.0], ("a", 1.0), True),
        (["a"], ["a", "b"], False),
        ("a", "b", False),
        ("a", 1, False),
        ([("a", "b")], [("a", "b")], True),
        ({("a", "b"): 1}, {("a", "b"): 2}, False),
        ({("a", "b"): 1}, {("a", "b"): 1}, True),
        (float("nan"), float("nan"), True),  # where a misconception makes NaN, it is recognised
    ],
)  # fmt: skip
def test_lesson_check_equality(a, b, same):
    assert equal(a, b) == same
