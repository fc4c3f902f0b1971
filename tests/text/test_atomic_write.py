"""A file is there whole or as it was before; a write that fails names the file."""

import json
import os
from pathlib import Path

import pytest

from tlqa_jax.errors import UserError
from tlqa_jax.inference.answer_spans import write_n_best
from tlqa_jax.metrics.squad import write_predictions
from tlqa_jax.text.atomic_write import write_atomically
from tlqa_jax.training.progress import Progress

WRITERS = {
    "predictions": lambda path: write_predictions(path, {"q": "new"}),
    "n_best": lambda path: write_n_best(path, [], []),
    "vocabulary": lambda path: write_atomically(path, b"new", make_directory=True),
    "metrics": lambda path: Progress(path.parent, "x", 1, quiet=True).__enter__(),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_write_that_fails_leaves_the_old_file_and_is_named(name, tmp_path, monkeypatch):
    def full(path, content, *_, **__):
        path.open("wb").close()
        raise OSError(28, "No space left on device")

    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 0}\n')
    monkeypatch.setattr(Path, "write_bytes", full)
    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(UserError, match=r"metrics\.jsonl cannot be written: No space left on device"):
        WRITERS[name](path)
    assert path.read_text() == '{"step": 0}\n' and os.listdir(tmp_path) == [path.name]


def test_a_link_stays_a_link_and_a_pipe_a_pipe(tmp_path):
    (tmp_path / "link.json").symlink_to(tmp_path / "file.json")
    write_atomically(tmp_path / "link.json", json.dumps("é"))
    assert (tmp_path / "link.json").is_symlink() and json.loads((tmp_path / "file.json").read_text()) == "é"
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_atomically(tmp_path / "pipe", "all")
    assert os.read(reader, 9) == b"all" and (tmp_path / "pipe").is_fifo()
    os.close(reader)
    with pytest.raises(UserError, match="cannot be written: Is a directory"):
        write_atomically(tmp_path, "x")
