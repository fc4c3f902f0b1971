"""What a run needs to continue, in RUN/checkpoints/STEP/: parameters, optimizer state and step, stored by Orbax.

Each checkpoint carries a checksum of what was saved, and it is compared whenever one is read: Orbax reads changed bytes
without a word.
"""

import contextlib
import hashlib
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from tlqa_jax.checkpoints.named_arrays import compare, flatten
from tlqa_jax.errors import UserError

CHECKPOINTS = "checkpoints"
CHECKSUM = "checksum"


class DamagedCheckpoint(UserError):
    """A checkpoint that is incomplete, or whose content is not what was saved."""


class Checkpoints:
    """The newest `keep` checkpoints of one run. A write that is killed leaves no half checkpoint.

    With `read_only` nothing is created or deleted: a program may be training in this directory.
    """

    def __init__(self, run: Path | str, keep: int | None = 3, *, read_only: bool = False):
        import orbax.checkpoint as ocp  # takes seconds to import

        for name in ("absl", "asyncio"):  # what Orbax logs as errors, it raises, too
            logging.getLogger(name).setLevel(logging.CRITICAL)
        ignore_closed_event_loops()
        self._args = ocp.args
        self.directory = Path(run).resolve() / CHECKPOINTS
        if read_only and not self.directory.is_dir():
            raise UserError(f"{run} holds no checkpoint")
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, create=not read_only, read_only=read_only, cleanup_tmp_directories=not read_only,
            enable_async_checkpointing=False,
        )
        self._manager = ocp.CheckpointManager(
            self.directory, options=options, item_handlers=ocp.StandardCheckpointHandler()
        )

    def latest(self, before: int | None = None) -> Path | None:
        """The newest checkpoint's directory, or the newest of fewer than `before` steps; None if there is none."""
        steps = [step for step in self._manager.all_steps() if before is None or step < before]
        return self.directory / str(max(steps)) if steps else None

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write the state after `step` steps, a nested structure of arrays. Raises UserError if the disk is full."""
        state = jax.tree.map(np.asarray, state)
        try:
            self._manager.save(step, args=self._args.StandardSave(state | {CHECKSUM: checksum(state)}))
        except Exception as error:
            # TensorStore calls it RESOURCE_EXHAUSTED, as XLA calls a lack of memory
            if "No space left" not in str(error) and "ENOSPC" not in str(error):
                raise
            raise UserError(f"no space left on the file system of {self.directory}: make room, run it again") from None

    def restore(self, like: dict[str, Any], step: int | None = None) -> dict[str, Any]:
        """The newest checkpoint, or that of `step`, as numpy arrays in the structure of `like` (arrays or shapes).

        `like` may have some of the top-level entries only, such as "params". Raises UserError, before anything is read,
        naming keys that are missing, left over or of another shape or dtype; DamagedCheckpoint if it cannot be read.
        """
        latest = self.latest() if step is None else self.directory / str(step)
        if latest is None:
            raise UserError(f"{self.directory} holds no checkpoint")
        with readable(latest):
            stored = self._manager.item_metadata(int(latest.name))
            stored = {name: tree for name, tree in getattr(stored, "tree", stored).items()}
        compare(flatten({name: stored.get(name, {}) for name in like}), flatten(like), latest)
        template = {name: like.get(name, tree) for name, tree in stored.items()}
        template = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), template)
        with readable(latest):
            restored = self._manager.restore(int(latest.name), args=self._args.StandardRestore(template))
        saved = restored.pop(CHECKSUM, None)
        if saved is not None and not np.array_equal(saved, checksum(restored)):
            raise DamagedCheckpoint(f"{latest} is damaged: its checksum is another")
        return {name: restored[name] for name in like}

    def restore_newest_intact(self, like: dict[str, Any], say: Callable[[str], None]) -> dict[str, Any]:
        """`restore` of the newest checkpoint that is intact. Newer ones are renamed to "damaged-STEP", and `say` told so.

                Raises DamagedCheckpoint, and does not rename the oldest one, if none is intact.
        """
        while True:
            try:
                return self.restore(like)
            except DamagedCheckpoint as error:
                damaged, older = self.latest(), self.latest(before=int(self.latest().name))
                if older is None:
                    raise DamagedCheckpoint(f"{error}; there is no earlier one: start afresh with --overwrite") from error
                aside = damaged.with_name(f"damaged-{damaged.name}")
                if jax.process_index() == 0:
                    number = sum(path.name.startswith(aside.name) for path in self.directory.iterdir())
                    damaged.rename(aside if not number else aside.with_name(f"{aside.name}-{number + 1}"))
                if jax.process_count() > 1:
                    multihost_utils.sync_global_devices("a damaged checkpoint has been renamed")
                self._manager.reload()
                say(f"{error}; renamed to {aside.name}; continuing from step {older.name}")

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_) -> None:
        self._manager.close()


def checksum(state: dict[str, Any]) -> np.ndarray:
    """SHA-256 of the names, types, shapes and bytes of all arrays; uint8 [32]."""
    digest = hashlib.sha256()
    for name, array in sorted(flatten(state).items()):
        digest.update(f"{name} {array.dtype} {array.shape};".encode())
        digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8))
    return np.frombuffer(digest.digest(), np.uint8)


def ignore_closed_event_loops() -> None:
    """Keep TensorStore's threads quiet: Orbax closes its event loop at the first error, and they complain of it later."""
    usual = sys.unraisablehook

    def without_closed_event_loops(unraisable: Any) -> None:
        if str(unraisable.exc_value) != "Event loop is closed":
            usual(unraisable)

    if getattr(usual, "__name__", "") != "without_closed_event_loops":
        sys.unraisablehook = without_closed_event_loops


@contextlib.contextmanager
def readable(checkpoint: Path):
    """What Orbax raises on a checkpoint that is incomplete or damaged, as an error of one line.

    It is a DamagedCheckpoint, unless the reason is the memory, a permission or the device.
    """
    try:
        yield
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        elsewhere = isinstance(error, (MemoryError, OSError)) and not isinstance(error, FileNotFoundError)
        kind = UserError if elsewhere else DamagedCheckpoint
        raise kind(f"{checkpoint} cannot be read ({reason})") from error
