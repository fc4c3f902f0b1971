"""One run, one writer: a program holds RUN/run.lock while it trains, and a second one is refused.

The lock is the operating system's (flock): it ends with the process, however that ends.
"""

import os
import socket
from pathlib import Path

from tlqa_jax.errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LOCK = "run.lock"
_HELD: dict[Path, int] = {}  # the descriptors of this process's locks, which stay open until it ends


def lock_run(run: Path) -> None:
    """Hold the lock of a directory, which is made if it is not there, until `unlock_run` or the end of the process.

    Raises UserError if another process holds it. Where the file system has no locks, a note says so.
    """
    path = run.resolve() / LOCK
    path.parent.mkdir(parents=True, exist_ok=True)
    if path not in _HELD and (file := _locked(path, run)) is not None:
        os.ftruncate(file, 0)
        os.write(file, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
        _HELD[path] = file


def unlock_run(run: Path) -> None:
    """Give the lock back and delete its file. Nothing happens if this process does not hold it."""
    path = run.resolve() / LOCK
    if (file := _HELD.pop(path, None)) is not None:
        path.unlink(missing_ok=True)
        os.close(file)


def check_unlocked(run: Path) -> None:
    """Raise UserError if another process holds the lock."""
    path = run.resolve() / LOCK
    if path.exists() and path not in _HELD and (file := _locked(path, run)) is not None:
        os.close(file)


def _locked(path: Path, run: Path) -> int | None:
    """The file, open and locked: its descriptor. None where files cannot be locked."""
    while True:
        file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(file, 1000).decode(errors="replace").strip() or "another process"
            os.close(file)
            raise UserError(f"{run} is in use: {holder} is training there: wait, or give another --out") from None
        except (OSError, AttributeError):
            print(f"note: files cannot be locked in {run}: do not start two programs there")
            os.close(file)
            return None
        if path.exists() and os.path.samestat(os.fstat(file), path.stat()):
            return file
        os.close(file)  # whoever held it deleted the file after we had opened it
