"""The figures of lesson 8: rows as the model gets them, accuracy beside guesses, and bars in groups."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.patches import Patch

from tlqa_jax.text.wordpiece import WordPieceTokenizer

KINDS = {
    "first segment": "#dce9f7", "second segment": "#fde3c8", "[CLS], [SEP]": "#bbbbbb", "padding": "#ffffff",
    "masked": "#3b6fb6", "random": "#d62728", "kept": "#2ca02c",
}  # fmt: skip


def draw_rows(axes: Axes, batch: Mapping[str, np.ndarray], rows: Sequence[int], tokenizer: WordPieceTokenizer) -> None:
    """These rows of a batch: what the model sees at each place and, in brackets, what it is asked for."""
    length = batch["tokens"].shape[1]
    picture = np.zeros((len(rows), length), int)
    for i, row in enumerate(rows):
        asked = batch["weights"][row] > 0
        targets = dict(zip(batch["positions"][row][asked].tolist(), batch["targets"][row][asked].tolist(), strict=True))
        tokens, types = (batch[name][row].tolist() for name in ("tokens", "token_types"))
        for place, (token, token_type) in enumerate(zip(tokens, types, strict=True)):
            target = targets.get(place)
            kind = _kind(token, token_type, target, tokenizer)
            picture[i, place] = list(KINDS).index(kind)
            text = "" if kind == "padding" else tokenizer.piece(token)
            text += f"\n({tokenizer.piece(target)})" if kind in ("masked", "random") else ""
            colour = "black" if target is None else "white"
            style = dict(color=colour, fontsize=8, linespacing=0.9, rotation=90, ha="center", va="center")
            axes.text(place, i, text, **style)
    axes.imshow(picture, cmap=ListedColormap(list(KINDS.values())), vmin=0, vmax=len(KINDS) - 1, aspect="auto")
    axes.set_xticks(np.arange(-0.5, length), minor=True)
    axes.set_yticks(np.arange(-0.5, len(rows)), minor=True)
    axes.grid(which="minor", color="white")
    axes.tick_params(which="minor", length=0)
    axes.set(xlabel="position", title="What the model sees (and, in brackets, what it is asked for)")
    handles = [Patch(facecolor=colour, edgecolor="gray", label=name) for name, colour in KINDS.items()]
    axes.legend(handles=handles, ncols=len(KINDS), loc="upper center", bbox_to_anchor=(0.5, -0.08), frameon=False)


def _kind(token: int, token_type: int, target: int | None, tokenizer: WordPieceTokenizer) -> str:
    """One of KINDS. `target` is what is asked for at this place, None if nothing is."""
    if target is not None:
        return "masked" if token == tokenizer.mask_id else "kept" if token == target else "random"
    if token == tokenizer.pad_id:
        return "padding"
    return "[CLS], [SEP]" if token in (tokenizer.cls_id, tokenizer.sep_id) else list(KINDS)[token_type]


def draw_accuracy(axes: Axes, steps: Sequence[int], shares: Sequence[float], guesses: Mapping[str, float]) -> None:
    """The held-out accuracy over the steps, in %, and a dotted line for each guess with its name."""
    axes.plot(steps, 100 * np.array(shares), ".-")
    for label, share in guesses.items():
        axes.axhline(100 * share, color="tab:gray", linestyle=":")
        axes.text(steps[-1], 100 * share + 1, f"{label}, {100 * share:.0f} %", ha="right", color="tab:gray")
    axes.set(xlabel="step", ylabel="held-out accuracy, %", ylim=(0, 103))


def draw_bars(axes: Axes, names: Sequence[str], series: Mapping[str, Sequence[float]]) -> None:
    """For each name a group of bars, one of each series, in %; the shares are between 0 and 1."""
    width = 0.8 / len(series)
    for i, (label, shares) in enumerate(series.items()):
        places = np.arange(len(names)) + width * (i - (len(series) - 1) / 2)
        axes.bar_label(axes.bar(places, 100 * np.array(shares), 0.95 * width, label=label), fmt="%.0f", fontsize=8)
    axes.set_xticks(range(len(names)), names)
