"""Rows for BERT: pairs of segments for next-sentence prediction, or plain text packed full.

    [CLS] the mill is old . it stands in oss . [SEP] the miller is older . [SEP] [PAD]    is_next: True
    token types 0 ...                              0 1 ...                   1   0

A segment is several sentences of one document, so that a row has its full length. In half of the pairs the second
segment follows the first in its document, in the others it comes from another document. One row in ten is short, so
that the model also learns short inputs. Devlin et al. 2019, appendix A.2. Rows of one segment, without pairs, continue
from document to document as in Liu et al. 2019 (RoBERTa, "full sentences"), but are filled completely: a row may end
within a sentence, and the next one begins there.

The text is one long array of tokens with two arrays of borders: sentence s is tokens[sentences[s] : sentences[s + 1]],
document d is the sentences documents[d] to documents[d + 1]. A segment is a span [start, end) of tokens. Which
sentences are in a row is decided once. How they are halved, which document replaces the second half, and what is cut
off is drawn again each time. So a row is a function of its index and a random generator, and memory holds only spans.
"""

from array import array
from bisect import bisect_left
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int32, Int64, Integer

from tlqa_jax.errors import UserError

SPECIAL_TOKENS = 3  # of a pair: [CLS] a [SEP] b [SEP]


class Pairs(NamedTuple):
    """Spans of the first and second segments, and whether the second follows the first in its document."""

    first: Int64[np.ndarray, "B 2"]
    second: Int64[np.ndarray, "B 2"]
    is_next: Bool[np.ndarray, "B"]


class Rows(NamedTuple):
    """What the encoder reads."""

    tokens: Int32[np.ndarray, "B L"]
    token_types: Int32[np.ndarray, "B L"]  # 1 for the second segment and its [SEP]
    is_text: Bool[np.ndarray, "B L"]  # neither [CLS], [SEP] nor padding


# Pairs


class SentencePairs:
    """The pairs of a text: `size` of them, the same number in every epoch.

    A pair is drawn from a chunk: successive sentences of one document, at least two, as many as fill the row (the last
    one may be too long). Chunks do not overlap and leave nothing out: a last sentence that would be alone joins the
    chunk before it. A document of one sentence has no next segment: its pair is never next.

    A row does not show the half of its chunk that another document replaces, and the tokens over its length.

    `short_share` of the chunks (drawn once, from `seed`) are for shorter rows: from 2 tokens of text up, uniformly.

    Raises UserError if there are fewer than two documents, ValueError if max_length has no room for two segments.
    """

    def __init__(
        self, sentences: Int64[np.ndarray, "sentence_borders"], documents: Int64[np.ndarray, "document_borders"],
        max_length: int, *, seed: int, short_share: float = 0.1,
    ) -> None:  # fmt: skip
        if max_length < SPECIAL_TOKENS + 2:
            raise ValueError(f"max_length is {max_length}: a pair has {SPECIAL_TOKENS} special tokens and two of text")
        if len(documents) < 3:
            raise UserError(
                f"the text has {len(documents) - 1} documents: next-sentence pairs need at least 2 "
                "(in a .txt file a blank line separates documents)"
            )
        self.sentences, self.documents = sentences, documents
        rng = np.random.default_rng(seed)
        room = max_length - SPECIAL_TOKENS
        chunks = array("q")  # four numbers each: document, sentences [first, end), room
        for document, (begin, end) in enumerate(pairwise(documents.tolist())):
            while begin < end:
                own_room = int(rng.integers(2, room + 1)) if rng.random() < short_share else room
                # up to the first border that is far enough; no chunk of one sentence, neither this one nor the rest
                stop = min(max(bisect_left(sentences, sentences[begin] + own_room, begin, end), begin + 2), end)
                stop = end if stop == end - 1 else stop
                chunks.extend((document, begin, stop, own_room))
                begin = stop
        self._chunks = np.array(chunks, np.int64).reshape(-1, 4)
        self.size = len(self._chunks)

    def draw(self, rngs: Sequence[np.random.Generator], indices: Integer[np.ndarray, "B"]) -> Pairs:
        """The pairs `indices`, each from a generator of its own."""
        sentences, documents = self.sentences, self.documents
        own, begin, stop, room = self._chunks[indices].T
        draws = np.array([rng.random(4) for rng in rngs]).reshape(-1, 4).T
        count = stop - begin
        # the first sentence of the second half
        middle = np.where(count > 1, begin + 1 + (draws[0] * (count - 1)).astype(int), stop)
        is_next = (count > 1) & (draws[1] < 0.5)
        first = np.stack([sentences[begin], sentences[middle]], axis=1)

        other = (draws[2] * (len(documents) - 2)).astype(int)
        other += other >= own
        start = documents[other] + (draws[3] * (documents[other + 1] - documents[other])).astype(int)
        # whole sentences, up to the first border that is far enough, within the document
        wanted = np.maximum(room - (first[:, 1] - first[:, 0]), 1)
        end = np.minimum(np.searchsorted(sentences, sentences[start] + wanted), documents[other + 1])
        second = np.where(
            is_next[:, None],
            np.stack([sentences[middle], sentences[stop]], axis=1),
            np.stack([sentences[start], sentences[end]], axis=1),
        )
        return Pairs(*_truncate(rngs, first, second, room), is_next)


