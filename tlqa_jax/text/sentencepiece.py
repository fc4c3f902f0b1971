"""SentencePiece subwords with T5's conventions: special ids first, sentinels last.

    ids  0 <pad>   1 </s>   2 <unk>   3 ... pieces ...   vocab_size-1 <extra_id_0>, vocab_size-2 <extra_id_1>, ...

The sentencepiece library does the segmentation (Kudo and Richardson 2018; unigram model: Kudo 2018). This module adds
T5's 100 sentinel ids, which stand for masked spans and count downward from the last id (Raffel et al. 2020, section
3.1.4), and checks that T5 can use a vocabulary.

What is lost: text is normalised before it is cut (Unicode NFKC), and white space becomes one space, or none at the
ends. So newlines, tabs and double spaces do not survive `decode(encode(text))`. The public T5 vocabulary also has no
piece for "{", "}", "~", "<", "\\", "^" or "`": they become <unk>, which decodes to " ⁇ ". Compare answers after
`normalize`.
"""

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import SupportsIndex

import numpy as np
import sentencepiece
from jaxtyping import Int32

from tlqa_jax.errors import UserError
from tlqa_jax.text.atomic_write import write_atomically
from tlqa_jax.text.sentencepiece_model import WITHOUT_PREFIX
from tlqa_jax.text.vocabulary_file import read_vocabulary

SPECIAL_IDS = {"pad": 0, "eos": 1, "unk": 2}
SENTINEL = re.compile(r"<extra_id_(0|[1-9][0-9]{0,5})>")  # not <extra_id_05>
SPACE = "\u2581"  # ▁, how SentencePiece writes a space inside a piece


