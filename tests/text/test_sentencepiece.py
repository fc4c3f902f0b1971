"""The SentencePiece tokenizer against the library itself, and T5's conventions around it."""

import gzip
import os
import re

import numpy as np
import pytest
import sentencepiece
from hypothesis import example, given, settings, strategies as st

from tlqa_jax.errors import UserError
from tlqa_jax.text.sentencepiece import SentencePieceTokenizer

TEXTS = [
    "the miller of the old mill sold flour to the baker",
    "a baker and her sister baked bread, and sold it near the harbour",
    "in 1927 the harbour was sold; in 1934 it was bought again!",
    "Zoë said: what a quick brown fox that was, jumping over 56 lazy dogs?",
] * 3
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)
KNOWN_TEXT = st.text(st.sampled_from(sorted(set("".join(TEXTS)) | {" ", "\n", "\t"})), max_size=60)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> SentencePieceTokenizer:
    return SentencePieceTokenizer.train(TEXTS, tmp_path_factory.mktemp("vocabulary") / "small.model", 70, extra_ids=5)


@pytest.fixture(scope="module")
def library(tokenizer) -> sentencepiece.SentencePieceProcessor:
    return sentencepiece.SentencePieceProcessor(model_file=str(tokenizer.model_file))


def test_special_ids_and_sentinels(tokenizer):
    assert (tokenizer.pad_id, tokenizer.eos_id, tokenizer.unk_id) == (0, 1, 2)
    assert tokenizer.vocab_size == 75
    assert tokenizer.sentinels.tolist() == [74, 73, 72, 71, 70]
    assert tokenizer.sentinels.dtype == np.int32
    assert [tokenizer.piece(id) for id in (0, 1, 2, 74, 70)] == [
        "<pad>",
        "</s>",
        "<unk>",
        "<extra_id_0>",
        "<extra_id_4>",
    ]
    with pytest.raises(ValueError, match="id 75 is not in the vocabulary of 75"):
        tokenizer.piece(75)


def test_sentinels_in_text(tokenizer):
    the, mill = tokenizer.encode("the"), tokenizer.encode("mill")
    assert tokenizer.encode("the <extra_id_0> mill<extra_id_4>") == [*the, 74, *mill, 70]
    assert tokenizer.decode([*the, 74, *mill, 70]) == "the <extra_id_0> mill <extra_id_4>"
    assert tokenizer.encode_batch(["the", "<extra_id_1>"]) == [the, [73]]
    # there is no sixth sentinel: ordinary text, not an id that does not exist
    assert max(tokenizer.encode("<extra_id_5>")) < 70


@given(st.lists(st.integers(0, 4) | st.sampled_from(["the", "old mill", "1927"]), max_size=8))
def test_sentinels_round_trip(tokenizer, parts):
    text = " ".join(f"<extra_id_{part}>" if isinstance(part, int) else part for part in parts)
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_decode_drops_padding_and_end_and_takes_arrays(tokenizer):
    ids = tokenizer.encode("the old mill")
    assert tokenizer.decode(np.array([*ids, 1, 0, 0])) == "the old mill"
    assert tokenizer.decode([]) == ""
    assert tokenizer.decode([*ids, 99]) == "the old mill \u2047 "  # a row of the embedding that no piece has
    with pytest.raises(ValueError, match="negative"):
        tokenizer.decode([-1])


@given(ANY_TEXT)
@example("a  b\nc \u2460  \u2581d")
def test_decoding_gives_what_the_library_makes_of_the_text(tokenizer, library, text):
    ids = tokenizer.encode(text)
    assert all(0 <= id < 70 for id in ids)
    assert tokenizer.decode(ids) == library.decode(library.encode(text))
    assert tokenizer.encode_batch([text, "the"]) == [ids, tokenizer.encode("the")]


@given(KNOWN_TEXT)
@example("  two  spaces\nand a newline ")
def test_known_characters_survive_normalised(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == tokenizer.normalize(text) == " ".join(text.split())


@settings(max_examples=200)
@given(
    st.lists(ANY_TEXT | st.sampled_from(["<extra_id_0>", "<extra_id_4>", "<extra_id_9>", "  "]), max_size=5).map(
        "".join
    )
)
def test_offsets_cover_the_text(tokenizer, text):
    ids, offsets = tokenizer.encode_with_offsets(text)
    assert ids == tokenizer.encode(text)
    assert len(offsets) == len(ids) == len(tokenizer.pieces(text))
    covered = 0
    for start, end in offsets:
        assert covered <= start <= end <= len(text)
        assert not tokenizer.normalize(text[covered:start]), "only white space may be left out"
        covered = end
    assert not tokenizer.normalize(text[covered:])


def test_offsets_by_hand(tokenizer):
    text = "the mill\u2014<extra_id_1> 1927"
    offsets = dict(zip(tokenizer.pieces(text), tokenizer.encode_with_offsets(text)[1], strict=True))
    assert offsets["<extra_id_1>"] == (9, 21)
    assert offsets["\u2014"] == (8, 9)
    assert max(offsets.values())[1] == len(text)


def test_training_is_deterministic(tmp_path):
    first = SentencePieceTokenizer.train(TEXTS, tmp_path / "a" / "one.model", 70)
    SentencePieceTokenizer.train(iter(TEXTS), tmp_path / "two.model", 70)
    assert (tmp_path / "a" / "one.model").read_bytes() == (tmp_path / "two.model").read_bytes()
    first.save(tmp_path / "b" / "copy.model")
    assert (tmp_path / "b" / "copy.model").read_bytes() == (tmp_path / "two.model").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b", "two.model"], "no temporary file stays behind"


def test_long_documents_are_learned_from(tmp_path):
    # the library's default would skip a document of more than 4,192 bytes
    long = SentencePieceTokenizer.train([" ".join(["quartz"] * 2000), *TEXTS], tmp_path / "long.model", 70)
    assert long.pieces("quartz") == ["\u2581quartz"]


def test_gzipped_model(tokenizer, tmp_path):
    (tmp_path / "small.model.gz").write_bytes(gzip.compress(tokenizer.model_file.read_bytes()))
    gzipped = SentencePieceTokenizer(tmp_path / "small.model.gz", extra_ids=5)
    assert gzipped.encode(TEXTS[0]) == tokenizer.encode(TEXTS[0])


def test_a_model_with_sentinels_of_its_own(tmp_path):
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS), model_prefix=str(tmp_path / "own"), vocab_size=70,
        pad_id=0, eos_id=1, unk_id=2, bos_id=-1,
        user_defined_symbols=["<extra_id_1>", "<extra_id_0>"], minloglevel=2,
    )  # fmt: skip
    own = SentencePieceTokenizer(tmp_path / "own.model")
    assert own.vocab_size == 70
    assert own.sentinels.tolist() == [4, 3]
    assert own.decode(own.encode("the <extra_id_0> mill")) == "the <extra_id_0> mill"


