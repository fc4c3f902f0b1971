"""Sentences: ends that are ends, points that are none, and no text lost."""

import pytest
from hypothesis import given, strategies as st

from tlqa_jax.text.sentences import split_sentences


@pytest.mark.parametrize(
    "text",
    [
        "Mira sold flour.|Was it good?|It was!|So she sold more…|In 1927 she stopped.",
        'He said "Stop."|She (gladly!) went on.|"Why?"|Nobody knew.',
        "Dr. Voss met Mr. J. R. Pell of the U.S. Mint at No. 5.|They talked.",
        "It cost 3.50 and no more, e.g. for flour.|Then 4.",
        "He asked what? and left.  to nowhere",  # a small letter goes on
        "磨坊很老。|他问：“谁？”|没有人！",
        "no end at all",
        "One...|Two.",
    ],
)
def test_by_hand(text):
    sentences = text.split("|")
    assert split_sentences(text.replace("|", " ")) == sentences
    assert split_sentences(text.replace("|", " \n ") + "\n") == sentences


@given(st.text(st.sampled_from("aB.!?… \n\"')。U"), max_size=40) | st.text(max_size=30))
def test_nothing_but_white_space_is_left_out(text):
    sentences = split_sentences(text)
    assert "".join("".join(sentences).split()) == "".join(text.split())
    assert all(sentence and sentence == sentence.strip() for sentence in sentences)
