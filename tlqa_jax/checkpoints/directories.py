"""Directories of models, on disk or downloaded from the Hugging Face hub, and the JSON files in them."""

import functools
import json
import re
from pathlib import Path
from typing import Any

from tlqa_jax.errors import UserError
from tlqa_jax.fields import check_local
from tlqa_jax.text.atomic_write import write_atomically
from tlqa_jax.text.json_files import load_json

RUN = "run.json"  # the record of a training run (`run_record.py`)
CONFIG = "config.json"


def find_directory(name: str | Path, files: tuple[str, ...]) -> Path:
    """The directory itself (`main_directory`), or that of a hub name, with these files of it downloaded, once.

    Raises UserError if there is no such directory, nor such a name on the hub ("google-bert/bert-base-uncased").
    """
    if Path(name).is_dir():
        return main_directory(Path(name))
    check_local(name)
    if not (isinstance(name, str) and re.fullmatch(r"[\w-][\w.-]*(/[\w-][\w.-]*)?", name)):
        raise UserError(f"{name}: there is no such directory, and it cannot be a name on the Hugging Face hub")
    return _download(name, files)


@functools.cache
def _download(name: str, files: tuple[str, ...]) -> Path:
    from huggingface_hub import snapshot_download  # takes a while to import

    try:
        return Path(snapshot_download(name, allow_patterns=[*files]))
    except Exception as error:  # of many kinds: no network, no such name, no permission
        reason = " ".join(str(error).split())[:200]
        message = f"there is no such directory, and it cannot be downloaded from the Hugging Face hub ({reason})"
        raise UserError(f"{name}: {message}") from None


def main_directory(directory: Path) -> Path:
    """The directory itself; of one with several runs, such as a quickstart's, the one that `run.json` calls "main"."""
    main = read_json(directory / RUN).get("main") if (directory / RUN).is_file() else None
    if not isinstance(main, str | None):
        raise UserError(f'{directory / RUN}: "main" is {json.dumps(main):.40}, not the name of a run')
    return directory / main if main else directory


def check_not_here(directory: Path) -> None:
    """Refuse to replace the directory in which the program runs, or one around it."""
    if Path.cwd().is_relative_to(directory.resolve()):
        raise UserError(f"{directory} is the directory you are in, or one around it: give the name of a new one")


def is_old_run(config: dict[str, Any]) -> bool:
    """Whether this is the `config.json` of a run that version 0.1 made."""
    return "model_type" not in config and bool(config.keys() & {"program", "main"})


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises UserError if there is none."""
    if not path.exists():
        raise UserError(f"{path.parent} has no {path.name}")
    values = load_json(path)
    if not isinstance(values, dict):
        raise UserError(f"{path} is not a JSON object")
    return values


def object_in(values: dict[str, Any], name: str, where: Path | str) -> dict[str, Any]:
    """The object in a field; {} if there is none. Raises UserError if it is anything else."""
    value = values.get(name)
    if value is not None and not isinstance(value, dict):
        raise UserError(f'{where}: "{name}" is {json.dumps(value):.40}, not an object')
    return value or {}


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write a JSON file, whole or not at all."""
    write_atomically(path, json.dumps(values, indent=2) + "\n")
