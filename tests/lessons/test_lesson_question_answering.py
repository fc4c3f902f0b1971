"""The checks of lesson 1 against right solutions and against wrong ones that run."""

import re
import string
from collections import Counter

import pytest

from tlqa_jax.lessons import NotYet, question_answering as check
from tlqa_jax.metrics.squad import f1, normalize_answer

SPANS = {
    "first mention": lambda context, answer: (
        context.find(answer["text"]), context.find(answer["text"]) + len(answer["text"])),
    "last character": lambda context, answer: (
        answer["answer_start"], answer["answer_start"] + len(answer["text"]) - 1),
    "count words": lambda context, answer: (
        len(context[: answer["answer_start"]].split()), len(context[: answer["answer_start"]].split()) + 1),
    "answer's length": lambda context, answer: (answer["answer_start"], len(answer["text"])),
    "two numbers are wanted": lambda context, answer: answer["answer_start"],
}  # fmt: skip


def test_lesson_answer_span_right(capsys):
    check.answer_span(lambda context, a: [a["answer_start"], a["answer_start"] + len(a["text"])])
    assert "Right: answer_span" in capsys.readouterr().out


@pytest.mark.parametrize("misconception", SPANS)
def test_lesson_answer_span_wrong(misconception):
    with pytest.raises(NotYet, match=misconception):
        check.answer_span(SPANS[misconception])


def without(text: str, marks: str) -> str:
    for mark in marks:
        text = text.replace(mark, "")
    return text


def articles_first(text):
    words = re.sub(r"\b(the|an|a)\b", " ", text.lower())
    return " ".join(without(words, string.punctuation).split())


def inside_words(text):
    text = without(text.lower(), string.punctuation)
    for article in ["the", "an", "a"]:
        text = text.replace(article, "")
    return " ".join(text.split())


def capitals_last(text):
    text = re.sub(r"\b(a|an|the)\b", " ", without(text, string.punctuation))
    return " ".join(text.split()).lower()


def marks_to_spaces(text):
    text = text.lower().translate({ord(mark): " " for mark in string.punctuation})
    return " ".join(word for word in text.split() if word not in ("a", "an", "the"))


def spaces_stay(text):
    return re.sub(r"\b(a|an|the)\b", " ", without(text.lower(), string.punctuation))


def articles_stay(text):
    return " ".join(without(text.lower(), string.punctuation).split())


def letters_only(text):
    text = "".join(c for c in text.lower() if c.isalnum() or c in "_ ")
    return " ".join(word for word in text.split() if word not in ("a", "an", "the"))


NORMALIZERS = {
    "articles went before": articles_first,
    "middle of words": inside_words,
    "case has to go before": capitals_last,
    "a space in the place": marks_to_spaces,
    "their spaces are still there": spaces_stay,
    "articles are still there": articles_stay,
    "neither letter nor digit": letters_only,
}


def test_lesson_normalize_right(capsys):
    check.normalize(normalize_answer)
    assert "Right: normalize" in capsys.readouterr().out


@pytest.mark.parametrize("misconception", NORMALIZERS)
def test_lesson_normalize_wrong(misconception):
    with pytest.raises(NotYet, match=misconception):
        check.normalize(NORMALIZERS[misconception])


def overlap(prediction, gold):
    p, g = normalize_answer(prediction).split(), normalize_answer(gold).split()
    return (Counter(p) & Counter(g)).total(), len(p), len(g)


def precision(prediction, gold):
    shared, p, _ = overlap(prediction, gold)
    return shared / p


def recall(prediction, gold):
    shared, _, g = overlap(prediction, gold)
    return shared / g


def with_sets(prediction, gold):
    p, g = set(normalize_answer(prediction).split()), set(normalize_answer(gold).split())
    return 2 * len(p & g) / (len(p) + len(g))


def with_letters(prediction, gold):
    p, g = Counter(normalize_answer(prediction)), Counter(normalize_answer(gold))
    return 2 * (p & g).total() / (p.total() + g.total())


def not_normalized(prediction, gold):
    p, g = Counter(prediction.split()), Counter(gold.split())
    return 2 * (p & g).total() / (p.total() + g.total())


def zero_by_zero(prediction, gold):
    p, r = precision(prediction, gold), recall(prediction, gold)
    return 2 * p * r / (p + r)


F1S = {
    "the formula is 0/0: F1 is 0": zero_by_zero,
    "precision alone": precision,
    "recall alone": recall,
    "arithmetic mean": lambda prediction, gold: (precision(prediction, gold) + recall(prediction, gold)) / 2,
    "made sets": with_sets,
    "compare letters": with_letters,
    "not normalised": not_normalized,
    "precision times recall": lambda prediction, gold: precision(prediction, gold) * recall(prediction, gold),
}


def test_lesson_word_f1_right(capsys):
    check.word_f1(lambda prediction, gold: f1(prediction, [gold]))
    assert "Right: word_f1" in capsys.readouterr().out


@pytest.mark.parametrize("misconception", F1S)
def test_lesson_word_f1_wrong(misconception):
    with pytest.raises(NotYet, match=misconception):
        check.word_f1(F1S[misconception])
