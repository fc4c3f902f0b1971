"""Windows over long contexts, with a vocabulary whose ids can be counted by hand: one word, one id (`words`)."""

import pytest
from hypothesis import given, strategies as st

from tlqa_jax.errors import UserError
from tlqa_jax.examples import QAExample
from tlqa_jax.tasks.context_windows import question_rows

EOS = 1
WORDS = [f"w{i}" for i in range(60)]


def about(n: int) -> QAExample:
    return QAExample("q", "who", ("w0",), " ".join(WORDS[:n]))


def texts(words, rows):
    ids = [row[:length].tolist() for row, length in zip(rows.inputs, rows.lengths)]
    assert all(row[-1] == EOS for row in ids)
    return [words.decode(row[:-1]) for row in ids]


def test_windows_by_hand(words):
    rows = question_rows(words, [about(2), about(6), about(3)], input_length=7, stride=1)
    assert texts(words, rows) == [
        "question: who context: w0 w1",
        "question: who context: w0 w1 w2",
        "question: who context: w2 w3 w4",
        "question: who context: w4 w5",
        "question: who context: w0 w1 w2",
    ]
    assert rows.begins.tolist() == [0, 1, 4, 5] and not rows.cut.any()
    assert rows.inputs.shape == (5, 7) and rows.inputs[3].tolist()[-2:] == [EOS, 0]


def test_without_a_stride_the_end_is_lost_and_counted(words):
    rows = question_rows(words, [about(2), about(6)], input_length=7)
    assert texts(words, rows)[1] == "question: who context: w0 w1 w2"
    assert rows.cut.tolist() == [False, True] and rows.begins.tolist() == [0, 1, 2]


def test_closed_book_there_is_nothing_to_window(words):
    rows = question_rows(words, [about(50)], input_length=7, stride=1, use_context=False)
    assert texts(words, rows) == ["question: who"]


@given(st.integers(0, 60), st.integers(5, 20), st.integers(0, 30))
def test_every_token_of_a_context_is_in_a_window_and_neighbours_share_some(words, n, input_length, stride):
    rows = question_rows(words, [about(n)], input_length=input_length, stride=stride)
    windows = [text.split()[3:] for text in texts(words, rows)]
    if len(windows) == 1:
        assert windows[0] == WORDS[:n]
        return
    room, shared = input_length - 4, min(stride, (input_length - 4) // 2)
    assert all(len(window) == room for window in windows[:-1]) and 0 < len(windows[-1]) <= room
    whole = windows[0]
    for window in windows[1:]:
        assert window[:shared] == whole[len(whole) - shared :]
        assert len(window) > shared  # something new
        whole = whole + window[shared:]
    assert whole == WORDS[:n]


def test_a_question_that_leaves_no_room(words):
    long = QAExample("q7", "who who who", (), "w0 w1 w2")
    with pytest.raises(UserError, match="example 'q7' takes all of the 6 tokens"):
        question_rows(words, [long], input_length=6, stride=1)
    with pytest.raises(UserError, match="example 'q7' alone takes 5 tokens"):
        question_rows(words, [long], input_length=4, stride=1)
