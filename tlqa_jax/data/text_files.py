"""Files of UTF-8 text, plain or gzipped: how they are found and read, and errors that say where they are broken."""

import difflib
import glob
import gzip
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path

from tlqa_jax.errors import UserError

GZIP = b"\x1f\x8b"  # the first bytes of every gzip file


def find_files(source: str | Path, suffixes: Collection[str]) -> list[Path]:
    """The files that `source` names: one file, those of a directory with one of the suffixes, those of a glob pattern.

    Raises UserError if there are none (similar names are listed), or if a suffix is not one of `suffixes`.
    """
    path = Path(source).expanduser()
    if path.is_dir():
        paths = sorted(p for p in path.iterdir() if p.is_file() and suffix(p) in suffixes)
        if not paths:
            raise UserError(
                f"directory {source} has no file of a kind that can be read here ({', '.join(suffixes)}; also with .gz)"
            )
        return paths
    if path.exists():
        paths = [path]
    elif glob.has_magic(str(path)):
        paths = sorted(p for p in map(Path, glob.glob(str(path), recursive=True)) if p.is_file())
        if not paths:
            raise UserError(f"no file matches {source}")
    else:
        raise UserError(f"{source} does not exist" + _nearest(path))
    for path in paths:
        if suffix(path) not in suffixes:
            raise UserError(
                f"{path}: {_named(path)} cannot be read here; known are {', '.join(suffixes)} (also with .gz)"
            )
    return paths


def suffix(path: Path) -> str:
    """The suffix without that of the compression: ".json" for "c4-train.00000.json.gz"."""
    return Path(path.name.lower().removesuffix(".gz")).suffix


def numbered_lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines of a file with their numbers from 1 and their line ends, without a byte order mark.

    Raises UserError if the file cannot be opened, is empty, is named .gz but is not a gzip file, is cut short, or is
    not UTF-8 (the message says at which byte).
    """
    offset, number = 0, 0
    try:
        with gzip.open(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb") as file:
            for number, line in enumerate(file, 1):
                try:
                    text = line.decode("utf-8")
                except UnicodeDecodeError as error:
                    position = offset + error.start
                    raise UserError(
                        f"{path} is not UTF-8: byte 0x{line[error.start]:02x} at offset {position} (line {number}); "
                        + _encoding_hint(path, line)
                    ) from None
                offset += len(line)
                yield number, text.removeprefix("\ufeff") if number == 1 else text
    except (gzip.BadGzipFile, EOFError, zlib.error):
        if not _begins_as_gzip(path):
            raise UserError(
                f"{path} is not a gzip file, though its name ends in .gz: rename it, or compress it"
            ) from None
        raise UserError(
            f"{path} is cut short or damaged (gzip, after line {number}): copy or download it again"
        ) from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    if number == 0:
        raise UserError(f"{path} is empty")


def _begins_as_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == GZIP


def _named(path: Path) -> str:
    return f"a {suffix(path)} file" if suffix(path) else "a file without a suffix"


def _nearest(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f": there is no directory {folder}"
    near = difflib.get_close_matches(path.name, [p.name for p in folder.iterdir()], n=3)
    return f"; near it: {', '.join(near)}" if near else ""


def _encoding_hint(path: Path, line: bytes) -> str:
    if line[:2] == GZIP:
        return "it looks like gzip: name it .gz"
    if line[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return f"it looks like UTF-16: convert it with iconv -f UTF-16 -t UTF-8 {path.name}"
    return "convert it to UTF-8 (for example iconv -f WINDOWS-1252 -t UTF-8)"
