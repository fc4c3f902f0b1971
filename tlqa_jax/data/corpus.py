"""Documents as one long array of token ids, in memory or, for a corpus larger than memory, in a file.

Documents follow each other without a separator, as in T5's span corruption (Raffel et al. 2020, 3.1.4). For BERT's
sentence pairs there are also the borders of sentences and documents.
"""

import itertools
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
from jaxtyping import Int32, Int64

from tlqa_jax.data.sources import Source, open_marked_texts, open_texts
from tlqa_jax.errors import UserError
from tlqa_jax.examples import MarkedText
from tlqa_jax.text.atomic_write import write_atomically
from tlqa_jax.text.names_and_dates import names_and_dates
from tlqa_jax.text.sentencepiece import SENTINEL, SentencePieceTokenizer
from tlqa_jax.text.sentences import sentences_of
from tlqa_jax.text.wordpiece import WordPieceTokenizer

TEXTS_AT_ONCE, CHARACTERS_AT_ONCE = 512, 2**20  # tokenised before their ids, in lists of Python, go into an array
LONGEST_PART = 2**18  # in characters; a longer text is tokenised in parts
TOKENS_AT_ONCE = 2**24  # of a memory map, when all tokens are counted
SpansFrom = Literal["marked", "rule"]
T = TypeVar("T")


@dataclass(frozen=True)
class Corpus:
    """Token ids of all documents; with marked spans, also the number of each token's span (from 1), or 0."""

    tokens: Int32[np.ndarray, "n"]
    spans: Int32[np.ndarray, "n"] | None = None


@dataclass(frozen=True)
class SentenceCorpus:
    """Token ids of all documents, and the borders of their sentences.

    Sentence s is tokens[sentences[s] : sentences[s + 1]]; document d is sentences documents[d] to documents[d + 1].
    No sentence and no document is empty.
    """

    tokens: Int32[np.ndarray, "n"]
    sentences: Int64[np.ndarray, "sentence_borders"]
    documents: Int64[np.ndarray, "document_borders"]


def read_corpus(
    source: Source, tokenizer: SentencePieceTokenizer, *, spans: SpansFrom | None = None,
    data_dir: str | Path | None = None, field: str = "text", limit: int | None = None, file: str | Path | None = None,
) -> Corpus:  # fmt: skip
    """The documents of a source (see `sources`) as tokens, with `spans` also the spans that are worth remembering.

    "marked" uses the spans in the source's rows, "rule" finds names and dates in any text (`names_and_dates`). `field`
    is the name of the text's field in rows; `limit` and `file` are those of `tokenize_corpus`.

    Raises UserError if the source cannot be read, if a document contains a sentinel, or if "marked" spans are missing;
    ValueError if `file` is given with `spans`, which are kept in memory.
    """
    if spans and file is not None:
        raise ValueError("a file holds tokens and no spans")

    def checked(documents: Iterable[str | MarkedText]) -> Iterator:
        for number, document in enumerate(documents, 1):
            text = document.text if isinstance(document, MarkedText) else document
            for mark in SENTINEL.finditer(text) if "<extra_id_" in text else ():
                if int(mark[1]) < len(tokenizer.sentinels):
                    raise UserError(
                        f"{source}, document {number}: {mark[0]} in the text is the mark of a masked span: remove it"
                    )
            yield document

    if spans == "marked":
        return mark_corpus(checked(open_marked_texts(source, field=field)), tokenizer, limit=limit)
    texts = checked(open_texts(source, data_dir=data_dir, field=field))
    if spans == "rule":
        parts = (part for text in texts for part in in_parts(text))
        marked = (MarkedText(part, tuple(names_and_dates(part))) for part in parts)
        return mark_corpus(marked, tokenizer, limit=limit)
    return Corpus(tokenize_corpus(texts, tokenizer, limit=limit, file=file))


