"""Every lesson runs, as a script and as an exercise notebook that is solved cell by cell; notebooks equal their scripts."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tlqa_jax.lessons import NotYet, show

ROOT = Path(__file__).resolve().parents[2]
LESSONS = sorted((ROOT / "lessons").glob("[0-9][0-9]_*.py"))
lessons = pytest.mark.parametrize("lesson", LESSONS, ids=lambda path: path.stem)

SMALL = '''\
# %% [markdown]
# # Lesson 9: addition
# **Time** now. **Know first** nothing. **You will be able to** add.

# %%
def add(a, b):
    # Hint: +
    # BLANK
    return a + b
    # END BLANK


# BLANK: four = ...
four = 2 + 2
# END BLANK
'''


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "09_addition.py"
    path.write_text(SMALL)
    return path


def sources(notebook, kind):
    return [cell.source for cell in notebook.cells if cell.cell_type == kind]


def test_lesson_notebooks_are_up_to_date(build):
    assert [path.name for path in build.differing()] == [], "run `python lessons/build.py`"


def test_lesson_exercise_notebook_has_blanks_and_a_solution_to_unfold(build, small):
    notebook = build.notebook(small, "exercise")
    install, exercise = sources(notebook, "code")
    assert "%pip install" in install
    assert exercise == "def add(a, b):\n    # Hint: +\n    ...  # your code here\n\n\nfour = ..."
    solution = sources(notebook, "markdown")[-1]
    assert solution.startswith("<details>")
    assert "    return a + b\n\n\nfour = 2 + 2\n```" in solution


def test_lesson_solved_notebook_has_the_solution_and_no_marks(build, small):
    exercise = sources(build.notebook(small, "solved"), "code")[-1]
    assert exercise == "def add(a, b):\n    # Hint: +\n    return a + b\n\n\nfour = 2 + 2"


def test_lesson_notebooks_are_the_same_bytes_twice_and_hold_no_outputs(build, small):
    once, twice = build.notebook(small, "solved"), build.notebook(small, "solved")
    assert once == twice
    assert [cell.id for cell in once.cells] == ["cell-00", "cell-01", "cell-02", "cell-03"]
    assert all(not cell.get("outputs") for cell in once.cells)


def test_lesson_notebook_begins_with_a_badge_that_opens_itself(build, small):
    first = build.notebook(small, "exercise").cells[0].source
    assert "Open in Colab" in first
    assert first.endswith(f"{build.REPOSITORY}/blob/main/lessons/notebooks/exercise/09_addition.ipynb)")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda text: text.replace("    # END BLANK\n", ""), None),  # two BLANKs, one END
        (lambda text: text.replace("    # BLANK\n", ""), "BLANK without"),
        (lambda text: text.replace("# BLANK: four = ...\n", "").replace("# END BLANK", "# end"), "BLANK without"),
        (lambda text: text.replace("**Time**", "Time"), r"lacks \*\*Time\*\*"),
    ],
)
def test_lesson_with_a_slip_in_its_marks_is_refused(build, small, spoil, message):
    small.write_text(spoil(SMALL))
    with pytest.raises(ValueError, match=message):
        build.notebook(small, "exercise")


def test_lesson_address_stands_in_one_place_only(build):
    files = [*(ROOT / "lessons").glob("*.py"), *(ROOT / "tlqa_jax").rglob("*.py")]
    assert [path.name for path in files if build.REPOSITORY in path.read_text()] == ["build.py"]


@lessons
def test_lesson_script_runs(lesson, tmp_path):
    environment = {**os.environ, "TLQA_SMOKE": "1", "PYTHONPATH": str(ROOT)}
    ran = subprocess.run([sys.executable, lesson], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert "Right: " in ran.stdout  # its checks were met
    assert list((tmp_path / "runs/lessons").glob(f"{lesson.stem[:2]}_*.png"))


@lessons
def test_lesson_exercises_begin_blank_and_say_so(build, lesson):
    """Each exercise cell, as handed out, compiles, has a check, and shows no line of the solution inside its blank."""
    notebook = build.notebook(lesson, "exercise")
    exercises = [
        (cell.source, following.source)
        for cell, following in zip(notebook.cells, notebook.cells[1:], strict=False)
        if following.source.startswith("<details>")
    ]
    assert 2 <= len(exercises) <= 4
    for exercise, solution in exercises:
        ast.parse(exercise)
        assert "..." in exercise
        assert re.search(r"^check\.\w+\(", exercise, re.MULTILINE), "the check is called in the exercise's own cell"
        assert "# Hint: " in exercise
        assert "BLANK" not in exercise + solution


def test_lesson_show_writes_a_file_from_a_script(tmp_path, monkeypatch, capsys):
    from matplotlib import pyplot

    monkeypatch.chdir(tmp_path)
    show(pyplot.figure(), "09_nothing")
    assert (tmp_path / "runs/lessons/09_nothing.png").read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out == "figure: runs/lessons/09_nothing.png\n"
    assert pyplot.get_fignums() == []


def test_lesson_notebook_prints_what_is_not_yet_right_in_one_line():
    assert NotYet("add: 2 + 2 is not 22.")._render_traceback_() == ["Not yet: add: 2 + 2 is not 22."]
