"""Makes the notebooks of lessons/notebooks/ from the lessons, which are percent scripts. Notebooks are never edited.

    python lessons/build.py              writes lessons/notebooks/{exercise,solved}/NN_topic.ipynb
    python lessons/build.py --check      changes nothing, names the notebooks that differ from their script, exits 1
    python lessons/build.py --run        builds nothing, executes the solved notebooks (TLQA_SMOKE=1: in seconds)

Notebooks hold the address of your copy on GitHub, for the badge and for the cell that installs the course. It is that
of git's remote "origin", or what `--repository OWNER/NAME` says. Without either it stays what the notebooks say.

A lesson is `lessons/NN_topic.py`, in jupytext's percent format: `# %% [markdown]` begins text, `# %%` code.
`python lessons/NN_topic.py` runs it from top to bottom with the solutions in place. These are the conventions:

1. **Top.** The first cell is markdown: `# Lesson N: title`, and lines that begin with `**Time**`, `**Know first**` and
   `**You will be able to**`. The badge and the install cell are added before it here.

2. **Exercise.** A markdown cell `## Exercise N: ...` says what to do; the code cell after it has one or more blanks,
   a hint, and ends with its check:

       # %%
       def exact(prediction: str, gold: str) -> bool:
           # Hint: both sides go through `normalize_answer`.
           # BLANK
           return normalize_answer(prediction) == normalize_answer(gold)
           # END BLANK

       check.exact(exact)

   The exercise notebook shows `...  # your code here` for the lines from BLANK to END BLANK, or, where BLANK is
   followed by a colon, what stands there: `# BLANK: shared = ...`. The whole cell without the marks follows as a
   solution that can be unfolded. Script and solved notebook run the solution. A blank takes in the function's
   `return`, so that an untouched one gives None and its check says "the blank is still empty" (tested). A check is
   called in the exercise's own cell; lines that show something afterwards go into the next cell.

3. **Checks** are functions in `tlqa_jax/lessons/TOPIC.py`, imported by the lesson as
   `from tlqa_jax.lessons import attention as check`. They live in the package because a notebook opened alone in Colab
   has nothing but what pip installed. A check calls the learner's function (or takes a value), usually ends in
   `compare(exercise, got, want, {"message naming the misconception": the value it leads to, ...})`, prints one line
   when right and raises `NotYet` otherwise. `tests/lessons/test_lesson_TOPIC.py` holds each check against the right
   solution and at least three wrong ones that run and have the right shape and dtype.

4. **Figures.** `show(figure, "NN_name")` displays inline in a notebook and writes runs/lessons/NN_name.png in a script.

5. **Smoke mode.** `SMOKE` (from TLQA_SMOKE=1) is for fewer steps and smaller sizes, never for skipping a claim that can
   be checked in seconds. `from tlqa_jax.lessons import SMOKE, show`.

6. A lesson writes nothing but below `runs/lessons/`, and it uses no magics: they are no Python.
"""

import argparse
import re
import subprocess
import sys
from pathlib import Path

import jupytext
import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook

PLACEHOLDER = "OWNER/tlqa_jax"  # until somebody builds the notebooks in a clone of their own copy
LESSONS = Path(__file__).resolve().parent
NOTEBOOKS = LESSONS / "notebooks"
VARIANTS = ("exercise", "solved")
PROMISES = ("**Time**", "**Know first**", "**You will be able to**")
BLANK = re.compile(r"^( *)# BLANK(?:: ([^\n]*))?\n(.*?)^ *# END BLANK(?:\n|$)", re.MULTILINE | re.DOTALL)
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
    "colab": {"provenance": []},
}
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


def badge(name: str, variant: str, address: str) -> str:
    colab, path = "https://colab.research.google.com", f"lessons/notebooks/{variant}/{name}.ipynb"
    return f"[![Open in Colab]({colab}/assets/colab-badge.svg)]({colab}/github/{address}/blob/main/{path})"


def solved(source: str) -> str:
    """A code cell without the marks."""
    return BLANK.sub(r"\3", source).rstrip("\n")