def read_documents(
    source: Source, tokenizer: WordPieceTokenizer, *, data_dir: str | Path | None = None, field: str = "text",
    limit: int | None = None, file: str | Path | None = None,
) -> Int32[np.ndarray, "n"]:  # fmt: skip
    """The documents of a source as tokens, with [SEP] at the end of each. The arguments are those of `read_corpus`."""
    ended = ((text, "[SEP]") for text in open_texts(source, data_dir=data_dir, field=field))
    return tokenize_corpus(itertools.chain.from_iterable(ended), tokenizer, limit=limit, file=file)


def check_tokens_file(file: str | None, out: str) -> None:
    """Raise UserError for a --tokens-file in the directory of the run, or with a name that other files may have.

    A file of that name is replaced, so the name must end in .tokens.
    """
    if file is None:
        return
    if Path(file).suffix != ".tokens" or Path(file).is_dir():
        raise UserError(f"--tokens-file {file}: it is replaced at each start, so its name has to end in .tokens")
    if Path(file).resolve().is_relative_to(Path(out).resolve()):
        raise UserError(f"--tokens-file {file} is in --out {out}, which is only for the run: give another directory")


def token_report(tokens: Int32[np.ndarray, "n"], unk_id: int) -> str:
    """How many tokens there are, and how many of them are unknown. If many are, the vocabulary does not fit."""
    starts = range(0, len(tokens), TOKENS_AT_ONCE)
    unknown = sum(int((tokens[start : start + TOKENS_AT_ONCE] == unk_id).sum()) for start in starts)
    share = f"{100 * unknown / len(tokens):.1f}% of them" if unknown else "none"
    return f"{len(tokens):,} tokens, {share} unknown to the vocabulary"


def tokenize_corpus(
    texts: Iterable[str], tokenizer: SentencePieceTokenizer | WordPieceTokenizer, *, limit: int | None = None,
    file: str | Path | None = None,
) -> Int32[np.ndarray, "n"]:  # fmt: skip
    """Ids of all texts, one after the other: the first `limit` tokens, or all of them.

    Texts are read as needed, and long ones are tokenised in parts (`in_parts`). With `file` the ids are written to that
    file (raw int32, this machine's byte order), and the result is a read-only memory map of it; memory then holds only
    a few documents at a time. An existing file is replaced when all is written. Several processes may do this at once:
    they write the same bytes. Raises UserError if it cannot be written.
    """

    def encoded() -> Iterator[Int32[np.ndarray, "m"]]:
        left, parts = limit, (part for text in texts for part in in_parts(text))
        for some in _some_at_a_time(parts):
            ids = np.fromiter(itertools.chain.from_iterable(tokenizer.encode_batch(some)), np.int32)[:left]
            yield ids
            if left is not None and not (left := left - len(ids)):
                return

    return _gathered(encoded(), file)


def tokenize_sentences(
    texts: Iterable[str], tokenizer: SentencePieceTokenizer | WordPieceTokenizer, *, limit: int | None = None,
    file: str | Path | None = None,
) -> SentenceCorpus:  # fmt: skip
    """Ids of all texts, each cut into sentences that are tokenised one by one; `file` as for `tokenize_corpus`.

    With `limit` only the first tokens: the last sentence may lose its end. Sentences and documents without a token are
    left out. The borders stay in memory: 8 bytes for each sentence and each document.
    """
    lengths, counts = array("q"), array("q")  # tokens of each sentence, sentences of each document

    def parts() -> Iterator[tuple[str, int, int]]:
        """(a part of a sentence, the number of the sentence in its document, the number of the document)."""
        for document, text in enumerate(texts):
            for number, sentence in enumerate(sentences_of(text)):
                yield from ((part, number, document) for part in in_parts(sentence))

    def encoded() -> Iterator[Int32[np.ndarray, "m"]]:
        left, last = limit, [-1, -1]
        for some in _some_at_a_time(parts(), lambda part: len(part[0])):
            together: list[int] = []
            for ids, (_, *place) in zip(tokenizer.encode_batch([text for text, *_ in some]), some, strict=True):
                if not (ids := ids[:left]):
                    continue
                if place[1] != last[1]:
                    counts.append(0)
                if place != last:
                    counts[-1] += 1
                    lengths.append(0)
                last = place
                lengths[-1] += len(ids)
                together += ids
                left = None if left is None else left - len(ids)
            yield np.array(together, np.int32)
            if left == 0:
                return

    tokens = _gathered(encoded(), file)
    borders = lambda sizes: np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
    return SentenceCorpus(tokens, borders(lengths), borders(counts))


