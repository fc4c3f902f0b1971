"""Vocabularies in Hugging Face's directories: a BERT's vocab.txt, a T5's spiece.model, or either in tokenizer.json.

Transformers 4 writes vocab.txt or spiece.model, and tokenizer.json; Transformers 5 writes tokenizer.json alone. All of
these are read here. What is written here is read by both versions.
"""

import contextlib
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax

from tlqa_jax.checkpoints.directories import CONFIG, object_in, read_json, write_json
from tlqa_jax.checkpoints.family import is_of_type
from tlqa_jax.checkpoints.tokenizer_json import check_value, objects_in, read_unigram, read_wordpiece
from tlqa_jax.errors import UserError
from tlqa_jax.models.bert import BertConfig
from tlqa_jax.models.t5 import T5Config
from tlqa_jax.models.word_vectors import WordVectorsConfig
from tlqa_jax.text.sentencepiece import SentencePieceTokenizer
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
CLASSES = {  # Transformers' classes of such vocabularies
    WordPieceTokenizer: ("BertTokenizer", "DistilBertTokenizer", "ElectraTokenizer", "MobileBertTokenizer"),
    SentencePieceTokenizer: ("T5Tokenizer", "MT5Tokenizer"),
}
ANY_CLASS = ("PreTrainedTokenizer", "TokenizersBackend")  # whatever is in tokenizer.json
WHOSE = {
    "ByT5Tokenizer": "ByT5's (bytes)", "RobertaTokenizer": "RoBERTa's (byte-level BPE)", "T5Tokenizer": "a T5's",
    "BertTokenizer": "a BERT's (WordPiece)", "BertJapaneseTokenizer": "that of the Japanese BERTs",
}  # fmt: skip


def read_tokenizer(directory: Path, kind: type[Tokenizer]) -> Tokenizer:
    """The vocabulary of a directory. `kind`: SentencePieceTokenizer for a T5, WordPieceTokenizer for a BERT.

    `tokenizer_config.json` says how many sentinels there are ("extra_ids"), and whether text is lower-cased (if it does
    not say, it is). If there is a tokenizer.json, its pieces and its other rules count, as in Transformers.

    Raises UserError if there is no vocabulary, or if its rules are not those of our tokenizers.
    """
    read = lambda file: read_json(directory / file) if (directory / file).exists() else {}
    whole, settings, specials = read(TOKENIZER), read(SPECIAL_TOKENS) | read(SETTINGS), WORDPIECE_SPECIALS
    check_class(settings.get("tokenizer_class") or read(CONFIG).get("tokenizer_class"), kind, directory)
    if kind is WordPieceTokenizer:
        tokenizer: Tokenizer = _wordpiece(whole, settings, directory)
    else:
        tokenizer, specials = _sentencepiece(whole, settings, directory), SENTENCEPIECE_SPECIALS
    for name, known in specials.items():
        token = settings.get(name)
        if (token.get("content") if isinstance(token, dict) else token) not in (None, known):
            raise UserError(f"{directory}: {name} is {json.dumps(token)}; only {json.dumps(known)} is known here")
    # added tokens may stand in each of three files, in three formats
    added = [{"content": token, "id": id} for token, id in read(ADDED_TOKENS).items()]
    added += objects_in(whole, "added_tokens", directory / TOKENIZER)
    for id, token in object_in(settings, "added_tokens_decoder", directory / SETTINGS).items():
        added.append({"content": token} | (token if isinstance(token, dict) else {}) | {"id": id})
    _check_added(tokenizer, added, directory)
    return tokenizer


def check_class(name: Any, kind: type[Tokenizer], directory: Path) -> None:
    """Raise UserError if Transformers reads the vocabulary of a directory with a class that has other rules."""
    here = CLASSES[kind]
    if name is None or str(name).removesuffix("Fast") in (*here, *ANY_CLASS):
        return
    whose = WHOSE.get(str(name).removesuffix("Fast"), f"that of a {name}")
    raise UserError(f"{directory}: its vocabulary is {whose}, not known here; known for this model: {', '.join(here)}")


def check_tokenizer(tokenizer: Tokenizer, config: BertConfig | T5Config | WordVectorsConfig, where: Path | str) -> None:
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
        if not tokenizer.token_types:
            settings["model_input_names"] = ["input_ids", "attention_mask"]
        specials: dict[str, Any] = WORDPIECE_SPECIALS
    else:
        tokenizer.save(directory / SENTENCEPIECE)
        sentinels = [tokenizer.piece(int(id)) for id in tokenizer.sentinels]
        settings = {"tokenizer_class": "T5Tokenizer", "extra_ids": len(sentinels)}
        if not tokenizer.legacy:
            settings["legacy"] = False
        specials = SENTENCEPIECE_SPECIALS | {"additional_special_tokens": sentinels}
    if longest is not None:
        settings["model_max_length"] = longest
    write_json(directory / SETTINGS, settings | specials)
    write_json(directory / SPECIAL_TOKENS, specials)


