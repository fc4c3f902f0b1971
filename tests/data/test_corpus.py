"""A corpus as one array of tokens: nothing lost, in order, in memory or in a file."""

import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlqa_jax.data.corpus import (
    check_tokens_file,
    in_parts,
    mark_corpus,
    read_corpus,
    token_report,
    tokenize_corpus,
    tokenize_sentences,
)  # fmt: skip
from tlqa_jax.data.sources import local_path
from tlqa_jax.errors import UserError
from tlqa_jax.examples import MarkedText
from tlqa_jax.tasks.span_corruption import number_spans, salient_spans_mask
from tlqa_jax.text.sentencepiece import SentencePieceTokenizer
from tlqa_jax.text.sentencepiece_model import CONTROL, UNKNOWN, sentencepiece_model
from tlqa_jax.text.sentences import split_sentences
from tlqa_jax.text.wordpiece import SPECIALS, WordPieceTokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> SentencePieceTokenizer:
    texts = ["Mira Voss, born in Oss, tunes harps.", "Mira likes Oss; harps she likes more."] * 5
    return SentencePieceTokenizer.train(texts, tmp_path_factory.mktemp("vocabulary") / "a.model", 29)


@pytest.fixture(scope="module")
def letters(tmp_path_factory) -> SentencePieceTokenizer:
    """Each character is a piece."""
    pieces = [(piece, 0.0) for piece in ("<pad>", "</s>", "<unk>", "\u2581", *"abcde.")]
    path = tmp_path_factory.mktemp("vocabulary") / "letters.model"
    path.write_bytes(sentencepiece_model(pieces, b"", {0: CONTROL, 1: CONTROL, 2: UNKNOWN}))
    return SentencePieceTokenizer(path)


DOCUMENTS = st.lists(st.lists(st.text("abc", max_size=4), max_size=4).map(lambda words: ". ".join(words)), max_size=7)


@given(st.lists(st.text("abc", max_size=5), max_size=8), st.none() | st.integers(0, 20), st.integers(1, 3))
def test_all_tokens_in_order(letters, tmp_path_factory, texts, limit, at_once):
    import tlqa_jax.data.corpus as module

    before, module.TEXTS_AT_ONCE = module.TEXTS_AT_ONCE, at_once
    try:
        tokens = tokenize_corpus(iter(texts), letters, limit=limit)
        folder = tmp_path_factory.mktemp("corpus")
        mapped = tokenize_corpus(iter(texts), letters, limit=limit, file=folder / "new" / "a.int32")
    finally:
        module.TEXTS_AT_ONCE = before
    assert tokens.tolist() == [id for text in texts for id in letters.encode(text)][:limit]
    assert tokens.dtype == mapped.dtype == np.int32
    assert mapped.tolist() == tokens.tolist()
    assert not list(folder.glob("**/*.tmp"))


SHORT_WORDS = st.lists(st.sampled_from(["a", "bc", "cd.", "e"]), max_size=12).map(" ".join)


@given(st.lists(SHORT_WORDS, max_size=4), st.integers(4, 9), st.integers(1, 30), st.none() | st.integers(0, 20))
def test_long_texts_in_parts(letters, texts, longest, at_once, limit):
    """Neither tokens nor borders tell where a text was cut."""
    import tlqa_jax.data.corpus as module

    tokenize = lambda: (tokenize_corpus(texts, letters, limit=limit), tokenize_sentences(texts, letters, limit=limit))
    whole, sentences = tokenize()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "LONGEST_PART", longest)
        patch.setattr(module, "CHARACTERS_AT_ONCE", at_once)
        parts, sentences_in_parts = tokenize()
        assert all(len(part) <= longest for text in texts for part in in_parts(text))
        assert ["".join(in_parts(text)) for text in texts] == texts
    assert parts.tolist() == whole.tolist()
    for name in ("tokens", "sentences", "documents"):
        assert getattr(sentences_in_parts, name).tolist() == getattr(sentences, name).tolist()


def test_where_a_long_text_is_cut(monkeypatch):
    monkeypatch.setattr("tlqa_jax.data.corpus.LONGEST_PART", 4)
    assert [*in_parts("ab cd\nefghijk  l")] == ["ab", " cd", "\nefg", "hijk", "  l"]
    assert [*in_parts("")] == [""]


