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
    viola = "In 1928 Zoë Pell bought a viola, in 1928 she moved to Ångmark, and her house went up in 1928."
    firm = "At Kestrel Post they say: Kestrel Postman Otto left Kestrel Post – for Kestrel Post of Stavel."
    cases = [(viola, "1928", 36), (firm, "Kestrel Post", 52), (firm, "Kestrel", 71)]
    got = [answer_span(context, {"text": text, "answer_start": at}) for context, text, at in cases]
    got = [filled(span, "answer_span") for span in got]
    if any(np.shape(span) != (2,) or isinstance(span[0], str) for span in got):
        raise NotYet("answer_span: two numbers are wanted, (start, end), such that context[start:end] is the answer.")

    def each(span: Callable[[str, str, int], Span]) -> list[Span]:
        return [span(*case) for case in cases]

    compare(
        "answer_span",
        [tuple(map(int, span)) for span in got],
        each(lambda context, text, at: (at, at + len(text))),
        {
            "you searched for the text and found its first mention, the year of the viola. Only `answer_start` knows "
            "which mention is meant: two equal texts are not the same answer.":
                each(lambda context, text, at: (n := context.find(text), n + len(text))),
            "you searched for the text as whole words, and found its first mention. Only `answer_start` knows which "
            "mention is meant.":
                each(lambda context, text, at: re.search(rf"\b{re.escape(text)}\b", context).span()),
            "you searched for the text from the end, and found its last mention. Only `answer_start` knows which "
            "mention is meant.": each(lambda context, text, at: (n := context.rfind(text), n + len(text))),
            "your end is the last character of the answer. In Python a slice ends one further, at the first character "
            "that does not belong: context[start:end].": each(lambda context, text, at: (at, at + len(text) - 1)),
            "your end is one too far: context[start:end] does not contain the character at `end`, so nothing has to "
            "be added.": each(lambda context, text, at: (at, at + len(text) + 1)),
            "you count from 1. Python and SQuAD count characters from 0.":
                each(lambda context, text, at: (at + 1, at + 1 + len(text))),
            "you count words. SQuAD counts characters, so that no choice of words or subwords is built into the "
            "data.": each(lambda context, text, at: (n := len(context[:at].split()), n + len(text.split()))),
            "you count words, and your answer is one word long. SQuAD counts characters.":
                each(lambda context, text, at: (n := len(context[:at].split()), n + 1)),
            "you count bytes. SQuAD counts characters: in UTF-8 an \"ë\" has two bytes, and it is one character.":
                each(lambda context, text, at: (n := len(context[:at].encode()), n + len(text.encode()))),
            "the answer's length has to be added to where it starts: (start, length) is not (start, end).":
                each(lambda context, text, at: (at, len(text))),
            "your answer is always one word long. An answer may have several: its end is where its text ends.":
                each(lambda context, text, at: (at, at + len(text.split()[0]))),
        },
    )  # fmt: skip