def _wordpiece(whole: dict[str, Any], given: dict[str, Any], directory: Path) -> WordPieceTokenizer:
    normalizer = object_in(whole, "normalizer", directory / TOKENIZER)
    settings = given
    if str(given.get("tokenizer_class")).removesuffix("Fast") in ANY_CLASS:  # else a BertTokenizer's defaults count
        names = {"lowercase": "do_lower_case", "handle_chinese_chars": "tokenize_chinese_chars"}
        settings = given | {names.get(name, name): value for name, value in normalizer.items()}
    lowercase, accents = bool(settings.get("do_lower_case", True)), settings.get("strip_accents")
    chinese = settings.get("tokenize_chinese_chars", True)
    if accents not in (None, lowercase) or not chinese:
        raise UserError(
            f"{directory}: strip_accents is {accents}, tokenize_chinese_chars {chinese}; "
            "only known here: accents are stripped if and only if text is lower-cased, and Chinese characters are split"
        )
    for name, known in WORDPIECE_RULES.items():
        check_value(settings, name, known, directory)
    by_class = [] if str(given.get("tokenizer_class")).startswith("DistilBert") else ["token_type_ids"]
    inputs = given.get("model_input_names", by_class)
    options = {"lowercase": lowercase, "token_types": not isinstance(inputs, list) or "token_type_ids" in inputs}
    if not whole:
        return WordPieceTokenizer(directory / WORDPIECE, **options)
    with _as_file(read_wordpiece(whole, directory / TOKENIZER), directory / TOKENIZER) as file:
        return WordPieceTokenizer(file, **options)


def _sentencepiece(whole: dict[str, Any], settings: dict[str, Any], directory: Path) -> SentencePieceTokenizer:
    """From a spiece.model, or from a tokenizer.json. That has the sentinels as pieces; our class adds them itself."""
    where, file = directory / TOKENIZER, directory / SENTENCEPIECE
    check_value(settings, "add_prefix_space", True, directory)
    if not whole and not file.exists():
        other = [name for name in (WORDPIECE, "vocab.json", "merges.txt") if (directory / name).exists()]
        has = f"has {other[0]}, but " if other else ""
        raise UserError(f"{directory} {has}has no vocabulary of a T5, a {SENTENCEPIECE} or {TOKENIZER}: save it there")
    if not whole:
        legacy = settings.get("legacy") is not False
        return SentencePieceTokenizer(file, extra_ids=_extra_ids(settings, directory), legacy=legacy)
    unigram = read_unigram(whole, where)
    options = {"extra_ids": unigram.sentinels or _extra_ids(settings, directory), "legacy": unigram.legacy}
    if not file.exists():
        with _as_file(unigram.model, where) as temporary:
            return SentencePieceTokenizer(temporary, **options)
    tokenizer = SentencePieceTokenizer(file, **options)
    if [tokenizer.piece(id) for id in range(len(unigram.pieces))] != unigram.pieces:
        raise UserError(f"{where} has other pieces than {SENTENCEPIECE}: delete the one that is not the model's")
    return tokenizer


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


def _check_added(tokenizer: Tokenizer, added: list[dict[str, Any]], directory: Path) -> None:
    """Raise UserError for tokens that were added to a vocabulary: all but the special ones and the sentinels."""
    if isinstance(tokenizer, SentencePieceTokenizer):
        known = [(piece, str(id)) for id, piece in enumerate(SENTENCEPIECE_SPECIALS.values())]
        known += [(tokenizer.piece(id), str(id)) for id in tokenizer.sentinels.tolist()]
    else:
        known = [(tokenizer.piece(id), str(id)) for id in tokenizer.special_ids]
    tokens = [(token.get("content"), str(token.get("id"))) for token in added]
    if other := [f"{content!r} ({id})" for content, id in tokens if (content, id) not in known]:
        named = ", ".join(other[:4]) + (" …" if len(other) > 4 else "")
        raise UserError(f"{directory}: tokens were added to its vocabulary, which is not known here: {named}")
    for token in added:
        check_value(token, "single_word", False, f"{directory}: {token['content']}")
        if not getattr(tokenizer, "legacy", True):  # it would take the space behind it
            check_value(token, "rstrip", False, f"{directory}: {token['content']}")


def _extra_ids(settings: dict[str, Any], directory: Path) -> int:
    """The number of sentinels, 100 by default."""
    extra_ids = settings.get("extra_ids", 100)
    if not is_of_type(extra_ids, int) or extra_ids < 0:
        raise UserError(f"{directory / SETTINGS}: extra_ids is {extra_ids!r}, not a whole number of at least 0")
    return extra_ids
