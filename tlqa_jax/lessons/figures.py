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


def draw_boxes(axes, boxes: dict[str, tuple[float, float, str]], arrows: list[tuple[str, str, str]]) -> None:
    """Boxes {text: (x, y, colour)} and arrows (from, to, label) between them, in axes without a frame."""
    drawn = {}
    for text, (x, y, colour) in boxes.items():
        style = dict(boxstyle="round,pad=0.5", facecolor=colour, edgecolor="gray")
        drawn[text] = axes.text(x, y, text, ha="center", va="center", fontsize=10, bbox=style).get_bbox_patch()
    for start, end, label in arrows:
        (x0, y0, _), (x1, y1, _) = boxes[start], boxes[end]
        style = dict(arrowstyle="-|>", color="black", patchA=drawn[start], patchB=drawn[end], linewidth=1.5)
        axes.annotate("", (x1, y1), (x0, y0), arrowprops=style)
        axes.text((x0 + x1) / 2, (y0 + y1) / 2, f"  {label}", va="center", fontsize=9, style="italic")
    axes.axis("off")
