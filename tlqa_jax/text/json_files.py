"""JSON from files and lines of files, with errors of one line."""

import json
import sys
from pathlib import Path
from typing import Any

from tlqa_jax.errors import UserError


def load_json(path: str | Path) -> Any:
    """What is in a JSON file, UTF-8 with or without a byte-order mark.

    Raises UserError if the file is missing, cannot be read, is not UTF-8, or is not valid JSON.
    """
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        found = f"byte 0x{error.object[error.start]:02x} at offset {error.start}"
        raise UserError(f"{path} is not UTF-8: {found}") from None
    return parse_json(text, str(path))


def parse_json(text: str, where: str) -> Any:
    """`json.loads` with an error of one line, which names the line of the text if it has several."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}" if "\n" in text.strip() else f"column {error.colno}"
        message = error.msg[:1].lower() + error.msg[1:]
        raise UserError(f"{where}: malformed JSON at {place}: {message}{_around(text, error.pos)}") from None
    except RecursionError:
        raise UserError(f"{where}: malformed JSON: brackets nested too deeply") from None
    except ValueError:  # the only other error of json.loads
        raise UserError(f"{where}: a number has more than {sys.get_int_max_str_digits():,} digits") from None


def _around(text: str, position: int) -> str:
    if not text[position:].strip():
        return " (the text ends there)"
    return f", near {text[max(0, position - 15) : position + 15].strip()!r}"
