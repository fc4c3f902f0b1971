"""WordPiece against the cases of BERT's own tests and, on any text at all, against Hugging Face's tokenizers."""

import random
import subprocess
import sys
import unicodedata

import numpy as np
import pytest
from hypothesis import example, given, settings, strategies as st

from tlqa_jax.errors import UserError
from tlqa_jax.text.wordpiece import WordPieceTokenizer

BERT_PIECES = "[UNK] [CLS] [SEP] want ##want ##ed wa un runn ##ing , : ah 博 推 zz hello ! how are you ?".split()
SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
LETTERS = "abceilnostuzABCEIZé\u00c9ñßσςиאまガ가각ᄀ\u1161\u11a8ก"
MARKS = (
    "\u0301\u0308\u0327\u0323\u0338\u0345\u05b0\u302e\u0f71\u0f72\u093e\U0001d165\U0001d16d\u0344\u0f73\u1734\u0898"
)
OTHERS = "博推豈﨎0179,.!?'$-`~^<=>;«。、→≠≮\u037e\u1fef\u166d\u2e5b#☃😀👩👍🏽\ufe0f"
INVISIBLE = " \t\n\r\x00\x05\x0b\x1c\x7f\x85\xa0\xad\u1680\u180e"
INVISIBLE += "\u2009\u200b\u200d\u2028\u2029\u3000\ufeff\ufffd\ue000\U000e0061"
POOLS = (LETTERS, "abcelnost", MARKS, OTHERS, INVISIBLE, "İıÅΣ\u1e9eﬁǅ\U00011938\U00010400")
ANY_CHARACTER = st.characters(exclude_categories=["Cs"])
WHOLE = [*SPECIALS, "[MASK", "[mask]", "##a", "the", "unless", "a" * 100, "B" * 101, "e\u0301" * 51, "é" * 101]
VOCABULARY = [
    *SPECIALS, "[unused1]", "the", "un", "##less", "ab", "##ab", "##abc", "##st", "a" * 20, "##" + "a" * 40, "ein",
    *dict.fromkeys(LETTERS + MARKS + OTHERS), *dict.fromkeys("##" + letter for letter in LETTERS + MARKS),
]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("vocabulary")
    (folder / "vocab.txt").write_text("\n".join(dict.fromkeys(VOCABULARY)) + "\n", encoding="utf-8")
    (folder / "bert.txt").write_text("\n".join(dict.fromkeys([*BERT_PIECES, *SPECIALS])), encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def compared(folder):
    """A function that encodes a text with both, cased and uncased, and asserts that all is equal."""
    tokenizers = pytest.importorskip("tokenizers")
    pairs = [
        (
            WordPieceTokenizer(folder / "vocab.txt", lowercase=lowercase),
            tokenizers.BertWordPieceTokenizer(str(folder / "vocab.txt"), lowercase=lowercase),
        )
        for lowercase in (True, False)
    ]
    lower = tokenizers.normalizers.Lowercase().normalize_str

    def compare(text: str) -> None:
        # letters that only the library's newer Unicode knows how to lower are left out
        text = "".join(c for c in text if unicodedata.category(c) != "Cn" or lower(c) == c)
        for tokenizer, library in pairs:
            expected = library.encode(text, add_special_tokens=False)
            assert tokenizer.encode_with_offsets(text) == (expected.ids, expected.offsets), ascii(text)
            assert tokenizer.encode(text) == expected.ids
            assert tokenizer.pieces(text) == expected.tokens

    return compare


@pytest.fixture(scope="module")
def tokenizer(folder) -> WordPieceTokenizer:
    return WordPieceTokenizer(folder / "bert.txt")


@pytest.mark.parametrize(
    ("text", "pieces"),
    [
        ("UNwant\u00e9d,running", "un ##want ##ed , runn ##ing"),
        ("unwantedX running", "[UNK] runn ##ing"),
        ("", ""),
        ("ah\u535a\u63a8zz", "ah 博 推 zz"),
        (" \tHeLLo!how  \n Are yoU?  ", "hello ! how are you ?"),
        ("hello\u00a0how", "hello how"),
        ("he\u0005llo", "hello"),
        ("how\rare\tyou", "how are you"),
        ("he\ud83dllo \ud83d", "hello"),  # half a surrogate pair, which the library refuses
        ("[CLS] hello [SEP]", "[CLS] hello [SEP]"),
        ("- $ ` .", "[UNK] [UNK] [UNK] [UNK]"),
        ("how-are", "how [UNK] are"),
    ],
)
def test_berts_own_cases(tokenizer, text, pieces):
    assert tokenizer.pieces(text) == pieces.split()
    assert tokenizer.encode_batch(["how", text]) == [tokenizer.encode("how"), tokenizer.encode(text)]


def test_offsets_by_hand(tokenizer):
    text = "UNwante\u0301d,\u0005 [MASK]running"
    ids, offsets = tokenizer.encode_with_offsets(text)
    assert [text[start:end] for start, end in offsets] == ["UN", "want", "e\u0301d", ",", "[MASK]", "runn", "ing"]
    assert ids == tokenizer.encode(text)
    assert ids[4] == tokenizer.mask_id


def test_cased(folder):
    cased = WordPieceTokenizer(folder / "bert.txt", lowercase=False)
    assert cased.pieces("hello Hello want\u00e9d") == ["hello", "[UNK]", "[UNK]"]


def test_a_word_of_over_100_characters_is_unknown(folder):
    tokenizer = WordPieceTokenizer(folder / "vocab.txt")
    assert tokenizer.pieces("a" * 100) == ["a" * 20, "##" + "a" * 40, "##" + "a" * 40]
    assert tokenizer.encode_with_offsets(" " + "a" * 101) == ([tokenizer.unk_id], [(1, 102)])
    assert len(tokenizer.encode("e\u0301" * 100)) == 100, "an accent that was dropped does not count"


@settings(max_examples=max(300, settings.default.max_examples))  # more of them in a search
@given(st.lists(st.one_of(*map(st.sampled_from, [*POOLS, WHOLE]), ANY_CHARACTER), max_size=30).map("".join))
@example("a\u0898\u0338b a\u0301\u302e b\x01\u0301 \u0301\u0323a ≠ \u0344\u0327")
def test_any_text_as_in_tokenizers(compared, text):
    compared(text)


@pytest.mark.slow
def test_ten_thousand_texts_as_in_tokenizers(compared):
    random.seed(0)
    for _ in range(10_000):
        share = random.random() ** 2  # of characters from all of Unicode
        text = ""
        for _ in range(random.randrange(60)):
            if random.random() < share:
                code = random.randrange(0x110000 if random.random() < 0.3 else 0x3000)
                text += chr(code) if not 0xD800 <= code < 0xE000 else ""
            else:
                text += random.choice(random.choice([*POOLS, WHOLE]))
        compared(text)


@pytest.mark.parametrize("codes", [range(0x3000), pytest.param(range(0x3000, 0x20000), marks=pytest.mark.slow)])
def test_each_character_as_in_tokenizers(compared, codes):
    """Between letters: is it dropped, a space, a mark, a word of its own?"""
    for start in codes[::0x100]:
        letters = [chr(code) for code in range(start, start + 0x100) if not 0xD800 <= code < 0xE000]
        compared(" ".join(f"e{letter}n" for letter in letters))


def test_special_ids_and_continuations(folder, tokenizer):
    assert tokenizer.vocab_size == len(BERT_PIECES) + 2
    assert (tokenizer.unk_id, tokenizer.cls_id, tokenizer.sep_id) == (0, 1, 2)
    assert tokenizer.special_ids == (22, 0, 1, 2, 23)
    assert (tokenizer.pad_id, tokenizer.mask_id) == (22, 23)
    continuing = np.flatnonzero(tokenizer.continuation).tolist()
    assert [tokenizer.piece(id) for id in continuing] == ["##want", "##ed", "##ing"]
    assert tokenizer.continuation.shape == (24,)
    with pytest.raises(ValueError, match="id 24 is not in the vocabulary of 24"):
        tokenizer.piece(24)


def test_decode(tokenizer):
    ids = tokenizer.encode("UNwanted, running ah博")
    padded = np.array([tokenizer.cls_id, *ids, tokenizer.sep_id, tokenizer.pad_id, 99])
    assert tokenizer.decode(padded) == "unwanted , running ah 博"
    assert tokenizer.decode([]) == ""
    assert tokenizer.decode(tokenizer.encode("how running")[-1:]) == "##ing", "nothing to continue"
    with pytest.raises(ValueError, match="negative"):
        tokenizer.decode([-1])


@given(st.lists(st.sampled_from("unwanted running hello how are you ? ! 博".split()), max_size=8).map(" ".join))
def test_known_words_survive(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_remembered_words_are_bounded(folder, monkeypatch):
    monkeypatch.setattr("tlqa_jax.text.wordpiece.MOST_WORDS", 5)
    forgetful, tokenizer = WordPieceTokenizer(folder / "vocab.txt"), WordPieceTokenizer(folder / "vocab.txt")
    words = [f"a{number}" for number in range(23)] + ["b" * 300]
    assert [forgetful.encode(word) for word in words * 2] == tokenizer.encode_batch(words * 2)
    assert len(forgetful._words) <= 5


# Files


def test_save_and_read_again(folder, tokenizer, tmp_path):
    tokenizer.save(tmp_path / "new" / "vocab.txt")
    assert (tmp_path / "new" / "vocab.txt").read_text(encoding="utf-8").split("\n")[:-1] == list(
        dict.fromkeys([*BERT_PIECES, *SPECIALS])
    )
    assert WordPieceTokenizer(tmp_path / "new" / "vocab.txt").encode("running") == tokenizer.encode("running")


def test_a_file_with_windows_line_ends_and_odd_pieces(tmp_path):
    # \u2028 and \x85 are line ends for str.splitlines, and pieces here
    (tmp_path / "vocab.txt").write_bytes("\r\n".join([*SPECIALS, "\u2028", "\x85", "", "[unused9]", "un"]).encode())
    tokenizer = WordPieceTokenizer(tmp_path / "vocab.txt")
    assert (tokenizer.vocab_size, tokenizer.encode("un")) == (10, [9])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[PAD]\n[UNK]\n[CLS]\nun\n", r"has no \[SEP\], \[MASK\]: a BERT vocabulary has a line for each of \[PAD\], "),
        ("\n".join(SPECIALS).encode("utf-16"), r"is not UTF-8 \(line 1, byte 0xff\)"),
        ("\n".join([*SPECIALS, "Zo"]).encode() + b"\xeb\nun", r"is not UTF-8 \(line 6, byte 0xeb\)"),
        ("", r"has no \[PAD\], \[UNK\], \[CLS\], \[SEP\], \[MASK\]"),
    ],
)
def test_files_that_are_no_bert_vocabulary(tmp_path, content, message):
    (tmp_path / "vocab.txt").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(UserError, match=message) as error:
        WordPieceTokenizer(tmp_path / "vocab.txt")
    assert "vocab.txt" in str(error.value) and "\n" not in str(error.value)


