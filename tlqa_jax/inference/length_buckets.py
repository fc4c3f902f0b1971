"""Length bucketing: rows of many lengths in batches of a few shapes, so that new inputs rarely need a compilation."""

from collections.abc import Iterable, Iterator

import numpy as np
from jaxtyping import Int

from tlqa_jax.examples import QAExample

SHORTEST = 32  # tokens; longer rows are padded to 64, 128, … up to the longest length allowed
CHARACTERS_AT_ONCE = 2**20  # of questions and contexts; about 1,500 windows, whose candidates take a few MB


def length_buckets(
    lengths: Int[np.ndarray, "N"], *, longest: int, devices: int, batch_size: int
) -> Iterator[tuple[Int[np.ndarray, "B"], int, int]]:
    """(rows, count, length) of each batch: its rows, how many of them count, and the length to pad them to.

    The longest rows come first. A batch has `batch_size` rows, rounded up to a multiple of `devices`; or one row for
    each device if that is enough for all rows. A batch that is not full repeats its first row.
    """
    order = np.argsort(-lengths, kind="stable")
    size = devices if len(order) <= devices else -(-batch_size // devices) * devices
    for start in range(0, len(order), size):
        rows = order[start : start + size]
        length = padded_length(int(lengths[rows[0]]), longest)
        yield np.concatenate([rows, np.full(size - len(rows), rows[0])]), len(rows), length


def padded_length(length: int, longest: int) -> int:
    """The smallest of 32, 64, 128, … and the longest length allowed that `length` fits into."""
    padded = SHORTEST
    while padded < length:
        padded *= 2
    return min(padded, longest)


def groups_of_questions(examples: Iterable[QAExample]) -> Iterator[list[QAExample]]:
    """The examples in their order, in groups of about `CHARACTERS_AT_ONCE` characters: they bound the memory."""
    group, characters = [], 0
    for example in examples:
        group.append(example)
        characters += len(example.question) + len(example.context or "") + 1
        if characters >= CHARACTERS_AT_ONCE:
            yield group
            group, characters = [], 0
    if group:
        yield group
