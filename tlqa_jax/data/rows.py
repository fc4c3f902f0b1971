"""Rows and paragraphs of JSON and CSV files, and their fields; errors name the file, the line and the field."""

import ast
import csv
import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tlqa_jax.data.text_files import numbered_lines, suffix
from tlqa_jax.errors import UserError
from tlqa_jax.text.json_files import parse_json

SEPARATORS = {".csv": ",", ".tsv": "\t"}
LARGEST_CELL = 2**31 - 1  # of a CSV file; the csv module stops at 131,072 characters by default
# an empty cell of these: the row has no such field
MAY_BE_EMPTY = {"id", "title", "context", "answer", "answers", "answer_start", "is_impossible"}
KINDS = {
    str: "text", bool: "true or false", int: "a number", float: "a number",
    list: "a list", dict: "an object", type(None): "null",
}  # fmt: skip
WANTED = KINDS | {int: "a whole number"}


def squad_or_rows(path: Path) -> tuple[dict | None, Iterator[tuple[str, dict]]]:
    """A .json file is SQuAD's (an object with "data"), a list of rows, or one row in each line, as C4's files.

    If "data" has no paragraphs, it is a list of rows: run_qa.py's own format in Transformers.
    """
    if suffix(path) != ".json" or _has_a_row_in_each_line(path):
        return None, read_rows(path)
    content = parse_json("".join(line for _, line in numbered_lines(path)), str(path))
    if isinstance(content, dict) and not isinstance(data := content.get("data", ""), str):
        articles = [article for article in data if isinstance(article, dict)] if isinstance(data, list) else []
        if not any(articles) or any("paragraphs" in article for article in articles):
            return content, iter(())
        content = data
    rows = content if isinstance(content, list) else [content]
    numbered = ((f"{path}, record {number}", row) for number, row in enumerate(rows, 1))
    return None, ((where, as_row(row, where)) for where, row in numbered)


def _has_a_row_in_each_line(path: Path) -> bool:
    """Whether the first line is an object, and not the whole of SQuAD's layout."""
    lines = (line for _, line in numbered_lines(path) if line.strip())
    try:
        row = json.loads(next(lines, ""))
    except (ValueError, RecursionError):
        return False
    return isinstance(row, dict) and (isinstance(row.get("data", ""), str) or next(lines, None) is not None)


def read_rows(path: Path) -> Iterator[tuple[str, dict]]:
    """(where, row) for each line of a file with one JSON object per line, or for each row of a CSV file."""
    if suffix(path) in SEPARATORS:
        yield from _csv_rows(path)
        return
    for number, line in numbered_lines(path):
        if line.strip():
            where = f"{path}, line {number}"
            yield where, as_row(parse_json(line, where), where)


def _csv_rows(path: Path) -> Iterator[tuple[str, dict]]:
    csv.field_size_limit(LARGEST_CELL)
    separator = SEPARATORS[suffix(path)]
    reader = csv.reader((line for _, line in numbered_lines(path)), strict=True, delimiter=separator)
    try:
        header = [name.strip() for name in next(reader)]
        if twice := [name for name, count in Counter(header).items() if name and count > 1]:
            raise UserError(f"{path}: two columns are named {twice[0]}: rename one")
        for cells in reader:
            if not any(cells):
                continue
            where = f"{path}, line {reader.line_num}"
            if len(cells) != len(header):
                raise UserError(
                    f"{where}: {len(cells)} cells, but the first row names {len(header)} ({', '.join(header)}): "
                    f"put cells with {'tabs' if separator != ',' else 'commas'} in quotes"
                )
            row: dict[str, Any] = {
                name: cell for name, cell in zip(header, cells, strict=True) if cell or name not in MAY_BE_EMPTY
            }
            if "answers" in row:
                row["answers"] = _list_in_cell(row["answers"], f'{where}, "answers"')
            if "answer_start" in row:
                row["answer_start"] = parse_json(row["answer_start"], f'{where}, "answer_start"')
            yield where, row
    except csv.Error as error:
        raise UserError(f"{path}, line {reader.line_num}: malformed {suffix(path)[1:].upper()}: {error}") from None


def _list_in_cell(cell: str, where: str) -> Any:
    """A list or an object in a cell, as JSON or as Python prints it (so `datasets` and pandas write them); or the text.

    Raises UserError for what looks like one of these and is neither: arrays of numpy, for example.
    """
    if not cell.startswith(("[", "{")):
        return cell
    for read, show in ((json.loads, None), (ast.literal_eval, repr)):
        try:
            value = read(cell)
            # Python reads numpy's ['a' 'b'] as one text: what was printed by Python is printed in the same way again
            if isinstance(value, list | dict) and (show is None or show(value) == cell.strip()):
                return value
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            pass
    if cell[1:].lstrip()[:1] in ("'", '"', "{", "["):
        raise UserError(f"{where} is {show_value(cell)}: write it as JSON, [\"…\"]")
    return cell  # "[sic] Tarn"


def squad_paragraphs(squad: dict, path: Path) -> Iterator[tuple[str, str, dict]]:
    """(where, title, paragraph) for each paragraph of SQuAD's layout."""
    for number, article in enumerate(objects_of(squad, "data", str(path)), 1):
        where = f"{path}, article {number}"
        title = article["title"] if isinstance(article.get("title"), str) else ""
        for place, paragraph in enumerate(objects_of(article, "paragraphs", where), 1):
            yield f"{where}, paragraph {place}", title, paragraph


def field_of(row: dict, name: str, where: str, kinds: type | tuple[type, ...]) -> Any:
    """The field of a row, which must be of one of the kinds."""
    if name not in row:
        raise UserError(f'{where}: no field "{name}"; found {listed(row)}')
    kinds = kinds if isinstance(kinds, tuple) else (kinds,)
    if type(row[name]) not in kinds:
        wanted = " or ".join(WANTED[kind] for kind in kinds)
        raise UserError(f'{where}: "{name}" is {show_value(row[name])}, not {wanted}')
    return row[name]


def text_of(row: dict, name: str, where: str) -> str:
    text = field_of(row, name, where, str)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise UserError(
                f'{where}: "{name}" has half of a surrogate pair, {text[error.start]!a}, at {error.start}'
            ) from None
    return text


def id_of(row: dict, name: str, where: str) -> str:
    """The id in a field of a row, a text or a whole number."""
    return str(row[name]) if type(row[name]) is int else text_of(row, name, where)


def objects_of(row: dict, name: str, where: str) -> list[dict]:
    return [
        as_row(value, f'{where}, "{name}" {number}') for number, value in enumerate(field_of(row, name, where, list), 1)
    ]


def as_row(value: Any, where: str) -> dict:
    if not isinstance(value, dict):
        raise UserError(f"{where} is {show_value(value)}, not an object with named fields")
    return value


def listed(row: dict) -> str:
    """The names of a row's fields, for an error message."""
    return ", ".join(map(json.dumps, row)) or "none"


def show_value(value: Any) -> str:
    """A value in an error message: "a number (5)", "null"."""
    written = json.dumps(value)
    if value is None or isinstance(value, bool):
        return written
    return f"{KINDS[type(value)]} ({written if len(written) <= 40 else written[:37] + '...'})"
