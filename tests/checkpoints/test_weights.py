"""The files that hold a model's parameters."""

import json

import ml_dtypes
import numpy as np
import pytest

from tlqa_jax.checkpoints.weights import read_safetensors, write_safetensors
from tlqa_jax.errors import UserError

ARRAYS = {
    "b": np.arange(6, dtype=np.float32).reshape(2, 3).T,
    "a": np.float32([[-1.5]]),
    "empty": np.zeros((0, 4), np.float32),
}


def raw(header: dict, data: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def test_what_is_written_is_read(tmp_path):
    """Also what does not lie in memory row by row, which the library alone would mix up without a word."""
    write_safetensors(tmp_path / "x", ARRAYS)
    arrays = read_safetensors(tmp_path / "x")
    assert [path.name for path in tmp_path.iterdir()] == ["x"]
    assert arrays.keys() == ARRAYS.keys()
    for name, array in ARRAYS.items():
        assert arrays[name].dtype == np.float32 and arrays[name].tolist() == array.tolist()


def test_the_bytes(tmp_path):
    write_safetensors(tmp_path / "x", {"a": np.float32([1, 2])})
    content = (tmp_path / "x").read_bytes()
    length = int.from_bytes(content[:8], "little")
    assert length % 8 == 0 and json.loads(content[8 : 8 + length]) == {
        "__metadata__": {"format": "pt"}, "a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
    }
    assert content[8 + length :] == np.float32([1, 2]).tobytes()


def test_bfloat16_is_read(tmp_path):
    numbers = np.array([1.5, -2.0, 3.0], ml_dtypes.bfloat16)
    (tmp_path / "x").write_bytes(raw({"x": {"dtype": "BF16", "shape": [3], "data_offsets": [0, 6]}}, numbers.tobytes()))
    assert read_safetensors(tmp_path / "x")["x"].astype(np.float32).tolist() == [1.5, -2.0, 3.0]


X = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    "content",
    [
        b"", b"\x05", b"\xff" * 8, b"\x80\x02}q\x00." * 10, (3).to_bytes(8, "little") + b"[1]",
        raw({"x": X}, b"1234"), raw({"x": X}), raw({"x": X | {"shape": [3]}}, b"12345678"),
        raw({"x": X | {"data_offsets": [4, 2]}}, b"12345678"),
        raw({"x": {"dtype": "F32"}}, b"12345678"), raw({"x": 3}),
        raw({"x": X | {"data_offsets": [-8, 0]}}, b"12345678"),
    ],
)  # fmt: skip
def test_damaged_files_are_refused_in_one_line(tmp_path, content):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(UserError, match="^.*x is not a safetensors file.*$"):
        read_safetensors(tmp_path / "x")


def test_a_missing_file(tmp_path):
    with pytest.raises(UserError, match="x does not exist"):
        read_safetensors(tmp_path / "x")
    with pytest.raises(UserError, match="no/x cannot be written: .*No such file or directory"):
        write_safetensors(tmp_path / "no" / "x", ARRAYS)
