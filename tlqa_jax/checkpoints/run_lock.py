"""One run, one writer: a program holds RUN/run.lock while it trains, and a second one is refused.

The lock is the operating system's (flock): it ends with the process, however that ends.
"""

import os
import socket
from pathlib import Path
from typing import IO

from tlqa_jax.errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LOCK = "run.lock"
_HELD: dict[Path, IO[str]] = {}  # the open files of this process's locks


def lock_run(run: Path) -> None:
    """Hold the lock of a directory, which is made if it is not there, until `unlock_run` or the end of the process.

    Raises UserError if another process holds it. Where the file system has no locks, a note says so.
    """
    path = run.resolve() / LOCK
    path.parent.mkdir(parents=True, exist_ok=True)
    if path not in _HELD and (file := _locked(path, run)):
        file.truncate(0)
        file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
        file.flush()
        _HELD[path] = file


def unlock_run(run: Path) -> None:
    """Give the lock back and delete its file. Nothing happens if this process does not hold it."""
    path = run.resolve() / LOCK
    if file := _HELD.pop(path, None):
        path.unlink(missing_ok=True)
        file.close()


def check_unlocked(run: Path) -> None:
    """Raise UserError if another process holds the lock."""
    path = run.resolve() / LOCK
    if path.exists() and path not in _HELD and (file := _locked(path, run)):
        file.close()


def _locked(path: Path, run: Path) -> IO[str] | None:
    """The file, open and locked; None where files cannot be locked."""
    while True:
        file = path.open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "another process"
            file.close()
            raise UserError(f"{run} is in use: {holder} is training there: wait, or give another --out") from None
        except (OSError, AttributeError):
            print(f"note: files cannot be locked in {run}: do not start two programs there")
            file.close()
            return None
        if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
            return file
        file.close()  # whoever held it deleted the file after we had opened it
