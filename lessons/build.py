"""Makes the notebooks of lessons/notebooks/ from the lessons, which are percent scripts. Notebooks are never edited.

    python lessons/build.py              writes lessons/notebooks/{exercise,solved}/NN_topic.ipynb
    python lessons/build.py --check      changes nothing, names the notebooks that differ from their script, exits 1
    python lessons/build.py --run        builds nothing, executes the solved notebooks (TLQA_SMOKE=1: in seconds)
    python lessons/build.py --run --outputs 03    also writes what they printed and drew into them, shortened
    python lessons/build.py --teacher DIR         notebooks to hand out and mark: with points, without hints and answers

Outputs in a solved notebook stay until its lesson changes, and `--check` does not look at them.

Notebooks hold the address of your copy on GitHub, for the badge and for the cell that installs the course. It is that
of git's remote "origin", or what `--repository OWNER/NAME` says. Without either it stays what the notebooks say.

A lesson is `lessons/NN_topic.py`, in jupytext's percent format: `# %% [markdown]` begins text, `# %%` code.
`python lessons/NN_topic.py` runs it from top to bottom with the solutions in place. These are the conventions:

1. **Top.** The first cell is markdown: `# Lesson N: title`, and lines that begin with `**Time**`, `**Know first**` and
   `**You will be able to**`. The badge and the install cell are added before it here.

2. **Exercise.** A markdown cell `## Exercise N: ...` says what to do; the code cell after it has one or more blanks,
   two hints (the idea, then nearly the code), and ends with its check:

       # %%
       def exact(prediction: str, gold: str) -> bool:
           # Hint: capitals and full stops must not count, on either side.
           # Hint: compare `normalize_answer(...)` of both.
           # BLANK
           return normalize_answer(prediction) == normalize_answer(gold)
           # END BLANK

       check.exact(exact)

   The exercise notebook shows `...  # your code here` for the lines from BLANK to END BLANK, or, where BLANK is
   followed by a colon, what stands there: `# BLANK: shared = ...`. The hints follow the cell and can be unfolded, one
   by one; a hint goes on in the comment lines after it. Script and solved notebook run the solution. A blank takes in
   the function's `return`, so that an untouched one gives None and its check says "the blank is still empty" (tested).
   A check is called in the exercise's own cell; lines that show something afterwards go into the next cell.

3. **Checks** are functions in `tlqa_jax/lessons/TOPIC.py`, imported by the lesson as
   `from tlqa_jax.lessons import attention as check`. They live in the package because a notebook opened alone in Colab
   has nothing but what pip installed. A check calls the learner's function (or takes a value), usually ends in
   `compare(exercise, got, want, {"message naming the misconception": the value it leads to, ...})`, prints one line
   when right and raises `NotYet` otherwise. `tests/lessons/test_lesson_TOPIC.py` holds each check against the right
   solution and at least three wrong ones that run and have the right shape and dtype.

4. **End.** Two markdown cells: `## Bonus`, a task without a check, and `## Five questions`, each of which begins with
   its number, `**1.**`. A quotation (lines that begin with `>`) after the task is a hint, after a question its answer.
   Notebooks fold it. Points are the difficulty that README.md gives an exercise, and 1 for each question.

5. **Figures.** `show(figure, "NN_name")` displays inline in a notebook and writes runs/lessons/NN_name.png in a script.

6. **Smoke mode.** `SMOKE` (from TLQA_SMOKE=1) is for fewer steps and smaller sizes, never for skipping a claim that can
   be checked in seconds. `from tlqa_jax.lessons import SMOKE, show`.

7. A lesson writes nothing but below `runs/lessons/`, and it uses no magics: they are no Python.
"""

import argparse
import base64
import io
import json
import re
import subprocess
import sys
from pathlib import Path

import jupytext
import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