def _truncate(
    rngs: Sequence[np.random.Generator], first: np.ndarray, second: np.ndarray, room: np.ndarray
) -> tuple[Int64[np.ndarray, "B 2"], Int64[np.ndarray, "B 2"]]:
    """Both spans cut to `room` tokens together: one token after another from the longer span (if equal, the second).

    Each of these tokens is the first or the last of its segment, at random, so not all segments begin with a sentence.
    """
    lengths = np.stack([first[:, 1] - first[:, 0], second[:, 1] - second[:, 0]], axis=1)
    excess = np.maximum(lengths.sum(axis=1) - room, 0)
    level = np.minimum(excess, abs(lengths[:, 0] - lengths[:, 1]))  # until they are equal
    both = excess - level
    longer = lengths[:, 0] > lengths[:, 1]
    cut = np.stack([np.where(longer, level, 0) + both // 2, np.where(longer, 0, level) + (both + 1) // 2], axis=1)
    front = np.array([rng.binomial(own, 0.5) for rng, own in zip(rngs, cut)]).reshape(-1, 2)
    inwards = np.stack([front, front - cut], axis=2)  # [B, segment, (start, end)]
    return first + inwards[:, 0], second + inwards[:, 1]


# One segment


def full_rows(num_tokens: int, max_length: int) -> Int64[np.ndarray, "size 2"]:
    """Spans for rows [CLS] text [SEP]. Each token is in one of them; only the last row has empty positions.

    Raises ValueError if max_length has no room for text.
    """
    if max_length < 3:
        raise ValueError(f"max_length is {max_length}: a row has 2 special tokens and at least one of text")
    starts = np.arange(0, num_tokens, max_length - 2)
    return np.stack([starts, np.append(starts[1:], num_tokens)], axis=1) if len(starts) else np.zeros((0, 2), np.int64)


# Rows


def assemble(
    tokens: Int32[np.ndarray, "n"], first: Integer[np.ndarray, "B 2"], second: Integer[np.ndarray, "B 2"] | None = None,
    *, length: int, cls_id: int, sep_id: int, pad_id: int,
) -> Rows:  # fmt: skip
    """[CLS] first [SEP], or [CLS] first [SEP] second [SEP], padded to `length`. `tokens` may be a memory map.

    Raises ValueError if a row is longer.
    """
    place = np.arange(length)
    separator = 1 + first[:, 1:] - first[:, :1]  # of the first segment
    source = first[:, :1] + place - 1
    is_text = (place > 0) & (place < separator)
    last = separator
    if second is not None:
        last = separator + 1 + second[:, 1:] - second[:, :1]
        behind = (place > separator) & (place < last)
        source = np.where(behind, second[:, :1] + place - separator - 1, source)
        is_text |= behind
    if (last >= length).any():
        raise ValueError(f"a row has {last.max() + 1} tokens, {length} is the limit")
    rows = np.full(is_text.shape, pad_id, np.int32)
    rows[:, 0] = cls_id
    rows[is_text] = tokens[source[is_text]]
    rows[(place == separator) | (place == last)] = sep_id
    return Rows(rows, ((place > separator) & (place <= last)).astype(np.int32), is_text)
