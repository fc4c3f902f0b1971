"""What a run shows and writes while it trains: the progress line, `metrics.jsonl`, `curves.png`."""

import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Table

from tlqa_jax.errors import UserError
from tlqa_jax.text.atomic_write import write_atomically

METRICS = "metrics.jsonl"


class TrainingDiverged(UserError):
    """The loss or the gradient is no longer a finite number. `good`: the step of the last good checkpoint, if any."""

    good: int | None = None


def read_metrics(path: Path) -> list[dict]:
    """The rows of a `metrics.jsonl`. A last line cut short by a crash is left out."""
    rows = []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return rows


class Progress:
    """A context in which a loop reports: a bar on a terminal, a line per report elsewhere; always `metrics.jsonl`.

    Rows of steps after `start` (written by a run that was killed before its next checkpoint) are dropped first. In a
    run of several processes only the first one writes and shows.
    """

    def __init__(self, directory: Path, title: str, steps: int, *, start: int = 0, quiet: bool = False):
        self.path, self.title, self.steps, self.start = Path(directory) / METRICS, title, steps, start
        self.chief = jax.process_index() == 0
        self.console = Console(quiet=quiet or not self.chief, soft_wrap=True)
        self.bar = None

    def __enter__(self) -> "Progress":
        if self.chief:
            self._drop(lambda row: row["step"] > self.start)
            self.file = self.path.open("a")
        rows = read_metrics(self.path)
        self.finite = max((row["step"] for row in rows if "loss" in row and row["step"] <= self.start), default=0)
        if self.console.is_terminal and not self.console.quiet:
            steps = TextColumn("{task.description} {task.completed:.0f}/{task.total:.0f}")
            columns = (BarColumn(), steps, TextColumn("{task.fields[status]}"), TimeRemainingColumn())
            self.bar = Bar(*columns, console=self.console, speed_estimate_period=300)
            self.bar.start()
            self.task = self.bar.add_task(self.title, total=self.steps, completed=self.start, status="compiling")
        self.last_time, self.last_step = time.perf_counter(), self.start
        return self

    def __exit__(self, *_):
        if self.bar:
            self.bar.stop()
        if self.chief:
            self.file.close()

    def train(
        self, step: int, *, loss: float, gradient_norm: float, learning_rate: float, tokens_per_step: int,
        latest: Callable[..., Path | None],
    ) -> None:  # fmt: skip
        """Report training up to `step`. Raises TrainingDiverged, naming a good checkpoint, if a number is not finite.

        `latest()` is the newest checkpoint, `latest(step)` the newest of fewer steps (`Checkpoints.latest`). A step's
        loss is that of the parameters before its update: a checkpoint is good once a later step's loss was finite.
        """
        for name, value in (("loss", loss), ("gradient norm", gradient_norm)):
            if not math.isfinite(value):
                good, advice = latest(self.finite), "no checkpoint is known to be good: start afresh with"
                if good:
                    advice = f"{self.path.parent} holds the model of step {good.name}, the last good checkpoint: start a "
                    advice += f"new run with --start-from {self.path.parent} --out … and"
                error = TrainingDiverged(
                    f"{self.title}: the {name} is {value} at step {step}; {advice} a lower --learning-rate"
                )
                error.good = int(good.name) if good else None
                raise error
        self.finite = step
        now = time.perf_counter()
        speed = (step - self.last_step) * tokens_per_step / (now - self.last_time)
        self.last_time, self.last_step = now, step
        self._write(dict(
            step=step, loss=loss, gradient_norm=gradient_norm, learning_rate=learning_rate,
            tokens_per_second=round(speed),
        ))
        status = [f"loss {loss:.3f}", f"lr {learning_rate:.1e}", f"{speed:,.0f} tokens/s"]
        if self.bar:
            self.bar.update(self.task, completed=step, status="  ".join(status))
        else:
            self.console.print("  ".join([f"{self.title} {step}/{self.steps}", *status]), highlight=False)

    def evaluated(self, step: int, metrics: dict[str, Any]) -> None:
        """Report an evaluation at `step`; the time it took does not count into the speed of training.

        Metrics are shown in a line. {task: its metrics} is shown as a table and written as "eval_TASK_METRIC", with
        the mean of the tasks' losses as "eval_loss".
        """
        if self.chief and step == self.start:  # the same evaluation again
            self.file.close()
            self._drop(lambda row: row["step"] == step and any(name.startswith("eval_") for name in row))
            self.file = self.path.open("a")
        begin, table = f"{self.title} {step}/{self.steps}", None
        if any(isinstance(value, dict) for value in metrics.values()):
            table = score_table(metrics)
            loss = sum(of["loss"] for of in metrics.values()) / len(metrics)  # the mean over tasks, not examples
            flat = {f"{task}_{name}": value for task, of in metrics.items() for name, value in of.items()}
            metrics = {"loss": loss, **flat}
        else:
            begin += "  held out: " + "  ".join(
                _written(name, value) for name, value in metrics.items() if not name.endswith(("_low", "_high"))
            )
        self._write(dict(step=step, **{f"eval_{name}": value for name, value in metrics.items()}))
        self.console.print(begin, highlight=False)
        if table is not None:
            self.console.print(table, highlight=False)
        self.last_time, self.last_step = time.perf_counter(), step

    def _drop(self, unwanted: Callable[[dict], bool]) -> None:
        kept = [row for row in read_metrics(self.path) if not unwanted(row)]
        write_atomically(self.path, "".join(json.dumps(row) + "\n" for row in kept))

    def _write(self, row: dict) -> None:
        if self.chief:
            self.file.write(json.dumps(row) + "\n")
            self.file.flush()


def _written(name: str, value: float, places: int = 3) -> str:
    """("em", 61.25) -> "EM 61.2": percentages with one decimal, other numbers with `places`."""
    words = name.replace("_", " ")
    if name in ("em", "f1"):
        return f"{words.upper()} {value:.1f}"
    return f"{words} {value:.{places}f}"


def score_table(scores: dict[str, dict[str, float]]) -> Table:
    """One line for each task: its loss and its metrics."""
    table = Table("held out", "loss", "score", box=None, pad_edge=False)
    for task, metrics in scores.items():
        shown = {name: value for name, value in metrics.items() if name != "loss" and not name.endswith(("_low", "_high"))}
        table.add_row(task, f"{metrics['loss']:.3f}", "  ".join(_written(*metric, places=1) for metric in shown.items()))
    return table


def draw_curves(directory: Path) -> Path:
    """Draw the run's loss, training and held out, against the step into `curves.png`."""
    from matplotlib.figure import Figure  # not pyplot: no window, no global state

    rows = read_metrics(Path(directory) / METRICS)
    axes = (figure := Figure(figsize=(6, 4), layout="constrained")).subplots()
    for name, label, style in (("loss", "training", "-"), ("eval_loss", "held out", "o-")):
        points = [(row["step"], row[name]) for row in rows if name in row]
        if points:
            axes.plot(*zip(*points), style, label=label, markersize=3)
    axes.set(xlabel="step", ylabel="loss (nats)", title=Path(directory).name)
    axes.grid(alpha=0.3)
    axes.legend()
    path = Path(directory) / "curves.png"
    figure.savefig(path, dpi=120)
    return path
