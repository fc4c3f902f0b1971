"""The checks of lesson 2: counting pairs and cutting a word (BPE), and the most probable cut of a word (unigram)."""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise

from tlqa_jax.lessons.checks import compare
from tlqa_jax.text import bpe

Pair = tuple[str, str]
Offer = tuple[float, list[str]]  # a cut of a beginning: its log probability, its pieces


def count_pairs(count_pairs: Callable[[dict[tuple[str, ...], int]], Mapping[Pair, int]]) -> None:
    """`count_pairs({symbols of a word: how often the word occurs})` -> {pair of neighbours: how often it occurs}."""
    words = {tuple("low") + ("</w>",): 5, tuple("wolo") + ("</w>",): 2, tuple("papa") + ("</w>",): 3}

    def counted(pairs: Callable = pairwise, weight: Callable[[int], int] = lambda count: count) -> dict[Pair, int]:
        result: Counter[Pair] = Counter()
        for word, count in words.items():
            for pair in pairs(word):
                result[pair] += weight(count)
        return dict(result)

    got = count_pairs(dict(words))
    compare(
        "count_pairs",
        dict(got) if isinstance(got, Mapping) else got,
        counted(),
        {
            "every word counts once, however often it occurs in the text. A pair in a word that occurs 5 times occurs "
            "5 times.": counted(weight=lambda count: 1),
            "you count across the border between two words. Words are cut apart first and never merged: their order in "
            "the dictionary means nothing.": dict(Counter(
                pairwise([symbol for word, count in words.items() for _ in range(count) for symbol in word]))),
            "you sorted the pairs or made sets of them: (l, o) and (o, l) are two different pairs.": counted(
                pairs=lambda word: [tuple(sorted(pair)) for pair in pairwise(word)]),
            "a pair that occurs twice in a word counts twice: \"papa\" has two (p, a).": counted(
                pairs=lambda word: set(pairwise(word))),
            "you skip from pair to pair without overlap. Every neighbour counts: \"low\" has (l, o) and "
            "also (o, w).": counted(pairs=lambda word: zip(word[::2], word[1::2], strict=False)),
            "the last pair of each word, with its end mark, is missing.": counted(
                pairs=lambda word: pairwise(word[:-1])),
            "the first pair of each word is missing.": counted(pairs=lambda word: pairwise(word[1:])),
            "you added the end mark. The symbols that you are given have it already.": counted(
                pairs=lambda word: pairwise((*word, "</w>"))),
            "you count the symbols themselves. Wanted is how often two of them stand side by side.": dict(Counter(
                {symbol: count for word, count in words.items() for symbol in word})),
            "the keys are joined symbols. A pair is a tuple of two: (l, o) and not lo, since \"ab\" + \"c\" and "
            "\"a\" + \"bc\" look alike when they are joined.": {"".join(pair): n for pair, n in counted().items()},
            "you *set* the number of a pair at each word, so only the last word counts. Add to it: +=.": {
                pair: count for word, count in words.items() for pair in pairwise(word)},
            "this is only the commonest pair. Wanted are the numbers of all pairs; the loop below chooses.":
                dict(Counter(counted()).most_common(1)),
        },
    )  # fmt: skip


