import json

import ml_dtypes
import numpy as np
import pytest

from tlqa_jax.checkpoints.safetensors_file import read_safetensors, write_safetensors
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
    write_safetensors(tmp_path / "x", ARRAYS)
    arrays = read_safetensors(tmp_path / "x")
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


def test_the_library_reads_what_we_write_and_we_what_it_writes(tmp_path):
    library = pytest.importorskip("safetensors.numpy")
    write_safetensors(tmp_path / "ours", ARRAYS)
    # the library mixes others up without a word
    contiguous = {name: np.ascontiguousarray(array) for name, array in ARRAYS.items()}
    library.save_file(contiguous | {"a": np.float16([[-1.5]]), "n": np.arange(5)}, tmp_path / "theirs")
    for name, array in library.load_file(tmp_path / "ours").items():
        assert array.tolist() == ARRAYS[name].tolist()
    theirs = read_safetensors(tmp_path / "theirs")
    assert theirs["a"].dtype == np.float16 and theirs["n"].tolist() == [0, 1, 2, 3, 4]
    assert theirs["b"].tolist() == ARRAYS["b"].tolist()


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
        raw({"x": X | {"data_offsets": [4, 2]}}, b"12345678"), raw({"x": X | {"dtype": "F8"}}, b"12345678"),
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
