"""Windows over long contexts, with a tokenizer whose ids can be counted by hand: one word, one id."""

from dataclasses import dataclass

import pytest
from hypothesis import given, strategies as st

from tlqa_jax.errors import UserError
from tlqa_jax.tasks.context_windows import question_rows

EOS = 1
WORDS = ["<pad>", "</s>", "question:", "context:", "who", *(f"w{i}" for i in range(60))]


class Tokenizer:
    pad_id, eos_id = 0, EOS

    def encode_batch(self, texts):
        return [[WORDS.index(word) for word in text.split()] for text in texts]

    def decode(self, ids):
        return " ".join(WORDS[i] for i in ids)


@dataclass(frozen=True)
class Question:
    id: str
    question: str
    answers: tuple[str, ...] = ()
    context: str | None = None


def about(n: int) -> Question:
    return Question("q", "who", ("w0",), " ".join(WORDS[5 : 5 + n]))


def texts(rows):
    ids = [row[:length].tolist() for row, length in zip(rows.inputs, rows.lengths)]
    assert all(row[-1] == EOS for row in ids)
    return [Tokenizer().decode(row[:-1]) for row in ids]


def test_windows_by_hand():
    rows = question_rows(Tokenizer(), [about(2), about(6), about(3)], input_length=7, stride=1)
    assert texts(rows) == [
        "question: who context: w0 w1",
        "question: who context: w0 w1 w2",
        "question: who context: w2 w3 w4",
        "question: who context: w4 w5",
        "question: who context: w0 w1 w2",
    ]
    assert rows.begins.tolist() == [0, 1, 4, 5] and not rows.cut.any()
    assert rows.inputs.shape == (5, 7) and rows.inputs[3].tolist()[-2:] == [EOS, 0]


def test_without_a_stride_the_end_is_lost_and_counted():
    rows = question_rows(Tokenizer(), [about(2), about(6)], input_length=7)
    assert texts(rows)[1] == "question: who context: w0 w1 w2"
    assert rows.cut.tolist() == [False, True] and rows.begins.tolist() == [0, 1, 2]


def test_closed_book_there_is_nothing_to_window():
    rows = question_rows(Tokenizer(), [about(50)], input_length=7, stride=1, use_context=False)
    assert texts(rows) == ["question: who"]


@given(st.integers(0, 60), st.integers(5, 20), st.integers(0, 30))
def test_every_token_of_a_context_is_in_a_window_and_neighbours_share_some(n, input_length, stride):
    rows = question_rows(Tokenizer(), [about(n)], input_length=input_length, stride=stride)
    windows = [text.split()[3:] for text in texts(rows)]
    if len(windows) == 1:
        assert windows[0] == WORDS[5 : 5 + n]
        return
    room, shared = input_length - 4, min(stride, (input_length - 4) // 2)
    assert all(len(window) == room for window in windows[:-1]) and 0 < len(windows[-1]) <= room
    whole = windows[0]
    for window in windows[1:]:
        assert window[:shared] == whole[len(whole) - shared :]
        assert len(window) > shared  # something new
        whole = whole + window[shared:]
    assert whole == WORDS[5 : 5 + n]


def test_a_question_that_leaves_no_room():
    long = Question("q7", "who who who", (), "w0 w1 w2")
    with pytest.raises(UserError, match="example 'q7' takes all of the 6 tokens"):
        question_rows(Tokenizer(), [long], input_length=6, stride=1)
    with pytest.raises(UserError, match="example 'q7' alone takes 5 tokens"):
        question_rows(Tokenizer(), [long], input_length=4, stride=1)
