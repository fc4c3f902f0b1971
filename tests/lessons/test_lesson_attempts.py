"""What learners try who have not read the check: no wrong answer passes, no right one fails."""

import numpy as np
import pytest

from tlqa_jax.lessons import NotYet

from . import (
    attempts_architectures,
    attempts_bert_tasks,
    attempts_freezing,
    attempts_jax,
    attempts_models,
    attempts_texts,
    attempts_training,
    attempts_vectors,
)

TABLES = (
    attempts_jax, attempts_texts, attempts_models, attempts_architectures, attempts_training, attempts_bert_tasks,
    attempts_freezing, attempts_vectors,
)  # fmt: skip
EXERCISES = {name: exercise for table in TABLES for name, exercise in table.EXERCISES.items()}


def test_lesson_exercises_have_names_of_their_own():
    assert len(EXERCISES) == sum(len(table.EXERCISES) for table in TABLES)


@pytest.mark.parametrize(
    ("exercise", "attempt"), [(name, attempt) for name, (_, right, _) in EXERCISES.items() for attempt in right]
)
def test_lesson_right_attempt_passes(exercise, attempt, capsys):
    check, right, _ = EXERCISES[exercise]
    check(right[attempt])
    assert capsys.readouterr().out.startswith("Right: ")


@pytest.mark.parametrize(
    ("exercise", "attempt"), [(name, attempt) for name, (_, _, wrong) in EXERCISES.items() for attempt in wrong]
)
def test_lesson_wrong_attempt_does_not_pass(exercise, attempt):
    check, _, wrong = EXERCISES[exercise]
    with pytest.raises(NotYet), np.errstate(all="ignore"):
        check(wrong[attempt])
