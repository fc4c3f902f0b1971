"""Documents as one long array of token ids, in memory or, for a corpus larger than memory, in a file.

Documents follow each other without a separator, as T5's were packed for span corruption (Raffel et al. 2020, 3.1.4).
For BERT, which pairs sentences, the borders of sentences and documents are kept beside the tokens.
"""

import contextlib
import itertools
import os
from array import array
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int32, Int64

from tlqa_jax.data.sources import Source, open_marked_texts, open_texts
from tlqa_jax.errors import UserError
from tlqa_jax.examples import MarkedText
from tlqa_jax.text.names_and_dates import names_and_dates
from tlqa_jax.text.sentencepiece import SENTINEL, SentencePieceTokenizer
from tlqa_jax.text.sentences import split_sentences

TEXTS_AT_ONCE = 512
TOKENS_AT_ONCE = 2**24  # looked at where all of them may be too many
SpansFrom = Literal["marked", "rule"]


@runtime_checkable
class Tokenizer(Protocol):
    """What a corpus needs of a tokenizer."""

    def encode_batch(self, texts: Sequence[str]) -> Sequence[Sequence[int]]: ...


@dataclass(frozen=True)
class Corpus:
    """Token ids of all documents, and, where spans are marked, for each token the number of its span (from 1) or 0."""

    tokens: Int32[np.ndarray, "n"]
    spans: Int32[np.ndarray, "n"] | None = None


@dataclass(frozen=True)
class SentenceCorpus:
    """Token ids of all documents, and where their sentences begin and end.

    Sentence s is tokens[sentences[s] : sentences[s + 1]]; document d is sentences documents[d] to documents[d + 1].
    None of them is empty.
    """

    tokens: Int32[np.ndarray, "n"]
    sentences: Int64[np.ndarray, "sentence_borders"]
    documents: Int64[np.ndarray, "document_borders"]


