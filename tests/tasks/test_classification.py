"""Labelled texts as arrays: 10 is "a", 11 "b" (`letters`)."""

import numpy as np
import pytest
from hypothesis import given, strategies as st

from tlqa_jax.errors import UserError
from tlqa_jax.examples import LabelledText
from tlqa_jax.tasks.classification import encode_labelled, encode_texts

PAD, CLS, SEP = 0, 1, 2


def test_a_text_stands_between_cls_and_sep_and_a_long_one_loses_its_end(letters):
    examples = [LabelledText("a b", "no"), LabelledText("a b c d e f", "yes")]
    rows = encode_labelled(letters, examples, labels=["no", "yes"], input_length=6)
    assert rows.tokens.tolist() == [[CLS, 10, 11, SEP, PAD, PAD], [CLS, 10, 11, 12, 13, SEP]]
    assert rows.labels.tolist() == [0, 1]
    assert rows.report() == "2 texts, 1 of them cut to 6 tokens"
    assert rows.build(np.array([1, 1]), slice(0, 2), 0)["labels"].tolist() == [1, 1]


@given(st.lists(st.text("abcdefgh ", max_size=12), max_size=5), st.integers(3, 10))
def test_every_row_holds_the_beginning_of_its_text(letters, texts, input_length):
    rows, lengths = encode_texts(letters, texts, input_length=input_length)
    for row, text in zip(rows, texts, strict=True):
        used = row[row != PAD].tolist()
        assert used == [CLS, *letters.encode(text)[: input_length - 2], SEP]
    assert lengths.tolist() == [len(letters.encode(text)) + 2 for text in texts]


def test_no_room_for_any_token_is_an_error(letters):
    with pytest.raises(UserError, match="--input-length 2"):
        encode_texts(letters, ["a"], input_length=2)


def test_rows_are_no_longer_than_the_longest_needs(letters):
    examples = [LabelledText(text, "no") for text in ("a b", "a b c d e f g")]
    rows = encode_labelled(letters, examples, labels=["no"], input_length=100)
    assert rows.tokens.shape == (2, 16) and rows.report() == "2 texts"
