"""Files written whole or not at all: what stood there before stays until the new content is complete."""

import os
from pathlib import Path

from tlqa_jax.errors import UserError


def write_whole(path: str | Path, content: str | bytes) -> None:
    """Write a file, text in UTF-8: into a temporary file beside it, which then takes its place.

    What is no regular file, such as /dev/stdout, is written to as it is. Raises UserError if it cannot be written.
    """
    content = content.encode() if isinstance(content, str) else content
    target = Path(os.path.realpath(path))  # behind a link, which stays
    try:
        if Path(path).exists() and not Path(path).is_file():
            with Path(path).open("wb") as file:  # a directory fails here
                file.write(content)
            return
        temporary = target.with_name(f"{target.name}.{os.getpid()}.tmp")
        try:
            temporary.write_bytes(content)
            os.replace(temporary, target)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}") from None
