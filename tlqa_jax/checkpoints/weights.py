"""A model's arrays in safetensors files: one, or several and an index. Pickles are not read: they can run any code."""

import json
import os
from pathlib import Path

import ml_dtypes  # noqa: F401  numpy knows bfloat16 then
import numpy as np

from tlqa_jax.checkpoints.directories import read_json
from tlqa_jax.errors import UserError

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
TYPES = {"BOOL", "F64", "F32", "F16", "BF16", *(f"{kind}{bits}" for kind in "IU" for bits in (8, 16, 32, 64))}
WEIGHT_FILES = (WEIGHTS, INDEX, "model-*.safetensors")


def weight_files(directory: Path, where: Path | str) -> list[Path]:
    """The files with a model's arrays. Raises UserError, which names the model `where`, if there are none."""
    if (directory / WEIGHTS).exists():
        return [directory / WEIGHTS]
    if not (directory / INDEX).exists():
        advice = "save it again with Transformers' save_pretrained"
        raise UserError(f"{where} has no {WEIGHTS}. A pickle (*.bin) is not read, as it can run any code: {advice}")
    shards = read_json(directory / INDEX).get("weight_map")
    if not isinstance(shards, dict) or not shards or not all(isinstance(shard, str) for shard in shards.values()):
        raise UserError(f"{directory / INDEX} has no weight_map, an object with the file of each array")
    return [directory / Path(shard).name for shard in sorted(set(shards.values()))]


def read_safetensors(path: Path | str) -> dict[str, np.ndarray]:
    """The arrays of a file by name. Raises UserError if it is missing or damaged, or has numbers of another kind."""
    from safetensors import SafetensorError
    from safetensors.numpy import load_file

    if not Path(path).exists():
        raise UserError(f"{path} does not exist")
    if unknown := sorted(_types(Path(path)) - TYPES):
        shown = ", ".join("float8" if name.startswith("F8") else name for name in unknown)
        raise UserError(f"{path}: numbers of type {shown} are not known here: save the model in float32 or bfloat16")
    try:
        return load_file(path)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is not a safetensors file, or is cut short: get it again ({error})") from None


def _types(path: Path) -> set[str]:
    """The types of the arrays in a file, by its header; empty if that cannot be read."""
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(min(length, path.stat().st_size)))
        return {str(array["dtype"]) for name, array in header.items() if name != "__metadata__"}
    except (OSError, ValueError, RecursionError, AttributeError, TypeError, KeyError):
        return set()


def write_safetensors(path: Path | str, arrays: dict[str, np.ndarray]) -> None:
    """Write float32 arrays, whole or not at all. The metadata says "pt", as Transformers wants it.

    Raises UserError if the file cannot be written.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import save_file

    path = Path(path)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    # `save_file` would mix up the numbers of an array that is not contiguous
    contiguous = {name: np.ascontiguousarray(array, np.float32) for name, array in arrays.items()}
    try:
        temporary.touch()
        mode = temporary.stat().st_mode  # that of any new file; `save_file` would let only the owner read
        save_file(contiguous, temporary, metadata={"format": "pt"})
        temporary.chmod(mode)
        os.replace(temporary, path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{path} cannot be written: {error}") from None
    finally:
        temporary.unlink(missing_ok=True)
