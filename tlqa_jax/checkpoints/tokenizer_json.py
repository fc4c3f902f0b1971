"""Hugging Face's tokenizer.json: a vocabulary with its rules. Other rules than those of our tokenizers are refused.

normalizer      how a text is changed first         BERT: BertNormalizer    T5: SentencePiece's table, white space
pre_tokenizer   how it is cut into words            BERT: BertPreTokenizer  T5: Metaspace, "▁" for a space
model           the pieces, and how words are cut   BERT: WordPiece         T5: Unigram
post_processor  what stands around a text           BERT: [CLS] and [SEP]   T5: </s> (not read)
"""

import base64
import json
from pathlib import Path
from typing import Any, NamedTuple

from tlqa_jax.checkpoints.directories import object_in
from tlqa_jax.errors import UserError
from tlqa_jax.text.sentencepiece import SENTINEL, SPACE, SPECIAL_IDS
from tlqa_jax.text.sentencepiece_model import CONTROL, UNKNOWN, sentencepiece_model
from tlqa_jax.text.wordpiece import CONTINUES, LONGEST_WORD

PAIR = [("[CLS]", 0), ("A", 0), ("[SEP]", 0), ("B", 1), ("[SEP]", 1)]  # two segments, and their token types


class Unigram(NamedTuple):
    """A T5's vocabulary."""

    pieces: list[str]  # the sentinels are the last ones
    sentinels: int
    model: bytes  # a SentencePiece .model file, without the sentinels
    legacy: bool  # see `SentencePieceTokenizer`


def read_wordpiece(whole: dict[str, Any], where: Path) -> bytes:
    """The content of a vocab.txt. Raises UserError for rules or pieces that it cannot have."""
    normalizer, splitter, model = (object_in(whole, name, where) for name in ("normalizer", "pre_tokenizer", "model"))
    check_type(model, "vocabulary", ("WordPiece",), where)
    check_type(normalizer, "normalizer", ("BertNormalizer",), where)
    check_type(splitter, "pre_tokenizer", ("BertPreTokenizer",), where)
    check_value(normalizer, "clean_text", True, where)
    check_value(model, "unk_token", "[UNK]", where)
    check_value(model, "continuing_subword_prefix", CONTINUES, where)
    check_value(model, "max_input_chars_per_word", LONGEST_WORD, where)
    behind = object_in(whole, "post_processor", where)
    if behind:
        check_type(behind, "post_processor", ("TemplateProcessing", "BertProcessing"), where)
        found = [one for part in objects_in(behind, "pair", where) for one in part.values()]
        if found and [(one.get("id"), one.get("type_id")) for one in found if isinstance(one, dict)] != PAIR:
            raise UserError(f"{where}: the post_processor puts two segments together in another way than BERT")
    ids = model.get("vocab")
    numbers = set(ids.values()) if isinstance(ids, dict) and all(type(id) is int for id in ids.values()) else set()
    # the first number of a piece that was twice in a vocab.txt is missing
    if not numbers or len(numbers) < len(ids) or min(numbers) < 0 or max(numbers) > 2 * len(ids):
        raise UserError(f"{where}: its vocabulary is not an object of pieces, each with a number of its own from 0 on")
    lines = [""] * (max(numbers) + 1)
    for piece, id in ids.items():
        if "\n" in piece or piece.endswith("\r"):
            raise UserError(f"{where}: the piece {piece!r} has a line end, which is not known here")
        lines[id] = piece
    return "".join(f"{line}\n" for line in lines).encode(errors="surrogatepass")


def read_unigram(whole: dict[str, Any], where: Path) -> Unigram:
    """A T5's vocabulary. Raises UserError for rules or pieces that are not T5's."""
    model = object_in(whole, "model", where)
    check_type(model, "vocabulary", ("Unigram",), where)
    check_value(model, "unk_id", SPECIAL_IDS["unk"], where)
    check_value(model, "byte_fallback", False, where)
    try:
        pieces = [(str(piece), float(score)) for piece, score in model["vocab"]]
        if not all(abs(score) < 1e9 and piece.encode() for piece, score in pieces):
            raise ValueError
    except (KeyError, TypeError, ValueError, OverflowError):  # half of a surrogate pair is a ValueError
        raise UserError(f"{where}: its vocabulary is not a list of pieces with a score each") from None
    names = [piece for piece, _ in pieces]
    sentinels = sum(bool(SENTINEL.fullmatch(name)) for name in names)
    if names[len(names) - sentinels :] != [f"<extra_id_{i}>" for i in reversed(range(sentinels))]:
        raise UserError(f"{where}: the sentinels are not the last pieces, counted down to <extra_id_0>, as T5 has them")
    kinds = {SPECIAL_IDS["pad"]: CONTROL, SPECIAL_IDS["eos"]: CONTROL, SPECIAL_IDS["unk"]: UNKNOWN}
    content = sentencepiece_model(pieces[: len(pieces) - sentinels], _table(whole, where), kinds)
    return Unigram(names, sentinels, content, legacy=_prepend_scheme(whole, where) == "always")


def _table(whole: dict[str, Any], where: Path) -> bytes:
    """SentencePiece's table of characters. White space is trimmed and joined by SentencePiece itself."""
    table = b""
    for part in parts_of(whole, "normalizer", "normalizers", where):
        check_type(part, "normalizer", ("Precompiled", "Strip", "Replace"), where)
        if part["type"] == "Replace":
            check_value(part, "pattern", {"Regex": " {2,}"}, where)
        if part["type"] == "Precompiled":
            try:
                table = base64.b64decode(part.get("precompiled_charsmap") or "")
            except (TypeError, ValueError):
                raise UserError(f"{where}: precompiled_charsmap is not base64") from None
    return table


def _prepend_scheme(whole: dict[str, Any], where: Path) -> str:
    """Where a space is added: "always" before a text, and behind each sentinel; "first": before the whole text only."""
    parts = parts_of(whole, "pre_tokenizer", "pretokenizers", where) or [{}]
    for part in parts:
        check_type(part, "pre_tokenizer", ("Metaspace", "WhitespaceSplit"), where)
    check_type(parts[-1], "pre_tokenizer", ("Metaspace",), where)
    check_value(parts[-1], "replacement", SPACE, where)
    scheme = parts[-1].get("prepend_scheme") or ("always" if parts[-1].get("add_prefix_space", True) else "never")
    if scheme not in ("always", "first") or (scheme == "first" and len(parts) > 1):
        known = 'known are "always" and, of a Metaspace alone, "first"'
        raise UserError(f"{where}: prepend_scheme is {json.dumps(scheme)}; {known}")
    return scheme


def objects_in(values: dict[str, Any], name: str, where: Path) -> list[dict[str, Any]]:
    """The objects in the list in a field; [] if there is none. Raises UserError if it is anything else."""
    value = [] if values.get(name) is None else values[name]
    if not isinstance(value, list) or not all(isinstance(one, dict) for one in value):
        raise UserError(f'{where}: "{name}" is {json.dumps(value):.40}, not a list of objects')
    return value


def parts_of(whole: dict[str, Any], name: str, inside: str, where: Path) -> list[dict[str, Any]]:
    """The parts of a normalizer or pre_tokenizer: those of a sequence, or the one that there is, if any."""
    part = object_in(whole, name, where)
    return objects_in(part, inside, where) if part.get("type") == "Sequence" else [part] if part else []


def check_type(part: dict[str, Any], name: str, known: tuple[str, ...], where: Path) -> None:
    """Raise UserError if a part is of a type that is not known."""
    if part.get("type") not in known:
        found = json.dumps(part.get("type"))
        if isinstance(inside := part.get(f"{name.replace('_', '')}s"), list):
            found += f" of {', '.join(str(one.get('type')) for one in inside if isinstance(one, dict))}"
        raise UserError(f"{where}: the {name} is of type {found}, not {' or '.join(known)}; no other is known here")


def check_value(part: dict[str, Any], name: str, known: Any, where: Path | str) -> None:
    """Raise UserError if a value is there, is not null, and is not the one that is known."""
    if part.get(name) is not None and part[name] != known:
        raise UserError(f"{where}: {name} is {json.dumps(part[name]):.60}; only {json.dumps(known)} is known here")
