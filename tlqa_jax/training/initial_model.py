"""Which model a run trains: a named size or a JSON file of sizes, made to fit the vocabulary."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from tlqa_jax.checkpoints.bert_runs import load_bert_config
from tlqa_jax.checkpoints.runs import load_t5, load_t5_config, source_of
from tlqa_jax.data.sources import local_path
from tlqa_jax.errors import UserError
from tlqa_jax.models.bert import BertConfig
from tlqa_jax.models.functional import Params
from tlqa_jax.models.t5 import T5Config
from tlqa_jax.text.sentencepiece import SentencePieceTokenizer
from tlqa_jax.text.wordpiece import WordPieceTokenizer

NAMED = {"tiny": T5Config.tiny, "small": T5Config.small, "base": T5Config.base}
NAMED_BERTS = {name: getattr(BertConfig, name) for name in ("tiny", "mini", "small", "base", "large")}


def begin_with_t5(config: Any) -> tuple[T5Config, Params | None, SentencePieceTokenizer]:
    """The sizes, the parameters if there are any, and the vocabulary that the settings of a fine-tuning run ask for.

    `config.start_from` names a pretrained model; without it `config.model` and `config.vocabulary` count.
    """
    start_from = source_of(config.start_from, config.out, resume=config.resume)
    if not start_from:
        tokenizer = SentencePieceTokenizer(local_path(config.vocabulary))
        return t5_config(config.model, tokenizer, config.dropout), None, tokenizer
    sizes, pretrained, tokenizer = load_t5(start_from)
    check_vocabulary(sizes, tokenizer, start_from)
    return dataclasses.replace(sizes, dropout_rate=config.dropout), pretrained, tokenizer


def t5_config(choice: str, tokenizer: SentencePieceTokenizer, dropout_rate: float) -> T5Config:
    """The sizes called `choice`: "tiny", "small", "base", or a JSON file of T5Config fields such as a `config.json`.

    A named size, and a file without `vocab_size`, takes the vocabulary's size rounded up to a multiple of 128, as T5's
    own 32,100 became 32,128: hardware likes it. A `vocab_size` smaller than the vocabulary is an error.
    """
    if choice in NAMED:
        return NAMED[choice](vocab_size=rounded(tokenizer.vocab_size), dropout_rate=dropout_rate)
    values = read_sizes(choice, NAMED)
    config = load_t5_config(
        {"vocab_size": rounded(tokenizer.vocab_size), "dropout_rate": dropout_rate, **values}, choice
    )
    check_vocabulary(config, tokenizer, choice)
    return config


def bert_config(choice: str, tokenizer: WordPieceTokenizer) -> BertConfig:
    """The same for a BERT: "tiny", "mini", "small", "base", "large" (or "bert-tiny", …), or a JSON file of fields."""
    given = {"vocab_size": rounded(tokenizer.vocab_size), "pad_token_id": tokenizer.pad_id}
    name = choice.removeprefix("bert-")
    if name in NAMED_BERTS:
        return NAMED_BERTS[name](**given)
    return load_bert_config({**given, **read_sizes(choice, NAMED_BERTS)}, f"--model {choice}")


def rounded(vocab_size: int) -> int:
    return -(-vocab_size // 128) * 128


def read_sizes(choice: str, named: dict[str, Any]) -> dict[str, Any]:
    """The object in the JSON file `choice`, or its "model" where it is a run's `config.json`."""
    path = Path(choice)
    if not path.exists():
        raise UserError(f"--model {choice}: neither one of {', '.join(named)} nor a JSON file of model sizes")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"--model {path} is not valid JSON: {error}") from None
    values = values.get("model", values) if isinstance(values, dict) else values
    if not isinstance(values, dict):
        raise UserError(f"--model {path}: model sizes are a JSON object, such as {{\"d_model\": 128}}")
    return values


def check_vocabulary(config: T5Config, tokenizer: SentencePieceTokenizer, where: Path | str) -> None:
    """Refuse a vocabulary with ids that the model has no embedding for, or other special ids."""
    if tokenizer.vocab_size > config.vocab_size:
        raise UserError(
            f"the vocabulary has {tokenizer.vocab_size} ids (sentinels included), "
            f"the model of {where} only {config.vocab_size}: "
            "give the vocabulary it was trained with, or a larger vocab_size"
        )
    if (config.pad_token_id, config.eos_token_id) != (tokenizer.pad_id, tokenizer.eos_id):
        raise UserError(
            f"{where} has pad and eos ids {config.pad_token_id}, {config.eos_token_id}; "
            f"the vocabulary {tokenizer.pad_id}, {tokenizer.eos_id}"
        )