def cut_word(cut_word: Callable[[str, list[Pair]], list[str]]) -> None:
    """`cut_word(word, merges)` -> the symbols of a word, the last one ending in </w>."""
    merges = [("w", "e"), ("b", "c"), ("l", "o"), ("lo", "w"), ("e", "r"), ("a", "b"), ("a", "bc"), ("r", "</w>")]
    words = ["lower", "abc", "lolow"]
    known = {"".join(pair) for pair in merges}

    def in_order(symbols: list[str], order: list[Pair]) -> list[str]:
        for pair in order:
            symbols = bpe.merge_pair(symbols, pair)
        return symbols

    def longest(symbols: list[str]) -> list[str]:
        result = []
        while symbols:
            size = next(n for n in range(len(symbols), 0, -1) if n == 1 or "".join(symbols[:n]) in known)
            result.append("".join(symbols[:size]))
            symbols = symbols[size:]
        return result

    def leftmost(symbols: list[str]) -> list[str]:
        while place := next((i + 1 for i, pair in enumerate(pairwise(symbols)) if pair in merges), 0):
            symbols = [*symbols[: place - 1], symbols[place - 1] + symbols[place], *symbols[place + 1 :]]
        return symbols

    def first_only(symbols: list[str]) -> list[str]:
        for pair in merges:
            place = next((i for i, p in enumerate(pairwise(symbols)) if p == pair), None)
            if place is not None:
                symbols = [*symbols[:place], "".join(pair), *symbols[place + 2 :]]
        return symbols

    marked = [[*word, "</w>"] for word in words]
    compare(
        "cut_word",
        [cut_word(word, list(merges)) for word in words],
        [bpe.encode_bpe(word, merges) for word in words],
        {
            "you take the longest known symbol from the left. BPE knows no lengths: it repeats its merges in the order "
            "in which they were learned.": [longest(word) for word in marked],
            "you merge the leftmost pair that is known. The order is that of learning, not that of the word: what was "
            "commonest goes first.": [leftmost(word) for word in marked],
            "you do the merges from the last to the first. Later merges are made of earlier ones, so those have to "
            "come first.": [in_order(word, merges[::-1]) for word in marked],
            "the mark </w> is missing: without it nobody knows where a word ends, and \"lower\" and \"low er\" are the "
            "same symbols.": [in_order([*word], merges) for word in words],
            "the end mark is glued to the last letter: \"r</w>\". It is a symbol of its own at first, which merges may "
            "join: [*word, \"</w>\"].": [in_order([*word[:-1], word[-1] + "</w>"], merges) for word in words],
            "nothing is merged. bpe.merge_pair returns the new symbols: symbols = bpe.merge_pair(symbols, pair).":
                marked,
            "only the first merge is done. All of them are, one after the other.": [
                in_order(word, merges[:1]) for word in marked],
            "these are the symbols put together again. Wanted is the list of them.": [
                "".join(in_order(word, merges)) for word in marked],
            "the end mark is cut off at the end. It stays: it tells where a word ends.": [
                [symbol.removesuffix("</w>") for symbol in in_order(word, merges)] for word in marked],
            "a merge is done at one place only. It is done wherever the pair stands: \"lolow\" has (l, o) "
            "twice.": [first_only(word) for word in marked],
        },
    )  # fmt: skip


