"""Figures inline in a notebook, as PNG files from a script; and the switch that makes a lesson run in seconds."""

import os
import sys
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

SMOKE = os.environ.get("TLQA_SMOKE") == "1"  # fewer steps and smaller sizes, to see that a lesson runs
FOLDER = Path("runs/lessons")  # under the working directory


def in_notebook() -> bool:
    """Whether this runs in a Jupyter kernel (Colab's included) rather than as a script."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    return shell is not None and hasattr(shell, "kernel")


if not in_notebook():
    matplotlib.use("Agg")  # a script writes files and opens no window


def show(figure: Figure, name: str) -> None:
    """Displays `figure` in a notebook; from a script, writes it to runs/lessons/NAME.png. Closes it either way."""
    from matplotlib import pyplot  # here and not above: it would fix the backend before the line that chooses it

    if in_notebook():
        from IPython.display import display

        display(figure)
    else:
        FOLDER.mkdir(parents=True, exist_ok=True)
        figure.savefig(FOLDER / f"{name}.png", dpi=120, bbox_inches="tight")
        print(f"figure: {FOLDER / name}.png")
    pyplot.close(figure)