PLACEHOLDER = "OWNER/tlqa_jax"  # until somebody builds the notebooks in a clone of their own copy
LESSONS = Path(__file__).resolve().parent
NOTEBOOKS = LESSONS / "notebooks"
PERCENT = {"extension": ".py", "format_name": "percent", "comment_magics": False}  # "# begin?" is no call for help
VARIANTS = ("exercise", "solved")  # and "teacher", which is written elsewhere
PROMISES = ("**Time**", "**Know first**", "**You will be able to**")
BLANK = re.compile(r"^( *)# BLANK(?:: ([^\n]*))?\n(.*?)^ *# END BLANK(?:\n|$)", re.MULTILINE | re.DOTALL)
HINT = re.compile(r"^ *# Hint: ([^\n]*(?:\n *# (?!Hint: |BLANK|END BLANK)[^\n]*)*)\n", re.MULTILINE)
QUOTATION = re.compile(r"^>[^\n]*(?:\n>[^\n]*)*", re.MULTILINE)
FOLDED = {"## Bonus": "Hint", "## Five questions": "Answer"}  # the cells with quotations, and what these are
QUESTION = re.compile(r"^\*\*\d\.\*\*", re.MULTILINE)
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
    "kaggle": {"isInternetEnabled": True, "language": "python", "sourceType": "notebook"},  # pip needs the internet
}
COLAB = {"colab": {"provenance": []}}
COLAB_TPU = {"accelerator": "TPU", "colab": {"gpuType": "V5E1", "provenance": []}}  # Colab's names for one v5e chip
LARGEST_PNG, LONGEST_TEXT = 100_000, 4_000  # bytes and characters of an output
INSTALL = """\
# Installs the course where it is missing. What Colab has tuned to its hardware stays exactly as it is: pip is told to
# keep these versions, so it would rather fail than replace jax.
import importlib.util
from importlib.metadata import distributions
from pathlib import Path

COURSE = "git+https://github.com/REPOSITORY"  # or the path of a copy's folder


class NotSet(Exception):
    def _render_traceback_(self):  # one line instead of pip's twenty
        return [str(self)]


if importlib.util.find_spec("tlqa_jax") is None:
    if "github.com/OWNER/" in COURSE:
        raise NotSet("COURSE above has no address yet. The teacher sets it: build the notebooks in a GitHub clone.")
    kept = {"jax", "jaxlib", "flax", "optax", "numpy", "jax-cuda12-plugin", "jax-cuda12-pjrt", "libtpu"}
    installed = [(d.name.lower().replace("_", "-"), d.version) for d in distributions()]
    Path("kept.txt").write_text("".join(f"{name}=={version}\\n" for name, version in installed if name in kept))
    %pip install --quiet --constraint kept.txt {COURSE}"""


def scripts() -> list[Path]:
    return sorted(LESSONS.glob("[0-9][0-9]_*.py"))


def repository() -> str:
    """OWNER/NAME on GitHub, of git's remote; where there is none, what the notebooks say already."""
    remote = subprocess.run(["git", "remote", "get-url", "origin"], cwd=LESSONS, capture_output=True, text=True).stdout
    found = re.search(r"github\.com[:/]([\w.-]+/[\w.-]+?)(\.git)?/?$", remote.strip())
    return found[1] if found else built_for()


def built_for() -> str:
    """OWNER/NAME as the notebooks have it."""
    for path in sorted(NOTEBOOKS.glob("*/*.ipynb")):
        if found := re.search(r"git\+https://github\.com/([\w.-]+/[\w.-]+)", path.read_text(encoding="utf-8")):
            return found[1]
    return PLACEHOLDER


def badges(name: str, variant: str, address: str) -> str:
    colab, path = "https://colab.research.google.com", f"{address}/blob/main/lessons/notebooks/{variant}/{name}.ipynb"
    kaggle = f"https://kaggle.com/kernels/welcome?src=https://github.com/{path}"
    badges = (
        f"[![Open in Colab]({colab}/assets/colab-badge.svg)]({colab}/github/{path}) "
        f"[![Open in Kaggle](https://kaggle.com/static/images/open-in-kaggle.svg)]({kaggle})"
    )
    if variant == "solved":
        return badges
    solved = f"https://github.com/{path.replace('/exercise/', '/solved/')}"
    return f"{badges}\n\nHints unfold below each exercise. Its solution is in [the solved notebook]({solved})."


def hints(source: str) -> list[str]:
    """The hints of a code cell, each in one line."""
    return [re.sub(r"\n *# ", " ", hint) for hint in HINT.findall(source)]


def solved(source: str) -> str:
    """A code cell without hints and marks."""
    return BLANK.sub(r"\3", HINT.sub("", source)).rstrip("\n")


def blanked(source: str) -> str:
    """A code cell without hints and solutions."""
    return BLANK.sub(lambda m: f"{m[1]}{m[2] or '...  # your code here'}\n", HINT.sub("", source)).rstrip("\n")