def blanked(source: str) -> str:
    """A code cell without the solutions."""
    return BLANK.sub(lambda m: f"{m[1]}{m[2] or '...  # your code here'}\n", source).rstrip("\n")


def unfoldable(source: str) -> str:
    return f"<details><summary>Solution</summary>\n\n```python\n{solved(source)}\n```\n\n</details>"


def notebook(script: Path, variant: str, address: str = PLACEHOLDER) -> nbformat.NotebookNode:
    """The notebook of one lesson, the same bytes on every machine. `address` is OWNER/NAME of the copy on GitHub.

    Raises ValueError for a lesson whose first cell promises nothing, and for a mark without its other half.
    """
    lesson = jupytext.reads(script.read_text(encoding="utf-8"), fmt="py:percent").cells
    if missing := [promise for promise in PROMISES if promise not in lesson[0].source]:
        raise ValueError(f"{script.name}: its first cell lacks {', '.join(missing)}")
    install = INSTALL.replace("REPOSITORY", address)
    cells = [new_markdown_cell(badge(script.stem, variant, address)), new_code_cell(install)]
    for cell in lesson:
        if cell.cell_type == "markdown":
            cells.append(new_markdown_cell(cell.source))
            continue
        if re.search(r"# (END )?BLANK", solved(cell.source)):
            raise ValueError(f"{script.name}: a BLANK without its END BLANK, or the other way round, in\n{cell.source}")
        has_blank = BLANK.search(cell.source) is not None
        cells.append(new_code_cell(blanked(cell.source) if variant == "exercise" else solved(cell.source)))
        if has_blank and variant == "exercise":
            cells.append(new_markdown_cell(unfoldable(cell.source)))
    for number, cell in enumerate(cells):
        cell.id = f"cell-{number:02d}"  # nbformat's own are random
    return new_notebook(cells=cells, metadata=METADATA, nbformat_minor=5)


def all_notebooks(address: str) -> dict[Path, str]:
    """Path -> content of every notebook."""
    return {
        NOTEBOOKS / variant / f"{script.stem}.ipynb": nbformat.writes(notebook(script, variant, address)) + "\n"
        for script in scripts()
        for variant in VARIANTS
    }


def differing(address: str) -> list[Path]:
    """The notebooks that are not what their script makes: changed, missing, or left over from a lesson that is gone."""
    wanted = all_notebooks(address)
    there = {path: path.read_text(encoding="utf-8") for path in NOTEBOOKS.glob("*/*.ipynb")}
    return sorted(path for path in wanted.keys() | there.keys() if wanted.get(path) != there.get(path))


def run(script: Path) -> None:
    """Executes the solved notebook of a lesson in a kernel; a cell that fails raises."""
    from nbclient import NotebookClient

    NotebookClient(notebook(script, "solved"), timeout=3600, kernel_name="python3").execute()


def main() -> int:
    parser = argparse.ArgumentParser(description="Make the notebooks of lessons/notebooks/ from the lessons.")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--check", action="store_true", help="only say which notebooks differ from their script")
    choice.add_argument("--run", action="store_true", help="only execute the solved notebooks")
    parser.add_argument("--repository", help="OWNER/NAME of your copy on GitHub (default: git's remote origin)")
    parser.add_argument("lessons", nargs="*", help="with --run: only lessons with these beginnings, such as 03")
    arguments = parser.parse_args()
    if arguments.run:
        for script in scripts():
            if not arguments.lessons or script.name.startswith(tuple(arguments.lessons)):
                run(script)
                print(f"{script.stem}: runs")
        return 0
    address = built_for() if arguments.check else arguments.repository or repository()
    for path in (changed := differing(address)):
        print(f"{'differs' if arguments.check else 'written'}: {path.relative_to(LESSONS.parent)}")
        if not arguments.check:
            path.unlink(missing_ok=True)
    if arguments.check:
        return 1 if changed else 0
    for path, content in all_notebooks(address).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
    if address == PLACEHOLDER:
        print(f"The notebooks say {PLACEHOLDER}: give --repository OWNER/NAME, or add your copy as git's remote origin")
    return 0


if __name__ == "__main__":
    sys.exit(main())
