"""Nearest neighbours and analogies, with vectors whose angles can be seen."""

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tlqa_jax.errors import UserError
from tlqa_jax.inference.neighbors import Neighbor, analogy, nearest
from tlqa_jax.models.word_vectors import CBOW, WordVectorsConfig
from tlqa_jax.text.wordpiece import SPECIALS, WordPieceTokenizer

WORDS = {  # (royal, female, other)
    "king": (2, 0, 0), "queen": (1, 1, 0), "man": (0, 0, 2), "woman": (0, 2, 2), "##s": (1, 0, 0), "new": (5, 0, 0),
}  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    file = tmp_path_factory.mktemp("vocabulary") / "vocab.txt"
    file.write_text("\n".join([*SPECIALS, *WORDS]) + "\n")
    return WordPieceTokenizer(file)


@pytest.fixture(scope="module")
def model(tokenizer):
    model = nnx.eval_shape(lambda: CBOW(WordVectorsConfig(vocab_size=13, hidden_size=3), rngs=nnx.Rngs(0)))
    table, seen = np.zeros((13, 3), np.float32), np.zeros((13, 3), np.float32)
    table[5:11], seen[5:10] = list(WORDS.values()), 1  # "new" was in no text
    model.vectors.table = nnx.Param(jnp.asarray(table))
    model.outputs.table = nnx.Param(jnp.asarray(seen))
    return model


def test_the_smallest_angle_is_nearest(model, tokenizer):
    assert nearest(model, tokenizer, ["king"], n=1) == [Neighbor("queen", pytest.approx(0.5**0.5, abs=1e-6))]
    found = nearest(model, tokenizer, ["woman"], n=99)
    assert [one.word for one in found] == ["man", "queen", "king"]
    assert [one.similarity for one in found] == pytest.approx([0.5**0.5, 0.5, 0.0], abs=1e-6)


def test_an_analogy_adds_and_subtracts_directions(model, tokenizer):
    [best] = nearest(model, tokenizer, *analogy("king - man + woman".split()), n=1)
    target = np.array([1, 0, 0]) - np.array([0, 0, 1]) + np.array([0, 0.5**0.5, 0.5**0.5])
    assert best.word == "queen"
    assert best.similarity == pytest.approx(target @ (1, 1, 0) / 2**0.5 / np.linalg.norm(target), abs=1e-6)


def test_a_word_of_several_pieces_is_their_mean(model, tokenizer):
    found = {one.word: one.similarity for one in nearest(model, tokenizer, ["mans"])}
    assert found["king"] == pytest.approx(0.5 / np.linalg.norm([0.5, 0, 1]), abs=1e-6) and "man" not in found


@pytest.mark.parametrize("words", ["", "+", "king man", "king -", "king - - man", "king * man", "- king"])
def test_what_is_no_analogy(words):
    with pytest.raises(UserError, match="give a word, or words with"):
        analogy(words.split())


@pytest.mark.parametrize("word, message", [("xyz", "no word of the vocabulary"), ("new", "is in no text that these")])
def test_words_without_a_vector(model, tokenizer, word, message):
    with pytest.raises(UserError, match=message):
        nearest(model, tokenizer, [word])
