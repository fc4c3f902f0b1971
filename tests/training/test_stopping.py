"""A run that is asked to stop, damaged, deleted under its program, or wanted by two: nothing is lost, and it says so."""

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tlqa_jax.checkpoints.load import load
from tlqa_jax.checkpoints.run_lock import LOCK, lock_run, unlock_run
from tlqa_jax.errors import UserError
from tlqa_jax.models.functional import as_function
from tlqa_jax.training.loop import TrainingRun
from tlqa_jax.training.stopping import Stopped, StopSignals

from .comparing import assert_same_arrays, metrics, saved_state
from .programs import PROGRAMS

STEPS = 9


class Job(NamedTuple):
    """A training program whose steps compile nothing: step n adds n to all parameters."""

    settings: Any
    model: Any
    tokenizer: Any

    def __call__(self, at_step=lambda step: None, at_evaluation=lambda: None, **changes):
        """Train. `at_step` is called in each step, `at_evaluation` in each evaluation."""
        run = TrainingRun("pretrain-mlm", replace(self.settings, **changes))
        if run.is_complete:
            return run.path
        run.start(self.model, self.tokenizer, {})
        state = {"params": as_function(self.model)[1], "opt_state": (jnp.float32(0),), "step": np.int32(0)}

        def evaluate(params):
            at_evaluation()
            return {"loss": float(jax.tree.leaves(params)[0].mean())}

        with run.training(state, STEPS, lambda step: 0.1, evaluate) as loop:
            for step in range(loop.start + 1, STEPS + 1):
                at_step(step)
                params = jax.tree.map(lambda x, step=step: x + np.float32(step), loop.state["params"])
                loop.state = {"params": params, "opt_state": loop.state["opt_state"], "step": loop.state["step"] + 1}
                loop.finish_step(step, {"loss": jnp.float32(1 / step), "gradient_norm": jnp.float32(1)}, 8)
        return run.path


