"""Every lesson runs, its exercises begin blank and say so, and the notebooks equal their scripts."""

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tlqa_jax.lessons import NotYet, show

from .test_lesson_runs import TRAINING

ROOT = Path(__file__).resolve().parents[2]
LESSONS = sorted((ROOT / "lessons").glob("[0-9][0-9]_*.py"))
SHORT = ("01", "02")  # the others compile much, and most of them train models
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
    assert [path.name for path in build.differing(build.built_for())] == [], "run `python lessons/build.py`"


def test_lesson_build_writes_then_notices_an_edit_and_what_is_left_over(build, small, monkeypatch, capsys):
    monkeypatch.setattr(build, "LESSONS", small.parent)
    monkeypatch.setattr(build, "NOTEBOOKS", small.parent / "notebooks")

    def main(*arguments):
        monkeypatch.setattr(sys, "argv", ["build.py", *arguments])
        return build.main(), sorted(re.findall(r"(?:differs|written): .*?(\w+/\w+\.ipynb)", capsys.readouterr().out))

    both = ["exercise/09_addition.ipynb", "solved/09_addition.ipynb"]
    assert main("--check") == (1, both)
    assert not (small.parent / "notebooks").exists()  # a check writes nothing
    assert main("--repository", "anna/course") == (0, both)
    assert main("--check") == (0, [])
    assert main() == (0, [])  # without a remote, the address stays what the notebooks say

    solved = small.parent / "notebooks/solved"
    (solved / "09_addition.ipynb").write_text("edited")
    (solved / "08_gone.ipynb").write_text("its lesson is gone")
    assert main("--check") == (1, ["solved/08_gone.ipynb", "solved/09_addition.ipynb"])
    assert main()[0] == 0
    assert main("--check") == (0, [])


def test_lesson_exercise_notebook_has_blanks_and_a_solution_to_unfold(build, small):
    notebook = build.notebook(small, "exercise")
    install, exercise = sources(notebook, "code")
    assert install.endswith("%pip install --quiet --constraint kept.txt {COURSE}")
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


def test_lesson_notebook_begins_with_a_badge_and_an_installation_of_its_own_copy(build, small):
    notebook = build.notebook(small, "exercise", "anna/course")
    assert "Open in Colab" in notebook.cells[0].source
    assert notebook.cells[0].source.endswith("anna/course/blob/main/lessons/notebooks/exercise/09_addition.ipynb)")
    assert 'COURSE = "git+https://github.com/anna/course"' in notebook.cells[1].source


@pytest.mark.parametrize(
    ("remote", "address"),
    [
        ("git@github.com:anna/course.git", "anna/course"),
        ("https://github.com/anna/jax.course/", "anna/jax.course"),
        ("https://elsewhere.org/anna/course", "OWNER/tlqa_jax"),
        (None, "OWNER/tlqa_jax"),
    ],
)
def test_lesson_address_is_that_of_the_remote(build, small, monkeypatch, remote, address):
    subprocess.run(["git", "init", "--quiet", small.parent], check=True)
    if remote:
        subprocess.run(["git", "-C", small.parent, "remote", "add", "origin", remote], check=True)
    monkeypatch.setattr(build, "LESSONS", small.parent)
    monkeypatch.setattr(build, "NOTEBOOKS", small.parent / "notebooks")
    assert build.repository() == address


def test_lesson_without_an_address_stops_in_one_line(build, small, monkeypatch):
    install = build.notebook(small, "exercise").cells[1].source
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    names = {}
    with pytest.raises(Exception, match="The teacher sets it") as stopped:
        exec(install.replace("    %pip", "    pip = 0 #"), names)
    assert stopped.value._render_traceback_() == [str(stopped.value)]


def code_lines(source):
    """How many lines of a cell are to be read: none that is blank, a comment or of an import."""
    imports = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import | ast.ImportFrom))
    skipped = {number for node in imports for number in range(node.lineno, node.end_lineno + 1)}
    lines = enumerate(source.splitlines(), 1)
    return sum(bool(re.match(r" *[^ #]", line)) and number not in skipped for number, line in lines)


def test_lesson_code_lines_are_those_to_be_read():
    assert code_lines("from a import (\n    b,\n)\n\n# c\nd = 1\nif d:\n    # e\n    import f\n    f(d)\n") == 3