def read_corpus(
    source: Source,
    tokenizer: SentencePieceTokenizer,
    *,
    spans: SpansFrom | None = None,
    data_dir: str | Path | None = None,
    field: str = "text",
    limit: int | None = None,
    file: str | Path | None = None,
) -> Corpus:
    """The documents of a source (see `sources`) as tokens, and with `spans` what in them is worth remembering.

    "marked" takes the spans that the source's rows mark, "rule" finds names and dates in any text (`names_and_dates`).
    `field` names the field of the text in rows; `limit` and `file` are those of `tokenize_corpus`.

    Raises:
      UserError: the source cannot be read, a document holds a sentinel's mark, or "marked" is asked of a source that
        marks none.
      ValueError: `file` is given with `spans`, which are kept in memory.
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
        marked = (MarkedText(text, tuple(names_and_dates(text))) for text in texts)
        return mark_corpus(marked, tokenizer, limit=limit)
    return Corpus(tokenize_corpus(texts, tokenizer, limit=limit, file=file))


def check_tokens_file(file: str | None, out: str) -> None:
    """Raise UserError for a --tokens-file that may be something else, or would lie where a run begins.

    What is there is replaced: only a name that says it is tokens may be.
    """
    if file is None:
        return
    if Path(file).suffix != ".tokens" or Path(file).is_dir():
        raise UserError(f"--tokens-file {file}: it is made anew at each start, so its name has to end in .tokens")
    if Path(file).resolve().is_relative_to(Path(out).resolve()):
        raise UserError(f"--tokens-file {file} is in --out {out}, which a run has for itself: give another place")


def token_report(tokens: Int32[np.ndarray, "n"], unk_id: int) -> str:
    """How many tokens there are, and for how many the vocabulary has no piece. Many of them: it is the wrong one."""
    starts = range(0, len(tokens), TOKENS_AT_ONCE)
    unknown = sum(int((tokens[start : start + TOKENS_AT_ONCE] == unk_id).sum()) for start in starts)
    share = f"{100 * unknown / len(tokens):.1f}% of them" if unknown else "none"
    return f"{len(tokens):,} tokens, {share} unknown to the vocabulary"


def tokenize_corpus(
    texts: Iterable[str], tokenizer: Tokenizer, *, limit: int | None = None, file: str | Path | None = None
) -> Int32[np.ndarray, "n"]:
    """Ids of all texts, one after the other: the first `limit` tokens, or all of them.

    Texts are taken as they come, never all at once. With `file` the ids go to that file (raw int32, this machine's byte
    order) and come back as a read-only memory map of it; memory then holds only a few documents at a time. What was
    there is replaced when all is written; several processes that do so at once write the same bytes, and each maps a
    whole file. Raises UserError if it cannot be written.
    """
    return _gathered(_encoded(texts, tokenizer, limit), file)


def tokenize_sentences(
    texts: Iterable[str], tokenizer: Tokenizer, *, limit: int | None = None, file: str | Path | None = None
) -> SentenceCorpus:
    """Ids of all texts, each cut into sentences and these tokenised one by one; `file` as for `tokenize_corpus`.

    With `limit` the first so many tokens: the last sentence may lose its end. What comes out without a token is left
    out. The borders stay in memory: 8 bytes a sentence, and as many a document.
    """
    lengths, counts = array("q"), array("q")  # tokens of each sentence, sentences of each document

    def encoded() -> Iterator[Int32[np.ndarray, "m"]]:
        left = limit
        some_texts = _some_at_a_time(texts)
        while (left is None or left > 0) and (some := next(some_texts, None)):
            documents = [split_sentences(text) for text in some]
            ids = iter(tokenizer.encode_batch([sentence for document in documents for sentence in document]))
            part: list[int] = []
            for document in documents:
                sentences = [sentence for sentence in itertools.islice(ids, len(document)) if len(sentence)]
                if left is not None:
                    sentences, left = _first(sentences, left)
                lengths.extend(map(len, sentences))
                if sentences:
                    counts.append(len(sentences))
                part += itertools.chain.from_iterable(sentences)
            yield np.array(part, np.int32)

    tokens = _gathered(encoded(), file)
    borders = lambda sizes: np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
    return SentenceCorpus(tokens, borders(lengths), borders(counts))


def mark_corpus(
    documents: Iterable[MarkedText], tokenizer: SentencePieceTokenizer, *, limit: int | None = None
) -> Corpus:
    """Tokens of marked documents, or the first `limit` of them. A token belongs to a span if they share a character
    other than white space.

    The spans of a document are in the order of its text; a token in which two of them meet belongs to the later one.
    They are numbered upward over the whole corpus; `salient_spans_mask` wants small numbers: count anew in a window.
    """
    tokens, numbers, count, total = [], [], 0, 0
    for document in documents:
        ids, offsets = tokenizer.encode_with_offsets(document.text)
        starts, ends = np.array(offsets, np.int64).reshape(-1, 2).T
        # the space before a word counts to its piece, but does not make it part of a span that ends with that space
        starts = ends - [len(document.text[start:end].lstrip()) for start, end in offsets]
        span_of = np.zeros(len(ids), np.int32)
        for start, end in document.spans:
            count += 1
            # both are sorted: the pieces that end behind the span's start and start before its end
            span_of[ends.searchsorted(start, "right") : starts.searchsorted(end, "left")] = count
        tokens.append(np.array(ids, np.int32))
        numbers.append(span_of)
        total += len(ids)
        if limit is not None and total >= limit:
            break
    if not tokens:
        return Corpus(np.zeros(0, np.int32), np.zeros(0, np.int32))
    return Corpus(np.concatenate(tokens)[:limit], np.concatenate(numbers)[:limit])


def _encoded(texts: Iterable[str], tokenizer: Tokenizer, limit: int | None) -> Iterator[Int32[np.ndarray, "m"]]:
    left = limit
    some_texts = _some_at_a_time(texts)
    while (left is None or left > 0) and (some := next(some_texts, None)):
        ids = np.fromiter(itertools.chain.from_iterable(tokenizer.encode_batch(some)), np.int32)
        if left is not None:
            ids = ids[:left]
            left -= len(ids)
        yield ids


def _first(sentences: list[Sequence[int]], limit: int) -> tuple[list[Sequence[int]], int]:
    """The first `limit` tokens of the sentences, the last of which may lose its end, and how many are left of it."""
    kept = []
    for sentence in sentences:
        if limit:
            kept.append(sentence[:limit])
            limit -= len(kept[-1])
    return kept, limit


def _some_at_a_time(texts: Iterable[str]) -> Iterator[list[str]]:
    texts = iter(texts)
    while some := list(itertools.islice(texts, TEXTS_AT_ONCE)):
        yield some


def _gathered(parts: Iterable[Int32[np.ndarray, "_"]], file: str | Path | None) -> Int32[np.ndarray, "n"]:
    """The parts as one array, in memory or as a memory map of `file`, which is written whole or not at all."""
    if file is None:
        parts = list(parts)
        return np.concatenate(parts) if parts else np.zeros(0, np.int32)
    path = Path(file)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as out:
            for part in parts:
                part.tofile(out)
        if temporary.stat().st_size == 0:  # which cannot be mapped
            return np.zeros(0, np.int32)
        os.replace(temporary, path)
    except OSError as error:  # not of the texts: what is wrong with those is a UserError
        raise UserError(f"{path} cannot be written: {error.strerror or error}") from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
    return np.memmap(path, np.int32, mode="r")