class SentencePieceTokenizer:
    """A SentencePiece `.model` file (plain or gzipped) and the sentinels above it.

    Attributes:
      vocab_size: pieces and sentinels together. A model may have more embedding rows (T5: 32,128), not fewer.
      pad_id, eos_id, unk_id: 0, 1, 2.
      sentinels: ids of <extra_id_0>, <extra_id_1>, ...; descending. A vocabulary with pieces of these names (mT5) uses
        them, and none are added.
      legacy: whether the text after a sentinel begins with a space even if it has none there, as in all public T5s;
        Transformers' name.

    Raises UserError if the file is missing, is not a SentencePiece model, or has other special ids than T5.
    """

    def __init__(self, model_file: str | Path, *, extra_ids: int = 100, legacy: bool = True) -> None:
        self.model_file = Path(model_file)
        self.legacy = legacy
        self._model = read_vocabulary(self.model_file)
        self._processor = sentencepiece.SentencePieceProcessor()
        try:
            if not self._model:
                raise RuntimeError("empty")
            self._processor.LoadFromSerializedProto(self._model)
        except RuntimeError:
            raise UserError(
                f"{model_file} is not a SentencePiece model (a .model file with pieces and scores)"
            ) from None
        self._behind_sentinel = self._processor
        if not legacy:
            self._behind_sentinel = sentencepiece.SentencePieceProcessor()
            self._behind_sentinel.LoadFromSerializedProto(self._model + WITHOUT_PREFIX)
        found = {name: getattr(self._processor, f"{name}_id")() for name in SPECIAL_IDS}
        if found != SPECIAL_IDS:
            raise UserError(
                f"{model_file}: a T5 vocabulary has {_listed(SPECIAL_IDS)}, this one {_listed(found)} (-1: none); "
                "train it with `tlqa vocab train`, or with --pad_id=0 --eos_id=1 --unk_id=2 --bos_id=-1"
            )
        self.pad_id, self.eos_id, self.unk_id = SPECIAL_IDS.values()

        pieces = self._processor.get_piece_size()
        own = _sentinel_pieces(self._processor)
        self.vocab_size: int = pieces if own else pieces + extra_ids
        self.sentinels: Int32[np.ndarray, "sentinels"] = np.array(
            own or range(pieces + extra_ids - 1, pieces - 1, -1), np.int32
        )
        self._sentinel_numbers = {int(id): number for number, id in enumerate(self.sentinels)}

    def __repr__(self) -> str:
        return f"SentencePieceTokenizer({str(self.model_file)!r}, vocab_size={self.vocab_size})"

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without an end token. "<extra_id_3>" in the text becomes the id of that sentinel.

        The parts between sentinels are cut separately. Each begins with a space, unless `legacy` is false.
        """
        if "<extra_id_" not in text:
            return self._call(self._processor.encode, text, out_type=int)
        return self.encode_with_offsets(text)[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` for many texts, several times faster than one by one."""
        texts = list(texts)
        if any("<extra_id_" in text for text in texts):
            return [self.encode(text) for text in texts]
        return self._call(self._processor.encode, texts, out_type=int) if texts else []

    def encode_with_offsets(self, text: str) -> tuple[list[int], list[tuple[int, int]]]:
        """Ids, and for each the characters [start, end) of `text` that it stands for.

        Spans are in order, do not overlap, and leave out only white space at the ends. A space belongs to the piece
        after it. A piece without a character (the space that is added before the first word) has an empty span.
        """
        ids, _, offsets = self._segment(text)
        return ids, offsets

    def pieces(self, text: str) -> list[str]:
        """The pieces of a text as they are in the vocabulary; instead of an unknown piece its characters."""
        return self._segment(text)[1]

    def piece(self, id: int) -> str:
        """The piece of one id: "▁the", "</s>", "<extra_id_0>"."""
        if not 0 <= id < self.vocab_size:
            raise ValueError(f"id {id} is not in the vocabulary of {self.vocab_size}")
        number = self._sentinel_numbers.get(int(id))
        return self._processor.id_to_piece(int(id)) if number is None else f"<extra_id_{number}>"

    def decode(self, ids: Iterable[SupportsIndex]) -> str:
        """Text of a sequence of ids, without padding and end tokens; sentinels are written as <extra_id_N>.

        An id above the vocabulary, which a model with more embedding rows may produce, decodes as unknown.
        """
        parts: list[str] = []
        run: list[int] = []
        for id in map(int, ids):
            if id < 0:
                raise ValueError(f"id {id} is negative")
            if id in self._sentinel_numbers:
                parts += [self._processor.decode(run), f"<extra_id_{self._sentinel_numbers[id]}>"]
                run = []
            elif id not in (self.pad_id, self.eos_id):
                run.append(id if id < self.vocab_size else self.unk_id)
        parts.append(self._processor.decode(run))
        return " ".join(part for part in parts if part)

    def normalize(self, text: str) -> str:
        """The text as the model sees it, and as `decode(encode(text))` returns it if all characters are known."""
        return self._call(self._processor.normalize, text).replace(SPACE, " ").removeprefix(" ")

    def save(self, path: str | Path) -> None:
        """Write the `.model` file (without the sentinels, as usual)."""
        write_atomically(path, self._model, make_directory=True)

    @classmethod
    def train(
        cls, texts: Iterable[str], model_file: str | Path, vocab_size: int, *, character_coverage: float = 1.0,
        extra_ids: int = 100,
    ) -> "SentencePieceTokenizer":  # fmt: skip
        """Learn a unigram vocabulary of `vocab_size` pieces and the sentinels, and write it to `model_file`.

        The same texts and the same version of the library give the same bytes. All text is held in memory. With a
        `character_coverage` below 1 the rarest characters are left out (0.9995 is usual for web text).

        Raises UserError if the text is too small for `vocab_size` or has more different characters. The message says
        which size is possible.
        """
        model = io.BytesIO()
        # no version of the library accepts half a surrogate pair, and older ones crash on text without characters
        sentences = [text.encode("utf-8", "replace").decode() for text in texts if text.strip()]
        try:
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=iter(sentences),
                model_writer=model,
                model_type="unigram",
                vocab_size=vocab_size,
                character_coverage=character_coverage,
                pad_id=0, eos_id=1, unk_id=2, bos_id=-1,  # T5's order; the library's own is unk, bos, eos
                pad_piece="<pad>", eos_piece="</s>", unk_piece="<unk>",
                max_sentence_length=2**30,  # by default, documents over 4,192 bytes are silently skipped
                num_threads=1,  # with more threads the order of float additions, and so the pieces, differ between runs
                minloglevel=2,
            )  # fmt: skip
        except (RuntimeError, OSError) as error:
            raise UserError(_training_error(str(error), vocab_size)) from None
        write_atomically(model_file, model.getvalue(), make_directory=True)
        return cls(model_file, extra_ids=extra_ids)

    def _segment(self, text: str) -> tuple[list[int], list[str], list[tuple[int, int]]]:
        """(ids, pieces, offsets) of a text that may have sentinels."""
        ids: list[int] = []
        pieces: list[str] = []
        offsets: list[tuple[int, int]] = []
        begin = 0
        for match in [*SENTINEL.finditer(text), None]:
            if match and int(match[1]) >= len(self.sentinels):
                continue  # not a sentinel of this vocabulary: ordinary text
            end = match.start() if match else len(text)
            glued = begin > 0 and not text[begin : begin + 1].isspace()
            processor = self._behind_sentinel if glued else self._processor
            for id, piece, (start, stop) in self._call(_with_offsets, processor, text[begin:end]):
                ids.append(id)
                pieces.append(piece)
                offsets.append((begin + start, begin + stop))
            if match:
                ids.append(int(self.sentinels[int(match[1])]))
                pieces.append(match[0])
                offsets.append(match.span())
                begin = match.end()
        return ids, pieces, offsets

    @staticmethod
    def _call(function, *arguments, **options):
        """Call the library, with a clear error for text that is not Unicode (half a surrogate pair)."""
        try:
            return function(*arguments, **options)
        except (TypeError, RuntimeError):
            texts = arguments[-1]
            for text in texts if isinstance(texts, list) else [texts]:
                try:
                    text.encode()
                except UnicodeEncodeError as error:
                    around = ascii(text[max(0, error.start - 20) : error.end + 20])
                    raise UserError(
                        f"half of a surrogate pair in {around}: not valid Unicode; repair the text it came from"
                    ) from None
            raise


