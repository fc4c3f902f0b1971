"""WordPiece, BERT's subwords, from scratch: clean the text, cut it into words, cut each word into known pieces.

    "UNwantéd,running"  ->  unwanted | , | running  ->  un ##want ##ed , runn ##ing

A piece that continues a word begins with "##" in the vocabulary. Cutting is greedy: each piece is the longest in the
vocabulary that fits. A word that cannot be cut in this way, or has over 100 characters, becomes one [UNK]. (Pieces:
Schuster and Nakajima 2012; BERT's rules: Devlin et al. 2019.)

Before that, control characters are removed, white space separates words, and a punctuation mark or Chinese character is
a word. Lower-cased text also loses its accents. All these rules need only one word at a time, so a word is cut once and
kept in a dictionary, where most words of real text are found.

Ids and offsets are equal to those of `BertWordPieceTokenizer` in the `tokenizers` library, with which public BERT
vocabularies are used. (Letters that are newer than this Python's Unicode are not lower-cased.)
"""

import re
import unicodedata
from codecs import BOM_UTF8
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import accumulate
from pathlib import Path
from typing import SupportsIndex

import numpy as np
from jaxtyping import Bool

from tlqa_jax.errors import UserError
from tlqa_jax.text.atomic_write import write_atomically
from tlqa_jax.text.characters import CONTROL, LATER_MARK, MARK, WORD
from tlqa_jax.text.vocabulary_file import read_vocabulary

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
SPECIAL = re.compile(r"\[(?:PAD|UNK|CLS|SEP|MASK)\]")
CONTINUES = "##"
LONGEST_WORD = 100  # in characters; a longer word is [UNK]
MOST_WORDS = 2**17  # in the dictionary, about 50 MB
ALPHABET = 1000  # characters that get a piece in `train`

Word = tuple[tuple[int, ...], tuple[tuple[int, int], ...]]  # ids, and the place of each in the word


