"""Vocabulary files as bytes, plain or gzipped, with errors that help."""

import difflib
import gzip
import os
import zlib
from pathlib import Path

from tlqa_jax.errors import UserError


def read_vocabulary(path: Path) -> bytes:
    """The content of a vocabulary file, unpacked.

    Raises UserError if it is missing (similar names are listed), cannot be read, or is damaged.
    """
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    except FileNotFoundError:
        folder = path.parent
        near = difflib.get_close_matches(path.name, os.listdir(folder) if folder.is_dir() else [], n=3)
        raise UserError(
            f"vocabulary {path} does not exist" + (f"; near it: {', '.join(near)}" if near else "")
        ) from None
    except (gzip.BadGzipFile, EOFError, zlib.error):
        raise UserError(f"vocabulary {path} is a damaged gzip file") from None
    except OSError as error:
        raise UserError(f"vocabulary {path} cannot be read: {error.strerror}") from None