def folded(title: str, text: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{text}\n\n</details>"


def unfoldable_hints(source: str) -> str:
    titles = ("Hint 1: the idea", "Hint 2: nearly the code")
    its = hints(source)
    named = titles if len(its) == 2 else [f"Hint {number + 1}" for number in range(len(its))]
    return "\n\n".join(map(folded, named, its))


def markdown(source: str, variant: str) -> str:
    """A markdown cell: at the end of a lesson hints and answers are folded, and left out of a teacher's notebook."""
    name = next((name for heading, name in FOLDED.items() if source.startswith(heading)), None)
    if name is None:
        return source
    fold = lambda quotation: folded(name, re.sub(r"^> ?", "", quotation[0], flags=re.MULTILINE))
    if variant == "teacher":
        fold = lambda _: "" if name == "Hint" else "*Your answer:*"
    return QUOTATION.sub(fold, source).rstrip("\n")


def points(number: int) -> list[int]:
    """The difficulty of each exercise of a lesson, from the table in README.md: these are its points."""
    table = (LESSONS / "README.md").read_text(encoding="utf-8").split("## The exercises")[1].split("\n## ")[0]
    row = re.search(rf"^\| {number} \| [^|]+ \| ([^|]+) \|", table, re.MULTILINE)
    return [int(difficulty) for difficulty in row[1].split(",")]


def with_points(cells: list[str], number: int) -> list[str]:
    """The markdown cells of a teacher's notebook with the points of each exercise and question, and their sum."""
    of_exercises, questions = points(number), sum(len(QUESTION.findall(cell)) for cell in cells)
    for exercise, its in enumerate(of_exercises, 1):
        heading = re.compile(rf"^## Exercise {exercise}: .*$", re.MULTILINE)
        if not any(map(heading.search, cells)):
            raise ValueError(f"lesson {number}: README.md has a difficulty for exercise {exercise}, which is not there")
        cells = [heading.sub(rf"\g<0> ({its} point{'s' * (its > 1)})", cell) for cell in cells]
    cells = [QUESTION.sub(r"\g<0> (1 point)", cell) for cell in cells]
    total = f"**Points** {sum(of_exercises) + questions}: {sum(of_exercises)} for exercises, {questions} for questions."
    return [re.sub(r"^# Lesson .*$", rf"\g<0>\n\n{total}", cells[0], flags=re.MULTILINE), *cells[1:]]


def notebook(script: Path, variant: str, address: str = PLACEHOLDER) -> nbformat.NotebookNode:
    """The notebook of one lesson, the same bytes on every machine. `address` is OWNER/NAME of the copy on GitHub.

    Raises ValueError for a lesson whose first cell promises nothing, and for a mark without its other half.
    """
    text = script.read_text(encoding="utf-8")
    lesson = jupytext.reads(text, fmt=PERCENT).cells
    if missing := [promise for promise in PROMISES if promise not in lesson[0].source]:
        raise ValueError(f"{script.name}: its first cell lacks {', '.join(missing)}")
    cells = [] if variant == "teacher" else [new_markdown_cell(badges(script.stem, variant, address))]
    cells.append(new_code_cell(INSTALL.replace("REPOSITORY", address)))
    texts = [markdown(cell.source, variant) for cell in lesson if cell.cell_type == "markdown"]
    texts = iter(with_points(texts, int(script.stem[:2])) if variant == "teacher" else texts)
    for cell in lesson:
        if cell.cell_type == "markdown":
            cells.append(new_markdown_cell(next(texts)))
            continue
        if re.search(r"# (END )?BLANK", solved(cell.source)):
            raise ValueError(f"{script.name}: a BLANK without its END BLANK, or the other way round, in\n{cell.source}")
        cells.append(new_code_cell(solved(cell.source) if variant == "solved" else blanked(cell.source)))
        if variant == "exercise" and hints(cell.source):
            cells.append(new_markdown_cell(unfoldable_hints(cell.source)))
    for number, cell in enumerate(cells):
        cell.id = f"cell-{number:02d}"  # nbformat's own are random
    trains = "from tlqa_jax.training" in text
    return new_notebook(cells=cells, metadata=METADATA | (COLAB_TPU if trains else COLAB), nbformat_minor=5)


def written(content: nbformat.NotebookNode) -> str:
    return nbformat.writes(content) + "\n"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def all_notebooks(address: str) -> dict[Path, str]:
    """Path -> content of every notebook."""
    return {
        NOTEBOOKS / variant / f"{script.stem}.ipynb": written(notebook(script, variant, address))
        for script in scripts()
        for variant in VARIANTS
    }


def without_outputs(text: str) -> str:
    """A notebook's file without what its cells printed and drew."""
    try:
        content = json.loads(text)
    except ValueError:
        return text  # edited until it is no notebook
    for cell in content["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
    return json.dumps(content, ensure_ascii=False, indent=1, sort_keys=True) + "\n"  # as nbformat writes


def differing(address: str) -> list[Path]:
    """The notebooks that are not what their script makes: changed, missing, or left over from a lesson that is gone."""
    wanted = all_notebooks(address)
    there = {path: without_outputs(path.read_text(encoding="utf-8")) for path in NOTEBOOKS.glob("*/*.ipynb")}
    return sorted(path for path in wanted.keys() | there.keys() if wanted.get(path) != there.get(path))


def run(script: Path, address: str = PLACEHOLDER) -> nbformat.NotebookNode:
    """Executes the solved notebook of a lesson in a kernel; a cell that fails raises. Returns it with short outputs."""
    from nbclient import NotebookClient

    content = notebook(script, "solved", address)
    executed = NotebookClient(notebook(script, "solved", address), timeout=3600, kernel_name="python3").execute()
    for cell, ran in zip(content.cells, executed.cells, strict=True):
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = short_outputs(ran.outputs), ran.execution_count
    return content


def short_outputs(outputs: list[nbformat.NotebookNode]) -> list[nbformat.NotebookNode]:
    """What is worth keeping of a cell's outputs: figures as small PNGs, and the beginning and end of what is printed.

    Lines printed one after another become one text. Warnings (stderr) are left out: they name paths of a machine.
    """
    kept, text = [], ""

    def close():
        nonlocal text
        if text:
            kept.append(new_output("stream", name="stdout", text=short_text(text)))
        text = ""

    for output in outputs:
        data = output.get("data", {})
        if "image/png" in data:
            close()
            png = base64.b64encode(small_png(base64.b64decode(data["image/png"]))).decode()
            kept.append(new_output("display_data", {"image/png": png}))
        elif output.output_type == "stream" and output.name == "stdout":
            text += output.text
        elif "text/plain" in data:
            text += data["text/plain"].rstrip("\n") + "\n"
    close()
    return kept


def short_text(text: str) -> str:
    """The first and the last lines of a long text."""
    half = LONGEST_TEXT // 2
    if len(text) <= LONGEST_TEXT:
        return text
    begin, end = text[:half].rpartition("\n")[0], text[-half:].partition("\n")[2]
    return f"{begin}\n[... {text.count(chr(10)) - begin.count(chr(10)) - end.count(chr(10)) - 1} lines ...]\n{end}"


def small_png(png: bytes) -> bytes:
    """The same picture in at most LARGEST_PNG bytes: with 256 colours, then smaller and smaller."""
    from PIL import Image

    picture = Image.open(io.BytesIO(png)).convert("RGB")
    while len(png) > LARGEST_PNG:
        file = io.BytesIO()
        picture.quantize(256).save(file, "PNG", optimize=True)
        png, picture = file.getvalue(), picture.resize((picture.width * 3 // 4, picture.height * 3 // 4))
    return png


def main() -> int:
    parser = argparse.ArgumentParser(description="Make the notebooks of lessons/notebooks/ from the lessons.")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--check", action="store_true", help="only say which notebooks differ from their script")
    choice.add_argument("--run", action="store_true", help="only execute the solved notebooks")
    choice.add_argument("--teacher", type=Path, metavar="DIR", help="only write notebooks with points, without hints")
    parser.add_argument("--outputs", action="store_true", help="with --run: write the outputs into the notebooks")
    parser.add_argument("--repository", help="OWNER/NAME of your copy on GitHub (default: git's remote origin)")
    parser.add_argument("lessons", nargs="*", help="with --run: only lessons with these beginnings, such as 03")
    arguments = parser.parse_args()
    if arguments.lessons and not arguments.run or arguments.outputs and not arguments.run:
        parser.error("lessons and --outputs go with --run")
    address = built_for() if arguments.check or arguments.run else arguments.repository or repository()
    if arguments.run:
        for script in scripts():
            if not arguments.lessons or script.name.startswith(tuple(arguments.lessons)):
                executed = run(script, address)
                if arguments.outputs:
                    write(NOTEBOOKS / "solved" / f"{script.stem}.ipynb", written(executed))
                print(f"{script.stem}: runs")
        return 0
    if arguments.teacher:
        for script in scripts():
            write(path := arguments.teacher / f"{script.stem}.ipynb", written(notebook(script, "teacher", address)))
            print(f"written: {path}")
        return 0
    wanted = all_notebooks(address)
    for path in (changed := differing(address)):
        print(f"{'differs' if arguments.check else 'written'}: {path.relative_to(LESSONS.parent)}")
        if arguments.check:
            continue
        path.unlink(missing_ok=True)
        if path in wanted:
            write(path, wanted[path])
    if arguments.check:
        return 1 if changed else 0
    if address == PLACEHOLDER:
        print(f"The notebooks say {PLACEHOLDER}: give --repository OWNER/NAME, or add your copy as git's remote origin")
    return 0


if __name__ == "__main__":
    sys.exit(main())
