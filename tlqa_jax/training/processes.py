"""Several processes that train together: one for each machine, or one for each GPU. Together they do what one process with
as many devices would do: the same global batch, in the same order, and the same loss to rounding.

    with joined(Processes()):       # those of the cluster; or Processes(coordinator="10.0.0.1:8476", …)
        pretrain_mlm(settings)

The same command is started on every machine. Each process reads its rows of every batch; the first one prints and saves.
`--batch-size` is that of all devices together. `--out` has to be on a file system that all of them share (NFS, say), and
so have the inputs, or each machine has a copy of them under the same name.

Cloud TPU, a pod slice (a v5e-16 is four machines with four chips each). JAX asks the slice who the others are:

    gcloud compute tpus tpu-vm ssh NAME --worker=all --command="tlqa pretrain-mlm … --out /mnt/shared/run"

GPUs under Slurm, or under Open MPI's mpirun: one process for each GPU. (--gpus-per-task would hide the other GPUs, and JAX
picks each process's by its number.)

    srun --nodes=2 --ntasks-per-node=4 --gpus-per-node=4 tlqa pretrain-mlm … --out /shared/run

Kaggle's v5e-8, Colab, a machine with several GPUs: one process has all the devices, and nothing has to be said. Anywhere
else, Kubernetes included, each process is told:

    tlqa pretrain-mlm … --coordinator 10.0.0.1:8476 --processes 2 --process-id 0        # on the machine 10.0.0.1
    tlqa pretrain-mlm … --coordinator 10.0.0.1:8476 --processes 2 --process-id 1

`--processes 1` keeps a process alone, where Slurm has started several that are to train different models.

**A process is lost** (killed, its machine taken away): the others end within a minute, each with one line and an exit status
that is not 0. The same command continues from the newest checkpoint, in as many processes, and on as many devices, as
there are then. SIGTERM to any of them: all save the same step. Dropout draws its noise for each device, so that with
another number of devices the loss is the same only without dropout.

What is tested are processes on one machine, on CPUs. TPU slices, clusters of GPUs and Slurm itself are not.
"""

import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator

import jax

from tlqa_jax.errors import UserError
from tlqa_jax.fields import Settings, number, settings_class
from tlqa_jax.training import last_words

CLUSTERS = ("ompi", "slurm", "gketpu", "gcetpu")  # as JAX names them; Kubernetes is not asked
HEARTBEAT_SECONDS = 40  # after so many without a sign of life a process is lost
PATIENCE_SECONDS = 10  # for the others to leave
START = "start the same command in all processes"
LOST = (
    "another process was lost, or ended with an error of its own, so this one ends, too; to continue from the newest "
    f"checkpoint, {START} again, which may be fewer now, or more"
)
LOSS = re.compile(  # what JAX's errors say then
    "gloo|nccl|coordination service|heartbeat|barrier|socket closed|connection (closed|reset) by peer|"
    "UNAVAILABLE|DEADLINE_EXCEEDED",
    re.IGNORECASE,
)


@settings_class
class Processes(Settings):
    """How a process finds the others that train with it. The run's record does not keep it: a run may continue on more
    processes or fewer."""

    coordinator: str | None = None
    """HOST:PORT of the first process, any free port. Under Slurm and Open MPI and on Cloud TPU, leave out all three: JAX
    finds the others."""
    processes: int | None = number(None, at_least=1)
    """Number of processes. 1: this process trains alone, whatever Slurm says."""
    process_id: int | None = number(None, at_least=0)
    """Which of them this is, from 0 on. The first one prints and saves."""

    def check(self) -> None:
        given = (self.coordinator, self.processes, self.process_id)
        if self.processes != 1 and None in given and given != (None, None, None):
            raise UserError("--coordinator, --processes and --process-id belong together: give all three or none")
        if self.coordinator is not None and not re.fullmatch(r"\S+:\d{1,5}", self.coordinator):
            raise UserError(f"--coordinator is {self.coordinator!r}: it has to be HOST:PORT")
        if None not in given and self.process_id >= self.processes:
            last = self.processes - 1
            raise UserError(f"--process-id is {self.process_id}: the last one of {self.processes} processes is {last}")


@contextlib.contextmanager
def joined(given: Processes) -> Iterator[None]:
    """A context in which this process and the others are one JAX: those that are `given`, or those of the cluster.

    A process that is alone stays as it is. Raises UserError if another process is lost.
    """
    cluster = None if given.processes else detected_cluster()
    if given.processes == 1 or not (given.processes or cluster):
        yield
        return
    where = given.coordinator or cluster
    rewrite_last_words(LOST, f"not all processes found each other within five minutes ({where}): {START}")
    jax.distributed.initialize(
        given.coordinator, given.processes, given.process_id,
        cluster_detection_method=cluster or "deactivate", heartbeat_timeout_seconds=HEARTBEAT_SECONDS,
    )  # fmt: skip
    signal.signal(signal.SIGTERM, signal.getsignal(signal.SIGTERM))  # instead of the handler that JAX has put there
    try:
        yield
    except (Exception, KeyboardInterrupt) as error:
        of_jax = isinstance(error, (ValueError, RuntimeError)) and not isinstance(error, UserError)
        if of_jax and LOSS.search(str(error)):
            raise UserError(LOST) from error
        leave()
        raise
    jax.distributed.shutdown()  # waits until all are here


def detected_cluster() -> str | None:
    """JAX's name of the cluster that has started this process as one of several; None if there is none."""
    from jax._src.clusters import ClusterEnv  # jax.distributed.initialize itself fails or waits where there is none

    for kind in ClusterEnv._cluster_types:
        try:
            if getattr(kind, "name", None) in CLUSTERS and kind.is_env_present() and kind.get_process_count() > 1:
                return kind.name
        except (OSError, ImportError):  # a TPU of one machine, such as Kaggle's, where no server knows of a slice
            continue
    return None


def leave() -> None:
    """Leave the others, if they leave too: all of them have stopped, or found the same error."""

    def shut_down() -> None:
        with contextlib.suppress(Exception):
            jax.distributed.shutdown()

    waiting = threading.Thread(target=shut_down, daemon=True)
    waiting.start()
    waiting.join(PATIENCE_SECONDS)


def rewrite_last_words(lost: str, not_found: str) -> None:
    """Send standard error through a child that writes `lost` or `not_found` in the place of JAX's last words."""
    command = [sys.executable, "-I", last_words.__file__, lost, not_found]
    child = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
    os.dup2(child.stdin.fileno(), sys.stderr.fileno())
    child.stdin.close()