def test_documents_are_read_no_further_than_needed(letters):
    taken = []

    def texts():
        for number in range(10_000):
            taken.append(number)
            yield "abcde"

    assert len(tokenize_corpus(texts(), letters, limit=7)) == 7
    assert len(taken) < 1000


@given(DOCUMENTS, st.integers(0, 20), st.integers(1, 3))
def test_the_first_tokens_of_sentences(letters, texts, limit, at_once):
    import tlqa_jax.data.corpus as module

    before, module.TEXTS_AT_ONCE = module.TEXTS_AT_ONCE, at_once
    try:
        whole, first = (tokenize_sentences(iter(texts), letters, limit=most) for most in (None, limit))
    finally:
        module.TEXTS_AT_ONCE = before
    assert first.tokens.tolist() == whole.tokens[:limit].tolist()
    inside = whole.sentences[whole.sentences < len(first.tokens)].tolist()
    assert first.sentences.tolist() == (inside + [len(first.tokens)] if inside else [0])
    begun = np.searchsorted(whole.sentences[whole.documents], len(first.tokens))
    assert first.documents.tolist() == ([*whole.documents[:begun], len(inside)] if inside else [0])


def test_the_first_tokens_of_marked_texts(tokenizer):
    taken = []

    def documents():
        for number in range(9):
            taken.append(number)
            yield MarkedText("Mira likes Oss", ((0, 4), (11, 14)))

    whole, size = mark_corpus(documents(), tokenizer), len(tokenizer.encode("Mira likes Oss"))
    taken.clear()
    first = mark_corpus(documents(), tokenizer, limit=size + 2)
    assert taken == [0, 1]
    assert first.tokens.tolist() == whole.tokens[: size + 2].tolist()
    assert first.spans.tolist() == whole.spans[: size + 2].tolist() and first.spans.max() == 3


def test_a_file_is_not_half_written(letters, tmp_path):
    def broken():
        yield "abc"
        raise UserError("a.txt is not UTF-8")

    (tmp_path / "a.int32").write_bytes(b"kept")
    with pytest.raises(UserError):
        tokenize_corpus(broken(), letters, file=tmp_path / "a.int32")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("a.int32", b"kept")]
    with pytest.raises(UserError, match=r"a\.int32/b\.int32 cannot be written: "):
        tokenize_corpus(["abc"], letters, file=tmp_path / "a.int32" / "b.int32")


def test_a_file_for_tokens_is_named_so_and_lies_outside_the_run(tmp_path):
    check_tokens_file(None, "runs/a")
    check_tokens_file(str(tmp_path / "corpus.tokens"), str(tmp_path / "run"))
    (tmp_path / "folder.tokens").mkdir()
    for name, message in (
        ("corpus.txt", r"corpus\.txt: it is replaced at each start, so its name has to end in \.tokens"),
        ("folder.tokens", "it is replaced"),
        ("run/corpus.tokens", "is in --out .*: give another directory"),
    ):
        with pytest.raises(UserError, match=f"--tokens-file .*{message}"):
            check_tokens_file(str(tmp_path / name), str(tmp_path / "run"))


@given(DOCUMENTS, st.integers(1, 3))
def test_sentences_and_documents(letters, tmp_path_factory, texts, at_once):
    import tlqa_jax.data.corpus as module

    before, module.TEXTS_AT_ONCE = module.TEXTS_AT_ONCE, at_once
    try:
        corpus = tokenize_sentences(iter(texts), letters)
        mapped = tokenize_sentences(iter(texts), letters, file=tmp_path_factory.mktemp("corpus") / "a.int32")
    finally:
        module.TEXTS_AT_ONCE = before
    found = [
        [corpus.tokens[slice(*corpus.sentences[s : s + 2])].tolist() for s in range(begin, end)]
        for begin, end in zip(corpus.documents[:-1], corpus.documents[1:])
    ]
    assert found == [list(map(letters.encode, split_sentences(text))) for text in texts if text.strip()]
    assert (corpus.tokens.dtype, corpus.sentences.dtype, corpus.documents.dtype) == (np.int32, np.int64, np.int64)
    for name in ("tokens", "sentences", "documents"):
        assert getattr(mapped, name).tolist() == getattr(corpus, name).tolist()


