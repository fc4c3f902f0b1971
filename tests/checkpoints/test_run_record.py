"""The record of a run: what is new, what is continued, what is refused, and what is never deleted."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tlqa_jax.checkpoints.run_record import check_run, fingerprint, finish_run, start_run
from tlqa_jax.errors import UserError

RECORD = {
    "version": "1", "program": "pretrain-spans", "settings": {"steps": 3, "learning_rate": 0.01},
    "inputs": {"texts": {"a.txt": "sha256:1 3 bytes"}, "start_from": {}},
}  # fmt: skip


def record(program="finetune-qa", **settings):
    return {"version": "1", "program": program, "settings": settings, "inputs": {}}


@pytest.fixture
def run(tmp_path):
    run = start_run(tmp_path / "run", RECORD)
    (run / "checkpoints").mkdir()
    return run


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


# the same command again ----------------------------------------------------------------------------------------------


def test_a_run_is_new_then_continued_then_complete(tmp_path):
    out = tmp_path / "a" / "run"
    assert check_run(out, RECORD) == "new" and not (tmp_path / "a").exists()
    assert start_run(out, RECORD) == out and check_run(out, RECORD) == "continue"
    written = (out / "run.json").read_bytes()
    start_run(out, RECORD | {"version": "2"})  # another version continues it, too
    assert (out / "run.json").read_bytes() == written and json.loads(written) == RECORD
    finish_run(out)
    assert check_run(out, RECORD) == "complete" and json.loads((out / "run.json").read_text())["finished"] is True
    assert check_run(out, RECORD, overwrite=True) == "new"
    (out / "metrics.jsonl").write_text("{}")
    start_run(out, RECORD, overwrite=True)
    assert files(out) == ["run.json"] and check_run(out, RECORD) == "continue"
    (tmp_path / "empty").mkdir()
    assert check_run(tmp_path / "empty", RECORD) == "new"


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"settings": {"steps": 4, "learning_rate": 0.01}}, "steps was 3, is 4"),
        ({"settings": {"steps": 3, "warmup": 1}}, "learning_rate was 0.01, is None; warmup was None, is 1"),
        ({"program": "pretrain-mlm"}, "program was 'pretrain-spans', is 'pretrain-mlm'"),
        ({"inputs": {"texts": {"a.txt": "sha256:2 3 bytes"}}}, "--texts a.txt has changed since the run began"),
        (
            {"inputs": {"texts": {"b.txt": "sha256:2 3 bytes"}}},
            "--texts a.txt is gone since the run began; --texts b.txt is new since the run began",
        ),
    ],
)
def test_a_run_of_other_settings_is_refused_naming_what_differs(run, changes, difference):
    before = files(run)
    advice = "give another --out, or --overwrite to delete it"
    for call in (check_run, start_run):
        with pytest.raises(UserError, match=rf"run is a run with other settings or inputs: {difference}: {advice}$"):
            call(run, RECORD | changes)
    assert files(run) == before


@pytest.mark.parametrize("inputs", [{"texts": {"a.txt": None}}, {"texts": {}}, {}, {"held_out": {"b": "sha256:1"}}])
def test_an_input_that_is_missing_now_is_not_compared(run, inputs):
    assert check_run(run, RECORD | {"inputs": inputs}) == "continue"


def test_settings_are_compared_as_json(tmp_path):
    settings = record(texts=tmp_path / "a.txt", tasks=("a", "b"))
    run = start_run(tmp_path / "run", settings)
    assert json.loads((run / "run.json").read_text())["settings"]["texts"] == str(tmp_path / "a.txt")
    assert check_run(run, settings) == "continue"


# what is never deleted -----------------------------------------------------------------------------------------------


def test_only_runs_are_overwritten(tmp_path):
    project = tmp_path / "project"
    project.mkdir()
    for name, content in (("notes", "mine"), ("config.json", '{"model_type": "bert"}')):
        (project / name).write_text(content)
        for overwrite in (False, True):
            with pytest.raises(UserError, match="project is not empty and does not look like a run: .* yourself"):
                start_run(project, RECORD, overwrite=overwrite)
    assert files(project) == ["config.json", "notes"]
    with pytest.raises(UserError, match="notes is a file: give a directory"):
        check_run(project / "notes", RECORD, overwrite=True)


def test_a_run_of_the_old_version_is_not_continued(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text('{"program": "qa", "model": {}, "training": {}}')
    message = r"^\S+ was made by tlqa_jax 0.1 .*: give another --out.*\(tlqa export \S+ --out DIR\)$"
    with pytest.raises(UserError, match=message):
        start_run(tmp_path / "run", RECORD)
    assert files(tmp_path / "run") == ["config.json"]
    start_run(tmp_path / "run", RECORD, overwrite=True)
    assert files(tmp_path / "run") == ["run.json"]


@pytest.mark.parametrize("start_from", ["run", "run/main", "somewhere/../run"])
def test_a_run_does_not_delete_what_it_starts_from(run, tmp_path, start_from):
    (tmp_path / "somewhere").mkdir()
    before = files(run)
    with pytest.raises(UserError, match="--overwrite would delete .*run.*which the run starts from"):
        start_run(run, record(start_from=str(tmp_path / start_from)), overwrite=True)
    assert files(run) == before
    start_run(run, record(start_from=str(tmp_path / "runs")), overwrite=True)
    assert files(run) == ["run.json"]


def test_a_run_does_not_delete_the_main_run_of_what_it_starts_from(tmp_path):
    start_run(tmp_path / "all", {"program": "quickstart", "main": "finetuned"})
    for name in ("finetuned", "other"):
        start_run(tmp_path / "all" / name, record())
    settings = record(start_from=str(tmp_path / "all"))
    with pytest.raises(UserError, match="--overwrite would delete .*all, which the run starts from"):
        start_run(tmp_path / "all" / "finetuned", settings, overwrite=True)
    start_run(tmp_path / "all" / "other", settings, overwrite=True)


@pytest.mark.parametrize("setting", ["{}", ["sentiment=a.jsonl", "reading={}"], {"train": "{}", "labels": {"0": "no"}}])
def test_a_run_does_not_delete_what_it_reads(run, tmp_path, setting):
    filled = lambda path: json.loads(json.dumps(setting).replace("{}", str(path)))
    (run / "reading.jsonl").write_text("{}")
    before = files(run)
    for check in (check_run, start_run):
        with pytest.raises(UserError, match="--overwrite would delete .*reading.jsonl, which the run reads"):
            check(run, record(steps=3, some=filled(run / "reading.jsonl")), overwrite=True)
    assert files(run) == before
    (tmp_path / "reading.jsonl").write_text("{}")
    start_run(run, record(some=filled(tmp_path / "reading.jsonl")), overwrite=True)
    assert files(run) == ["run.json"]


def test_what_cannot_be_written_deletes_nothing(run):
    before = files(run)
    with pytest.raises(TypeError):
        start_run(run, {"program": "finetune-qa", "settings": {("a", "b"): 1}}, overwrite=True)
    assert files(run) == before


# fingerprints --------------------------------------------------------------------------------------------------------


def test_a_fingerprint_tells_content_and_size(tmp_path):
    (tmp_path / "a.txt").write_text("abc")
    abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"  # as `sha256sum` prints it
    assert fingerprint(tmp_path / "a.txt") == f"sha256:{abc} 3 bytes"
    assert fingerprint(tmp_path / "missing") is fingerprint("google-t5/t5-small") is fingerprint(tmp_path) is None
    (tmp_path / "model").mkdir()
    seen = set()
    for name in ("config.json", "model.safetensors", "config.json"):
        (tmp_path / "model" / name).write_text(f"{len(seen)}")
        seen.add(fingerprint(tmp_path / "model"))
    assert len(seen) == 3
    (tmp_path / "model" / "metrics.jsonl").write_text("{}")
    (tmp_path / "run.json").write_text('{"main": "model"}')
    assert fingerprint(tmp_path) == fingerprint(str(tmp_path / "model")) in seen


# several processes ---------------------------------------------------------------------------------------------------

PROCESS = """
import sys, jax
from tlqa_jax.errors import UserError
from tlqa_jax.checkpoints.run_record import check_run, start_run
jax.config.update("jax_cpu_collectives_implementation", "gloo")
jax.distributed.initialize(f"127.0.0.1:{sys.argv[1]}", 2, int(sys.argv[2]))
record = {"program": "finetune-qa", "settings": {}}
for run in sys.argv[3:]:
    try:
        print(check_run(run, record), start_run(run, record), check_run(run, record))
    except (UserError, OSError) as error:
        print(str(error).split("] ")[-1])
