"""Run directories: what is overwritten and what is not, and that reading one changes nothing in it."""

import numpy as np
import pytest
from flax import nnx

from tlqa_jax.errors import UserError
from tlqa_jax.models.t5 import T5, T5Config
from tlqa_jax.weights.checkpoints import Checkpoints, start_run
from tlqa_jax.weights.huggingface import save_pretrained

STATE = {"params": {"table": np.arange(6, dtype=np.float32)}, "step": np.int32(3)}


@pytest.fixture
def run(tmp_path):
    run = start_run(tmp_path / "run", {"program": "qa", "model": {}, "training": {}})
    with Checkpoints(run) as checkpoints:
        checkpoints.save(3, STATE)
    return run


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def test_only_runs_are_overwritten(tmp_path):
    project = tmp_path / "project"
    project.mkdir()
    (project / "config.json").write_text('{"name": "a web page"}')
    with pytest.raises(UserError, match="--overwrite: .*project does not look like a run: delete it yourself"):
        start_run(project, {"program": "qa"}, overwrite=True)
    assert files(project) == ["config.json"]


@pytest.mark.parametrize("start_from", ["run", "run/main", "somewhere/../run"])
def test_a_run_does_not_delete_what_it_starts_from(run, tmp_path, start_from):
    (tmp_path / "somewhere").mkdir()
    before = files(run)
    config = {"program": "qa", "training": {"start_from": str(tmp_path / start_from)}}
    with pytest.raises(UserError, match="--overwrite would delete .*run.*which the run starts from"):
        start_run(run, config, overwrite=True)
    assert files(run) == before
    start_run(run, {"program": "qa", "training": {"start_from": str(tmp_path / "runs")}}, overwrite=True)
    assert files(run) == ["config.json"]


def test_reading_changes_nothing(run):
    (run / "checkpoints" / "6.orbax-checkpoint-tmp").mkdir()  # somebody is writing it
    before = files(run)
    with Checkpoints(run, read_only=True) as checkpoints:
        restored = checkpoints.restore({"params": STATE["params"]})
    assert np.array_equal(restored["params"]["table"], STATE["params"]["table"])
    assert files(run) == before


def test_reading_a_run_without_checkpoints_makes_none(tmp_path):
    run = start_run(tmp_path / "run", {"program": "qa"})
    with pytest.raises(UserError, match="run holds no checkpoint"):
        Checkpoints(run, read_only=True)
    assert files(run) == ["config.json"]


def test_an_export_overwrites_no_run(run):
    model = T5(T5Config(vocab_size=9, d_model=4, d_kv=2, d_ff=3, num_layers=1, num_heads=2), rngs=nnx.Rngs(0))
    before = files(run)
    with pytest.raises(UserError, match="run does not look like an exported model: delete it yourself"):
        save_pretrained(model, run, overwrite=True)
    assert files(run) == before
