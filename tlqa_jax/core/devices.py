"""State on all devices and back, for pmap; and the type that models compute in."""

import functools
import os
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from tlqa_jax.errors import UserError

AXIS = "devices"  # the name of the pmap-ed axis in every training and evaluation step


def replicate(tree: Any) -> Any:
    """A copy of every array on each of this process's devices; the shapes stay.

    For an argument that pmap is told not to split (`in_axes=None`). With a leading axis of devices instead, as
    `flax.jax_utils.replicate` makes it, XLA cannot write the new state over the old one in place and copies all of it.
    """
    return _copier()(np.arange(jax.local_device_count()), tree)


@functools.cache
def _copier():
    """One function for all, so that trees of the same shapes are compiled for once."""
    return jax.pmap(lambda _, tree: tree, axis_name=AXIS, in_axes=(0, None), out_axes=None)


def on_host(tree: Any) -> Any:
    """The arrays as numpy arrays."""
    return jax.tree.map(np.asarray, tree)


def unreplicate(tree: Any) -> Any:
    """The first device's copy, as numpy arrays on the host."""
    return jax.tree.map(lambda x: np.asarray(x.addressable_data(0)), tree)


def compute_dtype(choice: str = "auto") -> Any:
    """The type that models compute in: "auto" is bfloat16 on TPUs and GPUs that have it, else float32.

    Raises UserError for another choice; float16 is refused because T5 overflows in it.
    """
    if choice == "auto":
        device = jax.local_devices()[0]
        # NVIDIA's from 8.0 on, and AMD's from gfx900 on
        recent = re.fullmatch(r"([89]|\d\d)(\.\d+)?|gfx[91].*", str(getattr(device, "compute_capability", "")))
        has_bfloat16 = device.platform == "tpu" or (device.platform == "gpu" and recent)
        return jnp.bfloat16 if has_bfloat16 else jnp.float32
    if choice not in ("bfloat16", "float32"):
        reason = " (T5 overflows in it)" if choice == "float16" else ""
        raise UserError(f'--dtype is "{choice}"{reason}: use auto, bfloat16 or float32')
    return jnp.dtype(choice).type


def host_memory() -> int:
    """Bytes of this machine's memory, 0 where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0
