"""Batches for pmap: shuffled by (seed, epoch), the same after a restart, shared between processes.

The rows of a batch come from a function of the caller:

    build(indices, rows, step) -> {"inputs": [b, ...], "targets": [b, ...]}

`indices` (int64 [b]) are the examples of this process's rows, `rows` is their slice of the global batch, and `step`
counts from 0. If `build` draws random numbers from (seed, step) for the whole batch and uses those of its `rows`, or
from (seed, step, row) for each row, then a batch is a function of (seed, step), whatever came before and however many
processes there are. It runs in a background thread: numpy only, no jax.

    process p of P builds rows [p b/P, (p+1) b/P) of a global batch of b: arrays [local devices, b/P/local devices, ...]
"""

import sys
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np

from tlqa_jax.errors import UserError

Build = Callable[[np.ndarray, slice, int], dict[str, np.ndarray]]


class Devices(NamedTuple):
    """This process among all: which rows of a global batch are its own."""

    process_index: int
    process_count: int
    local: int  # devices of this process; all processes have the same number

    @classmethod
    def of_this_process(cls) -> "Devices":
        import jax  # only here: data can be read, and tested, without starting a backend

        return cls(jax.process_index(), jax.process_count(), jax.local_device_count())

    @property
    def total(self) -> int:
        return self.process_count * self.local

    def rows(self, batch_size: int) -> slice:
        share = batch_size // self.process_count
        return slice(self.process_index * share, (self.process_index + 1) * share)

    def split(self, batch: dict[str, np.ndarray], rows: slice) -> dict[str, np.ndarray]:
        """[b, ...] -> [local devices, b / local devices, ...] for each array."""
        size = rows.stop - rows.start
        for name, array in batch.items():
            if len(array) != size:
                raise ValueError(f"build gave {len(array)} rows of {name!r}, not {size}")
        return {name: array.reshape(self.local, size // self.local, *array.shape[1:]) for name, array in batch.items()}


class ShuffledOrder:
    """The endless stream of examples: every epoch is a new permutation of all, a function of (seed, epoch).

    `order[positions]` are the examples at these positions of the stream, in any order and from any epochs.
    """

    def __init__(self, num_examples: int, seed: int) -> None:
        self.num_examples, self.seed = num_examples, seed
        self._permutations: dict[int, np.ndarray] = {}  # of the last few epochs

    def __getitem__(self, positions: np.ndarray) -> np.ndarray:
        epochs, places = np.divmod(positions, self.num_examples)
        indices = np.empty(len(positions), np.int64)
        for epoch in np.unique(epochs).tolist():
            here = epochs == epoch
            indices[here] = self._of_epoch(epoch, places[here])
        return indices

    def _of_epoch(self, epoch: int, places: np.ndarray) -> np.ndarray:
        if epoch not in self._permutations:
            while len(self._permutations) > 1:
                self._permutations.pop(next(iter(self._permutations)), None)
            self._permutations[epoch] = np.random.default_rng([self.seed, epoch]).permutation(self.num_examples)
        return self._permutations[epoch][places]


def training_batches(
    num_examples: int, batch_size: int, seed: int, build: Build, *, order: Any = None, start: int = 0,
    devices: Devices | None = None, prefetch: int = 2,
) -> Iterator[dict[str, np.ndarray]]:  # fmt: skip
    """Endless batches from step `start` on; those from k on are the same as from 0 without the first k.

    An epoch may end within a batch: no example is left out, and there is no padding. `prefetch` batches are built ahead
    in a thread, which ends with the iterator (`close()`, or when nothing refers to it). `order` replaces the shuffled
    order by another stream of examples, such as `tasks.mixture.Mixture`. `devices` are by default this process's.

    Raises UserError at once if the devices do not divide the batch, the seed is negative, or there are no examples.
    """
    devices = devices or Devices.of_this_process()
    check_division(batch_size, devices)
    _check_examples(num_examples)
    if seed < 0:
        raise UserError(f"seed {seed}: it must not be negative")
    order = ShuffledOrder(num_examples, seed) if order is None else order
    rows = devices.rows(batch_size)

    def batch(step: int) -> dict[str, np.ndarray]:
        positions = step * batch_size + np.arange(rows.start, rows.stop, dtype=np.int64)
        return devices.split(build(order[positions], rows, step), rows)

    return _prefetched(batch, range(start, sys.maxsize // batch_size), prefetch)


def evaluation_batches(
    num_examples: int, batch_size: int, build: Build, *, devices: Devices | None = None, prefetch: int = 2,
) -> Iterator[dict[str, np.ndarray]]:  # fmt: skip
    """Every example exactly once, in order, in batches of one shape, with "weight" (float32) 1.

    The last batch is filled with example 0 at weight 0, so sums weighted by "weight" do not depend on the batch size or
    the devices. A batch size that the devices do not divide is rounded up. Raises UserError at once if there are no
    examples.
    """
    devices = devices or Devices.of_this_process()
    _check_examples(num_examples)
    if batch_size < 1:
        raise UserError(f"batch size {batch_size}: at least 1 is needed")
    batch_size = -(-batch_size // devices.total) * devices.total
    rows = devices.rows(batch_size)

    def batch(step: int) -> dict[str, np.ndarray]:
        indices = step * batch_size + np.arange(rows.start, rows.stop, dtype=np.int64)
        real = indices < num_examples
        built = build(np.where(real, indices, 0), rows, step)
        if "weight" in built:
            raise ValueError('build gave an array "weight": that name is for the rows that count')
        return devices.split({**built, "weight": real.astype(np.float32)}, rows)

    return _prefetched(batch, range(-(-num_examples // batch_size)), prefetch)


def check_division(batch_size: int, devices: Devices) -> None:
    """Raises UserError if a global batch cannot be shared equally between all devices; it names the nearest sizes."""
    total = devices.total
    if batch_size < 1 or batch_size % total:
        below, above = batch_size // total * total, -(-max(batch_size, 1) // total) * total
        raise UserError(
            f"a batch of {batch_size} cannot be divided equally between {total} devices: "
            f"use {f'{below} or {above}' if below > 0 else above}"
        )


def _prefetched(batch: Callable[[int], Any], steps: range, prefetch: int) -> Iterator[Any]:
    # one thread: batches are built in order, and the other cores are left for the training
    pool, ahead = ThreadPoolExecutor(1, thread_name_prefix="batches"), deque()
    try:
        for step in steps:
            ahead.append(pool.submit(batch, step))
            if len(ahead) > prefetch:
                yield ahead.popleft().result()
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def _check_examples(num_examples: int) -> None:
    if num_examples < 1:
        raise UserError("there are no examples to make batches of")