def likeliest_cut(likeliest_cut: Callable[[str, dict[str, float]], list[str]]) -> None:
    """`likeliest_cut(word, {piece: log probability})` -> the pieces whose product of probabilities is largest."""
    log_probability = {
        "a": -13.0, "b": -3.5, "c": -4.5, "d": -10.5, "e": -7.0,
        "ab": -2.5, "bc": -11.5, "cd": -11.0, "de": -3.0, "abc": -4.0, "bcd": -2.0, "cde": -10.0,
    }  # fmt: skip
    words = ["abcde", "abcd", "cde", "bcde", "dedeab", "ababdeab"]

    def best(value: Callable[[list[float]], float], most: int = 99) -> list[list[str]]:
        results = []
        for word in words:
            known = [cut for cut in cuts(word) if all(piece in log_probability for piece in cut) and len(cut) <= most]
            value_of = lambda cut: value([log_probability[piece] for piece in cut])
            results.append(max(known, key=value_of, default=[word]))
        return results

    def kept(word: str, choose: Callable[[list[Offer]], Offer]) -> list[str]:
        """The walk through the word, with another choice among the offers for each position."""
        found: dict[int, Offer] = {0: (0.0, [])}
        for end in range(1, len(word) + 1):
            pieces = [(start, word[start:end]) for start in found if word[start:end] in log_probability]
            offers = [(found[start][0] + log_probability[piece], [*found[start][1], piece]) for start, piece in pieces]
            if offers:
                found[end] = choose(offers)
        return found[len(word)][1]

    def longest(word: str, from_right: bool = False) -> list[str]:
        cut = []
        while word:
            sizes = range(len(word), 0, -1)
            size = next((n for n in sizes if (word[-n:] if from_right else word[:n]) in log_probability), len(word))
            cut.append(word[-size:] if from_right else word[:size])
            word = word[:-size] if from_right else word[size:]
        return cut[::-1] if from_right else cut

    def prefix_first(word: str) -> list[str]:
        if not word:
            return []
        known = filter(word.startswith, log_probability)
        piece = max(known, key=log_probability.__getitem__, default=word)
        return [piece, *prefix_first(word[len(piece) :])]

    def piece_first(word: str) -> list[str]:
        if not word:
            return []
        known = (piece for piece in log_probability if piece in word)
        piece = max(known, key=log_probability.__getitem__, default=word)
        before, after = word.split(piece, 1)
        return [*piece_first(before), piece, *piece_first(after)]

    compare(
        "likeliest_cut",
        [likeliest_cut(word, dict(log_probability)) for word in words],
        best(sum),
        {
            "you take the longest piece from the left. It may leave an unlikely rest: the cut is judged as a whole, so "
            "all cuts have to compete.": [longest(word) for word in words],
            "you take the most probable piece that the word begins with, and cut the rest in the same way. The rest "
            "may be unlikely: the cut is judged as a whole, so all cuts have to compete.":
                [prefix_first(word) for word in words],
            "you take the most probable piece of the word, wherever it stands, and cut what is left on both sides. "
            "That may be unlikely: the cut is judged as a whole.": [piece_first(word) for word in words],
            "you take the cut with the fewest pieces. Few pieces are often more probable, since each one costs, but "
            "two rare pieces can cost more than three common ones.":
                best(lambda values: -len(values) + sum(values) / 1000),
            "you divide by the number of pieces. The probability of a cut is the product over its pieces, so the "
            "logarithms are added, not averaged.": best(lambda values: sum(values) / len(values)),
            "you cut into characters: longer pieces are more probable than their characters "
            "together.": [[*word] for word in words],
            "your cut has at most two pieces. A word may need three, or as many as it has letters: best[end] builds on "
            "the best cut of a *beginning*, which may have several pieces itself.": best(sum, most=2),
            "your cut has at most three pieces. There may be any number of them.": best(sum, most=3),
            "you take the longest piece from the right. It may leave an unlikely rest: all cuts have to compete.": [
                longest(word, from_right=True) for word in words],
            "you keep the first offer for each position. best[end] is the *largest* of the offers.": [
                kept(word, lambda offers: offers[0]) for word in words],
            "you keep the last offer for each position. best[end] is the *largest* of the offers.": [
                kept(word, lambda offers: offers[-1]) for word in words],
            "you compare the offers by their last piece. What counts is the sum: best[start] and the piece.": [
                kept(word, lambda offers: max(offers, key=lambda offer: log_probability[offer[1][-1]]))
                for word in words],
            "that is the pair of best[len(word)], its sum and its pieces. Only the pieces are wanted.": [
                (sum(log_probability[piece] for piece in cut), cut) for cut in best(sum)],
            "you look for the smallest sum. Logarithms of probabilities are negative: the most probable cut has the "
            "largest sum.": best(lambda values: -sum(values)),
            "you add probabilities. Independent pieces multiply, so it is their logarithms that are added.": best(
                lambda values: sum(math.exp(value) for value in values)),
        },
    )  # fmt: skip


def cuts(word: str) -> Iterator[list[str]]:
    """Every way of cutting a word into pieces: 2^(n-1) for n characters.

    >>> list(cuts("abc"))
    [['abc'], ['ab', 'c'], ['a', 'bc'], ['a', 'b', 'c']]
    """
    yield [word]
    for end in range(len(word) - 1, 0, -1):
        for rest in cuts(word[end:]):
            yield [word[:end], *rest]
