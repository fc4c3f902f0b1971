"""The checks of lesson 2 against right solutions and against wrong ones that run."""

import math
from collections import Counter
from itertools import combinations

import pytest

from tlqa_jax.lessons import NotYet, subwords as check
from tlqa_jax.text import bpe


def counted(words, pairs, weigh=True):
    result = Counter()
    for word, count in words.items():
        for pair in pairs(word):
            result[pair] += count if weigh else 1
    return result


def neighbours(word):
    return list(zip(word, word[1:], strict=False))


def across_words(words):
    text = [symbol for word, count in words.items() for symbol in word * count]
    return Counter(neighbours(text))


PAIRS = {
    "counts once": lambda words: counted(words, neighbours, weigh=False),
    "across the border": across_words,
    "two different pairs": lambda words: counted(words, lambda word: [tuple(sorted(p)) for p in neighbours(word)]),
    "counts twice": lambda words: counted(words, lambda word: set(neighbours(word))),
    "without overlap": lambda words: counted(words, lambda word: neighbours(word)[::2]),
    "end mark, is missing": lambda words: counted(words, lambda word: neighbours(word)[:-1]),
}


def test_lesson_count_pairs_right(capsys):
    check.count_pairs(lambda words: counted(words, neighbours))
    assert "Right: count_pairs" in capsys.readouterr().out


@pytest.mark.parametrize("misconception", PAIRS)
def test_lesson_count_pairs_wrong(misconception):
    with pytest.raises(NotYet, match=misconception):
        check.count_pairs(PAIRS[misconception])


def in_order(word, merges, end=("</w>",)):
    symbols = [*word, *end]
    for pair in merges:
        symbols = bpe.merge_pair(symbols, pair)
    return symbols


def longest_first(word, merges):
    known = {a + b for a, b in merges} | {*word, "</w>"}
    rest, symbols = word + "</w>", []
    while rest:
        longest = max((symbol for symbol in known if rest.startswith(symbol)), key=len)
        symbols.append(longest)
        rest = rest[len(longest) :]
    return symbols


def leftmost_first(word, merges):
    symbols, position = [*word, "</w>"], 0
    while position < len(symbols) - 1:
        if (symbols[position], symbols[position + 1]) in merges:
            symbols[position : position + 2] = [symbols[position] + symbols[position + 1]]
            position = 0
        else:
            position += 1
    return symbols


def one_place(word, merges):
    symbols = [*word, "</w>"]
    for pair in merges:
        if pair in (found := neighbours(symbols)):
            place = found.index(pair)
            symbols[place : place + 2] = ["".join(pair)]
    return symbols


CUTS = {
    "longest known symbol": longest_first,
    "leftmost pair": leftmost_first,
    "from the last to the first": lambda word, merges: in_order(word, merges[::-1]),
    "</w> is missing": lambda word, merges: in_order(word, merges, end=()),
    "one place only": one_place,
}


def test_lesson_cut_word_right(capsys):
    check.cut_word(in_order)
    assert "Right: cut_word" in capsys.readouterr().out


@pytest.mark.parametrize("misconception", CUTS)
def test_lesson_cut_word_wrong(misconception):
    with pytest.raises(NotYet, match=misconception):
        check.cut_word(CUTS[misconception])


def all_cuts(word, log_probability):
    for number in range(len(word)):
        for borders in combinations(range(1, len(word)), number):
            cut = [word[a:b] for a, b in zip((0, *borders), (*borders, len(word)), strict=True)]
            if all(piece in log_probability for piece in cut):
                yield cut


def best_by(value):
    return lambda word, log_probability: max(
        all_cuts(word, log_probability), key=lambda cut: value([log_probability[piece] for piece in cut])
    )


def longest_piece_first(word, log_probability):
    if not word:
        return []
    piece = max((piece for piece in log_probability if word.startswith(piece)), key=len)
    return [piece, *longest_piece_first(word[len(piece) :], log_probability)]


def likeliest_beginning_first(word, log_probability):
    cut = []
    while word:
        size = max(range(1, len(word) + 1), key=lambda n: log_probability.get(word[:n], -math.inf))
        cut.append(word[:size])
        word = word[size:]
    return cut


def likeliest_piece_first(word, log_probability):
    for piece in sorted(log_probability, key=log_probability.get, reverse=True):
        if piece in word:
            left, _, right = word.partition(piece)
            return [
                *likeliest_piece_first(left, log_probability), piece, *likeliest_piece_first(right, log_probability)
            ]  # fmt: skip
    return []


LIKELIEST = {
    "longest piece from the left": longest_piece_first,
    "most probable piece that the word begins with": likeliest_beginning_first,
    "wherever it stands": likeliest_piece_first,
    "fewest pieces": best_by(lambda values: (-len(values), sum(values))),
    "divide by the number": best_by(lambda values: sum(values) / len(values)),
    "smallest sum": best_by(lambda values: -sum(values)),
    "add probabilities": best_by(lambda values: sum(map(math.exp, values))),
    "cut into characters": lambda word, log_probability: [*word],
}


def test_lesson_likeliest_cut_right(capsys):
    check.likeliest_cut(best_by(sum))
    assert "Right: likeliest_cut" in capsys.readouterr().out


@pytest.mark.parametrize("misconception", LIKELIEST)
def test_lesson_likeliest_cut_wrong(misconception):
    with pytest.raises(NotYet, match=misconception):
        check.likeliest_cut(LIKELIEST[misconception])


def test_lesson_cuts_are_all_and_each_once():
    found = [tuple(cut) for cut in check.cuts("abcdef")]
    assert len(found) == len(set(found)) == 2**5
    assert {"".join(cut) for cut in found} == {"abcdef"}
