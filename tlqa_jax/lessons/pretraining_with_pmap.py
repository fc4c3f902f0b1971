"""The checks of lesson 5: the mean over all devices, its gradients, and a dropout key for each device.

"Devices" are rows here: `jax.vmap` with an axis name has the same psum, pmean and axis_index as pmap, and needs no
devices at all.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tlqa_jax.core.devices import AXIS
from tlqa_jax.lessons.checks import NotYet, compare, filled, right

DEVICES, B, L, D = 4, 2, 3, 5


def rows() -> dict[str, np.ndarray]:
    """Losses of [DEVICES, B, L] tokens, and weights that spread padding unevenly: 6, 3, 1 and 2 tokens a device."""
    rng = np.random.default_rng(0)
    weights = np.zeros((DEVICES, B, L), np.float32)
    for device, lengths in enumerate([(3, 3), (2, 1), (1, 0), (0, 2)]):
        weights[device] = np.arange(L) < np.array(lengths)[:, None]
    return {
        "losses": rng.uniform(0.5, 4.0, weights.shape).astype(np.float32) + 2 * np.arange(DEVICES)[:, None, None],
        "x": rng.standard_normal((*weights.shape, D)).astype(np.float32),
        "y": rng.standard_normal(weights.shape).astype(np.float32),
        "weights": weights,
    }


def on_devices(function: Callable, *arrays: Any) -> Any:
    return jax.vmap(function, axis_name=AXIS)(*arrays)


def global_mean(global_mean: Callable[..., Float[Array, ""]]) -> None:
    """`global_mean(losses [B L], weights [B L])` -> scalar, called on each device with its own rows."""
    losses, weights = rows()["losses"], rows()["weights"]
    got = filled(on_devices(global_mean, losses, weights), "global_mean")
    share = lambda total, weight: np.sum(total, (1, 2)) / np.sum(weight, (1, 2))
    local, everywhere = share(losses * weights, weights), np.ones(DEVICES, np.float32)
    compare(
        "global_mean",
        np.asarray(got),
        everywhere * (losses * weights).sum() / weights.sum(),
        {
            "this is the mean of the devices' means. A token on a device with much padding counts more than one on "
            "a full device: add up the sums and the weights over the devices first, divide last.":
                everywhere * local.mean(),
            "every device has the mean of its own rows: the devices did not communicate. psum adds over them.": local,
            "the sum of the devices' means: several times too large, and it grows with the number of devices. Add "
            "sums and weights, then divide once.": everywhere * local.sum(),
            "padding counts as a token here: multiply the losses by their weights.": everywhere * losses.mean(),
            "padding does not add to the sum, but it is still in the number you divide by: divide by the sum of the "
            "weights, not by the number of places.": everywhere * (losses * weights).mean(),
            "the sum is over all devices, the number you divide by only of this one: psum both.":
                (losses * weights).sum() / weights.sum((1, 2)),
            "each device has its own sum over the weight of all. That is its share: psum adds the shares.":
                (losses * weights).sum((1, 2)) / weights.sum(),
            "this is the mean of the devices' sums: divide by the weight of all devices, not by their number.":
                everywhere * (losses * weights).sum() / DEVICES,
            "padding adds to the sum here, though not to the number you divide by: multiply the losses by their "
            "weights.": everywhere * losses.sum() / weights.sum(),
            "the sum of all losses, not yet divided by the number of tokens: batches with more text would take larger "
            "steps.": everywhere * (losses * weights).sum(),
        },
    )  # fmt: skip


def squared_error(params: dict[str, Float[Array, "D"]], rows: dict[str, Array]) -> Float[Array, ""]:
    """The sum of the weighted losses of some rows: a model with D parameters and a gradient one can write down."""
    return jnp.sum(rows["weights"] * (rows["x"] @ params["w"] - rows["y"]) ** 2)


def gradients(gradients: Callable[..., dict[str, Float[Array, "D"]]]) -> None:
    """`gradients(loss_sum, params, rows)` -> as `params`, the gradient of the loss over all devices' tokens.

    `loss_sum(params, rows)` is the sum over this device's tokens, `rows["weights"]` says which places are tokens.
    """
    w, batch = np.linspace(-1, 1, D).astype(np.float32), rows()
    params = {"w": jnp.asarray(w)}
    try:
        got = on_devices(lambda its_rows: filled(gradients(squared_error, params, its_rows), "gradients"), batch)
        got = got["w"]
    except (TypeError, KeyError, IndexError) as error:
        raise NotYet(
            "gradients: params is a dictionary of arrays, and the gradient is one like it; arithmetic on dictionaries "
            f"wants jax.tree.map, or is done before jax.grad, on the loss. ({error})"
        ) from None
    tokens = batch["weights"].sum((1, 2))
    error = batch["weights"] * (batch["x"] @ w - batch["y"])
    of_sums = 2 * np.einsum("nbl,nbld->nd", error, batch["x"])  # of each device's sum
    of_means = of_sums / tokens[:, None]
    everywhere = np.ones((DEVICES, 1), np.float32)
    wanted = everywhere * of_sums.sum(0) / tokens.sum()
    compare(
        "gradients",
        np.asarray(got),
        wanted,
        {
            "this is the mean of the gradients of local means. Devices with little text weigh as much as full ones, "
            "so the step is not that of the whole batch: divide by the global weight *before* you differentiate, "
            "then psum.":
                everywhere * of_means.mean(0),
            "your sum was divided by the global weight already, and then you took the mean over the devices: the "
            "step is as many times too small as there are devices. Shares are added: psum.": wanted / DEVICES,
            "every device has only the gradient of its own share. The copies of the parameters would drift apart "
            "after the first step: psum the gradients.": of_sums / tokens.sum(),
            "you differentiated a loss that is summed over the devices already, and then summed the gradients "
            "again. A device's loss stands in the sums of all devices, so its gradient through the psum is as many "
            "times too large as there are devices. Differentiate this device's share alone.": DEVICES * wanted,
            "you differentiated a loss that is summed over the devices. Its gradient here is not the global one: it "
            "is this device's share, as many times too large as there are devices.": DEVICES * of_sums / tokens.sum(),
            "the sum of the gradients of local means: several times too large, and the weights are wrong as well. "
            "Divide by the global weight, then psum.": everywhere * of_means.sum(0),
            "the sign: that is the direction in which the loss falls. The optimizer subtracts the gradient, so it is "
            "wanted as it is.": -wanted,
            "your gradient is divided by the number of devices once more. The shares are added: psum, and no more.":
                wanted / DEVICES,
            "you divide by the number of places, padding among them. Divide by the sum of the weights.":
                wanted * tokens.sum() / batch["weights"].size,
            "you multiply by the weight. A mean is divided by it.": wanted * tokens.sum() ** 2,
            "these are new parameters, after a step. Wanted is the gradient alone: the optimizer takes the step.":
                everywhere * w - wanted,
            "the mean of the gradients of sums: a batch with more text would take a larger step. Divide by the weight "
            "of all devices, then psum.": everywhere * of_sums.mean(0),
            "the gradient of the sum, not of the mean: a batch with more text would take a larger step. Divide by the "
            "weight of all devices.": everywhere * of_sums.sum(0),
            "every device has the gradient of its own mean: nobody talked to anybody.": of_means,
        },
        tolerance=1e-4,
    )  # fmt: skip


def dropout_key(dropout_key: Callable[..., Array]) -> None:
    """`dropout_key(seed, step)` -> a key, called on each device; another one for each (seed, step, device)."""
    name = "dropout_key"
    keys = {
        (seed, step): filled(on_devices(lambda _: dropout_key(seed, jnp.int32(step)), jnp.arange(DEVICES)), name)
        for seed in (0, 1) for step in (0, 1, 2)
    }  # fmt: skip
    keys = {at: bits(key, name) for at, key in keys.items()}
    again = bits(on_devices(lambda _: dropout_key(0, jnp.int32(0)), jnp.arange(DEVICES)), name)
    if again != keys[0, 0]:
        raise NotYet(
            f"{name}: asked twice for the same seed, step and device, you gave two keys. A run that was "
            "interrupted could not continue as it would have: use no generator with a memory, and no clock."
        )
    if any(len(set(of_devices)) == 1 for of_devices in keys.values()):
        raise NotYet(
            f"{name}: all devices have the same key, so they drop the same places of different rows: the noise of one "
            "device, eight times. jax.lax.axis_index tells a device which one it is."
        )
    if keys[0, 0] == keys[0, 1]:
        raise NotYet(
            f"{name}: the key is the same at every step. The same units would be off all through training, which makes "
            "a smaller model and no dropout: fold the step in."
        )
    if keys[0, 0] == keys[1, 0]:
        raise NotYet(f"{name}: the seed changes nothing. Two runs with different seeds should differ in their noise.")
    everything = [key for of_devices in keys.values() for key in of_devices]
    if len(set(everything)) == len(everything):
        everything = many_keys(dropout_key)  # a formula of the three numbers may repeat itself late
    if len(set(everything)) < len(everything):
        raise NotYet(
            f"{name}: different (seed, step, device) have the same key: as when step and device are added, and device "
            "1 at step 0 gets what device 0 gets at step 1. Whatever the formula, some numbers meet. Fold them in one "
            "after the other: jax.random.fold_in."
        )
    right(name)


def bits(key: Array, name: str) -> list[tuple[int, ...]]:
    """The numbers of each device's key, new style or old."""
    if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        key = jax.random.key_data(key)
    if key.shape[:1] != (DEVICES,) or key.ndim != 2:
        raise NotYet(f"{name}: that is no key. jax.random.key(seed) makes one, jax.random.fold_in(key, n) another.")
    return [tuple(row) for row in np.asarray(key).tolist()]


def many_keys(dropout_key: Callable[..., Array]) -> list[tuple[int, ...]]:
    """The keys of 2,048 steps of 4 seeds."""
    found: list[tuple[int, ...]] = []
    for seed in range(4):
        one = lambda step, seed=seed: on_devices(lambda _: dropout_key(seed, step), jnp.arange(DEVICES))
        keys = jax.vmap(one)(jnp.arange(2048))
        if jnp.issubdtype(keys.dtype, jax.dtypes.prng_key):
            keys = jax.random.key_data(keys)
        found += map(tuple, np.asarray(keys).reshape(-1, keys.shape[-1]).tolist())
    return found