@lessons
def test_lesson_cells_can_be_read_at_a_glance(build, lesson):
    cells = sources(build.notebook(lesson, "solved"), "code")[1:]  # without the one that installs
    assert {cell: lines for cell in cells if (lines := code_lines(cell)) > 25} == {}


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
    assert [path.name for path in files if build.PLACEHOLDER in path.read_text()] == ["build.py"]


BLANKS = """
import contextlib, json, sys
from tlqa_jax.lessons import NotYet
for definitions, exercises in json.load(sys.stdin):
    names = {}
    for definition in definitions:
        with contextlib.suppress(NameError):  # of a default that is computed in the lesson
            exec(definition, names)
    for exercise in exercises:
        try:
            exec(exercise, dict(names))
        except NotYet as said:
            assert "still empty" in str(said), said
        else:
            raise AssertionError("a blank was not noticed in " + exercise)
"""


@pytest.mark.parametrize(
    "lesson",
    [pytest.param(path, id=path.stem, marks=() if path.stem[:2] in SHORT else pytest.mark.slow)
     for path in LESSONS if path not in TRAINING],  # they run one after the other
)  # fmt: skip
def test_lesson_runs(build, run_python, lesson, tmp_path):
    """The script, with the solutions, in smoke mode."""
    assert run_python(lesson, cwd=tmp_path).count("Right: ") == len(exercises_of(build, lesson))
    assert list((tmp_path / "runs/lessons").glob(f"{lesson.stem[:2]}_*.png"))


def test_lesson_exercises_notice_that_they_are_blank(build, run_python):
    """Each exercise as handed out says so. Of its lesson only imports and functions run before; all in one process."""
    kinds, cells = ast.Import | ast.ImportFrom | ast.FunctionDef, []
    for lesson in LESSONS:
        script = ast.parse(lesson.read_text(encoding="utf-8")).body
        definitions = [ast.unparse(node) for node in script if isinstance(node, kinds)]
        cells.append([definitions, [exercise for exercise, _ in exercises_of(build, lesson)]])
    run_python("-c", BLANKS, input=json.dumps(cells))


@lessons
def test_lesson_exercises_have_hint_and_check(build, lesson):
    exercises = exercises_of(build, lesson)
    assert 2 <= len(exercises) <= 6
    for exercise, solution in exercises:
        ast.parse(exercise)
        assert "..." in exercise
        assert "# Hint: " in exercise
        assert re.search(r"^check\.\w+\(", exercise, re.MULTILINE), "the check is called in the exercise's own cell"
        assert "BLANK" not in exercise + solution


def exercises_of(build, lesson):
    """(cell as handed out, its solution) of each exercise."""
    cells = build.notebook(lesson, "exercise").cells
    return [(a.source, b.source) for a, b in zip(cells, cells[1:], strict=False) if b.source.startswith("<details>")]


def test_lesson_show_writes_a_file_from_a_script(tmp_path, monkeypatch, capsys):
    from matplotlib import pyplot

    monkeypatch.chdir(tmp_path)
    show(pyplot.figure(), "09_nothing")
    assert (tmp_path / "runs/lessons/09_nothing.png").read_bytes().startswith(b"\x89PNG")
    assert capsys.readouterr().out == "figure: runs/lessons/09_nothing.png\n"
    assert pyplot.get_fignums() == []


def test_lesson_notebook_prints_what_is_not_yet_right_in_one_line():
    assert NotYet("add: 2 + 2 is not 22.")._render_traceback_() == ["Not yet: add: 2 + 2 is not 22."]


def test_lesson_map_names_figures_and_exercises_that_there_are(build):
    """lessons/README.md: each figure is one of a lesson, each lesson has its row with one entry for each exercise."""
    text = (ROOT / "lessons/README.md").read_text(encoding="utf-8")
    shown = {name for lesson in LESSONS for name in re.findall(r'"(\d\d_\w+)"\)', lesson.read_text(encoding="utf-8"))}
    named = set(re.findall(r"`(\d\d_\w+)`", text))
    assert len(named) > 10 and named <= shown
    table = text.split("## The exercises")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (\d+) \| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", table, re.MULTILINE)
    counted = {int(lesson.stem[:2]): len(exercises_of(build, lesson)) for lesson in LESSONS}
    assert {int(number): exercises.count(";") + 1 for number, exercises, *_ in rows} == counted
    assert all(len(levels.split(",")) == len(minutes.split(",")) == counted[int(n)] for n, _, levels, minutes in rows)
