"""Written texts from rows of tokens, the answers made of them, and texts while they are written."""

import numpy as np
import pytest
from hypothesis import given, strategies as st

from tlqa_jax.data.sources import local_path
from tlqa_jax.inference.answers import Answer, most_confident, withheld
from tlqa_jax.inference.generator import Written, growing, piece
from tlqa_jax.text.sentencepiece import SentencePieceTokenizer

tokenizer = SentencePieceTokenizer(local_path("tiny_world:vocabulary.model"))


def test_a_text_grows_by_pieces_with_its_spaces():
    ids = [*tokenizer.encode("Mira plays <extra_id_0> the flute."), tokenizer.eos_id]
    grown = list(growing(tokenizer, ids))
    assert "".join(grown) == "Mira plays <extra_id_0> the flute."
    assert len(grown) == len(ids) > 6 and grown[-1] == ""
    begins = [piece(tokenizer, id).startswith("▁") for id in ids[1:]]
    assert [part.startswith(" ") for part in grown[1:]].count(True) >= sum(begins)


@given(st.lists(st.integers(0, 900), max_size=12))
def test_what_a_text_grew_by_is_the_text(ids):
    assert "".join(growing(tokenizer, ids)) == tokenizer.decode(ids)


def test_an_id_without_a_piece_is_unknown():
    assert piece(tokenizer, tokenizer.vocab_size + 3) == "<unk>"


def written(text: str, probability: float) -> Written:
    return Written(text, probability, (), ())


def test_the_window_with_most_confidence_answers_and_an_empty_answer_only_where_all_are():
    windows = [written("Oss", 0.6), written("", 0.99), written("Wick", 0.7)]
    assert most_confident(windows).text == "Wick"
    assert most_confident(windows[:2]).text == "Oss"
    assert most_confident([written("", 0.99), written("", 0.4)]).probability == 0.4


def test_an_answer_is_withheld_above_the_threshold():
    answer = Answer("Oss", 0.25, False)
    assert answer.no_answer_score == pytest.approx(np.log(4))
    assert withheld(answer, 1.3).text == "" and withheld(answer, 1.3).probability == 0.25
    assert withheld(answer, 1.4) == withheld(answer, None) == answer
    assert Answer("", 0.0, False).no_answer_score > 600