class WordPieceTokenizer:
    """A `vocab.txt`: one piece per line; its id is the number of the line, from 0. It may have more special pieces.

    Every line counts, a blank one too; if a piece is there twice, its id is that of the last line, as in Transformers.

    Attributes:
      vocab_size: the number of lines.
      pad_id, unk_id, cls_id, sep_id, mask_id; special_ids: these five. eos_id, which ends a generated text, is sep_id.
      token_types: whether a model reads a 1 for each token of the second segment; if not, all its types are 0.
      continuation: bool [vocab_size], True where a piece continues a word. Whole-word masking needs it.

    Raises UserError if the file is missing, is not UTF-8, or has not all five special pieces.
    """

    def __init__(self, vocab_file: str | Path, *, lowercase: bool = True, token_types: bool = True) -> None:
        self.vocab_file = Path(vocab_file)
        self.lowercase, self.token_types = lowercase, token_types
        self._pieces = _read_pieces(self.vocab_file)
        self._ids = {piece: id for id, piece in enumerate(self._pieces)}
        self.special_ids = tuple(self._ids[piece] for piece in SPECIALS)
        self.pad_id, self.unk_id, self.cls_id, self.sep_id, self.mask_id = self.special_ids
        self.eos_id = self.sep_id
        self.vocab_size = len(self._pieces)
        self.continuation: Bool[np.ndarray, "vocab_size"] = np.array(
            [piece.startswith(CONTINUES) and piece != CONTINUES for piece in self._pieces]
        )
        self._longest = max(map(len, self._pieces))
        self._words: dict[str, Word] = {}

    def __repr__(self) -> str:
        return f"WordPieceTokenizer({str(self.vocab_file)!r}, lowercase={self.lowercase})"

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without [CLS] and [SEP]. A special piece in the text, such as "[MASK]", becomes its id."""
        ids: list[int] = []
        if "[" in text and SPECIAL.search(text):
            return self.encode_with_offsets(text)[0]
        words = self._words
        for word in WORD.findall(text):
            ids += (words.get(word) or self._encode_word(word))[0]
        return ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` for many texts."""
        return [self.encode(text) for text in texts]

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids, and for each the characters [start, end) of `text` that it stands for.

        An accent that was removed from the end of a piece is outside. Several pieces of one character (a Korean
        syllable) each have this character.
        """
        ids: list[int] = []
        offsets: list[tuple[int, int]] = []
        begin = 0
        for special in [*SPECIAL.finditer(text), None]:
            for match in WORD.finditer(text, begin, special.start() if special else len(text)):
                word, at = match[0], match.start()
                found, places = self._words.get(word) or self._encode_word(word)
                ids += found
                offsets += [(at + start, at + end) for start, end in places]
            if special:
                ids.append(self._ids[special[0]])
                offsets.append(special.span())
                begin = special.end()
        return ids, offsets

    def pieces(self, text: str) -> list[str]:
        """The pieces of a text as they are in the vocabulary: ["un", "##want", "##ed"]."""
        return [self._pieces[id] for id in self.encode(text)]

    def piece(self, id: int) -> str:
        """The piece of one id: "the", "##ing", "[MASK]"."""
        if not 0 <= id < self.vocab_size:
            raise ValueError(f"id {id} is not in the vocabulary of {self.vocab_size}")
        return self._pieces[id]

    def decode(self, ids: Iterable[SupportsIndex]) -> str:
        """The words of a sequence of ids with spaces between them, without special pieces.

        The ids do not say what was between the words: "don't." comes back as "don ' t .". For a part of a given text use
        its offsets. An id above the vocabulary, which a model with more embedding rows may produce, is left out.
        """
        text: list[str] = []
        for id in map(int, ids):
            if id < 0:
                raise ValueError(f"id {id} is negative")
            if id in self.special_ids or id >= self.vocab_size:
                continue
            piece = self._pieces[id]
            text += [piece[len(CONTINUES) :]] if text and self.continuation[id] else [" ", piece]
        return "".join(text[1:])

    def save(self, path: str | Path) -> None:
        """Write the `vocab.txt` file."""
        _write_pieces(path, self._pieces)

    @classmethod
    def train(
        cls, texts: Iterable[str], vocab_file: str | Path, vocab_size: int, *, lowercase: bool = True
    ) -> "WordPieceTokenizer":
        """Learn a vocabulary of at most `vocab_size` pieces and write it to `vocab_file`.

        The `tokenizers` library learns it: it merges the most frequent pair of neighbours until the vocabulary is full
        or no pair is left. Only the 1,000 most frequent characters get a piece. The same texts and the same version of
        the library give the same bytes. All text is held in memory.

        Raises UserError if the library is not installed, there is no text, or `vocab_size` is too small for its
        characters.
        """
        try:
            import tokenizers
        except ImportError:
            raise UserError(
                "to learn a WordPiece vocabulary the tokenizers library is needed: pip install 'tlqa-jax[wordpiece]'"
            ) from None
        # half a surrogate pair, which the library refuses, is a control character here and would be removed anyway
        texts = [text.encode("utf-8", "ignore").decode() for text in texts]
        words = Counter(word for text in texts for word in WORD.findall(text))
        counts: Counter[str] = Counter()
        for word, count in words.items():
            counts.update(dict.fromkeys(_normalize(word, lowercase)[0], count))
        if not counts:
            raise UserError(f"there is no text to learn a vocabulary of {vocab_size} pieces from")
        alphabet = sorted(sorted(counts, key=lambda character: (-counts[character], character))[:ALPHABET])
        # The library numbers the pieces "##a", "##b", ... in the random order of a hash table, and uses these numbers
        # to break ties between merges. As special tokens they are numbered in the order given.
        letters = [character for character in alphabet if len(WORD.findall(character * 2)) == 1]  # no punctuation
        first = [*SPECIALS, *alphabet, *(CONTINUES + letter for letter in letters)]
        if vocab_size < len(first):
            raise UserError(
                f"a vocabulary of {vocab_size} pieces is too small for the special pieces and the text's "
                f"{len(alphabet)} different characters: at least {len(first)} are needed"
            )
        learner = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
        learner.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=lowercase)
        learner.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
        trainer = tokenizers.trainers.WordPieceTrainer(
            vocab_size=vocab_size, special_tokens=first, initial_alphabet=alphabet, limit_alphabet=len(alphabet),
            show_progress=False,
        )  # fmt: skip
        learner.train_from_iterator(texts, trainer)
        ids = learner.get_vocab(with_added_tokens=False)
        _write_pieces(vocab_file, sorted(ids, key=ids.__getitem__))
        return cls(vocab_file, lowercase=lowercase)

    def _encode_word(self, word: str) -> Word:
        """The pieces of a word, which are kept in the dictionary."""
        text, sources = _normalize(word, self.lowercase)
        ids: list[int] = []
        places: list[tuple[int, int]] = []
        for part in WORD.finditer(text):  # one, or more where a punctuation mark has lost its accent: "≠" becomes "="
            for id, start, end in self._cut(part[0]):
                ids.append(id)
                places.append((sources[part.start() + start], sources[part.start() + end - 1] + 1))
        known = tuple(ids), tuple(places)
        if len(word) <= LONGEST_WORD:
            if len(self._words) >= MOST_WORDS:
                self._words.clear()
            self._words[word] = known
        return known

    def _cut(self, word: str) -> list[tuple[int, int, int]]:
        """(id, start, end) of each piece of a normalised word: always the longest that fits."""
        if len(word) > LONGEST_WORD:
            return [(self.unk_id, 0, len(word))]
        found: list[tuple[int, int, int]] = []
        start = 0
        while start < len(word):
            prefix = CONTINUES if start else ""
            for end in range(min(len(word), start + self._longest), start, -1):
                if (id := self._ids.get(prefix + word[start:end])) is not None:
                    break
            else:
                return [(self.unk_id, 0, len(word))]
            found.append((id, start, end))
            start = end
        return found


def _normalize(word: str, lowercase: bool) -> tuple[str, Sequence[int]]:
    """The word as it is in the vocabulary, and for each of its characters its place in `word`."""
    if word.isascii() and word.isprintable():
        return word.lower() if lowercase else word, range(len(word))
    kept = [place for place, character in enumerate(word) if not CONTROL.match(character)]
    if not lowercase:
        return "".join(word[place] for place in kept), kept
    # a letter and its accents as separate characters: "é" as "e" and U+0301
    decomposed = lambda letter: letter if LATER_MARK.match(letter) else unicodedata.normalize("NFD", letter)
    parts = [(part, number == 0) for place in kept for number, part in enumerate(decomposed(word[place]))]
    # Unicode's canonical order: marks behind the same letter by their class. Places are assigned afterwards, as in the
    # library: the n-th part that begins a character has the place of the n-th character.
    classes = [0 if LATER_MARK.match(part) else unicodedata.combining(part) for part, _ in parts]
    letters = list(accumulate(rank == 0 for rank in classes))
    parts = [parts[index] for index in sorted(range(len(parts)), key=lambda index: (letters[index], classes[index]))]
    numbers = accumulate(begins for _, begins in parts)
    numbered = zip((part for part, _ in parts), numbers, strict=True)
    bare = [(part.lower(), kept[number - 1]) for part, number in numbered if not MARK.match(part)]
    return "".join(part for part, _ in bare), [place for _, place in bare]


def _write_pieces(path: str | Path, pieces: Iterable[str]) -> None:
    write_atomically(path, "".join(f"{piece}\n" for piece in pieces), make_directory=True)


def _read_pieces(path: Path) -> list[str]:
    lines = read_vocabulary(path).removeprefix(BOM_UTF8).removesuffix(b"\n").split(b"\n")
    pieces: list[str] = []
    for number, line in enumerate(lines, 1):
        try:
            pieces.append(line.decode().removesuffix("\r"))
        except UnicodeDecodeError as error:
            raise UserError(
                f"vocabulary {path} is not UTF-8 (line {number}, byte 0x{line[error.start]:02x}): a BERT vocabulary is "
                "a vocab.txt, one piece per line"
            ) from None
    if missing := [special for special in SPECIALS if special not in pieces]:
        raise UserError(
            f"vocabulary {path} has no {', '.join(missing)}: "
            f"a BERT vocabulary has a line for each of {', '.join(SPECIALS)}"
        )
    return pieces
