"""Packing: every example once, whole and in one piece; nothing overflows; the rows depend on the seed alone."""

import numpy as np
import pytest
from hypothesis import given, strategies as st

import tlqa_jax.tasks.packing as module
from tlqa_jax.tasks.packing import Packing, first_fit
from tlqa_jax.tasks.text_to_text import TextArrays


def padded(rows: list[list[int]], length: int) -> np.ndarray:
    return np.array([row + [0] * (length - len(row)) for row in rows], np.int32)


def examples(lengths: list[tuple[int, int]], input_length: int, target_length: int) -> TextArrays:
    """Examples whose tokens say where they come from: example 2's inputs are 201, 202, …, its targets 251, 252, …"""
    inputs = [[100 * i + 1 + j for j in range(n)] for i, (n, _) in enumerate(lengths)]
    targets = [[100 * i + 51 + j for j in range(n)] for i, (_, n) in enumerate(lengths)]
    n, m = np.array(lengths, np.int32).reshape(-1, 2).T
    whole = np.zeros(len(lengths), bool)
    return TextArrays(padded(inputs, input_length), padded(targets, target_length), n, m, whole, whole)


def unpack(tokens: np.ndarray, segments: np.ndarray) -> list[list[list[int]]]:
    """The tokens of each example of each row, in order: what was packed."""
    return [
        [row[numbers == number].tolist() for number in range(1, numbers.max(initial=0) + 1)]
        for row, numbers in zip(tokens, segments, strict=True)
    ]


LENGTHS = st.lists(st.tuples(st.integers(1, 11), st.integers(1, 5)), min_size=1, max_size=30)


@given(LENGTHS, st.integers(0, 3), st.integers(1, 40))
def test_every_example_once_and_whole(lengths, seed, chunk):
    rows = examples(lengths, 11, 5)
    before, module.CHUNK = module.CHUNK, chunk
    try:
        packing = Packing(rows, seed)
    finally:
        module.CHUNK = before
    packed = packing.rows(np.arange(packing.size))
    assert packed.inputs.shape == packed.input_segments.shape == (packing.size, 11)
    assert packed.targets.shape == packed.target_segments.shape == (packing.size, packing.target_length)
    sources = unpack(packed.inputs, packed.input_segments)
    answers = unpack(packed.targets, packed.target_segments)
    pairs = [pair for row in zip(sources, answers, strict=True) for pair in zip(*row, strict=True)]
    expected = [
        (source[:n].tolist(), answer[:m].tolist())
        for source, answer, (n, m) in zip(rows.inputs, rows.targets, lengths)
    ]
    assert sorted(pairs) == sorted(expected)
    for tokens, segments in ((packed.inputs, packed.input_segments), (packed.targets, packed.target_segments)):
        assert ((tokens == 0) == (segments == 0)).all()
        for row in segments:  # 1 1 2 2 3 0 0: each number in one run, none left out, padding last
            runs = row[np.flatnonzero(np.diff(row, prepend=-1))].tolist()
            last = row.max()
            assert runs == [*range(1, last + 1), 0][: len(runs)] and len(runs) >= last


@given(LENGTHS, st.integers(0, 3), st.data())
def test_any_rows_in_any_order(lengths, seed, data):
    packing = Packing(examples(lengths, 11, 5), seed)
    whole = packing.rows(np.arange(packing.size))
    chosen = np.array(data.draw(st.lists(st.integers(0, packing.size - 1), min_size=1, max_size=7)))
    batch = packing.build(chosen, slice(0, len(chosen)), 5)
    assert batch.keys() == {"inputs", "targets", "input_segments", "target_segments"}
    for name, array in batch.items():
        assert array.dtype == np.int32
        assert array.tolist() == getattr(whole, name)[chosen].tolist()


def test_groups_keep_to_themselves():
    rows = examples([(2, 1), (3, 1), (1, 1)] * 7, 11, 9)
    packing = Packing(rows, 0, groups=[10, 11])
    assert len(packing.sizes) == 2 and sum(packing.sizes) == packing.size
    members = np.split(packing.members, packing.borders[1:-1])
    assert sorted(np.concatenate(members[: packing.sizes[0]])) == list(range(10))
    assert sorted(np.concatenate(members[packing.sizes[0] :])) == list(range(10, 21))


def slow_first_fit(lengths, room):
    rows = []
    fullest = [max(n / most for n, most in zip(both, room)) for both in lengths.tolist()]
    for example in sorted(range(len(lengths)), key=lambda i: (-fullest[i], i)):
        for row in rows:
            used = np.sum([lengths[member] for member in row], axis=0)
            if (used + lengths[example] <= room).all():
                row.append(example)
                break
        else:
            rows.append([example])
    return [next(r for r, row in enumerate(rows) if example in row) for example in range(len(lengths))]


@given(LENGTHS)
def test_first_fit_puts_the_longest_first_into_the_first_row_with_room(lengths):
    lengths = np.array(lengths)
    assert first_fit(lengths, (11, 5)).tolist() == slow_first_fit(lengths, (11, 5))


def test_by_hand():
    lengths = np.array([[1, 1], [4, 1], [6, 1], [4, 5], [7, 1]])
    # 4 5 is the fullest by its targets, and leaves none; then 7; 6; 4 beside 6; 1 beside 7
    assert first_fit(lengths, (10, 5)).tolist() == [1, 2, 2, 0, 1]
    with pytest.raises(ValueError, match=r"example 2 has lengths \[6, 1\], a row only room for \(5, 5\)"):
        first_fit(np.array([[4, 1], [4, 5], [6, 1], [1, 1]]), (5, 5))


def test_only_examples_of_a_chunk_share_a_row(monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 3)
    packing = Packing(examples([(2, 1)] * 8, 11, 9), 0)
    assert np.diff(packing.borders).tolist() == [3, 3, 2]


def test_who_shares_a_row_is_drawn_from_the_seed():
    rows = examples([(2, 1), (3, 1)] * 20, 11, 5)
    members = [Packing(rows, seed).members.tolist() for seed in (0, 0, 1)]
    assert members[0] == members[1] != members[2]
    assert members[0] != sorted(members[0])


def test_short_questions_get_room_for_their_answers():
    """30 inputs hold ten questions of three tokens, whose answers take twenty, and a quarter more."""
    packing = Packing(examples([(3, 2)] * 20, 30, 4), 0)
    assert (packing.input_length, packing.target_length, packing.size) == (30, 25, 2)
    assert Packing(examples([(30, 2)] * 20, 30, 4), 0).target_length == 4  # never less than one answer's


def test_the_report():
    packing = Packing(examples([(3, 2)] * 20, 10, 4), 0)  # three in a row, seven rows, of 9 targets each
    assert packing.report() == (
        "packed 20 examples into 7 rows of 10 and 9 tokens; "
        "padding of inputs 70.0% -> 14.3%, of targets 50.0% -> 36.5%"
    )