def test_a_file_that_is_missing(tokenizer):
    with pytest.raises(UserError, match=r"bret\.txt does not exist; near it: bert\.txt"):
        WordPieceTokenizer(tokenizer.vocab_file.with_name("bret.txt"))


# Training

TEXTS = ["The miller of the old mill sold flour.", "Zoë, a baker, baked bread in 1927!", "博 sold \ud83d"] * 3
TRAIN = """
import sys
from tlqa_jax.text.wordpiece import WordPieceTokenizer
words = ["".join(chr(97 + (i * i + j * 7) % 26) for j in range(2 + i % 9)) for i in range(300)]
WordPieceTokenizer.train(words, sys.argv[1], 150)
"""


def test_training_is_deterministic(tmp_path):
    pytest.importorskip("tokenizers")
    for name in ("one.txt", "two.txt", "three.txt"):
        # each in a process of its own: within one, the library's hash tables have the same order
        subprocess.run([sys.executable, "-c", TRAIN, str(tmp_path / name)], check=True)
    contents = {(tmp_path / name).read_bytes() for name in ("one.txt", "two.txt", "three.txt")}
    assert len(contents) == 1
    assert contents.pop().count(b"\n") == 150


def test_training(tmp_path):
    pytest.importorskip("tokenizers")
    uncased = WordPieceTokenizer.train(iter(TEXTS), tmp_path / "new" / "vocab.txt", 120)
    assert uncased.special_ids == (0, 1, 2, 3, 4)
    assert uncased.pieces("The miller sold 博") == ["the", "miller", "sold", "博"]
    assert uncased.decode(uncased.encode("zoe baked bread")) == "zoe baked bread"
    cased = WordPieceTokenizer.train(TEXTS, tmp_path / "cased.txt", 120, lowercase=False)
    assert cased.decode(cased.encode("Zoë")) == "Zoë"
    assert cased.vocab_size <= 120
    with pytest.raises(UserError, match=r"of 20 pieces is too small for .* at least (\d+) are needed") as error:
        WordPieceTokenizer.train(TEXTS, tmp_path / "small.txt", 20)
    advised = int(str(error.value).split("at least ")[1].split()[0])
    assert WordPieceTokenizer.train(TEXTS, tmp_path / "small.txt", advised).vocab_size == advised
    with pytest.raises(UserError, match="there is no text to learn a vocabulary of 20 pieces from"):
        WordPieceTokenizer.train(["", " \x00 "], tmp_path / "none.txt", 20)


def test_training_without_the_library(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(UserError, match=r"pip install 'tlqa-jax\[wordpiece\]'"):
        WordPieceTokenizer.train(TEXTS, tmp_path / "vocab.txt", 120)
