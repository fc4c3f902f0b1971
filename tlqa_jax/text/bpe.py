"""Byte-pair encoding from scratch (Sennrich, Haddow and Birch 2016): merge the most frequent pair, again and again.

    low low lower    l o w </w>  x2,  l o w e r </w>  x1
    merge l o        lo w </w>   x2,  lo w e r </w>   x1
    merge lo w       low </w>    x2,  low e r </w>    x1
    merge low </w>   low</w>     x2,  low e r </w>    x1

The list of merges in their order is the whole model: a new word is cut into characters, and the same merges are done
in the same order. "</w>" marks the end of a word, so "low" in "lower" and the word "low" are different symbols. This
module is for lesson 2; for training on real text use `SentencePieceTokenizer`.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise

END_OF_WORD = "</w>"
Pair = tuple[str, str]


def learn_bpe(texts: Iterable[str], num_merges: int) -> list[Pair]:
    """The first `num_merges` merges, in order. Fewer, if no pair of symbols occurs twice any more.

    Words are what white space separates. Of equally frequent pairs the alphabetically first is merged, so the result
    does not depend on the order of the words.
    """
    word_counts = Counter(word for text in texts for word in text.split())
    counts = list(word_counts.values())
    words = [[*word, END_OF_WORD] for word in word_counts]

    pair_counts: Counter[Pair] = Counter()
    words_with: defaultdict[Pair, set[int]] = defaultdict(set)
    for index, (word, count) in enumerate(zip(words, counts, strict=True)):
        for pair in pairwise(word):
            pair_counts[pair] += count
            words_with[pair].add(index)

    merges: list[Pair] = []
    while len(merges) < num_merges and pair_counts:
        best = min(pair_counts, key=lambda pair: (-pair_counts[pair], pair))
        if pair_counts[best] < 2:
            break
        merges.append(best)
        for index in words_with.pop(best):  # only these words change: only their pairs are counted again
            for pair in pairwise(words[index]):
                pair_counts[pair] -= counts[index]
            words[index] = merge_pair(words[index], best)
            for pair in pairwise(words[index]):
                pair_counts[pair] += counts[index]
                words_with[pair].add(index)
        pair_counts = +pair_counts  # drops the pairs that are gone
    return merges


def merge_pair(symbols: Sequence[str], pair: Pair) -> list[str]:
    """The symbols with every occurrence of the pair, from left to right, joined into one symbol."""
    merged: list[str] = []
    position = 0
    while position < len(symbols):
        if tuple(symbols[position : position + 2]) == pair:
            merged.append(pair[0] + pair[1])
            position += 2
        else:
            merged.append(symbols[position])
            position += 1
    return merged


def encode_bpe(text: str, merges: Sequence[Pair]) -> list[str]:
    """The symbols of a text: each word is cut into characters, then the merges are done in their order."""
    rank = {pair: number for number, pair in enumerate(merges)}
    symbols: list[str] = []
    for word in text.split():
        cut = [*word, END_OF_WORD]
        while True:
            known = [pair for pair in pairwise(cut) if pair in rank]
            if not known:
                break
            cut = merge_pair(cut, min(known, key=rank.__getitem__))
        symbols += cut
    return symbols


def decode_bpe(symbols: Iterable[str]) -> str:
    """The words of a list of symbols, one space between them."""
    return "".join(symbols).replace(END_OF_WORD, " ").strip()
