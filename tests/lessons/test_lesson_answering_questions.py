"""The checks of lesson 6 against right solutions and against wrong ones that run."""

import numpy as np
import pytest
from scipy.special import log_softmax, softmax

from tlqa_jax.lessons import NotYet, answering_questions as check


def right_answer(logits, max_length):
    tokens = [0]
    for _ in range(max_length):
        tokens.append(np.argmax(logits(tokens)[-1]))
        if tokens[-1] == 1:
            break
    return tokens[1:]


def each_step(next_token, start=0, stop=True):
    """A loop that takes what `next_token(logits, tokens so far)` says."""

    def write(logits, max_length):
        tokens = [start]
        for _ in range(max_length):
            tokens.append(next_token(logits, tokens))
            if stop and tokens[-1] == 1:
                break
        return tokens[1:]

    return write


WRITERS = {
    "first row": each_step(lambda logits, tokens: np.argmax(logits(tokens)[0])),
    "only the last word": each_step(lambda logits, tokens: np.argmax(logits(tokens[-1:])[-1])),
    "write on after the end": each_step(lambda logits, tokens: np.argmax(logits(tokens)[-1]), stop=False),
    "start from the end token": each_step(lambda logits, tokens: np.argmax(logits(tokens)[-1]), start=1),
    "start token is in your answer": lambda *case: [0, *right_answer(*case)],
    "end token is missing": lambda *case: [token for token in right_answer(*case) if token != 1],
    "least likely": each_step(lambda logits, tokens: np.argmin(logits(tokens)[-1])),
    "once more than max_length": lambda logits, max_length: right_answer(logits, max_length + 1),
    "one short of max_length": lambda logits, max_length: right_answer(logits, max_length - 1),
}


def test_lesson_write_answer_right(capsys):
    check.write_answer(right_answer)
    assert "Right: write_answer" in capsys.readouterr().out


@pytest.mark.parametrize("misconception", WRITERS)
def test_lesson_write_answer_wrong(misconception):
    with pytest.raises(NotYet, match=misconception):
        check.write_answer(WRITERS[misconception])


def keys(without, cached):
    return lambda T, S, with_cache: cached(T, S) if with_cache else without(T, S)


def without(T, S):
    return sum(range(T + 1)) + T * S


def cached(T, S):
    return T + S


COUNTS = {
    "T x T keys": keys(lambda T, S: T * T + T * S, cached),
    "left the cross-attention out": keys(lambda T, S: sum(range(T + 1)), lambda T, S: T),
    "cross-attention's keys again": keys(without, lambda T, S: T + T * S),
    "words' keys again": keys(without, lambda T, S: sum(range(T + 1)) + S),
    "at every step as well": keys(lambda T, S: sum(range(T + 1)) + S, cached),
    "wrong way round": keys(cached, without),
}


def test_lesson_keys_computed_right(capsys):
    check.keys_computed(keys(without, cached))
    assert "Right: keys_computed" in capsys.readouterr().out


@pytest.mark.parametrize("misconception", COUNTS)
def test_lesson_keys_computed_wrong(misconception):
    with pytest.raises(NotYet, match=misconception):
        check.keys_computed(COUNTS[misconception])


def ended(tokens):
    return tokens.tolist().index(1) + 1 if 1 in tokens else len(tokens)


def chosen(logits, tokens, length=None):
    """Probabilities of the tokens through the end, or of the first `length`."""
    length = ended(tokens) if length is None else length
    return softmax(logits, axis=-1)[np.arange(length), tokens[:length]]


PROBABILITIES = {
    "padding after the end": lambda x, row: chosen(x, row, len(row)).prod(),
    "left the end token out": lambda x, row: chosen(x, row, ended(row) - (1 in row)).prod(),
    "fails for an answer without an end token": lambda x, row: chosen(x, row, row.tolist().index(1) + 1).prod(),
    "you took the first token alone": lambda x, row: chosen(x, row, np.argmax(row == 1) + 1).prod(),
    "mean of the tokens' probabilities": lambda x, row: chosen(x, row).mean(),
    "per token": lambda x, row: np.exp(np.log(chosen(x, row)).mean()),
    "logarithm of the probability": lambda x, row: np.log(chosen(x, row)).sum(),
    "these are logits": lambda x, row: np.exp(
        sum(x[t, token] for t, token in enumerate(row[: ended(row)]))
    ),
    "only the first token": lambda x, row: chosen(x, row)[0],
    "added the probabilities": lambda x, row: chosen(x, row).sum(),
}  # fmt: skip


def test_lesson_answer_probability_right(capsys):
    check.answer_probability(lambda x, row: chosen(x, row).prod())
    check.answer_probability(
        lambda x, row: np.exp(sum(log_softmax(x[t])[row[t]] for t in range(ended(row))))
    )
    assert capsys.readouterr().out == "Right: answer_probability\n" * 2


@pytest.mark.parametrize("misconception", PROBABILITIES)
def test_lesson_answer_probability_wrong(misconception):
    with pytest.raises(NotYet, match=misconception):
        check.answer_probability(PROBABILITIES[misconception])


def test_lesson_toy_decoder_looks_only_back():
    """Like a real one: what follows a token changes none of the rows before it, and every token before it counts."""
    logits = check.toy_decoder(0)
    assert (logits([0, 5, 3])[:2] == logits([0, 5])).all()
    assert (logits([0, 5, 3])[2] != logits([0, 4, 3])[2]).any()
