"""Every lesson runs, its exercises begin blank and say so, and the notebooks equal their scripts."""

import ast
import base64
import io
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

SMALL = """\
# %% [markdown]
# # Lesson 9: addition
# **Time** now. **Know first** nothing. **You will be able to** add.
#
# ## Exercise 1: a sum

# %%
def add(a, b):
    # Hint: a plus sign
    # has two sides.
    # Hint: `a + ...`
    # BLANK
    return a + b
    # END BLANK


# BLANK: four = ...
four = 2 + 2
# END BLANK

# %% [markdown]
# ## Bonus: three numbers
#
# Add three of them.
#
# > Twice.

# %% [markdown]
# ## Five questions
#
# **1.** What is 1 + 1?
#
# > 2, and
# > no less.
#
# **2.** What is 1 + 2?
#
# > 3
"""
MAP = "## The exercises\n\n| 8 | others | 1 | 1 |\n| 9 | a sum | 3 | 4 |\n\n## Words\n"


@pytest.fixture
def small(tmp_path):
    path = tmp_path / "09_addition.py"
    path.write_text(SMALL)
    return path


@pytest.fixture
def small_folder(build, small, monkeypatch):
    """The folder of a course that has the small lesson only, and its map."""
    monkeypatch.setattr(build, "LESSONS", small.parent)
    monkeypatch.setattr(build, "NOTEBOOKS", small.parent / "notebooks")
    (small.parent / "README.md").write_text(MAP)
    return small.parent


def sources(notebook, kind):
    return [cell.source for cell in notebook.cells if cell.cell_type == kind]


def test_lesson_notebooks_are_up_to_date(build):
    assert [path.name for path in build.differing(build.built_for())] == [], "run `python lessons/build.py`"


def test_lesson_build_writes_then_notices_an_edit_and_what_is_left_over(build, small_folder, monkeypatch, capsys):
    def main(*arguments):
        monkeypatch.setattr(sys, "argv", ["build.py", *arguments])
        return build.main(), sorted(re.findall(r"(?:differs|written): .*?(\w+/\w+\.ipynb)", capsys.readouterr().out))

    both = ["exercise/09_addition.ipynb", "solved/09_addition.ipynb"]
    assert main("--check") == (1, both)
    assert not (small_folder / "notebooks").exists()  # a check writes nothing
    assert main("--repository", "anna/course") == (0, both)
    assert main("--check") == (0, [])
    assert main() == (0, [])  # without a remote, the address stays what the notebooks say

    solved = small_folder / "notebooks/solved"
    (solved / "09_addition.ipynb").write_text("edited")
    (solved / "08_gone.ipynb").write_text("its lesson is gone")
    assert main("--check") == (1, ["solved/08_gone.ipynb", "solved/09_addition.ipynb"])
    assert main()[0] == 0
    assert main("--check") == (0, [])


def test_lesson_exercise_notebook_has_blanks_and_hints_to_unfold_and_no_solution(build, small):
    notebook = build.notebook(small, "exercise")
    install, exercise = sources(notebook, "code")
    assert install.endswith("%pip install --quiet --constraint kept.txt {COURSE}")
    assert exercise == "def add(a, b):\n    ...  # your code here\n\n\nfour = ..."
    hints = sources(notebook, "markdown")[2]
    assert hints == (
        "<details><summary>Hint 1: the idea</summary>\n\na plus sign has two sides.\n\n</details>\n\n"
        "<details><summary>Hint 2: nearly the code</summary>\n\n`a + ...`\n\n</details>"
    )
    assert "a + b" not in build.written(notebook)


def test_lesson_solved_notebook_has_the_solution_and_neither_marks_nor_hints(build, small):
    exercise = sources(build.notebook(small, "solved"), "code")[-1]
    assert exercise == "def add(a, b):\n    return a + b\n\n\nfour = 2 + 2"