@pytest.fixture(autouse=True)
def ctrl_c_is_heard():
    """A job in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def job(files, tmp_path):
    pretrained, settings = load(files / "bert"), PROGRAMS["pretrain_mlm"].make(files)
    settings = replace(settings, out=str(tmp_path / "run"), save_every=3, evaluate_every=5, log_every=2)
    return Job(settings, pretrained.model(), pretrained.tokenizer)


@pytest.fixture
def whole(job, tmp_path):
    """What a run that nobody disturbs leaves behind: the newest checkpoint and the metrics."""
    run = job(out=str(tmp_path / "whole"))
    return saved_state(run), [row for row in metrics(run) if row["step"] in (2, 4, 5, 6, 8, 9)]


def assert_whole(run, whole):
    assert_same_arrays(saved_state(run), whole[0])
    assert [row for row in metrics(run) if row["step"] in (2, 4, 5, 6, 8, 9)] == whole[1]
    assert not (run / LOCK).exists()


def send(number, at=4):
    return lambda step=at: os.kill(os.getpid(), number) if step == at else None


# --- asked to stop


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_step_end_and_saves_it(job, whole, number):
    before = signal.getsignal(number)
    with pytest.raises(Stopped, match="^stopped after step 4, which is saved$") as stopped:
        job(at_step=send(number))
    assert stopped.value.signal == number and signal.getsignal(number) is before
    run = job()
    assert {path.name for path in (run / "checkpoints").glob("[0-9]*")} == {"4", "6", "9"}
    assert_whole(run, whole)


def test_a_signal_breaks_an_evaluation_off_which_is_made_up_for(job, whole):
    with pytest.raises(Stopped, match="^stopped in the evaluation after step 5, which is saved$"):
        job(at_evaluation=send(signal.SIGTERM))
    assert_whole(job(), whole)


def test_a_second_signal_ends_the_program_at_once(job):
    def twice(step):
        if step == 4:
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt) as interrupt:
        job(at_step=twice)
    assert not isinstance(interrupt.value, Stopped)


def test_an_ignored_signal_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with StopSignals() as stop:
            os.kill(os.getpid(), signal.SIGINT)
        assert stop.received == 0
    finally:
        signal.signal(signal.SIGINT, before)


# --- damaged


def flip(checkpoint):
    """Change forty bytes in the middle of each file that holds arrays."""
    for path in checkpoint.glob("**/d/*"):
        content = bytearray(path.read_bytes())
        middle = slice(len(content) // 2, len(content) // 2 + 40)
        content[middle] = bytes(255 - byte for byte in content[middle])
        path.write_bytes(content)


def largest_file(folder):
    return max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def stopped_at_8(job):
    with pytest.raises(Stopped):
        job(at_step=send(signal.SIGTERM, at=8))
    return job.settings.out


@pytest.mark.parametrize("damage", ["bytes", "half", "no metadata"])
def test_a_damaged_checkpoint_costs_one_interval(job, whole, tmp_path, capsys, damage):
    stopped_at_8(job)
    newest = tmp_path / "run" / "checkpoints" / "8"
    if damage == "bytes":
        flip(newest)
    elif damage == "half":
        largest_file(newest).unlink()
    else:
        next(newest.rglob("_METADATA")).unlink()
    capsys.readouterr()
    run = job()
    said = [line for line in capsys.readouterr().out.splitlines() if "damaged" in line]
    assert len(said) == 1 and said[0].endswith("; renamed to damaged-8; continuing from step 6")
    assert_whole(run, whole)
    assert (run / "checkpoints" / "damaged-8").is_dir()


def test_if_all_are_damaged_the_oldest_stays_and_it_says_what_to_do(job, tmp_path):
    stopped_at_8(job)
    for folder in (tmp_path / "run" / "checkpoints").glob("[0-9]*"):
        flip(folder)
    with pytest.raises(UserError, match="checkpoints/3 .*; there is no earlier one: start afresh with --overwrite"):
        job()
    names = {path.name for path in (tmp_path / "run" / "checkpoints").iterdir()}
    assert names == {"3", "damaged-6", "damaged-8"}
    job(overwrite=True)


@pytest.mark.parametrize("name", [".", "checkpoints", "metrics.jsonl", "run.json"])
@pytest.mark.parametrize("deleted", [True, False])
def test_what_is_deleted_or_renamed_under_the_program_is_an_error(job, tmp_path, name, deleted):
    path = tmp_path / "run" / name

    def disturb(step):
        if step == 4 and deleted:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        elif step == 4:
            path.resolve().rename(tmp_path / "elsewhere")

    with pytest.raises(UserError, match="was deleted or renamed while the program trained"):
        job(at_step=disturb)
    assert not (tmp_path / "run" / "checkpoints" / "6").exists()


# --- wanted by two

HOLD = """
import sys
from pathlib import Path
from tlqa_jax.checkpoints.run_lock import lock_run
lock_run(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def held(job, tmp_path):
    """A run that another process is training in."""
    with pytest.raises(Stopped):
        job(at_step=send(signal.SIGTERM))
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, job.settings.out], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_the_second_program_is_refused_until_the_first_has_died(job, whole, held, tmp_path):
    for overwrite in (False, True):
        with pytest.raises(UserError, match=rf"run is in use: process {held.pid} on \S+ is training there"):
            job(overwrite=overwrite)
    held.kill()
    held.wait()
    assert (tmp_path / "run" / LOCK).exists()
    assert_whole(job(), whole)


def test_a_program_that_comes_while_another_begins_is_refused(job, tmp_path, monkeypatch):
    """Both have found nothing there; the other one has finished in the meantime."""
    run = TrainingRun("pretrain-mlm", job.settings)
    job()
    with pytest.raises(UserError, match="another program has changed .*run since this one began: start it again"):
        run.start(job.model, job.tokenizer, {})
    assert not (tmp_path / "run" / LOCK).exists()


def test_where_files_cannot_be_locked_it_says_so(tmp_path, monkeypatch, capsys):
    def refuse(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", refuse)
    lock_run(tmp_path)
    assert capsys.readouterr().out.startswith(f"note: files cannot be locked in {tmp_path}")
    unlock_run(tmp_path)
