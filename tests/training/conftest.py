"""What the tests of the training programs share."""

import jax
import pytest

from .programs import write_files


@pytest.fixture(autouse=True, scope="package")
def quick_compilation():
    """XLA optimizes little: compiling takes half as long, and the models are tiny. Tests in processes of their own, the
    slow ones, have all optimizations."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


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
