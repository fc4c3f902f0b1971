"""The checks of lesson 1: where an answer stands in its passage, and how an answer is scored."""

import re
import string
from collections import Counter
from collections.abc import Callable

import numpy as np

from tlqa_jax.lessons.checks import NotYet, compare, filled
from tlqa_jax.metrics import squad

Span = tuple[int, int]


def answer_span(answer_span: Callable[[str, dict], Span]) -> None:
    """`answer_span(context, answer)` -> (start, end), the characters context[start:end] being the answer."""
    context = "In 1928 Edda Pell bought a viola, and her house went up in 1928."
    answer = {"text": "1928", "answer_start": 59}
    got = filled(answer_span(context, dict(answer)), "answer_span")
    if np.shape(got) != (2,):
        raise NotYet("answer_span: two numbers are wanted, (start, end), such that context[start:end] is the answer.")
    compare(
        "answer_span",
        tuple(got),
        (59, 63),
        {
            "you searched for the text and found its first mention, the year of the viola. Only `answer_start` knows "
            "which mention is meant: two equal texts are not the same answer.": (3, 7),
            "your end is the last character of the answer. In Python a slice ends one further, at the first character "
            "that does not belong: context[start:end].": (59, 62),
            "you count words. SQuAD counts characters, so that no choice of words or subwords is built into the "
            "data.": (13, 14),
            "the answer's length has to be added to where it starts: (start, length) is not (start, end).": (59, 4),
        },
    )


def normalize(normalize: Callable[[str], str]) -> None:
    """`normalize(text)` -> the text as answers are compared: lower case, no punctuation, no articles, single spaces."""
    texts = ["The  Trumpet!", "a theory of an anthem", "U.S.A.", "a-b", "Edda's HOUSE", "snake_case", "£5–6"]

    def steps(*order: Callable[[str], str]) -> list[str]:
        results = []
        for text in texts:
            for step in order:
                text = step(text)
            results.append(text)
        return results

    lower, squeeze = str.lower, lambda text: " ".join(text.split())
    strip = lambda text: "".join(c for c in text if c not in string.punctuation)
    spaces = lambda text: "".join(" " if c in string.punctuation else c for c in text)
    articles = lambda text: re.sub(r"\b(a|an|the)\b", " ", text)
    compare(
        "normalize",
        [normalize(text) for text in texts],
        [squad.normalize_answer(text) for text in texts],
        {
            "the articles went before the punctuation. In \"a-b\" that makes an article of the letter a; the order is "
            "part of the rule: lower case, punctuation, articles, spaces.": steps(lower, articles, strip, squeeze),
            "you took \"a\", \"an\" and \"the\" out of the middle of words: \"theory\" lost its beginning. Articles "
            "are whole words (\\b in a regular expression).": steps(
                lower, strip, lambda text: re.sub(r"an|a|the", " ", text), squeeze),
            "you took \"a\", \"an\" and \"the\" out of the middle of words: \"theory\" lost its beginning. Articles "
            "are whole words (split first, or \\b in a regular expression).": steps(
                lower, strip, lambda text: re.sub(r"the|an|a", "", text), squeeze),
            "\"The\" with a capital is still there: case has to go before the articles do.": steps(
                strip, articles, lower, squeeze),
            "you put a space in the place of each punctuation mark, so that \"U.S.A.\" is three words. The official "
            "rule removes the mark and leaves nothing.": steps(lower, spaces, articles, squeeze),
            "you took away what is neither letter nor digit. The rule takes away the marks of string.punctuation: _ is "
            "one of them, – and £ are none.": steps(
                lower, lambda text: re.sub(r"[^\w\s]", "", text), articles, squeeze),
            "where the words went, their spaces are still there: two texts that look the same must be "
            "equal.": steps(lower, strip, articles),
            "the articles are still there: \"the trumpet\" and \"trumpet\" are to be the same answer.": steps(
                lower, strip, squeeze),
        },
    )  # fmt: skip


def word_f1(word_f1: Callable[[str, str], float]) -> None:
    """`word_f1(prediction, gold)` -> the harmonic mean of word precision and recall, 0.0 to 1.0."""
    pairs = [
        ("the old trumpet", "Trumpet!"),
        ("Ironbridge Rail", "the Rail"),
        ("Kestrel", "Kestrel Post of Stavel"),
        ("b b c", "b d"),
        ("b b", "b b b"),
        ("viola", "violin"),
        ("x y", "y"),
    ]

    def scores(
        formula: Callable[[float, float], float], words=str.split, normalize=squad.normalize_answer, multiset=True
    ) -> list[float]:
        results = []
        for prediction, gold in pairs:
            p, g = Counter(words(normalize(prediction))), Counter(words(normalize(gold)))
            if not multiset:
                p, g = Counter(set(p)), Counter(set(g))
            shared = (p & g).total()
            results.append(formula(shared / p.total(), shared / g.total()))
        return results

    harmonic = lambda precision, recall: 2 * precision * recall / (precision + recall) if precision + recall else 0.0
    try:
        got = [word_f1(prediction, gold) for prediction, gold in pairs]
    except ZeroDivisionError:
        raise NotYet("word_f1: where no word is shared, P = R = 0 and the formula is 0/0: F1 is 0.") from None
    compare(
        "word_f1",
        got,
        scores(harmonic),
        {
            "this is precision alone: what share of the prediction is right. One correct word out of a long gold "
            "answer would be perfect.": scores(lambda precision, recall: precision),
            "this is recall alone: what share of the gold answer was found. Whoever answers with the whole passage "
            "would be perfect.": scores(lambda precision, recall: recall),
            "this is the arithmetic mean of precision and recall. F1 is the harmonic mean, 2PR / (P + R): it is low as "
            "soon as one of the two is.": scores(lambda precision, recall: (precision + recall) / 2),
            "you made sets of the words, so a word said twice counts once. \"b b c\" shares one b with \"b d\", "
            "not all its b's: count with Counter.": scores(harmonic, multiset=False),
            "you compare letters. \"viola\" and \"violin\" share four letters and no word: F1 counts words.": scores(
                harmonic, words=list),
            "the texts were not normalised: \"Trumpet!\" and \"trumpet\" are one word.": scores(
                harmonic, normalize=lambda text: text),
            "this is the overlap of precision times recall: with P = R = 1/2 it gives 1/4, where F1 gives "
            "1/2.": scores(lambda precision, recall: precision * recall),
        },
    )  # fmt: skip
