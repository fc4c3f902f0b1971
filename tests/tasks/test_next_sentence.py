"""Pairs and packed rows against the documents they were made from: each token's id says where it stood."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, strategies as st

from tlqa_jax.errors import UserError
from tlqa_jax.tasks.next_sentence import SentencePairs, _truncate, assemble, full_rows

PAD, CLS, SEP = 0, 1, 2
FIRST = 10  # the id of the first token of the text; every other token has the next


def documents_of(sizes: list[list[int]]) -> list[list[list[int]]]:
    """Documents of sentences of these sizes, in which no id occurs twice."""
    ids = iter(range(FIRST, FIRST + sum(map(sum, sizes))))
    return [[[next(ids) for _ in range(size)] for size in document] for document in sizes]


def join_documents(documents: list[list[list[int]]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(tokens, sentences, documents), as a corpus has them, of documents of sentences."""
    sentences = [sentence for document in documents for sentence in document]
    borders = [np.cumsum([0, *map(len, parts)]) for parts in (sentences, documents)]
    return np.array(sum(sentences, []), np.int32), *borders


def generators(count: int, seed: int = 0, epoch: int = 0) -> list[np.random.Generator]:
    return [np.random.default_rng((seed, epoch, index)) for index in range(count)]


def rows_of(documents, max_length, *, seed=0, epoch=0, **options):
    """Every row of an epoch, and whether it is next."""
    tokens, sentences, ends = join_documents(documents)
    pairs = SentencePairs(sentences, ends, max_length, seed=seed, **options)
    drawn = pairs.draw(generators(pairs.size, seed, epoch), np.arange(pairs.size))
    rows = assemble(tokens, drawn.first, drawn.second, length=max_length, cls_id=CLS, sep_id=SEP, pad_id=PAD)
    return rows, drawn.is_next


def segments(tokens, types) -> tuple[list[int], list[int]]:
    """The two segments of a row, after a look at everything around them."""
    tokens, types = tokens.tolist(), types.tolist()
    middle = tokens.index(SEP)
    end = tokens.index(SEP, middle + 1)
    assert tokens[0] == CLS and set(tokens[end + 1 :]) <= {PAD}
    assert types == [0] * (middle + 1) + [1] * (end - middle) + [0] * (len(tokens) - end - 1)
    return tokens[1:middle], tokens[middle + 1 : end]


sizes = st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=8), min_size=2, max_size=6)
seeds = st.integers(0, 2**32)


@given(sizes, st.integers(5, 40), seeds, st.integers(0, 3), st.sampled_from([0.0, 0.1, 1.0]))
def test_pairs_are_what_the_documents_say(sizes, max_length, seed, epoch, short_share):
    documents = documents_of(sizes)
    document_of = {id: number for number, document in enumerate(documents) for s in document for id in s}
    sentence_starts = {sentence[0] for document in documents for sentence in document}
    rows, is_next = rows_of(documents, max_length, seed=seed, epoch=epoch, short_share=short_share)
    seen = Counter()
    for tokens, types, is_text, follows in zip(*rows, is_next):
        first, second = segments(tokens, types)
        assert tokens[is_text].tolist() == first + second
        assert first and second and len(first) + len(second) + 3 <= max_length
        for segment in (first, second):
            assert segment == list(range(segment[0], segment[-1] + 1)), "successive tokens"
            assert len({document_of[id] for id in segment}) == 1, "of one document"
        assert follows == (document_of[first[0]] == document_of[second[0]])
        if follows:
            # between them there is at most what was cut off at the border of two sentences
            assert first[-1] < second[0]
            between = range(first[-1] + 1, second[0] + 1)
            assert len(sentence_starts & set(between)) >= 1
            if len(first) + len(second) + 3 < max_length and not short_share:
                assert second[0] == first[-1] + 1, "nothing is cut off where there is room"
        seen.update(first + second if follows else first)
    assert max(seen.values(), default=0) <= 1, "a token stands in its own row only, but for second segments elsewhere"


@given(sizes, st.integers(5, 40), seeds)
def test_chunks_divide_the_text(sizes, max_length, seed):
    _, sentences, ends = join_documents(documents_of(sizes))
    chunks = SentencePairs(sentences, ends, max_length, seed=seed)._chunks
    divided = [sentence for _, begin, stop, _ in chunks for sentence in range(begin, stop)]
    assert divided == list(range(len(sentences) - 1))
    for document, begin, stop, room in chunks:
        assert ends[document] <= begin < stop <= ends[document + 1]
        assert stop - begin >= min(2, ends[document + 1] - ends[document])
        full = sentences[stop] - sentences[begin] >= room
        assert full or stop == ends[document + 1], "short only at the end of a document"
        too_long = stop - begin > 2 and sentences[stop - 1] - sentences[begin] >= room
        assert not too_long or stop == ends[document + 1], "one sentence may run over, and the last of a document"


def test_a_pair_by_hand():
    rows, is_next = rows_of([[[10, 11], [12]], [[13], [14]]], 9, short_share=0.0)
    wanted = {
        # the only way to halve a document of two sentences, and each sentence of the other that may stand in
        (True, 0): [{(10, 11, SEP, 12)}, {(13, SEP, 14)}],
        (False, 0): [{(10, 11, SEP, 13, 14), (10, 11, SEP, 14)}, {(13, SEP, 10, 11, 12), (13, SEP, 12)}],
    }
    for index in (0, 1):
        row = rows.tokens[index]
        inside = tuple(row[(row != PAD) & (row != CLS)].tolist())[:-1]
        assert inside in wanted[bool(is_next[index]), 0][index]


