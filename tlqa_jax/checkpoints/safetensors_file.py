"""Safetensors files: named arrays and nothing that could run, unlike a pickle.

    8 bytes   the length of the header, little-endian
    header    JSON: {"name": {"dtype": "F32", "shape": [3, 4], "data_offsets": [begin, end]}, …, "__metadata__": {…}}
    data      the arrays one after another; offsets count from here

Thirty lines, where the library's numpy side does not know bfloat16.
"""

import json
from pathlib import Path

import ml_dtypes
import numpy as np

from tlqa_jax.errors import UserError

DTYPES = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16,
    "I64": np.int64, "I32": np.int32, "I16": np.int16, "I8": np.int8, "U8": np.uint8, "BOOL": np.bool_,
}


def read_safetensors(path: Path | str) -> dict[str, np.ndarray]:
    """The arrays of a file by name. Raises UserError if the file is missing or damaged."""
    path = Path(path)
    if not path.exists():
        raise UserError(f"{path} does not exist")
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        data = np.fromfile(path, np.uint8, offset=8 + length)  # in one piece; each array is a view of it
        return {name: _view(data, **entry) for name, entry in header.items()}
    except (OSError, OverflowError, MemoryError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f"{path} is not a safetensors file, or is cut short: get it again ({error})") from None


def _view(data: np.ndarray, dtype: str, shape: list[int], data_offsets: list[int]) -> np.ndarray:
    begin, end = data_offsets
    if not 0 <= begin <= end <= len(data):
        raise ValueError(f"data from {begin} to {end} of {len(data)} bytes")
    return data[begin:end].view(DTYPES[dtype]).reshape(shape)


def write_safetensors(path: Path | str, arrays: dict[str, np.ndarray]) -> None:
    """Write float32 arrays. The metadata says "pt", as Transformers wants of a file that it is to read."""
    arrays = {name: np.ascontiguousarray(arrays[name], "<f4") for name in sorted(arrays)}
    header, begin = {"__metadata__": {"format": "pt"}}, 0
    for name, array in arrays.items():
        header[name] = {"dtype": "F32", "shape": array.shape, "data_offsets": [begin, begin + array.nbytes]}
        begin += array.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the data begin at a multiple of 8 bytes
    with Path(path).open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array in arrays.values():
            file.write(array.data)
