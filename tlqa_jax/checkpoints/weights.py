"""A directory's parameters: one `model.safetensors`, or several files and an index. No pickles: they can run any code."""

import os
from pathlib import Path

import numpy as np

from tlqa_jax.checkpoints.directories import INDEX, WEIGHTS, read_json
from tlqa_jax.errors import UserError


def read_weights(directory: Path, hub_name: str | None = None) -> dict[str, np.ndarray]:
    """All arrays of a directory by name, which was downloaded if there is a `hub_name`."""
    arrays = {}
    for file in weight_files(directory, hub_name):
        arrays |= read_safetensors(file)
    return arrays


def weight_files(directory: Path, hub_name: str | None = None) -> list[Path]:
    """The files that hold a directory's arrays. Raises UserError if there are none."""
    if (directory / WEIGHTS).exists():
        return [directory / WEIGHTS]
    if (directory / INDEX).exists():
        shards = read_json(directory / INDEX).get("weight_map")
        if not isinstance(shards, dict):
            raise UserError(f"{directory / INDEX} has no weight_map")
        return [directory / Path(shard).name for shard in sorted(set(shards.values()))]
    reason = (
        "a pickle, which can run any code when it is opened: "
        "save it as safetensors (Transformers' save_pretrained does) or take a version of it that is"
    )
    if hub_name:
        raise UserError(f"the hub has no safetensors of {hub_name}, and what else it has may be {reason}")
    if pickles := sorted(path.name for path in directory.glob("*.bin")):
        raise UserError(f"{directory} has its parameters in {', '.join(pickles)}, {reason}")
    raise UserError(f"{directory} has no {WEIGHTS}")


def read_safetensors(path: Path | str) -> dict[str, np.ndarray]:
    """The arrays of a file by name. Raises UserError if the file is missing or damaged."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    if not Path(path).exists():
        raise UserError(f"{path} does not exist")
    try:
        return load_file(path)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is not a safetensors file, or is cut short: get it again ({error})") from None


def write_safetensors(path: Path | str, arrays: dict[str, np.ndarray]) -> None:
    """Write float32 arrays, whole or not at all. The metadata says "pt", as Transformers wants it.

    Raises UserError if the file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    path = Path(path)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    contiguous = {name: np.ascontiguousarray(array, np.float32) for name, array in arrays.items()}  # or they are mixed up
    try:
        temporary.touch()
        mode = temporary.stat().st_mode  # as any new file: `save_file` lets nobody but its owner read
        save_file(contiguous, temporary, metadata={"format": "pt"})
        temporary.chmod(mode)
        os.replace(temporary, path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} cannot be written: {error}") from None
    finally:
        temporary.unlink(missing_ok=True)
