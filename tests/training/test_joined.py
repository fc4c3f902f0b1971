"""The commands in several processes: how they find each other, and what happens when one of them is lost or stopped."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import pytest

from tlqa_jax.errors import UserError
from tlqa_jax.training import last_words, processes
from tlqa_jax.training.processes import LOST, Processes, detected_cluster, joined

from .comparing import metrics
from .programs import BERT_SIZES
from .test_processes import free_port

THREE = dict(coordinator="10.0.0.1:8476", processes=4, process_id=3)


# --- how they find each other


@pytest.mark.parametrize("given, message", [
    (dict(processes=4), "--coordinator, --processes and --process-id belong together"),
    (dict(coordinator="a:1", process_id=0), "--coordinator, --processes and --process-id belong together"),
    (THREE | dict(coordinator="10.0.0.1"), "--coordinator is '10.0.0.1': it has to be HOST:PORT"),
    (THREE | dict(process_id=4), "--process-id is 4: the last one of 4 processes is 3"),
    (THREE | dict(process_id=-1), "--process-id is -1: it has to be at least 0"),
])  # fmt: skip
def test_what_cannot_be_meant(given, message):
    with pytest.raises(UserError, match=re.escape(message)):
        Processes(**given)


@pytest.fixture
def nowhere(monkeypatch):
    """No cluster, whatever has started the tests; what the processes would do is noted."""
    for name in os.environ:
        if name.startswith(("SLURM_", "OMPI_", "TPU_", "MEGASCALE_")):
            monkeypatch.delenv(name)
    done = []
    note = lambda name: lambda *given, **more: done.append((name, *filter(None, given), *more.values()))
    monkeypatch.setattr(jax.distributed, "initialize", note("initialize"))
    monkeypatch.setattr(jax.distributed, "shutdown", note("shutdown"))
    monkeypatch.setattr(processes, "rewrite_last_words", lambda *_: None)
    return done


def under_slurm(monkeypatch, tasks):
    for name, value in dict(JOB_ID=1, STEP_NODELIST="node1", NTASKS=tasks, PROCID=1, LOCALID=1).items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))


def on_a_tpu(monkeypatch, hosts, slices="1"):
    from jax._src.clusters import cloud_tpu_cluster

    def no_server(*_):
        raise ConnectionError

    monkeypatch.setattr(cloud_tpu_cluster, "running_in_cloud_tpu_vm", True)
    monkeypatch.setattr(cloud_tpu_cluster, "get_metadata", no_server)
    monkeypatch.setenv("TPU_SKIP_MDS_QUERY", "1")
    monkeypatch.setenv("TPU_WORKER_HOSTNAMES", hosts)
    if slices:
        monkeypatch.setenv("MEGASCALE_NUM_SLICES", slices)


def test_jax_says_which_cluster_it_is(nowhere, monkeypatch):
    assert detected_cluster() is None
    with monkeypatch.context() as patch:
        on_a_tpu(patch, "host-0,host-1")
        assert detected_cluster() == "gketpu"
    for slices in ("1", None):  # Kaggle's TPU: one machine, called "local", and no server to ask about slices
        with monkeypatch.context() as patch:
            on_a_tpu(patch, "local", slices)
            assert detected_cluster() is None
    under_slurm(monkeypatch, tasks=1)
    assert detected_cluster() is None
    under_slurm(monkeypatch, tasks=8)
    assert detected_cluster() == "slurm"


def test_who_is_joined(nowhere, monkeypatch):
    with joined(Processes()):
        assert nowhere == []
    with joined(Processes(**THREE)):
        assert nowhere == [("initialize", "10.0.0.1:8476", 4, 3, "deactivate", 40)]
    under_slurm(monkeypatch, tasks=8)
    with joined(Processes(processes=1)):
        pass
    with joined(Processes()):
        assert nowhere[1:] == [("shutdown",), ("initialize", "slurm", 40)]


def test_errors_of_a_lost_process_say_so(nowhere):
    for error, expected in (
        (ValueError("UNKNOWN: Gloo all-reduce failed: Connection closed by peer [127.0.0.1]:8582"), LOST),
        (RuntimeError("DEADLINE_EXCEEDED: Barrier timed out. Id: a::1. This usually happens because"), LOST),
        (ValueError("shapes differ"), "^shapes differ$"),
        (UserError("corpus.txt does not exist"), "^corpus.txt does not exist$"),
    ):
        nowhere.clear()
        with pytest.raises(ValueError if expected != LOST else UserError, match=expected), joined(Processes(**THREE)):
            raise error
        assert (("shutdown",) in nowhere) == (expected != LOST)


OF_PROCESS_0 = """F1130 22:50:53.937330   10469 client.h:80] Terminating process because the JAX distributed service detected \
fatal errors. This most likely indicates that another task died; see the other task logs. absl::Status: UNAVAILABLE: Failed
Additional GRPC error information from remote target coordination_service while calling /xla.CoordinationService/PollForError:
*** Check failure stack trace: ***
    @     0x7f2ebae40634  absl::lts_20260107::log_internal::LogMessage::SendToLog()
"""
POLLED = """E1130 23:37:08.825720    1068 coordination_service_agent.cc:289] Polled an error from coordination service: UNAVAILABLE: \
The following tasks are unhealthy (stopped sending heartbeats):
1
The tasks have crashed.
"""
CLOSED = """E1130 23:38:55.578821    4315 preemption_sync_manager.cc:159] Failed to cancel preemption barrier
=== Source Location Trace: ===

