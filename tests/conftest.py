"""What makes the tests strict: annotations checked at run time, 8 virtual CPU devices, no silent promotion.

Nothing here imports jax, so that the tests of text stay fast.
"""

import os
import sys
from pathlib import Path

import pytest
from jaxtyping import install_import_hook

os.environ.setdefault("JAX_PLATFORMS", "cpu")  # the tests run beside a GPU or TPU as well; set it to run them on one

# every annotation of the package, array shapes included, is checked at each call from here on
install_import_hook("tlqa_jax", "beartype.beartype")

STRICT = {"core", "models", "decoding"}  # not the training tests: strict promotion breaks inside optax


def pytest_collection_finish():
    """8 virtual CPU devices for the tests that use jax: set before its backend starts, so import no arrays at module level."""
    if "jax" in sys.modules:
        import jax

        jax.config.update("jax_num_cpu_devices", 8)


@pytest.fixture(autouse=True, scope="module")
def strict_promotion(request):
    """float32 + int32, or [L] + [B, L], is an error in the tests of arrays and models."""
    if Path(request.path).parent.name not in STRICT:
        yield
        return
    import jax

    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield
