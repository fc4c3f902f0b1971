"""Vocabularies in Hugging Face's directories: a BERT's vocab.txt, a T5's spiece.model, or either in tokenizer.json.

Transformers 4 writes vocab.txt or spiece.model, and tokenizer.json; Transformers 5 writes tokenizer.json alone. All of
these are read here. What is written here is read by both versions.
"""

import base64
import contextlib
import json
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from tlqa_jax.checkpoints.directories import read_json, write_json
from tlqa_jax.checkpoints.family import is_of_type
from tlqa_jax.errors import UserError
from tlqa_jax.models.bert import BertConfig
from tlqa_jax.models.t5 import T5Config
from tlqa_jax.text.sentencepiece import SPECIAL_IDS, SentencePieceTokenizer
from tlqa_jax.text.sentencepiece_model import CONTROL, UNKNOWN, sentencepiece_model
from tlqa_jax.text.wordpiece import WordPieceTokenizer

WORDPIECE, SENTENCEPIECE, TOKENIZER = "vocab.txt", "spiece.model", "tokenizer.json"
SETTINGS, SPECIAL_TOKENS, ADDED_TOKENS = "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json"
TOKENIZER_FILES = (WORDPIECE, SENTENCEPIECE, TOKENIZER, SETTINGS, SPECIAL_TOKENS, ADDED_TOKENS)
WORDPIECE_SPECIALS = {f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")}
SENTENCEPIECE_SPECIALS = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
WORDPIECE_RULES = {  # no others are known here
    "do_basic_tokenize": True, "word_tokenizer_type": "basic", "subword_tokenizer_type": "wordpiece"
}  # fmt: skip
Tokenizer = WordPieceTokenizer | SentencePieceTokenizer


def read_tokenizer(directory: Path, kind: type[Tokenizer]) -> Tokenizer:
    """The vocabulary of a directory. `kind`: SentencePieceTokenizer for a T5, WordPieceTokenizer for a BERT.

    `tokenizer_config.json` says how many sentinels there are ("extra_ids"), and whether text is lower-cased.

    Raises UserError if there is no vocabulary, or if its rules are not those of our tokenizers.
    """
    read = lambda file: read_json(directory / file) if (directory / file).exists() else {}
    whole, settings = read(TOKENIZER), read(SETTINGS)
    if kind is WordPieceTokenizer:
        tokenizer: Tokenizer = _wordpiece(whole, settings, directory)
    elif (directory / SENTENCEPIECE).exists():
        tokenizer = SentencePieceTokenizer(directory / SENTENCEPIECE, extra_ids=_extra_ids(settings, directory))
    elif (whole.get("model") or {}).get("type") == "Unigram":
        tokenizer = _sentencepiece(whole, settings, directory / TOKENIZER)
    else:
        raise UserError(f"{directory} has no vocabulary of a T5: copy its {SENTENCEPIECE} or {TOKENIZER} there")
    # added tokens may stand in each of three files, in three formats
    added = [*read(ADDED_TOKENS).items()] + [(it["content"], it["id"]) for it in whole.get("added_tokens") or []]
    added += [(it["content"], int(id)) for id, it in (settings.get("added_tokens_decoder") or {}).items()]
    _check_added(tokenizer, added, directory)
    return tokenizer


def check_tokenizer(tokenizer: Tokenizer, config: BertConfig | T5Config, where: Path | str) -> None:
    """Raise UserError if the model has too few embeddings for the ids, or a T5 has other special ids than T5's own."""
    if tokenizer.vocab_size > config.vocab_size:
        sizes = f"the vocabulary has {tokenizer.vocab_size} pieces, the model only {config.vocab_size}"
        raise UserError(f"{where}: {sizes}")
    if isinstance(config, T5Config):
        for name, id in (("decoder_start_token_id", 0), ("eos_token_id", 1), ("pad_token_id", 0)):
            if getattr(config, name) != id:
                raise UserError(f"{where}: {name} is {getattr(config, name)}; only {id} is known here")


def write_tokenizer(tokenizer: Tokenizer, directory: Path, longest: int | None) -> None:
    """Write the files from which Transformers makes the same tokenizer. Of several processes the first one writes.

    `longest`: the longest input in tokens, if there is a limit.
    """
    if jax.process_index() != 0:
        return
    if isinstance(tokenizer, WordPieceTokenizer):
        tokenizer.save(directory / WORDPIECE)
        settings: dict[str, Any] = {"tokenizer_class": "BertTokenizer", "do_lower_case": tokenizer.lowercase}
        specials: dict[str, Any] = WORDPIECE_SPECIALS
    else:
        tokenizer.save(directory / SENTENCEPIECE)
        sentinels = [tokenizer.piece(int(id)) for id in tokenizer.sentinels]
        settings = {"tokenizer_class": "T5Tokenizer", "extra_ids": len(sentinels)}
        specials = SENTENCEPIECE_SPECIALS | {"additional_special_tokens": sentinels}
    if longest is not None:
        settings["model_max_length"] = longest
    write_json(directory / SETTINGS, settings | specials)
    write_json(directory / SPECIAL_TOKENS, specials)


def _wordpiece(whole: dict[str, Any], given: dict[str, Any], directory: Path) -> WordPieceTokenizer:
    normalizer = whole.get("normalizer") or {}
    settings = {
        "do_lower_case": normalizer.get("lowercase", True), "strip_accents": normalizer.get("strip_accents"),
        "tokenize_chinese_chars": normalizer.get("handle_chinese_chars", True), **given,
    }  # fmt: skip
    lowercase = bool(settings["do_lower_case"])
    if settings["strip_accents"] not in (None, lowercase) or not settings["tokenize_chinese_chars"]:
        raise UserError(
            f"{directory}: strip_accents is {settings['strip_accents']}, "
            f"tokenize_chinese_chars {settings['tokenize_chinese_chars']}; "
            "only known here: accents are stripped if and only if text is lower-cased, and Chinese characters are split"
        )
    for name, known in WORDPIECE_RULES.items():
        if settings.get(name, known) != known:
            value, known = json.dumps(settings[name]), json.dumps(known)
            raise UserError(f"{directory}: {name} is {value}; only {known} is known here")
    if (directory / WORDPIECE).exists() or not whole:
        return WordPieceTokenizer(directory / WORDPIECE, lowercase=lowercase)
    model = whole.get("model") or {}
    if model.get("type") != "WordPiece":
        raise UserError(
            f'{directory / TOKENIZER}: the vocabulary is of type "{model.get("type")}", not WordPiece or Unigram'
        )
    ids = model.get("vocab")  # newer versions of Transformers write no vocab.txt
    if not isinstance(ids, dict) or sorted(ids.values(), key=str) != sorted(range(len(ids)), key=str):
        raise UserError(f"{directory / TOKENIZER}: its vocabulary is not an object of pieces numbered without gaps")
    lines = "".join(f"{piece}\n" for piece in sorted(ids, key=ids.__getitem__))
    with _as_file(lines.encode(), directory / TOKENIZER) as file:
        return WordPieceTokenizer(file, lowercase=lowercase)


def _sentencepiece(whole: dict[str, Any], settings: dict[str, Any], where: Path) -> SentencePieceTokenizer:
    """From a tokenizer.json. It has the sentinels as pieces; `SentencePieceTokenizer` adds them itself."""
    try:
        pieces = [(str(piece), float(score)) for piece, score in whole["model"]["vocab"]]
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{where}: its vocabulary is not a list of pieces with a score each") from None
    sentinels = [piece for piece, _ in pieces if re.fullmatch(r"<extra_id_\d+>", piece)]
    expected = [f"<extra_id_{i}>" for i in reversed(range(len(sentinels)))]
    if [piece for piece, _ in pieces[len(pieces) - len(sentinels) :]] != expected:
        raise UserError(f"{where}: the sentinels are not the last pieces, counted down to <extra_id_0>, as T5 has them")
    normalizer = whole.get("normalizer") or {}
    tables = [part for part in normalizer.get("normalizers", [normalizer]) if part.get("type") == "Precompiled"]
    charsmap = base64.b64decode(tables[0]["precompiled_charsmap"]) if tables else b""
    kinds = {SPECIAL_IDS["pad"]: CONTROL, SPECIAL_IDS["eos"]: CONTROL, SPECIAL_IDS["unk"]: UNKNOWN}
    content = sentencepiece_model(pieces[: len(pieces) - len(sentinels)], charsmap, kinds)
    with _as_file(content, where) as file:
        return SentencePieceTokenizer(file, extra_ids=len(sentinels) or _extra_ids(settings, where.parent))


@contextlib.contextmanager
def _as_file(content: bytes, where: Path) -> Iterator[Path]:
    """A temporary file with a vocabulary. Errors name `where` it was taken from instead."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "vocabulary"
        file.write_bytes(content)
        try:
            yield file
        except UserError as error:
            raise UserError(str(error).replace(str(file), str(where))) from None


def _check_added(tokenizer: Tokenizer, added: list[tuple[str, int]], directory: Path) -> None:
    """Raise UserError for tokens that were added to a vocabulary, unless ours encodes them to the same ids."""
    specials = {piece: id for id, piece in enumerate(SENTENCEPIECE_SPECIALS.values())}  # not encoded from text
    known = specials if isinstance(tokenizer, SentencePieceTokenizer) else {}
    other = {token: id for token, id in added if known.get(token) != id and tokenizer.encode(token) != [id]}
    if other:
        named = ", ".join(f"{token!r} ({id})" for token, id in [*other.items()][:4]) + (" …" if len(other) > 4 else "")
        raise UserError(f"{directory}: tokens were added to its vocabulary, which is not known here: {named}")


def _extra_ids(settings: dict[str, Any], directory: Path) -> int:
    """The number of sentinels, 100 by default."""
    extra_ids = settings.get("extra_ids", 100)
    if not is_of_type(extra_ids, int) or extra_ids < 0:
        raise UserError(f"{directory / SETTINGS}: extra_ids is {extra_ids!r}, not a whole number of at least 0")
    return extra_ids
