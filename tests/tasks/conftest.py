"""Small real vocabularies whose ids can be counted by hand."""

import pytest

from tlqa_jax.text.sentencepiece import SentencePieceTokenizer
from tlqa_jax.text.sentencepiece_model import CONTROL, UNKNOWN, sentencepiece_model
from tlqa_jax.text.wordpiece import WordPieceTokenizer

WORDS = ["question:", "context:", *"abcdef", "who", *(f"w{i}" for i in range(60))]  # ids 3, 4, 5 (a), 6, 7, ...
PIECES = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]", *(f"[unused{i}]" for i in range(5)), *map(chr, range(97, 123))]
PIECES += [*".!", *(f"##{letter}" for letter in PIECES[10:]), "ab", "abc", "##bc", "mir", "was"]  # ids 10 (a), 11, ...


@pytest.fixture(scope="session")
def words(tmp_path_factory) -> SentencePieceTokenizer:
    """Each of `WORDS` is one piece. 0 is padding, 1 the end token."""
    pieces = [(piece, 0.0) for piece in ("<pad>", "</s>", "<unk>", *(f"\u2581{word}" for word in WORDS))]
    path = tmp_path_factory.mktemp("vocabulary") / "words.model"
    path.write_bytes(sentencepiece_model(pieces, b"", {0: CONTROL, 1: CONTROL, 2: UNKNOWN}))
    return SentencePieceTokenizer(path)


@pytest.fixture(scope="session")
def letters(tmp_path_factory) -> WordPieceTokenizer:
    """Each letter is a piece, and so are some groups of letters. 0 is padding, 1 [CLS], 2 [SEP]."""
    path = tmp_path_factory.mktemp("vocabulary") / "letters.txt"
    path.write_text("".join(f"{piece}\n" for piece in PIECES))
    return WordPieceTokenizer(path)
