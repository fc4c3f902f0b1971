"""Checkpoints of the training state: what is read, what is said of damaged ones, and that reading changes nothing."""

import numpy as np
import pytest

from tlqa_jax.checkpoints.resume import Checkpoints, DamagedCheckpoint, readable
from tlqa_jax.errors import UserError

STATE = {"params": {"table": np.arange(6, dtype=np.float32)}, "step": np.int32(3)}


@pytest.fixture
def run(tmp_path):
    with Checkpoints(tmp_path / "run") as checkpoints:
        checkpoints.save(3, STATE)
    return tmp_path / "run"


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_the_newest_checkpoint_of_fewer_steps(run):
    with Checkpoints(run) as checkpoints:
        checkpoints.save(7, STATE)
        names = [path and path.name for path in map(checkpoints.latest, (None, 9, 7, 4, 3))]
        assert names == ["7", "7", "3", "3", None]


def test_reading_changes_nothing(run):
    (run / "checkpoints" / "6.orbax-checkpoint-tmp").mkdir()  # somebody is writing it
    before = files(run)
    with Checkpoints(run, read_only=True) as checkpoints:
        restored = checkpoints.restore({"params": STATE["params"]})
    assert restored.keys() == {"params"} and np.array_equal(restored["params"]["table"], STATE["params"]["table"])
    assert files(run) == before


def test_a_state_of_another_shape_is_refused_before_it_is_read(run):
    other = {"params": {"table": np.zeros(5, np.float32), "bias": np.zeros(2)}, "step": np.int32(0)}
    with Checkpoints(run, read_only=True) as checkpoints:
        with pytest.raises(UserError, match=r"does not fit .*missing params/bias float64\[2\]; params/table is"):
            checkpoints.restore(other)


def test_reading_a_run_without_checkpoints_makes_none(tmp_path):
    with pytest.raises(UserError, match="run holds no checkpoint"):
        Checkpoints(tmp_path / "run", read_only=True)
    assert files(tmp_path) == []


@pytest.mark.parametrize(
    ("error", "damage"),
    [(PermissionError(13, "no"), False), (MemoryError("no"), False), (OSError(5, "no"), False),
     (ValueError("no"), True), (FileNotFoundError(2, "no"), True)],
)  # fmt: skip
def test_an_error_of_the_machine_is_no_damage(tmp_path, error, damage):
    with pytest.raises(UserError, match=rf"checkpoints/12 cannot be read.* \({type(error).__name__}: .*no") as said:
        with readable(tmp_path / "checkpoints" / "12"):
            raise error
    assert isinstance(said.value, DamagedCheckpoint) == damage