def test_sentences_without_a_token_are_left_out(tmp_path):
    (tmp_path / "vocab.txt").write_text("\n".join([*SPECIALS, "a", "##b", "c", "##d", "."]))
    tokenizer, nothing = WordPieceTokenizer(tmp_path / "vocab.txt"), "\u200b"  # a control character
    corpus = tokenize_sentences([f"Ab. Cd. {nothing}", nothing, "", "Cd."], tokenizer)
    assert corpus.tokens.tolist() == tokenizer.encode("Ab. Cd. Cd.")
    assert (corpus.sentences.tolist(), corpus.documents.tolist()) == ([0, 3, 6, 9], [0, 2, 3])


def test_read_corpus(tmp_path, tokenizer):
    (tmp_path / "a.txt").write_text("Mira Voss\nlikes harps\n\nOss\n")
    corpus = read_corpus(tmp_path / "a.txt", tokenizer)
    assert corpus.tokens.tolist() == tokenizer.encode("Mira Voss likes harps") + tokenizer.encode("Oss")
    assert corpus.spans is None
    with pytest.raises(ValueError, match="a file holds tokens and no spans"):
        read_corpus(tmp_path / "a.txt", tokenizer, spans="rule", file=tmp_path / "a.tokens")


def test_marked_spans(tmp_path, tokenizer):
    rows = [
        {"text": "Mira likes Oss", "spans": [[11, 14], [0, 4]]},  # they are counted in the order of the text
        {"text": "Oss", "spans": [[0, 3]]},
        {"text": "Mira", "spans": []},
    ]
    (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
    corpus = read_corpus(tmp_path / "a.jsonl", tokenizer, spans="marked")
    assert corpus.tokens.tolist() == [id for row in rows for id in tokenizer.encode(row["text"])]
    assert corpus.spans.shape == corpus.tokens.shape

    def text_of(number):
        return tokenizer.decode(corpus.tokens[corpus.spans == number])

    assert (text_of(1), text_of(2), text_of(3)) == ("Mira", "Oss", "Oss")
    assert set(corpus.spans.tolist()) == {0, 1, 2, 3}
    assert corpus.spans[-len(tokenizer.encode("Mira")) :].tolist() == [0] * len(tokenizer.encode("Mira"))


def test_a_token_belongs_to_a_span_it_shares_a_character_with(tokenizer):
    text = "Mira likes Oss"
    ids, offsets = tokenizer.encode_with_offsets(text)
    corpus = mark_corpus([MarkedText(text, ((2, 3),))], tokenizer)
    assert corpus.spans.tolist() == [int(start <= 2 < end) for start, end in offsets]
    assert corpus.spans.sum() == 1
    assert mark_corpus([], tokenizer).tokens.shape == (0,)


WORDS = st.lists(st.sampled_from(["Mira", "Oss,", "harps", " tunes", "é", "Voss's"]), min_size=1, max_size=8)


@given(WORDS.map(" ".join), st.data())
def test_exactly_the_tokens_of_marked_characters_are_marked(tokenizer, text, data):
    """Against a judge that goes character by character."""
    ends = data.draw(st.lists(st.integers(0, len(text)), unique=True, max_size=8).map(sorted))
    spans = tuple(zip(ends[::2], ends[1::2]))
    corpus = mark_corpus([MarkedText("Oss", ((0, 3),)), MarkedText(text, spans)], tokenizer)
    first = len(tokenizer.encode("Oss"))
    assert set(corpus.spans[:first].tolist()) <= {0, 1}
    ids, offsets = tokenizer.encode_with_offsets(text)
    assert corpus.tokens[first:].tolist() == ids
    owner = {place: number for number, span in enumerate(spans, 2) for place in range(*span)}
    for id_span, (start, end) in zip(corpus.spans[first:].tolist(), offsets):
        owners = {owner.get(place, 0) for place in range(start, end) if not text[place].isspace()}
        if owners:  # a token in which two spans meet belongs to the later
            assert id_span == max(owners)
    masked = salient_spans_mask(np.random.default_rng(0), number_spans(corpus.spans[None]), 1.0)
    assert masked.tolist() == [(corpus.spans > 0).tolist()]


def test_a_span_that_ends_with_a_space_does_not_hide_the_next_word(tokenizer):
    corpus = mark_corpus([MarkedText("Mira likes Oss", ((0, 5),))], tokenizer)
    assert tokenizer.decode(corpus.tokens[corpus.spans == 1]) == "Mira"


def test_spans_by_rule(tmp_path, tokenizer):
    (tmp_path / "a.txt").write_text("Here Mira Voss\ntunes harps.\n\nNobody likes Oss.\n")
    corpus = read_corpus(tmp_path / "a.txt", tokenizer, spans="rule")
    assert corpus.tokens.tolist() == read_corpus(tmp_path / "a.txt", tokenizer).tokens.tolist()
    named = [tokenizer.decode(corpus.tokens[corpus.spans == number]) for number in (1, 2)]
    assert named == ["Mira Voss", "Oss"] and corpus.spans.max() == 2


@pytest.mark.parametrize("spans", [None, "rule", "marked"])
def test_a_document_with_a_sentinel_in_it_is_named(tmp_path, tokenizer, spans):
    for text, refused in (("Oss <extra_id_999>", False), ("Oss <extra_id_7>", True)):
        rows = [{"text": "Mira", "spans": []}, {"text": text, "spans": []}]
        (tmp_path / "a.jsonl").write_text("\n".join(map(json.dumps, rows)))
        if refused:
            with pytest.raises(UserError, match=r"a\.jsonl, document 2: <extra_id_7> in the text is .*: remove it"):
                read_corpus(tmp_path / "a.jsonl", tokenizer, spans=spans)
        else:
            read_corpus(tmp_path / "a.jsonl", tokenizer, spans=spans)


@pytest.mark.parametrize("at_once", [2**24, 7])
def test_how_much_of_a_corpus_the_vocabulary_does_not_know(at_once, monkeypatch):
    monkeypatch.setattr("tlqa_jax.data.corpus.TOKENS_AT_ONCE", at_once)
    tokens = np.array([5, 2, 7, 2, 9, 2, 2, 8] * 200, np.int32)
    assert token_report(tokens, unk_id=2) == "1,600 tokens, 50.0% of them unknown to the vocabulary"
    assert token_report(tokens, unk_id=3) == "1,600 tokens, none unknown to the vocabulary"


PEAK = """
import resource, sys
from tlqa_jax.data.corpus import read_corpus, read_documents, tokenize_sentences
from tlqa_jax.data.sources import local_path, open_texts
from tlqa_jax.text.sentencepiece import SentencePieceTokenizer
from tlqa_jax.text.wordpiece import WordPieceTokenizer

how, path = sys.argv[1:]
if how == "sentences":
    tokenize_sentences(open_texts(path), WordPieceTokenizer(local_path("tiny_world:wordpiece.txt")))
elif how == "documents":
    read_documents(path, WordPieceTokenizer(local_path("tiny_world:wordpiece.txt")))
else:
    tokenizer = SentencePieceTokenizer(local_path("tiny_world:vocabulary.model"))
    read_corpus(path, tokenizer, spans="rule" if how == "spans" else None)
print([int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")][0] * 1024)
"""


@pytest.mark.slow
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize(("how", "most"), [("corpus", 6), ("documents", 6), ("sentences", 6), ("spans", 8)])
def test_memory_for_one_long_document(tmp_path, how, most):
    """Bytes of memory for each byte more of a file without a blank line: the text, its lines, its tokens twice."""
    peaks, sizes, text = [], [], local_path("tiny_world:pretraining.txt").read_text().replace("\n\n", "\n")
    for times in (8, 32):
        (tmp_path / "a.txt").write_text(text * times)
        command = [sys.executable, "-c", PEAK, how, str(tmp_path / "a.txt")]
        peaks.append(int(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
        sizes.append((tmp_path / "a.txt").stat().st_size)
    more = (peaks[1] - peaks[0]) / (sizes[1] - sizes[0])
    print(f"{how}: {sizes} bytes, {more:.1f} bytes of memory for each")
    assert more < most
