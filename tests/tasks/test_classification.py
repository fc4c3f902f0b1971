"""Labelled texts as arrays."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, strategies as st

from tlqa_jax.errors import UserError
from tlqa_jax.tasks.classification import encode_labelled, encode_texts


class Letters:
    """One id per letter, from a = 10 on."""

    pad_id, cls_id, sep_id = 9, 2, 3

    def encode_batch(self, texts):
        return [[ord(letter) - ord("a") + 10 for letter in text] for text in texts]


def test_a_text_stands_between_cls_and_sep_and_a_long_one_loses_its_end():
    examples = [SimpleNamespace(text="ab", label="no"), SimpleNamespace(text="abcdef", label="yes")]
    rows = encode_labelled(Letters(), examples, labels=["no", "yes"], input_length=6)
    assert rows.tokens.tolist() == [[2, 10, 11, 3, 9, 9], [2, 10, 11, 12, 13, 3]]
    assert rows.labels.tolist() == [0, 1]
    assert rows.report() == "2 texts, 1 of them cut to 6 tokens"
    assert rows.build(np.array([1, 1]), slice(0, 2), 0)["labels"].tolist() == [1, 1]


@given(st.lists(st.text("abcdefgh", max_size=12), max_size=5), st.integers(3, 10))
def test_every_row_holds_the_beginning_of_its_text(texts, input_length):
    rows, lengths = encode_texts(Letters(), texts, input_length=input_length)
    for row, text in zip(rows, texts, strict=True):
        used = row[row != 9].tolist()
        assert used == [2, *Letters().encode_batch([text])[0][: input_length - 2], 3]
    assert lengths.tolist() == [len(text) + 2 for text in texts]


def test_few_texts_are_encoded_at_a_time(monkeypatch):
    sizes = []

    class Counted(Letters):
        def encode_batch(self, texts):
            sizes.append(len(texts))
            return super().encode_batch(texts)

    texts = ["ab", "abcdef", "", "c", "fed"]
    whole = encode_texts(Letters(), texts, input_length=6)
    monkeypatch.setattr("tlqa_jax.tasks.classification.TEXTS_AT_ONCE", 2)
    assert all(map(np.array_equal, encode_texts(Counted(), texts, input_length=6), whole))
    assert sizes == [2, 2, 1]


def test_no_room_for_any_token_is_an_error():
    with pytest.raises(UserError, match="--input-length 2"):
        encode_texts(Letters(), ["a"], input_length=2)


def test_rows_are_no_longer_than_the_longest_needs():
    examples = [SimpleNamespace(text=text, label="no") for text in ("ab", "abcdefg")]
    rows = encode_labelled(Letters(), examples, labels=["no"], input_length=100)
    assert rows.tokens.shape == (2, 16) and rows.report() == "2 texts"
