"""What makes the tests strict: annotations checked at run time, 8 virtual CPU devices, no silent promotion."""

import os
from functools import cache
from pathlib import Path

import pytest
from hypothesis import settings
from jaxtyping import install_import_hook

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # also on a machine with a GPU or TPU; set it to run the tests there
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a name that is no directory is looked up on no hub

# from here on every annotation of the package, array shapes included, is checked at each call
install_import_hook("tlqa_jax", "beartype.beartype")

# the same examples in each run, so that a commit passes or fails for good; --hypothesis-profile search looks for others
settings.register_profile("same", deadline=None, derandomize=True)  # no deadline: a busy machine is not an error
settings.register_profile("search", deadline=None, max_examples=3000)
settings.load_profile("same")

ROOT = Path(__file__).resolve().parents[1]
WITHOUT_JAX = {"text", "tasks", "metrics"}  # what they test uses no jax, and no devices are made for them
STRICT = {"core", "models", "inference"}  # not training: strict promotion breaks inside optax


def pytest_pycollect_makemodule(module_path):
    """Called before each test module is imported."""
    if module_path.parent.name not in WITHOUT_JAX:
        eight_virtual_devices()
    if module_path.parent.name not in (*WITHOUT_JAX, "parity"):
        compile_quickly()


@cache
def eight_virtual_devices():
    import jax

    jax.config.update("jax_num_cpu_devices", 8)  # before the backend starts


@cache
def compile_quickly():
    """XLA optimizes little: compiling takes most of the time, and the models are tiny. Parity tests, and tests in processes
    of their own, have all optimizations."""
    import jax

    jax.config.update("jax_disable_most_optimizations", True)
    if jax.__version_info__ < (0, 11):  # later versions do not know the first of these flags
        with pytest.MonkeyPatch.context() as patch:  # not for the processes that tests start
            patch.setenv("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false --xla_cpu_parallel_codegen_split_count=1")
            jax.numpy.zeros(()).block_until_ready()  # XLA reads its flags once, now


@pytest.fixture(autouse=True, scope="module")
def forget_what_is_compiled(request):
    """Not kept for the next module, where the slow tests run: together they would need 6 GB."""
    yield
    if request.config.getoption("markexpr") == "slow":
        import jax

        jax.clear_caches()


@pytest.fixture(autouse=True, scope="module")
def strict_promotion(request):
    """float32 + int32, or [L] + [B, L], is an error in the tests of arrays and models."""
    if Path(request.path).parent.name not in STRICT:
        yield
        return
    import jax

    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield
