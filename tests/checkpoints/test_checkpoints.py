"""Run directories: what is overwritten and what is not, and that reading one changes nothing in it."""

import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from flax import nnx

from tlqa_jax.checkpoints.huggingface import save_pretrained
from tlqa_jax.checkpoints.runs import (
    Checkpoints,
    check_run,
    read_threshold,
    readable,
    save_threshold,
    start_run,
)  # fmt: skip
from tlqa_jax.errors import UserError
from tlqa_jax.models.t5 import T5, T5Config

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


def test_a_run_does_not_delete_the_main_run_of_what_it_starts_from(tmp_path):
    start_run(tmp_path / "all", {"program": "quickstart", "main": "finetuned"})
    for name in ("finetuned", "other"):
        start_run(tmp_path / "all" / name, {"program": "qa"})
    config = {"program": "qa", "training": {"start_from": str(tmp_path / "all")}}
    with pytest.raises(UserError, match="--overwrite would delete .*all, which the run starts from"):
        start_run(tmp_path / "all" / "finetuned", config, overwrite=True)
    start_run(tmp_path / "all" / "other", config, overwrite=True)


@pytest.mark.parametrize("setting", ["{}", ["sentiment=a.jsonl", "reading={}"], {"train": "{}", "labels": {"0": "no"}}])
def test_a_run_does_not_delete_what_it_reads(run, tmp_path, setting):
    filled = lambda path: json.loads(json.dumps(setting).replace("{}", str(path)))
    (run / "reading.jsonl").write_text("{}")
    before = files(run)
    config = {"program": "qa", "training": {"steps": 3, "some": filled(run / "reading.jsonl")}}
    for check in (check_run, start_run):
        with pytest.raises(UserError, match="--overwrite would delete .*reading.jsonl, which the run reads"):
            check(run, config, overwrite=True)
    assert files(run) == before
    (tmp_path / "reading.jsonl").write_text("{}")
    start_run(run, {"program": "qa", "training": {"some": filled(tmp_path / "reading.jsonl")}}, overwrite=True)
    assert files(run) == ["config.json"]


def test_what_cannot_be_written_deletes_nothing(run, tmp_path):
    before = files(run)
    with pytest.raises(TypeError):
        start_run(run, {"program": "qa", "training": {("a", "b"): 1}}, overwrite=True)
    assert files(run) == before
    config = {"program": "qa", "model": {}, "training": {"texts": tmp_path / "a.txt"}}
    start_run(run, config, overwrite=True)
    assert json.loads((run / "config.json").read_text())["training"] == {"texts": str(tmp_path / "a.txt")}
    check_run(run, config, resume=True)


def test_the_newest_checkpoint_of_fewer_steps(run):
    with Checkpoints(run) as checkpoints:
        checkpoints.save(7, STATE)
        names = [path and path.name for path in map(checkpoints.latest, (None, 9, 7, 4, 3))]
        assert names == ["7", "7", "3", "3", None]


PROCESS = """
import sys, jax
from tlqa_jax.errors import UserError
from tlqa_jax.checkpoints.runs import start_run
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(f"127.0.0.1:{sys.argv[1]}", 2, int(sys.argv[2]))
for run in sys.argv[3:]:
    try:
        start_run(run, {"program": "qa"})
        print("begun", run)
    except (UserError, OSError) as error:
        print(str(error).split("] ")[-1])
"""


def test_all_processes_raise_what_the_first_one_finds(run, tmp_path):
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = str(listening.getsockname()[1])
    (tmp_path / "file").write_text("")
    runs = [str(run), str(tmp_path / "file" / "run"), str(tmp_path / "new")]  # in use; cannot be made; can be
    processes = [
        subprocess.Popen([sys.executable, "-c", PROCESS, port, str(index), *runs], stdout=subprocess.PIPE, text=True)
        for index in range(2)
    ]
    lines = [process.communicate(timeout=300)[0].splitlines() for process in processes]
    said = [[line for line in own if not line.startswith("[Gloo]")] for own in lines]
    assert said[0] == said[1]
    assert "run is already in use: give another --out" in said[0][0] and str(Path(runs[1])) in said[0][1]
    assert said[0][2] == f"begun {runs[2]}"


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


def damaged(run):
    """The state again, with the parameters' files empty."""
    for path in (run / "checkpoints").rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    with Checkpoints(run, read_only=True) as checkpoints:
        checkpoints.restore(STATE)


def test_the_newest_checkpoint_is_to_be_deleted_only_where_there_is_one_before_it(run):
    with pytest.raises(UserError, match=r"checkpoints/3 cannot be read \(\w+: "):
        damaged(run)
    shutil.copytree(run / "checkpoints" / "3", run / "checkpoints" / "12")
    with pytest.raises(UserError, match=r"checkpoints/12 cannot be read; delete it to go back to the one before it \("):
        damaged(run)


@pytest.mark.parametrize(
    ("error", "helps"),
    [(PermissionError(13, "no"), False), (MemoryError("no"), False), (OSError(5, "no"), False),
     (ValueError("no"), True), (FileNotFoundError(2, "no"), True)],
)  # fmt: skip
def test_what_a_deletion_does_not_mend(run, error, helps):
    (run / "checkpoints" / "12").mkdir()
    with pytest.raises(UserError, match=rf"checkpoints/12 cannot be read.* \({type(error).__name__}: .*no") as said:
        with readable(run / "checkpoints" / "12"):
            raise error
    assert ("delete it" in str(said.value)) == helps


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "is not valid JSON"),
        ("[1]", "is not a JSON object"),
        ('{"no_answer_threshold": "0.5"}', 'no_answer_threshold is "0.5", not a number'),
        ('{"no_answer_threshold": true}', "no_answer_threshold is true, not a number"),
    ],
)
def test_a_threshold_that_is_none(run, content, message):
    assert read_threshold(run) is None
    save_threshold(run, -1.5)
    assert read_threshold(run) == -1.5
    (run / "no_answer.json").write_text(content)
    with pytest.raises(UserError, match=f"no_answer.json.* {message}"):
        read_threshold(run)
