"""Several short examples in one row, so that a batch is made of tokens and not of padding.

    inputs            a1 a2 a3 b1 b2 c1 c2 c3  0           targets            A1 A2 B1 C1 C2 C3  0
    input_segments     1  1  1  2  2  3  3  3  0           target_segments     1  1  2  3  3  3  0

The examples of a row do not influence each other: attention stays within a segment (`models.t5`), and the loss is a
mean over target tokens, whatever row they are in.

Which examples share a row is drawn once, from the seed. Every epoch then shuffles the rows instead of the examples, so
each example comes once and a batch stays a function of (seed, step). (With new groups in every epoch the number of rows
would change, and the epoch of a step would depend on all epochs before.)

n is the number of examples, I and T the lengths of their inputs and targets, R that of the packed rows.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Int, Int32, Integer

from tlqa_jax.tasks.text_to_text import TextArrays

CHUNK = 1024  # examples that are packed together; a larger chunk leaves less padding and takes longer


class PackedRows(NamedTuple):
    """Rows of several examples. Segments number the tokens of each example of a row from 1; padding is 0."""

    inputs: Int32[np.ndarray, "B I"]
    targets: Int32[np.ndarray, "B P"]
    input_segments: Int32[np.ndarray, "B I"]
    target_segments: Int32[np.ndarray, "B P"]


class Packing:
    """The examples of `TextArrays`, several in a row.

    Only examples of one group share a row. `groups` are the sizes of groups that follow each other in `examples`, such
    as the tasks of a mixture; None: one group. The rows of a group follow each other too; `sizes` are their numbers.

    Rows have inputs as long as `examples.inputs`, and targets as long as `examples.targets` or longer: 1.25 times the
    targets that belong to full inputs on average. Otherwise short questions would leave the inputs half empty.

    Row r holds the examples members[borders[r] : borders[r + 1]], in this order.
    """

    def __init__(self, examples: TextArrays, seed: int, groups: Sequence[int] | None = None):
        self.examples = examples
        lengths = np.stack([examples.input_lengths, examples.target_lengths], axis=1)
        input_length, target_length = examples.inputs.shape[1], examples.targets.shape[1]
        inputs, targets = lengths.mean(axis=0)
        self.input_length = input_length
        self.target_length = max(target_length, int(np.ceil(1.25 * input_length / inputs * targets)))
        rng, order, counts, self.sizes = np.random.default_rng(seed), [], [], []
        ends = np.cumsum([len(lengths)] if groups is None else groups)
        for begin, end in zip([0, *ends], ends):
            shuffled = begin + rng.permutation(end - begin)
            self.sizes.append(0)
            for chunk in np.split(shuffled, range(CHUNK, len(shuffled), CHUNK)):
                rows = first_fit(lengths[chunk], (self.input_length, self.target_length))
                order.append(chunk[np.argsort(rows, kind="stable")])
                counts.append(np.bincount(rows))
                self.sizes[-1] += len(counts[-1])
        self.members = np.concatenate(order)
        self.borders = np.concatenate([[0], np.cumsum(np.concatenate(counts))])

    @property
    def size(self) -> int:
        """The number of rows."""
        return sum(self.sizes)

    def build(self, indices: Int[np.ndarray, "B"], *_) -> dict[str, np.ndarray]:
        """The rows of a batch, as `data.batches` asks for them."""
        return self.rows(indices)._asdict()

    def rows(self, indices: Int[np.ndarray, "B"]) -> PackedRows:
        """The rows with these numbers."""
        counts = self.borders[indices + 1] - self.borders[indices]
        # the places of their members: first those of the first row, then those of the second, …
        within = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        members = self.members[np.repeat(self.borders[indices], counts) + within]
        row = np.repeat(np.arange(len(indices)), counts)
        sides = (
            (self.examples.inputs, self.examples.input_lengths, self.input_length),
            (self.examples.targets, self.examples.target_lengths, self.target_length),
        )
        (inputs, input_segments), (targets, target_segments) = (
            _laid_out(tokens[members], lengths[members], row, within + 1, (len(indices), width))
            for tokens, lengths, width in sides
        )
        return PackedRows(inputs, targets, input_segments, target_segments)

    def report(self) -> str:
        """One line for the user: how much padding this saves."""
        tokens = np.array([self.examples.input_lengths.sum(), self.examples.target_lengths.sum()])
        before = 100 - 100 * tokens / [self.examples.inputs.size, self.examples.targets.size]
        after = 100 - 100 * tokens / (self.size * np.array([self.input_length, self.target_length]))
        return (
            f"packed {len(self.members):,} examples into {self.size:,} rows of {self.input_length} and "
            f"{self.target_length} tokens; padding of inputs {before[0]:.1f}% -> {after[0]:.1f}%, "
            f"of targets {before[1]:.1f}% -> {after[1]:.1f}%"
        )


def first_fit(lengths: Integer[np.ndarray, "n 2"], room: tuple[int, int]) -> Int[np.ndarray, "n"]:
    """The row of each example: the first that has room for its inputs and its targets, or a new one.

    The longest examples are placed first, and short ones then fill the rest. Raises ValueError for an example that is
    longer than a row.
    """
    if (lengths > room).any():
        example = int((lengths > room).any(axis=1).argmax())
        raise ValueError(f"example {example} has lengths {lengths[example].tolist()}, a row only room for {room}")
    rows = np.empty(len(lengths), np.int64)
    free = np.tile(np.array(room, np.int64), (len(lengths) + 1, 1))  # of as many rows as can be needed
    begun = 0
    for example in np.argsort(-(lengths / room).max(axis=1), kind="stable"):
        row = int((free[: begun + 1] >= lengths[example]).all(axis=1).argmax())
        begun = max(begun, row + 1)
        free[row] -= lengths[example]
        rows[example] = row
    return rows


def _laid_out(
    tokens: Int32[np.ndarray, "m length"], lengths: Int32[np.ndarray, "m"], row: Int[np.ndarray, "m"],
    segment: Int[np.ndarray, "m"], shape: tuple[int, int],
) -> tuple[Int32[np.ndarray, "B width"], Int32[np.ndarray, "B width"]]:
    """(rows, their segments): the examples of each `row` one after another, their tokens numbered by `segment`."""
    filled = np.arange(shape[1]) < np.bincount(row, weights=lengths, minlength=shape[0])[:, None]
    packed, segments = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    packed[filled] = tokens[np.arange(tokens.shape[1]) < lengths[:, None]]
    segments[filled] = np.repeat(segment, lengths)
    return packed, segments
