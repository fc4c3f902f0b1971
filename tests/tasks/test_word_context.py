"""Rows of CBOW: windows within documents by hand, negatives by their frequencies, draws by (seed, step)."""

import numpy as np
import pytest

from tlqa_jax.errors import UserError
from tlqa_jax.tasks.word_context import WordContextRows
from tlqa_jax.text.wordpiece import SPECIALS, WordPieceTokenizer

A, B, C, D = range(5, 9)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    file = tmp_path_factory.mktemp("vocabulary") / "vocab.txt"
    file.write_text("\n".join([*SPECIALS, "a", "b", "c", "d"]) + "\n")
    return WordPieceTokenizer(file)


@pytest.fixture
def make(tokenizer, tmp_path):
    def make(*texts, window=2, negatives=3, seed=0, batch_size=8, **how):
        (tmp_path / "texts.txt").write_text("\n\n".join(texts) + "\n")
        return WordContextRows(
            str(tmp_path / "texts.txt"), tokenizer, window=window, negatives=negatives, seed=seed, batch_size=batch_size,
            **how,
        )  # fmt: skip

    return make


def contexts(batch) -> list[list[int]]:
    return [row[mask].tolist() for row, mask in zip(batch["context"], batch["mask"])]


def test_windows_stay_in_their_document_and_skip_unknown_words(make):
    rows = make("a b c d", "d ? c", batch_size=6)
    assert rows.size == 6  # the unknown word is not predicted
    batch = rows.build(np.arange(6), slice(0, 6), 0)
    assert contexts(batch) == [[B, C], [A, C, D], [A, B, D], [B, C], [C], [D]]
    assert batch["candidates"][:, 0].tolist() == [A, B, C, D, D, C] and (batch["weights"][:, 0] == 1).all()
    assert batch["context"].shape == (6, 4) and batch["candidates"].shape == (6, 4)
    assert not batch["context"][~batch["mask"]].any()  # padding
    assert [x.dtype.name for x in batch.values()] == ["int32", "bool", "int32", "float32"]


def test_a_word_without_neighbours_does_not_count(make):
    batch = make("a", "b c").build_evaluation(np.arange(3))
    assert not batch["mask"][0].any() and not batch["weights"][0].any()
    assert batch["weights"][1:, 0].tolist() == [1, 1]


def test_negatives_are_drawn_by_the_three_quarter_power_of_their_counts(make):
    rows = make("a " * 16 + "b", negatives=400, batch_size=100)
    batch = rows.build(np.zeros(100, int), slice(0, 100), 0)
    drawn = batch["candidates"][:, 1:]
    assert set(drawn.ravel().tolist()) == {A, B}
    assert (drawn == B).mean() == pytest.approx(1 / 9, abs=0.005)  # 1 to 16 ** 0.75 = 8
    assert ((batch["weights"][:, 1:] == 0) == (drawn == A)).all()  # the word itself is no negative


def test_draws_are_a_function_of_seed_and_step(make):
    rows = make("a b c d " * 9)
    whole = rows.build(np.arange(8), slice(0, 8), 5)
    parts = [rows.build(np.arange(8)[part], part, 5) for part in (slice(0, 3), slice(3, 8))]
    for name, array in whole.items():
        assert np.array_equal(array, np.concatenate([part[name] for part in parts]))
    other = rows.build(np.arange(8), slice(0, 8), 6)
    assert not np.array_equal(whole["candidates"], other["candidates"])
    first = rows.build_evaluation(np.arange(30))
    again = [rows.build_evaluation(np.arange(30)[part]) for part in (slice(0, 7), slice(7, 30))]
    assert np.array_equal(first["candidates"], np.concatenate([part["candidates"] for part in again]))


def test_other_rows_may_give_the_negatives(make):
    noise = make("c d").noise
    drawn = make("a b", noise=noise).build_evaluation(np.arange(2))["candidates"][:, 1:]
    assert set(drawn.ravel().tolist()) <= {C, D}


def test_what_is_no_text_to_learn_from(make):
    with pytest.raises(UserError, match="at least two different words"):
        make("a a a")