@pytest.mark.parametrize("variant", ["exercise", "solved"])
def test_lesson_answers_are_folded(build, small, variant):
    bonus, questions = sources(build.notebook(small, variant), "markdown")[-2:]
    assert bonus.endswith("them.\n\n<details><summary>Hint</summary>\n\nTwice.\n\n</details>")
    assert questions.count("<details><summary>Answer</summary>") == 2
    assert "1 + 1?\n\n<details><summary>Answer</summary>\n\n2, and\nno less.\n\n</details>\n\n**2.**" in questions


def test_lesson_teachers_notebook_has_points_and_neither_hints_nor_answers(
    build, small_folder, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(sys, "argv", ["build.py", "--teacher", str(tmp_path / "out")])
    assert build.main() == 0
    assert not (small_folder / "notebooks").exists()
    notebook = json.loads((tmp_path / "out/09_addition.ipynb").read_text())
    install, first, exercise, bonus, questions = ["".join(cell["source"]) for cell in notebook["cells"]]
    assert first.startswith("# Lesson 9: addition\n\n**Points** 5: 3 for exercises, 2 for questions.")
    assert first.endswith("## Exercise 1: a sum (3 points)")
    assert exercise == "def add(a, b):\n    ...  # your code here\n\n\nfour = ..."
    assert bonus == "## Bonus: three numbers\n\nAdd three of them."
    assert questions.endswith("**1.** (1 point) What is 1 + 1?\n\n*Your answer:*\n\n"
                              "**2.** (1 point) What is 1 + 2?\n\n*Your answer:*")  # fmt: skip


def test_lesson_teachers_notebook_with_points_for_an_exercise_that_is_not_there_is_refused(build, small, small_folder):
    (small_folder / "README.md").write_text(MAP.replace("| 3 | 4 |", "| 3, 1 | 4, 2 |"))
    with pytest.raises(ValueError, match="difficulty for exercise 2"):
        build.notebook(small, "teacher")


def test_lesson_notebooks_are_the_same_bytes_twice_and_hold_no_outputs(build, small):
    once, twice = build.notebook(small, "solved"), build.notebook(small, "solved")
    assert once == twice
    assert [cell.id for cell in once.cells] == [f"cell-0{number}" for number in range(6)]
    assert all(not cell.get("outputs") for cell in once.cells)


def test_lesson_notebook_begins_with_badges_and_an_installation_of_its_own_copy(build, small):
    notebook = build.notebook(small, "exercise", "anna/course")
    colab, kaggle = re.findall(
        r"\[!\[Open in (?:Colab|Kaggle)\]\([^)]+\)\]\((https://[^)]+)\)", notebook.cells[0].source
    )
    path = "anna/course/blob/main/lessons/notebooks/exercise/09_addition.ipynb"
    assert colab == f"https://colab.research.google.com/github/{path}"
    assert kaggle == f"https://kaggle.com/kernels/welcome?src=https://github.com/{path}"
    assert (
        "](https://github.com/anna/course/blob/main/lessons/notebooks/solved/09_addition.ipynb)"
        in notebook.cells[0].source
    )
    assert 'COURSE = "git+https://github.com/anna/course"' in notebook.cells[1].source


def test_lesson_notebook_asks_for_a_tpu_only_where_a_training_program_runs(build, small):
    plain = build.notebook(small, "exercise").metadata
    assert "accelerator" not in plain and plain.colab == {"provenance": []}
    small.write_text(SMALL.replace("def add", "from tlqa_jax.training.finetune_qa import finetune_qa\n\n\ndef add"))
    trains = build.notebook(small, "exercise").metadata
    assert (trains.accelerator, trains.colab.gpuType) == ("TPU", "V5E1")
    assert plain.kaggle.isInternetEnabled and trains.kaggle.isInternetEnabled


SHOWS = """

# %%
import sys
from matplotlib import pyplot as plt
from tlqa_jax.lessons import show
for line in range(900):
    print("line", line)
print("a warning of this machine", file=sys.stderr)
figure, axes = plt.subplots()
show(figure, "09_nothing")
four
"""


def test_lesson_outputs_are_written_short_and_stay_until_the_lesson_changes(
    build, small, small_folder, monkeypatch, capsys
):
    small.write_text(SMALL + SHOWS)

    def main(*arguments):
        monkeypatch.setattr(sys, "argv", ["build.py", *arguments])
        return build.main(), json.loads((small_folder / "notebooks/solved/09_addition.ipynb").read_text())

    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    main()
    _, notebook = main("--run", "--outputs", "09")
    text, figure, value = notebook["cells"][-1]["outputs"]
    lines = "".join(text["text"]).splitlines()
    assert lines[0] == "line 0" and lines[-1] == "line 899" and len("".join(text["text"])) < 4100
    left_out = next(line for line in lines if line.startswith("[..."))
    assert int(re.search(r"\d+", left_out)[0]) == 900 - (len(lines) - 1)
    assert base64.b64decode(figure["data"]["image/png"]).startswith(b"\x89PNG")
    assert "".join(value["text"]) == "4\n"
    assert main("--check") == (0, notebook)
    assert main() == (0, notebook)
    small.write_text(SMALL + SHOWS + "# changed\n")
    assert main("--check")[0] == 1
    assert not any(cell.get("outputs") for cell in main()[1]["cells"])


def test_lesson_large_picture_becomes_small(build):
    import numpy as np
    from PIL import Image

    noise, file = np.random.default_rng(0).integers(0, 256, (300, 400, 3), np.uint8), io.BytesIO()
    Image.fromarray(noise).save(file, "PNG")
    assert len(file.getvalue()) > 300_000
    small = build.small_png(file.getvalue())
    assert len(small) <= 100_000
    width, height = Image.open(io.BytesIO(small)).size
    assert abs(width / height - 4 / 3) < 0.02
    assert build.small_png(small) == small


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
def test_lesson_exercises_have_two_hints_and_a_check(build, lesson):
    exercises = exercises_of(build, lesson)
    assert 2 <= len(exercises) <= 6
    for exercise, solution in exercises:
        ast.parse(exercise)
        assert "..." in exercise
        assert re.search(r"^check\.\w+\(", exercise, re.MULTILINE), "the check is called in the exercise's own cell"
        assert "BLANK" not in exercise + solution and "# Hint" not in exercise + solution
    cells = build.notebook(lesson, "exercise").cells
    handed_out = [exercise for exercise, _ in exercises]
    after = [b.source for a, b in zip(cells, cells[1:], strict=False) if a.source in handed_out]
    assert all(cell.count("<details><summary>Hint ") >= 2 for cell in after)
    teacher = build.written(build.notebook(lesson, "teacher"))
    assert "<details>" not in teacher and len(re.findall(r"\(\d points?\)", teacher)) == len(exercises) + 5


@lessons
def test_lesson_ends_with_a_bonus_and_five_questions_and_their_answers(build, lesson):
    bonus, questions = sources(build.notebook(lesson, "exercise"), "markdown")[-2:]
    assert bonus.startswith("## Bonus: ")
    assert questions.startswith("## Five questions\n")
    one_by_one = re.split(r"^\*\*(\d)\.\*\* ", questions, flags=re.MULTILINE)[1:]
    assert one_by_one[::2] == list("12345")
    for question in one_by_one[1::2]:
        asked, answer = re.fullmatch(
            r"(.+?)\n\n<details><summary>Answer</summary>\n\n(.+?)\n\n</details>\s*", question, re.S
        ).groups()
        assert "?" in asked and len(answer.split()) >= 5


def exercises_of(build, lesson):
    """(cell as handed out, its solution) of each exercise."""
    handed_out, solved = (sources(build.notebook(lesson, variant), "code") for variant in ("exercise", "solved"))
    return [pair for pair in zip(handed_out, solved, strict=True) if pair[0] != pair[1]]


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
