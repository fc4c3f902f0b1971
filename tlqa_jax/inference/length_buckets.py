"""Rows of many lengths in batches of few shapes, so that another question, or a thousand, compile nothing new."""

from collections.abc import Iterator

import numpy as np
from jaxtyping import Int

SHORTEST = 32  # tokens; longer rows are padded to 64, 128, … up to the longest allowed


def few_shapes(
    lengths: Int[np.ndarray, "N"], *, longest: int, devices: int, batch_size: int
) -> Iterator[tuple[Int[np.ndarray, "B"], int, int]]:
    """(rows, count, length) of each batch: which rows stand in it, how many of them count, to what length to pad them.

    The longest rows come first. Batches have `batch_size` rows, rounded up to a multiple of `devices`, or one for each
    device where that is enough for all; what is missing to a full batch repeats its first row.
    """
    order = np.argsort(-lengths, kind="stable")
    size = devices if len(order) <= devices else -(-batch_size // devices) * devices
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        length = padded_length(int(lengths[rows[0]]), longest)
        yield np.concatenate([rows, np.full(size - len(rows), rows[0])]), len(rows), length


def padded_length(length: int, longest: int) -> int:
    """The next of the few lengths, which are 32, 64, 128, … and the longest allowed."""
    padded = SHORTEST
    while padded < length:
        padded *= 2
    return min(padded, longest)