"""


@pytest.mark.parametrize("written, debug, expected", [
    ("a warning\n", "0", "a warning\n"),
    ("a warning\n" + OF_PROCESS_0, "0", "a warning\ntlqa: lost\n"),
    ("tlqa: lost\n" + OF_PROCESS_0, "0", "tlqa: lost\n"),
    (OF_PROCESS_0 + "tlqa: lost\n", "0", "tlqa: lost\n"),
    (POLLED + "tlqa: lost\n", "0", "tlqa: lost\n"),
    (POLLED + OF_PROCESS_0, "0", "tlqa: lost\n"),
    (CLOSED + "tlqa: other\n", "0", "tlqa: other\n"),
    (OF_PROCESS_0.replace("PollForError", "RegisterTask"), "0", "tlqa: not found\n"),
    (OF_PROCESS_0, "1", OF_PROCESS_0 + "tlqa: lost\n"),
])  # fmt: skip
def test_last_words_are_one_line(written, debug, expected):
    command = [sys.executable, "-I", last_words.__file__, "lost", "not found"]
    environment = os.environ | {"TLQA_DEBUG": debug}
    done = subprocess.run(command, input=written, stderr=subprocess.PIPE, text=True, env=environment)
    assert done.stderr == expected


# --- lost and stopped


class Group:
    """The command in several processes, each with one of the devices."""

    def __init__(self, folder: Path, count: int, devices: int = 1):
        self.out, port = folder / "run", free_port()
        environment = os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": str(devices)}
        environment.pop("TF_CPP_MIN_LOG_LEVEL", None)  # jax has set it for the tests; as from a shell, the command does
        where = ["--coordinator", f"127.0.0.1:{port}", "--processes", str(count), "--process-id"]
        self.processes = [
            subprocess.Popen(
                [*COMMAND, "--out", str(self.out), "--model", str(folder / "bert.json"), *(where + [str(index)]) * (count > 1)],
                stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment,
            )
            for index in range(count)
        ]  # fmt: skip

    def __enter__(self) -> "Group":
        return self

    def __exit__(self, *_) -> None:
        for process in self.processes:
            process.kill()
            process.communicate()

    def checkpoints(self) -> set[int]:
        return {int(path.name) for path in (self.out / "checkpoints").glob("*") if path.name.isdecimal()}

    def wait_for_a_new_checkpoint(self) -> None:
        before, deadline = self.checkpoints(), time.monotonic() + 200
        while not self.checkpoints() - before:
            ended = [process.stderr.read() for process in self.processes if process.poll() is not None]
            assert not ended and time.monotonic() < deadline, ended
            time.sleep(0.05)

    def end(self, without: int | None = None, seconds: float = 250) -> list[tuple[int, str]]:
        """(exit status, standard error) of the others, which have to end within so many seconds."""
        deadline, ends = time.monotonic() + seconds, []
        for index, process in enumerate(self.processes):
            if index != without:
                errors = process.communicate(timeout=max(deadline - time.monotonic(), 1))[1]
                ends.append((process.returncode, errors))
        return ends


COMMAND = [sys.executable, "-m", "tlqa_jax.cli", "pretrain-mlm", "--texts", "tiny_world:pretraining_dev.txt"]
COMMAND += "--input-length 32 --batch-size 8 --steps 60 --dropout 0 --save-every 10 --log-every 10".split()
COMMAND += ["--held-out", "None"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The metrics of a run of one process with four devices, which nobody disturbs."""
    folder = new_folder(tmp_path_factory.mktemp("whole"))
    with Group(folder, 1, devices=4) as group:
        assert group.end() == [(0, "")]
    return metrics(folder / "run")


def new_folder(folder: Path) -> Path:
    (folder / "bert.json").write_text(json.dumps(BERT_SIZES))
    return folder


def assert_whole(run, whole):
    found = [row for row in metrics(run) if row["step"] % 10 == 0]  # others are of a step that it was stopped after
    assert [row["step"] for row in found] == [row["step"] for row in whole]
    for a, b in zip(found, whole):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-4), a["step"]


@pytest.mark.slow
def test_a_lost_process_ends_the_others_and_fewer_continue(tmp_path, whole):
    """Of four processes the first is killed; two continue, and one of them stops answering; one ends the run."""
    folder = new_folder(tmp_path)
    for count, victim, signal_ in ((4, 0, signal.SIGKILL), (2, 1, signal.SIGSTOP)):
        with Group(folder, count) as group:
            group.wait_for_a_new_checkpoint()
            group.processes[victim].send_signal(signal_)
            for status, errors in group.end(without=victim, seconds=60):
                assert status != 0 and errors == f"tlqa: {LOST}\n"
    assert max(group.checkpoints()) < 60
    with Group(folder, 1) as group:
        assert group.end() == [(0, "")]
    assert_whole(folder / "run", whole)


@pytest.mark.slow
def test_a_signal_to_one_stops_all_at_the_same_step(tmp_path, whole):
    folder = new_folder(tmp_path)
    with Group(folder, 2) as group:
        group.wait_for_a_new_checkpoint()
        group.processes[1].send_signal(signal.SIGTERM)
        ends = group.end(seconds=60)
    step = max(group.checkpoints())
    assert step < 60
    for status, errors in ends:
        assert status == 128 + signal.SIGTERM
        assert errors.startswith(f"tlqa: stopped after step {step}, which is saved; to continue: tlqa pretrain-mlm")
        assert errors.count("\n") == 1
    with Group(folder, 2) as group:
        assert group.end() == [(0, ""), (0, "")]
    assert_whole(folder / "run", whole)