def _with_offsets(
    processor: sentencepiece.SentencePieceProcessor, text: str
) -> Iterator[tuple[int, str, tuple[int, int]]]:
    if hasattr(processor, "EncodeAsOffsetMapping"):  # sentencepiece 0.2.2 and newer
        mapping = processor.EncodeAsOffsetMapping(text)
        return zip(mapping["ids"], mapping["pieces"], mapping["offsets"], strict=True)
    return iter([(p.id, p.piece, (p.begin, p.end)) for p in processor.encode(text, out_type="immutable_proto").pieces])


def _sentinel_pieces(processor: sentencepiece.SentencePieceProcessor) -> list[int]:
    """Ids of the pieces <extra_id_0>, <extra_id_1>, ... that the model itself has."""
    ids: list[int] = []
    while (id := processor.piece_to_id(f"<extra_id_{len(ids)}>")) != processor.unk_id():
        ids.append(id)
    return ids


def _training_error(message: str, vocab_size: int) -> str:
    if match := re.search(r"value <= (\d+)", message):
        return (
            f"the text is too small for a vocabulary of {vocab_size} pieces: use {match[1]} at most, or give more text"
        )
    if match := re.search(r"required_chars\. \d+ vs (\d+)", message):
        return (
            f"a vocabulary of {vocab_size} pieces is too small for the text's {match[1]} different characters: "
            f"at least {int(match[1]) + len(SPECIAL_IDS)} are needed, or a character_coverage below 1"
        )
    if "sentences_.empty()" in message or "all_chars_count" in message:
        return f"there is no text to learn a vocabulary of {vocab_size} pieces from"
    return f"sentencepiece could not learn a vocabulary of {vocab_size} pieces: {message.splitlines()[0]}"


def _listed(ids: dict[str, int]) -> str:
    return ", ".join(f"{name} {id}" for name, id in ids.items())
