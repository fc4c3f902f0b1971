"""Hugging Face's directories and the JSON in them: found here, or fetched from the hub by name."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tlqa_jax.errors import UserError

CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
WORDPIECE, SENTENCEPIECE = "vocab.txt", "spiece.model"
TOKENIZER_CONFIG, TOKENIZER, SPECIAL_TOKENS = "tokenizer_config.json", "tokenizer.json", "special_tokens_map.json"
ADDED_TOKENS = "added_tokens.json"
FETCHED = (  # of a name on the hub
    CONFIG, WEIGHTS, INDEX, "model-*.safetensors",
    WORDPIECE, SENTENCEPIECE, TOKENIZER_CONFIG, TOKENIZER, ADDED_TOKENS,
)  # fmt: skip


def is_hub_name(name: str | Path) -> bool:
    """Whether it can be a name on the hub: "bert-base-uncased" or "google-bert/bert-base-uncased"."""
    return isinstance(name, str) and bool(re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", name))


def find_directory(name: str | Path, files: Sequence[str] = FETCHED, *, lacking: str = "is no directory here") -> Path:
    """The directory itself, or that of a hub name, with these files of it downloaded.

    Raises UserError, saying that `name` `lacking`, if it is neither.
    """
    if Path(name).is_dir():
        return Path(name)
    if not is_hub_name(name):
        raise UserError(f"{name}: there is no such directory, nor can it be a name on the Hugging Face hub")
    try:
        from huggingface_hub import snapshot_download
    except ImportError:
        raise UserError(f"{name} {lacking}; to download it from the hub, pip install huggingface_hub") from None
    try:
        return Path(snapshot_download(name, allow_patterns=[*files]))
    except Exception as error:  # of many kinds: no network, no such name, no permission
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{name} {lacking}, and the hub did not give it ({reason})") from None


def read_json(path: Path) -> dict[str, Any]:
    """The object in a file. Raises UserError if there is none."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path.parent} has no {path.name}") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(values, dict):
        raise UserError(f"{path} is not a JSON object")
    return values


def write_json(path: Path, values: dict[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