@pytest.mark.parametrize(
    ("texts", "size", "message"),
    [
        (TEXTS, 5000, r"the text is too small for a vocabulary of 5000 pieces: use (\d+) at most"),
        (
            TEXTS,
            10,
            r"of 10 pieces is too small for the text's \d+ different characters: at least (\d+) are needed",
        ),
        ([], 10, "there is no text to learn a vocabulary of 10 pieces from"),
        (["", "  "], 10, "there is no text to learn a vocabulary of 10 pieces from"),
    ],
)
def test_training_errors_name_a_size_that_works(tmp_path, texts, size, message):
    with pytest.raises(UserError, match=message) as error:
        SentencePieceTokenizer.train(texts, tmp_path / "never.model", size)
    assert "\n" not in str(error.value)
    assert not list(tmp_path.iterdir())
    if "(" in message:
        advised = int(re.search(message, str(error.value))[1])
        assert SentencePieceTokenizer.train(texts, tmp_path / "now.model", advised, extra_ids=0).vocab_size == advised


def test_an_error_in_the_texts_is_passed_on(tmp_path):
    def texts():
        yield "the mill"
        raise UserError("corpus.txt: not UTF-8")

    with pytest.raises(UserError, match="^corpus.txt: not UTF-8$"):
        SentencePieceTokenizer.train(texts(), tmp_path / "never.model", 70)


def test_files_that_are_no_t5_vocabulary(tokenizer, tmp_path):
    with pytest.raises(UserError, match=r"smal\.model does not exist; near it: small\.model"):
        SentencePieceTokenizer(tokenizer.model_file.with_name("smal.model"))
    with pytest.raises(UserError, match="cannot be read: Is a directory"):
        SentencePieceTokenizer(tmp_path)
    for name, content in {
        "words.model": b"the mill",
        "empty.model": b"",
        "cut.model": tokenizer.model_file.read_bytes()[:500],
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=f"{name} is not a SentencePiece model"):
            SentencePieceTokenizer(tmp_path / name)
    (tmp_path / "cut.model.gz").write_bytes(gzip.compress(b"the mill" * 99)[:-9])
    with pytest.raises(UserError, match="damaged gzip"):
        SentencePieceTokenizer(tmp_path / "cut.model.gz")
    whole = gzip.compress(bytes(range(256)) * 9)
    for place in range(10, len(whole)):  # behind the header, byte by byte
        (tmp_path / "flipped.model.gz").write_bytes(whole[:place] + bytes([whole[place] ^ 255]) + whole[place + 1 :])
        with pytest.raises(UserError, match="damaged gzip|not a SentencePiece model"):
            SentencePieceTokenizer(tmp_path / "flipped.model.gz")
    # the library's own defaults: unk 0, bos 1, eos 2, no pad
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS), model_prefix=str(tmp_path / "default"), vocab_size=70, minloglevel=2
    )
    with pytest.raises(UserError, match=r"has pad 0, eos 1, unk 2, this one pad -1, eos 2, unk 0"):
        SentencePieceTokenizer(tmp_path / "default.model")


def test_half_a_surrogate_pair(tokenizer):
    for encode in (
        tokenizer.encode,
        lambda text: tokenizer.encode_batch(["fine", text]),
        tokenizer.encode_with_offsets,
    ):
        with pytest.raises(UserError, match=r"half of a surrogate pair in 'the \\ud83d mill'"):
            encode("the \ud83d mill")


@pytest.mark.skipif("T5_VOCABULARY" not in os.environ, reason="T5_VOCABULARY names no .model or .model.gz of T5")
def test_the_public_t5_vocabulary():
    t5 = SentencePieceTokenizer(os.environ["T5_VOCABULARY"])
    ids = [12847, 277, 15068, 4501, 3, 12297, 3399, 16, 5964, 7115, 9, 55]
    assert t5.encode("Beginners BBQ Class Taking Place in Missoula!") == ids
    assert t5.decode(ids) == "Beginners BBQ Class Taking Place in Missoula!"
    assert (t5.vocab_size, t5.sentinels[0], t5.sentinels[99]) == (32100, 32099, 32000)
    assert t5.decode(t5.encode("a  {b}\nc")) == "a  \u2047 b \u2047  c"
