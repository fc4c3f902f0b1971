"""What a run shows and writes: metrics that survive a crash, a loss that is no number."""

import json
import math
from pathlib import Path

import pytest

from tlqa_jax.training.progress import Progress, TrainingDiverged, draw_curves, read_metrics

def train(progress: Progress, step: int, loss: float = 2.5, **changes) -> None:
    numbers = dict(gradient_norm=1.0, learning_rate=1e-3, tokens_per_step=100, latest=lambda *_: None) | changes
    progress.train(step, loss=loss, **numbers)


def test_lines_where_there_is_no_terminal(tmp_path, capsys):
    with Progress(tmp_path, "fine-tuning", 4) as progress:
        train(progress, 2)
        progress.evaluated(4, {"loss": 0.5, "em": 61.25, "f1": 70.0, "f1_low": 65.0})
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("fine-tuning 2/4  loss 2.500  lr 1.0e-03  ") and first.endswith("tokens/s")
    assert second == "fine-tuning 4/4  held out: loss 0.500  EM 61.2  F1 70.0"
    rows = read_metrics(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows] == [2, 4]
    assert rows[1]["eval_f1_low"] == 65.0


def test_quiet_shows_nothing_and_writes_all(tmp_path, capsys):
    with Progress(tmp_path, "fine-tuning", 4, quiet=True) as progress:
        train(progress, 4)
    assert capsys.readouterr().out == ""
    assert len(read_metrics(tmp_path / "metrics.jsonl")) == 1


def test_the_speed_is_that_of_the_steps_since_the_last_report_or_evaluation(tmp_path, monkeypatch):
    clock = iter([0.0, 2.0, 9.0, 10.0])
    monkeypatch.setattr("tlqa_jax.training.progress.time.perf_counter", lambda: next(clock))
    with Progress(tmp_path, "fine-tuning", 40, quiet=True) as progress:
        train(progress, 20)  # 20 steps of 100 tokens in 2 s
        progress.evaluated(30, {"loss": 1.0})  # at 9 s; what came before it is not told apart from training
        train(progress, 40)  # 10 steps in 1 s
    assert [row.get("tokens_per_second") for row in read_metrics(tmp_path / "metrics.jsonl")] == [1000, None, 1000]


def test_a_resumed_run_drops_what_came_after_its_checkpoint(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 2, "loss": 3.0}\n{"step": 4, "loss": 2.0}\n{"step": 6, "lo')
    assert [row["step"] for row in read_metrics(path)] == [2, 4]
    with Progress(tmp_path, "pretraining", 9, start=2, quiet=True) as progress:
        train(progress, 5)
    assert [row["step"] for row in read_metrics(path)] == [2, 5]


@pytest.mark.parametrize(
    "numbers, named",
    [
        (dict(loss=math.nan), "the loss is nan"),
        (dict(loss=math.inf), "the loss is inf"),
        (dict(gradient_norm=math.nan), "the gradient norm is nan"),
    ],
)
def test_a_number_that_is_none_stops_and_names_the_checkpoint(numbers, named, tmp_path):
    afresh = f"start a new run with --start-from {tmp_path} --out … and a lower --learning-rate"
    with Progress(tmp_path, "pretraining", 9, quiet=True) as progress:
        with pytest.raises(TrainingDiverged, match=f"{named} at step 1; no checkpoint is known to be good") as raised:
            train(progress, 1, **numbers, latest=checkpoints(0))
        assert raised.value.good is None
        train(progress, 3)
        for saved in (checkpoints(2), checkpoints(2, 4)):
            good = f"{tmp_path} holds the model of step 2, the last good checkpoint: {afresh}"
            with pytest.raises(TrainingDiverged, match=f"{named} at step 5; {good}") as raised:
                train(progress, 5, **numbers, latest=saved)
            assert raised.value.good == 2
        with pytest.raises(TrainingDiverged, match="no checkpoint is known to be good"):
            train(progress, 5, **numbers, latest=checkpoints(3))  # written after the update whose loss was the last one
    assert [row["step"] for row in read_metrics(tmp_path / "metrics.jsonl")] == [3]


def checkpoints(*steps: int):
    """`Checkpoints.latest` of a run with these."""

    def latest(before: int | None = None):
        kept = [step for step in steps if before is None or step < before]
        return Path(f"runs/x/{max(kept)}") if kept else None

    return latest


def test_a_resumed_run_knows_which_checkpoints_are_good(tmp_path):
    rows = [{"step": 2, "loss": 3.0}, {"step": 4, "loss": 2.0}, {"step": 4, "eval_loss": 2.5}, {"step": 6, "loss": 1.0}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with Progress(tmp_path, "pretraining", 9, start=4, quiet=True) as progress:
        with pytest.raises(TrainingDiverged, match="holds the model of step 3, the last good checkpoint"):
            train(progress, 5, math.nan, latest=checkpoints(1, 3, 4))


def test_curves_are_drawn(tmp_path):
    rows = [{"step": 1, "loss": 3.0}, {"step": 2, "loss": 2.0, "eval_loss": 2.5}]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert draw_curves(tmp_path).read_bytes().startswith(b"\x89PNG")