def test_rates():
    documents = documents_of([[3, 4, 2, 5] * 6] * 200)
    rows, is_next = rows_of(documents, 23)
    count = len(is_next)
    bound = lambda rate: 5 * math.sqrt(count * rate * (1 - rate))  # five standard deviations
    epochs = np.stack([is_next, *(rows_of(documents, 23, epoch=epoch)[1] for epoch in (1, 2, 3, 4, 5))])
    assert abs(epochs.mean() - 1 / 2) < 5 / 2 / math.sqrt(epochs.size)
    assert abs((epochs[0] == epochs[1]).sum() - count / 2) < bound(1 / 2), "drawn anew in each epoch"
    rooms = SentencePairs(*join_documents(documents)[1:], 23, seed=0)._chunks[:, 3]
    assert abs((rooms < 20).sum() - 0.1 * count * 18 / 19) < bound(0.1), "the short ones"
    assert (rooms.min(), rooms.max()) == (2, 20)
    full = (rows.tokens != PAD).all(axis=1)
    assert full[is_next].mean() > 0.7, "but for the short ones and the ends of documents"


def test_every_other_document_and_sentence_stands_in():
    documents = documents_of([[1, 1, 1, 1]] * 4)
    tokens, sentences, ends = join_documents(documents)
    pairs = SentencePairs(sentences, ends, 9, seed=0, short_share=0.0)
    drawn = pairs.draw(generators(6000), np.zeros(6000, int))
    begins = Counter(drawn.second[~drawn.is_next, 0].tolist())
    assert sorted(begins) == list(range(4, 16))
    count = sum(begins.values())
    assert all(abs(n - count / 12) < 5 * math.sqrt(count / 12) for n in begins.values())
    middles = Counter(drawn.first[:, 1].tolist())
    assert sorted(middles) == [1, 2, 3] and all(abs(n - 2000) < 5 * math.sqrt(2000) for n in middles.values())


def test_a_document_of_one_sentence_is_never_next():
    rows, is_next = rows_of(documents_of([[5]] * 40), 12)
    assert len(is_next) == 40 and not is_next.any()


def test_a_row_does_not_depend_on_its_batch():
    tokens, sentences, ends = join_documents(documents_of([[3, 4, 2, 5] * 3] * 5))
    pairs = SentencePairs(sentences, ends, 14, seed=0)
    together = pairs.draw(generators(pairs.size), np.arange(pairs.size))
    alone = pairs.draw(generators(pairs.size)[3:4], np.array([3]))
    assert [array[3].tolist() for array in together] == [array[0].tolist() for array in alone]


def slow_truncated(a: int, b: int, room: int) -> tuple[int, int]:
    """One token at a time off the longer."""
    while a + b > room:
        if a > b:
            a -= 1
        else:
            b -= 1
    return a, b


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30), st.integers(2, 40)), min_size=1, max_size=9), seeds)
def test_truncation_takes_from_the_longer(cases, seed):
    lengths = np.array(cases)
    first = np.stack([np.full(len(cases), 7), 7 + lengths[:, 0]], axis=1)
    second = np.stack([np.full(len(cases), 99), 99 + lengths[:, 1]], axis=1)
    cut_first, cut_second = _truncate(generators(len(cases), seed), first, second, lengths[:, 2])
    for before, after in ((first, cut_first), (second, cut_second)):
        assert (after[:, 0] >= before[:, 0]).all() and (after[:, 1] <= before[:, 1]).all()
    got = list(zip((cut_first[:, 1] - cut_first[:, 0]).tolist(), (cut_second[:, 1] - cut_second[:, 0]).tolist()))
    assert got == [slow_truncated(*case) for case in cases]


def test_truncation_is_from_both_ends():
    first = np.tile([0, 20], (500, 1))
    cut, _ = _truncate(generators(500), first, np.tile([50, 60], (500, 1)), np.full(500, 20))
    assert abs(cut[:, 0].mean() - 5) < 5 * math.sqrt(10 / 4 / 500)


# One segment


@given(sizes, st.integers(3, 30))
def test_packed_rows_hold_every_token_once(sizes, max_length):
    tokens, _, _ = join_documents(documents_of(sizes))
    spans = full_rows(len(tokens), max_length)
    rows = assemble(tokens, spans, length=max_length, cls_id=CLS, sep_id=SEP, pad_id=PAD)
    assert rows.tokens[rows.is_text].tolist() == tokens.tolist()
    assert not rows.token_types.any()
    for row, is_text in zip(rows.tokens.tolist(), rows.is_text):
        count = int(is_text.sum())
        assert count and row == [CLS, *row[1 : count + 1], SEP] + [PAD] * (max_length - count - 2)
    assert (rows.tokens != PAD)[:-1].all(), "full but for the last"


def test_packed_rows_by_hand():
    assert full_rows(5, 4).tolist() == [[0, 2], [2, 4], [4, 5]]
    assert full_rows(0, 4).tolist() == []


def test_what_cannot_be_is_refused():
    tokens, sentences, documents = join_documents([[[10], [11]]])
    with pytest.raises(UserError, match="the text has 1 documents: next-sentence pairs need at least 2"):
        SentencePairs(sentences, documents, 9, seed=0)
    with pytest.raises(ValueError, match="max_length is 4"):
        SentencePairs(sentences, documents, 4, seed=0)
    with pytest.raises(ValueError, match="max_length is 2"):
        full_rows(2, 2)
    with pytest.raises(ValueError, match="a row has 4 tokens, 3 is the limit"):
        assemble(tokens, np.array([[0, 2]]), length=3, cls_id=CLS, sep_id=SEP, pad_id=PAD)
