"""Files that are written completely or not at all: the old content stays until the new one is complete."""

import os
from collections.abc import Iterable
from pathlib import Path

from tlqa_jax.errors import UserError


def write_atomically(
    path: str | Path, content: str | bytes | Iterable[bytes], *, make_directory: bool = False
) -> None:
    """Write a file, text in UTF-8: into a temporary file beside it, which then replaces it.

    A link stays a link. Something that is not a regular file, such as /dev/stdout, is written to directly. Raises
    UserError if it cannot be written.
    """
    content = content.encode() if isinstance(content, str) else content
    path = Path(path)
    target = Path(os.path.realpath(path))  # behind a link; for a pipe no usable name
    try:
        if make_directory:
            target.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() and not path.is_file():
            with path.open("wb") as file:  # for a directory this fails
                file.writelines([content] if isinstance(content, bytes) else content)
            return
        temporary = target.with_name(f"{target.name}.{os.getpid()}.tmp")
        try:
            if isinstance(content, bytes):
                temporary.write_bytes(content)
            else:
                with temporary.open("wb") as file:
                    file.writelines(content)
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from None
