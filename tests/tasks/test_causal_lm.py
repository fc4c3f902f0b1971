"""The rows of causal language modelling: by hand, and each token of any text as a target once."""

import numpy as np
import pytest
from hypothesis import given, strategies as st

from tlqa_jax.errors import UserError
from tlqa_jax.tasks.causal_lm import CausalLMRows
from tlqa_jax.text.wordpiece import SPECIALS, WordPieceTokenizer

PAD, UNK, CLS, SEP, MASK, THE, MILL, ER, SOLD = range(9)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    file = tmp_path_factory.mktemp("vocabulary") / "vocab.txt"
    file.write_text("\n".join([*SPECIALS, "the", "mill", "##er", "sold"]) + "\n")
    return WordPieceTokenizer(file)


def rows_of_texts(tokenizer, folder, *texts, **how) -> CausalLMRows:
    (folder / "texts.txt").write_text("\n\n".join(texts) + "\n")
    return CausalLMRows(str(folder / "texts.txt"), tokenizer, **how)


def test_documents_end_with_sep_and_follow_each_other(tokenizer, tmp_path):
    rows = rows_of_texts(tokenizer, tmp_path, "The miller sold", "mill sold", input_length=3)
    assert rows.size == 3 and rows.report() == "8 tokens, none unknown to the vocabulary, in 3 rows of 3"
    batch = rows.build(np.array([0, 1, 2]), slice(0, 3), 5)
    assert batch["targets"].tolist() == [[THE, MILL, ER], [SOLD, SEP, MILL], [SOLD, SEP, PAD]]
    assert batch["tokens"].tolist() == [[CLS, THE, MILL], [CLS, SOLD, SEP], [CLS, SOLD, SEP]]
    assert batch["weights"].tolist() == [[1, 1, 1], [1, 1, 1], [1, 1, 0]]
    assert {array.dtype.name for array in batch.values()} == {"int32", "float32"}


@given(st.lists(st.lists(st.sampled_from(["the", "mill", "sold"]), min_size=1), min_size=1), st.integers(2, 9))
def test_each_token_is_a_target_once(tokenizer, tmp_path_factory, documents, length):
    folder = tmp_path_factory.mktemp("texts")
    rows = rows_of_texts(tokenizer, folder, *map(" ".join, documents), input_length=length)
    batch = rows.build(np.arange(rows.size))
    found = batch["targets"][batch["weights"] > 0].tolist()
    assert found == [id for words in documents for id in [*tokenizer.encode(" ".join(words)), SEP]]
    assert (batch["tokens"][:, 0] == CLS).all() and (batch["tokens"][:, 1:] == batch["targets"][:, :-1]).all()


def test_only_the_first_tokens(tokenizer, tmp_path):
    rows = rows_of_texts(tokenizer, tmp_path, "the mill", "sold", input_length=3, max_tokens=4)
    assert rows.tokens.tolist() == [THE, MILL, SEP, SOLD] and rows.size == 2


def test_no_text(tokenizer, tmp_path):
    with pytest.raises(UserError, match=r"texts.txt holds no text"):
        rows_of_texts(tokenizer, tmp_path, " ", input_length=3)