"""


def test_all_processes_do_what_the_first_one_finds(run, tmp_path):
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        port = str(listening.getsockname()[1])
    (tmp_path / "file").write_text("")
    runs = [str(run), str(tmp_path / "file" / "run"), str(tmp_path / "new")]  # another; cannot be made; can be
    processes = [
        subprocess.Popen([sys.executable, "-c", PROCESS, port, str(index), *runs], stdout=subprocess.PIPE, text=True)
        for index in range(2)
    ]
    lines = [process.communicate(timeout=300)[0].splitlines() for process in processes]
    said = [[line for line in own if not line.startswith("[Gloo]")] for own in lines]
    assert said[0] == said[1]
    assert "run is a run with other settings or inputs" in said[0][0] and str(Path(runs[1])) in said[0][1]
    assert said[0][2] == f"new {runs[2]} continue"


def test_run_record_accepts_the_same_files_at_another_path(tmp_path):
    """A run on a network drive is continued on another machine, where the bundled vocabulary lies elsewhere."""
    record = RECORD | {"inputs": {"vocabulary": {"/one/vocabulary.model": "sha256:1 3 bytes"}}}
    start_run(tmp_path, record)
    moved = RECORD | {"inputs": {"vocabulary": {"/two/vocabulary.model": "sha256:1 3 bytes"}}}
    assert check_run(tmp_path, moved) == "continue"
