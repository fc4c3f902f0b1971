"""What a run needs to continue, in RUN/checkpoints/STEP/: parameters, optimizer state and step, stored by Orbax."""

import contextlib
import logging
from pathlib import Path
from typing import Any

import jax
import numpy as np

from tlqa_jax.checkpoints.named_arrays import compare, flatten
from tlqa_jax.errors import UserError

CHECKPOINTS = "checkpoints"


class Checkpoints:
    """The newest `keep` checkpoints of one run. A write that is killed leaves no half checkpoint.

    With `read_only` nothing is created or deleted: a program may be training in this directory.
    """

    def __init__(self, run: Path | str, keep: int | None = 3, *, read_only: bool = False):
        import orbax.checkpoint as ocp  # takes seconds to import

        logging.getLogger("absl").setLevel(logging.ERROR)
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
        try:
            self._manager.save(step, args=self._args.StandardSave(jax.tree.map(np.asarray, state)))
        except Exception as error:
            # TensorStore calls it RESOURCE_EXHAUSTED, as XLA calls a lack of memory
            if "No space left" not in str(error) and "ENOSPC" not in str(error):
                raise
            raise UserError(f"no space left on the file system of {self.directory}: make room, run it again") from None

    def restore(self, like: dict[str, Any], step: int | None = None) -> dict[str, Any]:
        """The newest checkpoint, or that of `step`, as numpy arrays in the structure of `like` (arrays or shapes).

        `like` may have some of the top-level entries only, such as "params". Raises UserError, before anything is read,
        naming keys that are missing, left over or of another shape or dtype.
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
        return {name: restored[name] for name in like}

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_) -> None:
        self._manager.close()


@contextlib.contextmanager
def readable(checkpoint: Path):
    """What Orbax raises on a checkpoint that is incomplete or damaged, as an error of one line.

    It advises to delete the checkpoint if there is an older one, and the reason is not the memory or a permission.
    """
    try:
        yield
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        steps = [int(path.name) for path in checkpoint.parent.iterdir() if path.name.isdecimal()]
        elsewhere = isinstance(error, (MemoryError, OSError)) and not isinstance(error, FileNotFoundError)
        older = min(steps) < int(checkpoint.name)
        advice = "; delete it to go back to the one before it" if older and not elsewhere else ""
        raise UserError(f"{checkpoint} cannot be read{advice} ({reason})") from error