def normalize(normalize: Callable[[str], str]) -> None:
    """`normalize(text)` -> the text as answers are compared: lower case, no punctuation, no articles, single spaces."""
    texts = [
        "The  Trumpet!", "a theory of an anthem", "U.S.A.", "a-b", "Edda's HOUSE", "snake_case", "£5–6",
        "the viola in an opera and the area, the a an", "oak\tand\n\nbirch",
    ]  # fmt: skip

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
            "nothing is lower-cased: \"Trumpet\" and \"trumpet\" are to be the same answer, and \"The\" is an "
            "article too.": steps(strip, articles, squeeze),
            "you replace \"the \" and \"a \" wherever they stand, also where a word ends in a: \"viola in\" lost its "
            "letter, and an article at the end has no space after it. Articles are whole words.":
                steps(lower, strip, lambda text: text.replace("the ", "").replace("an ", "").replace("a ", ""),
                      squeeze),
            "you replace articles that have a space on both sides. At the beginning and at the end of a text there is "
            "none: split the text, or use \\b in a regular expression.": steps(lower, strip, lambda text: text.replace(
                " the ", " ").replace(" an ", " ").replace(" a ", " "), squeeze),
            "one of the three articles is still there: a, an, the.": steps(
                lower, strip, lambda text: re.sub(r"\b(a|the)\b", " ", text), squeeze),
            "only \"the\" is taken out. \"a\" and \"an\" are articles, too.": steps(
                lower, strip, lambda text: re.sub(r"\bthe\b", " ", text), squeeze),
            "the ends are clean, but spaces inside are not made one: \" \".join(text.split()) does both.": steps(
                lower, strip, articles, str.strip),
            "a tab or a new line is white space as well: text.split() knows them all.": steps(
                lower, strip, articles, lambda text: re.sub(" +", " ", text).strip(" ")),
            "you take punctuation from the ends of words alone. \"U.S.A.\" is to become \"usa\": every mark goes.":
                [" ".join(word for word in (word.strip(string.punctuation) for word in text.lower().split())
                          if word not in ("a", "an", "the", "")) for text in texts],
            "the words stand without any space between them: one space stays.": steps(
                lower, strip, articles, lambda text: "".join(text.split())),
            "\"The\" with a capital is still there: case has to go before the articles do.": steps(
                strip, articles, lower, squeeze),
            "you put a space in the place of each punctuation mark, so that \"U.S.A.\" is three words. The official "
            "rule removes the mark and leaves nothing.": steps(lower, spaces, articles, squeeze),
            "you took away what is neither letter nor digit. The rule takes away the marks of string.punctuation: _ is "
            "one of them, – and £ are none.": steps(
                lower, lambda text: re.sub(r"[^\w\s]", "", text), articles, squeeze),
            "you took away what is neither letter nor digit. The rule takes away the marks of string.punctuation "
            "alone: – and £ are none, and a tab is a space.": steps(
                lower, lambda text: "".join(c for c in text if c.isalnum() or c in "_ "), articles, squeeze),
            "you took away what is neither letter nor digit. The rule takes away the marks of string.punctuation "
            "alone: – and £ are none of them.": steps(
                lower, lambda text: "".join(c for c in text if c.isalnum() or c.isspace()), articles, squeeze),
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
            "this is in percent. A single score is between 0 and 1; the percent come when scores are averaged.":
                [100 * score for score in scores(harmonic)],
            "this is Jaccard's measure, what is shared over all that there is: s / (p + g - s). F1 counts what is "
            "shared twice: 2s / (p + g).": scores(lambda precision, recall: precision * recall / (
                precision + recall - precision * recall) if precision else 0.0),
            "the 2 of the formula is missing: two equal texts must have F1 = 1.": scores(
                lambda precision, recall: harmonic(precision, recall) / 2),
            "this is the geometric mean, the root of the product. F1 is the harmonic mean, 2PR / (P + R).": scores(
                lambda precision, recall: (precision * recall) ** 0.5),
            "this is the smaller one of precision and recall. F1 is between the two: 2PR / (P + R).": scores(min),
            "the texts were not lower-cased: \"Trumpet!\" and \"trumpet\" are one word.": scores(
                harmonic, normalize=lambda text: " ".join(
                    word for word in text.translate(str.maketrans("", "", string.punctuation)).split()
                    if word not in ("a", "an", "the"))),
            "each word of the prediction counts if the gold answer has it *at all*. \"b b c\" shares one b with \"b "
            "d\": a word is shared as often as both sides say it.": [
                (lambda p, g: 2 * sum(word in g for word in p) / (len(p) + len(g)))(
                    squad.normalize_answer(prediction).split(), squad.normalize_answer(gold).split())
                for prediction, gold in pairs],
            "this is the overlap of precision times recall: with P = R = 1/2 it gives 1/4, where F1 gives "
            "1/2.": scores(lambda precision, recall: precision * recall),
        },
    )  # fmt: skip
