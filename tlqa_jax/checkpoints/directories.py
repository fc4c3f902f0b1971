"""Hugging Face's directories and the JSON in them: found here, or fetched from the hub by name."""

import functools
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tlqa_jax.errors import UserError
from tlqa_jax.text.atomic_write import write_atomically

RUN = "run.json"  # the record of a training run (`run_record.py`)
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


def find_directory(name: str | Path, files: Sequence[str] = FETCHED) -> Path:
    """The directory itself (`main_directory`), or that of a hub name, with these files of it downloaded, once.

    Raises UserError if it is neither.
    """
    if Path(name).is_dir():
        return main_directory(Path(name))
    if not is_hub_name(name):
        raise UserError(f"{name}: there is no such directory, nor can it be a name on the Hugging Face hub")
    return _download(str(name), tuple(files))


@functools.cache
def _download(name: str, files: tuple[str, ...]) -> Path:
    from huggingface_hub import snapshot_download  # not before it is needed: it takes a while

    try:
        return Path(snapshot_download(name, allow_patterns=[*files]))
    except Exception as error:  # of many kinds: no network, no such name, no permission
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{name}: there is no such directory, and the Hugging Face hub did not give it ({reason})") from None


def main_directory(directory: Path) -> Path:
    """The directory itself; of one that holds several runs (a quickstart's) the one its `run.json` calls "main"."""
    main = read_json(directory / RUN).get("main") if (directory / RUN).is_file() else None
    return directory / main if main else directory


def is_old_run(config: dict[str, Any]) -> bool:
    """Whether it is the `config.json` of a run that version 0.1 made."""
    return "model_type" not in config and bool(config.keys() & {"program", "main"})


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
    """Write an object, whole or not at all."""
    write_atomically(path, json.dumps(values, indent=2) + "\n")
