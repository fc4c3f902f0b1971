"""What the pmap-ed loops share: the axis, state on every device, numbers back from them, gradients of a global mean."""

import os
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from tlqa_jax.errors import UserError

AXIS = "devices"  # the name of the pmap-ed axis in every training and evaluation step


def replicate(tree: Any) -> Any:
    """A copy of every array on each of this process's devices; the shapes stay.

    For an argument that pmap is told not to split (`in_axes=None`). With a leading axis of devices instead, as
    `flax.jax_utils.replicate` makes it, XLA cannot write the new state over the old one in place and copies all of it.
    """
    devices = np.arange(jax.local_device_count())
    return jax.pmap(lambda _, tree: tree, axis_name=AXIS, in_axes=(0, None), out_axes=None)(devices, tree)


def on_host(tree: Any) -> Any:
    """The arrays as numpy arrays."""
    return jax.tree.map(np.asarray, tree)


def unreplicate(tree: Any) -> Any:
    """The first device's copy, as numpy arrays on the host."""
    return jax.tree.map(lambda x: np.asarray(x.addressable_data(0)), tree)


def dropout_key(seed: int, step: Array) -> PRNGKeyArray:
    """A key that is a function of (seed, step, device). Call it inside a pmap-ed step."""
    key = jax.random.fold_in(jax.random.key(seed), step)
    return jax.random.fold_in(key, jax.lax.axis_index(AXIS))


def accumulate(
    value_and_grad: Callable, params: Any, batch: dict[str, Array], key: PRNGKeyArray, steps: int
) -> tuple[Any, Any]:
    """The sum of `value_and_grad(params, micro_batch, key)` over `steps` equal slices of this device's rows.

    A sum, not a mean: the loss has been divided by the weight of the whole global batch before, so that the slices add
    up to exactly what the batch in one piece would give, however unevenly padding is spread over them.
    """
    if steps == 1:
        return value_and_grad(params, batch, key)
    micro_batches = jax.tree.map(lambda x: x.reshape(steps, x.shape[0] // steps, *x.shape[1:]), batch)

    def add(total, micro):
        return jax.tree.map(jnp.add, total, value_and_grad(params, *micro)), None

    shapes = jax.eval_shape(value_and_grad, params, jax.tree.map(lambda x: x[0], micro_batches), key)
    zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), shapes)
    return jax.lax.scan(add, zeros, (micro_batches, jax.random.split(key, steps)))[0]


def check_batch(batch_size: int, accumulation: int) -> None:
    """Refuse a global batch that devices times accumulation do not divide, before anything is compiled."""
    parts = jax.device_count() * accumulation
    if batch_size % parts:
        below, above = batch_size // parts * parts, (batch_size // parts + 1) * parts
        raise UserError(
            f"--batch-size {batch_size} cannot be split over {jax.device_count()} device(s) x "
            f"--accumulate {accumulation}: use {f'{below} or ' if below else ''}{above}"
        )


def compute_dtype(choice: str = "auto") -> Any:
    """What models compute in: "auto" is bfloat16 on TPUs and GPUs that have it, else float32. float16 is refused."""
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


def describe() -> str:
    """What JAX sees, in a few lines: the devices and their memory, whether pmap adds over them, the compute type."""
    devices = jax.local_devices()
    lines = [
        f"jax {jax.__version__}, backend {jax.default_backend()}, "
        f"{jax.device_count()} device(s) in {jax.process_count()} process(es)"
    ]
    for device in devices:
        stats = device.memory_stats() or {}
        limit, used = stats.get("bytes_limit"), stats.get("bytes_in_use", 0)
        memory = (
            f"{limit / 2**30:.1f} GiB, {used / 2**30:.1f} in use"
            if limit
            else f"the host's {host_memory() / 2**30:.1f} GiB, shared"
        )
        lines.append(f"  {device.id}: {device.device_kind}, memory: {memory}")
    ones = np.ones(len(devices), np.float32)
    total = float(jax.pmap(lambda x: jax.lax.psum(x, AXIS), axis_name=AXIS)(ones)[0])
    wrong = "" if total == jax.device_count() else ", which is WRONG"
    lines.append(f"pmap: a sum of ones over all devices is {total:.0f}{wrong}")
    lines.append(f"models compute in {np.dtype(compute_dtype()).name}; parameters are float32")
    return "\n".join(lines)


def host_memory() -> int:
    """Bytes of this machine's memory, 0 where the system does not say."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return 0
