"""What the tests of the training programs share."""

import jax
import pytest

from .programs import write_files


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """A directory with all the files that the small runs read. Nobody changes them."""
    return write_files(tmp_path_factory.mktemp("files"))


@pytest.fixture
def no_compilation(monkeypatch):
    """No step of training or evaluation is compiled."""

    def pmap(*_, **__):
        raise AssertionError("a step is compiled")

    monkeypatch.setattr(jax, "pmap", pmap)
