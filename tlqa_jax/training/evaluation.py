"""Evaluation over every held-out example exactly once."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import jax

from tlqa_jax.training.devices import AXIS


def summed_over_devices(sums: Callable) -> Callable:
    """pmap of `sums(params, batch) -> dict of sums`, added over all devices of all processes."""
    return jax.pmap(lambda params, batch: jax.lax.psum(sums(params, batch), AXIS), axis_name=AXIS)


def mean_over_examples(step: Callable, params: Any, batches: Iterable[dict]) -> dict[str, float]:
    """Run `step` (see `summed_over_devices`) over the batches; every sum divided by the sum called "weight".

    Sums are added and divided once at the end, so the result does not depend on how the examples were batched.
    """
    totals: dict[str, float] = {}
    for batch in batches:
        for name, value in step(params, batch).items():
            totals[name] = totals.get(name, 0.0) + float(value.addressable_data(0)[0])
    weight = totals.pop("weight", 0.0)
    return {name: total / weight if weight else math.nan for name, total in totals.items()}
