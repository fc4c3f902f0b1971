"""BPE against a recount from scratch after every merge, and against Hugging Face's tokenizers."""

import json
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from tlqa_jax.text.bpe import END_OF_WORD, decode_bpe, encode_bpe, learn_bpe, merge_pair

WORDS = st.lists(st.text("abc", min_size=1, max_size=6), max_size=12)


def counted(words: Counter, merges) -> Counter:
    """Every pair of symbols, counted anew after doing the merges to every word."""
    pairs: Counter = Counter()
    for word, count in words.items():
        symbols = [*word, END_OF_WORD]
        for pair in merges:
            symbols = merge_pair(symbols, pair)
        for pair in pairwise(symbols):
            pairs[pair] += count
    return pairs


def test_by_hand():
    merges = learn_bpe(["low low", "lower"], 3)
    assert merges == [("l", "o"), ("lo", "w"), ("low", "</w>")]
    assert encode_bpe("low lowest", merges) == ["low</w>", "low", "e", "s", "t", "</w>"]
    assert decode_bpe(encode_bpe("low lowest", merges)) == "low lowest"
    assert merge_pair(["a", "a", "a"], ("a", "a")) == ["aa", "a"]


def test_ties_and_the_end():
    assert learn_bpe(["ba ba ab ab"], 1) == [("a", "</w>")]  # (a, </w>), (a, b), (b, </w>), (b, a) all occur twice
    assert learn_bpe(["cat dog"], 9) == []
    assert learn_bpe([], 9) == []


@given(WORDS, st.integers(0, 12))
def test_every_merge_is_the_commonest_pair(words, number):
    merges = learn_bpe([" ".join(words)], number)
    for step, pair in enumerate(merges):
        pairs = counted(Counter(words), merges[:step])
        assert pair == min(pairs, key=lambda pair: (-pairs[pair], pair))
        assert pairs[pair] >= 2
    if len(merges) < number:
        assert max(counted(Counter(words), merges).values(), default=0) < 2
    assert learn_bpe(reversed(words), number) == merges


@given(WORDS, st.text("abcd ", max_size=30))
def test_round_trip(words, text):
    merges = learn_bpe(words, 20)
    assert decode_bpe(encode_bpe(text, merges)) == " ".join(text.split())


def test_as_in_tokenizers():
    tokenizers = pytest.importorskip("tokenizers")
    # counts without a tie, so that only one order of merges is right
    text = " ".join(["abcab"] * 31 + ["abc"] * 17 + ["cab"] * 7 + ["bcb"] * 3)
    model = tokenizers.Tokenizer(tokenizers.models.BPE())
    model.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=100, min_frequency=2, show_progress=False)
    # the library has no symbol for the end of a word alone: give both a letter for it
    model.train_from_iterator([text.replace(" ", "_ ") + "_"], trainer)
    merges = [(a.replace("</w>", "_"), b.replace("</w>", "_")) for a, b in learn_bpe([text], 100)]
    theirs = [tuple(pair) for pair in json.loads(model.to_str())["model"]["merges"]]
    assert [a + b for a, b in merges] == [a + b for a, b in theirs]
    assert [s.replace("</w>", "_") for s in encode_bpe("cabab bcab", learn_bpe([text], 100))] == model.encode(
        "cabab_ bcab_"
    ).tokens