def mark_corpus(
    documents: Iterable[MarkedText], tokenizer: SentencePieceTokenizer, *, limit: int | None = None
) -> Corpus:
    """Tokens of marked documents, or the first `limit` of them, and the number of each token's span.

    A token belongs to a span if they share a character other than white space; if it shares characters with two spans,
    to the later one. The spans of a document are in the order of its text. They are numbered over the whole corpus;
    `number_spans` gives them the small numbers that `salient_spans_mask` needs.
    """
    tokens, numbers, count, total = [], [], 0, 0
    for document in documents:
        ids, offsets = tokenizer.encode_with_offsets(document.text)
        starts, ends = np.array(offsets, np.int64).reshape(-1, 2).T
        # the space before a word belongs to its piece, but a span that ends with this space does not include the piece
        starts = ends - [len(document.text[start:end].lstrip()) for start, end in offsets]
        span_of = np.zeros(len(ids), np.int32)
        for start, end in document.spans:
            count += 1
            # starts and ends are sorted: the pieces that end behind the span's start and start before its end
            span_of[ends.searchsorted(start, "right") : starts.searchsorted(end, "left")] = count
        tokens.append(np.array(ids, np.int32))
        numbers.append(span_of)
        total += len(ids)
        if limit is not None and total >= limit:
            break
    if not tokens:
        return Corpus(np.zeros(0, np.int32), np.zeros(0, np.int32))
    return Corpus(np.concatenate(tokens)[:limit], np.concatenate(numbers)[:limit])


def in_parts(text: str) -> Iterator[str]:
    """The text in parts of at most `LONGEST_PART` characters, so that the memory for its tokens is bounded.

    It is cut before a space or at the end of a line, which no token crosses. If a part has neither, it is cut at that
    length, and tokens near the cut may be others than those of the whole.
    """
    begin = 0
    while len(text) - begin > LONGEST_PART:
        end = max(text.rfind(mark, begin + 1, begin + LONGEST_PART + 1) for mark in " \n")
        end = end if end > 0 else begin + LONGEST_PART
        yield text[begin:end]
        begin = end
    yield text[begin:] if begin else text


def _some_at_a_time(items: Iterable[T], size: Callable[[T], int] = len) -> Iterator[list[T]]:
    """Groups of at most `TEXTS_AT_ONCE` items; a group ends when its sizes reach `CHARACTERS_AT_ONCE`."""
    group: list[T] = []
    characters = 0
    for item in items:
        group.append(item)
        characters += size(item)
        if len(group) == TEXTS_AT_ONCE or characters >= CHARACTERS_AT_ONCE:
            yield group
            group, characters = [], 0
    if group:
        yield group


def _gathered(parts: Iterable[Int32[np.ndarray, "_"]], file: str | Path | None) -> Int32[np.ndarray, "n"]:
    """The parts as one array, in memory or as a memory map of `file`, which is written atomically."""
    if file is None:
        parts = list(parts)
        return np.concatenate(parts) if parts else np.zeros(0, np.int32)
    write_atomically(file, (part.tobytes() for part in parts), make_directory=True)
    if Path(file).stat().st_size == 0:  # an empty file cannot be mapped
        return np.zeros(0, np.int32)
    return np.memmap(file, np.int32, mode="r")
