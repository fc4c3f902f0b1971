"""Texts from generated ids, the answers made of them, and the growing text of a stream."""

import numpy as np
import pytest
from hypothesis import given, strategies as st

from tlqa_jax.data.sources import local_path
from tlqa_jax.inference.answers import Answer, apply_no_answer_threshold, most_confident
from tlqa_jax.inference.generator import Generation, addition, piece
from tlqa_jax.text.sentencepiece import SentencePieceTokenizer

tokenizer = SentencePieceTokenizer(local_path("tiny_world:vocabulary.model"))


def additions(ids: list[int]) -> list[str]:
    parts: list[str] = []
    for end in range(1, len(ids) + 1):
        parts.append(addition(tokenizer, ids[:end], "".join(parts)))
    return parts


def test_a_text_grows_by_pieces_with_their_spaces():
    ids = [*tokenizer.encode("Mira plays <extra_id_0> the flute."), tokenizer.eos_id]
    grown = additions(ids)
    assert "".join(grown) == "Mira plays <extra_id_0> the flute."
    assert len(grown) == len(ids) > 6 and grown[-1] == ""
    begins = [piece(tokenizer, id).startswith("▁") for id in ids[1:]]
    assert [part.startswith(" ") for part in grown[1:]].count(True) >= sum(begins)


@given(st.lists(st.integers(0, 900), max_size=12))
def test_what_a_text_grows_by_is_the_text(ids):
    assert "".join(additions(ids)) == tokenizer.decode(ids)


def test_an_id_without_a_piece_is_unknown():
    assert piece(tokenizer, tokenizer.vocab_size + 3) == "<unk>"


def generated(text: str, probability: float) -> Generation:
    return Generation(text, probability, (), ())


def test_the_window_with_most_confidence_answers_and_an_empty_answer_only_where_all_are():
    windows = [generated("Oss", 0.6), generated("", 0.99), generated("Wick", 0.7)]
    assert most_confident(windows).text == "Wick"
    assert most_confident(windows[:2]).text == "Oss"
    assert most_confident([generated("", 0.99), generated("", 0.4)]).probability == 0.4


def test_the_threshold_empties_the_answer():
    answer = Answer("Oss", 0.25, False)
    assert answer.no_answer_score == pytest.approx(np.log(4))
    assert apply_no_answer_threshold(answer, 1.3) == answer._replace(text="")
    assert apply_no_answer_threshold(answer, 1.4) == apply_no_answer_threshold(answer, None) == answer
    assert Answer("", 0.0, False).no_answer_score > 600
