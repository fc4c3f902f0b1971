"""Sources of texts and questions: local files, TensorFlow Datasets, the bundled tiny world. A source is a name:

    corpus.txt   corpus.txt.gz          texts: a blank line between documents
    c4.00000.json.gz   rows.jsonl       texts or questions: one JSON object per line (or a JSON list of objects)
    rows.csv   rows.tsv                 texts or questions: the first row names the columns
    train-v2.0.json                     questions: SQuAD v1.1 and v2.0; as texts: its contexts
    a directory, or a pattern "c4/*.json.gz"        all such files, in order of their names
    tfds:squad:train   tfds:wiki40b/en:validation   see `tfds_sources`
    tiny_world:pretraining.txt                      a file that comes with this package

A row of texts has a field "text", a row of labelled texts also a "label". A row of questions has "question", and
"answer" (one text) or "answers" (a list of texts, or SQuAD's texts with their starts), and may have "context",
"answer_start", "id", "is_impossible" and "title". Starts count Unicode characters. TriviaQA's rows are read as well.

All functions raise `UserError` for a source that cannot be used: one line that names the file, the line or question,
and the field.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Generic, TypeVar

from tlqa_jax.data.rows import field_of, id_of, listed, objects_of, show_value, squad_or_rows, squad_paragraphs, text_of
from tlqa_jax.data.text_files import find_files, numbered_lines, suffix
from tlqa_jax.data.tfds_sources import TfdsRecords
from tlqa_jax.errors import UserError
from tlqa_jax.examples import LabelledText, MarkedText, QAExample
from tlqa_jax.fields import check_local

ROWS = (".jsonl", ".json", ".csv", ".tsv")
TEXTS = (".txt", *ROWS)
MARKED = (".jsonl", ".json")
FORMATS = {  # of questions that are not read, by a field that their rows have
    "header": "MRQA's", "raw_html": "KorQuAD 2's", "qas": "MRQA's or KorQuAD 2's", "Data": "TriviaQA's original",
    "story": "CoQA's", "annotations": "Natural Questions'", "query": "MS MARCO's",
}  # fmt: skip
Source = str | Path | Sequence[str | Path]
T = TypeVar("T")


class Documents(Generic[T]):
    """Documents of one or several sources, read while iterating; every iteration starts from the beginning.

    `left_out`: the number of rows without text that the last iteration left out.
    """

    def __init__(self, read: Callable[[], Iterator[T]]) -> None:
        self.left_out = 0
        self._read = read

    def __iter__(self) -> Iterator[T]:
        return self._read()


def open_texts(source: Source, *, data_dir: str | Path | None = None, field: str = "text") -> Documents[str]:
    """The documents of a source, without empty ones. The lines of a .txt document are joined by a space.

    `field` is the name of the text's field in rows; `data_dir` is where TFDS data sets are prepared. Missing files
    raise UserError at once, errors in their content, or no text at all, while they are read.
    """
    opened = [(one, *_open(one, data_dir, TEXTS)) for one in _as_list(source)]

    def read() -> Iterator[str]:
        found, documents.left_out = False, 0
        for _, files, records in opened:
            of_files = (text for file in files for text in _texts_of_file(file, field))
            for text in of_files if records is None else _tfds_texts(records, field):
                if text.strip():
                    found = True
                    yield text
                else:
                    documents.left_out += 1
        if not found:
            raise UserError(f"{_name(source)} holds no text")

    documents = Documents(read)
    return documents


def open_marked_texts(source: Source, *, field: str = "text") -> Documents[MarkedText]:
    """Rows with "text" and "spans", a list of [start, end] in characters, for salient-span masking.

    `field` is another name of the text's field. The spans come in the order of the text. Raises UserError also for a
    span that is not inside its text, or overlaps another.
    """
    files = [file for one in _as_list(source) for file in _marked_files(one)]

    def read() -> Iterator[MarkedText]:
        for file in files:
            for where, row in squad_or_rows(file)[1]:
                text, spans = text_of(row, field, where), field_of(row, "spans", where, list)
                for number, span in enumerate(spans, 1):
                    named = f'{where}, "spans" {number}'
                    if not (isinstance(span, list) and len(span) == 2 and all(type(end) is int for end in span)):
                        raise UserError(f"{named}: this is {show_value(span)}, not [start, end]")
                    if not 0 <= span[0] < span[1] <= len(text):
                        raise UserError(f"{named}: {span} is not inside the text of {len(text)} characters")
                ordered = sorted(spans)
                for before, after in zip(ordered, ordered[1:]):
                    if after[0] < before[1]:
                        raise UserError(f'{where}, "spans": {before} and {after} overlap')
                yield MarkedText(text, tuple((start, end) for start, end in ordered))

    return Documents(read)


def open_rows(source: Source, *, data_dir: str | Path | None = None) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(where it is, an id, the row) for each row of a source, or each question of SQuAD's files, read while iterating.

    Numbered classes of TFDS are replaced by their names. A row without an "id" gets the id "FILE:NUMBER" (or
    "PATH:NUMBER", if two files of the source have the same name).
    """
    for where, default_id, row in _all_rows(source, data_dir, _tfds_rows):
        yield where, id_of(row, "id", where) if type(row.get("id")) in (str, int) else default_id, row


def open_labelled_texts(
    source: Source, *, data_dir: str | Path | None = None, field: str = "text", label_field: str = "label"
) -> list[LabelledText]:
    """All labelled texts of a source. A label is a text, a whole number, or true or false.

    `field` and `label_field` name the fields. White space at the ends of a label is removed.
    """
    examples = []
    for where, _, row in open_rows(source, data_dir=data_dir):
        text, label = text_of(row, field, where), field_of(row, label_field, where, (str, int, bool))
        label = text_of(row, label_field, where) if isinstance(label, str) else json.dumps(label)
        if not text.strip():
            raise UserError(f'{where}: "{field}" is empty')
        if not (label := label.strip()):
            raise UserError(f'{where}: "{label_field}" is empty: give the text a class or leave it out')
        examples.append(LabelledText(text, label))
    if not examples:
        raise UserError(f"{_name(source)} holds no labelled texts")
    return examples


def open_questions(
    source: Source, *, data_dir: str | Path | None = None, require_answers: bool = True
) -> list[QAExample]:
    """All questions of a source. With `require_answers=False` the gold answers are not looked at (we want our own).

    A row without an id gets one as in `open_rows`. An answer with a start must be at that place of its context; an
    answer without a start may be any text. Raises UserError also if an id occurs twice, since predictions have ids.
    """
    examples: list[QAExample] = []
    seen: dict[str, str] = {}
    for where, default_id, row in _all_rows(source, data_dir, _tfds_questions):
        example = _question(row, where, default_id, require_answers)
        if example.id in seen:
            before = seen[example.id]
            raise UserError(f"{where}: the id {example.id!r} occurs twice (before: {before}): ids must be unique")
        seen[example.id] = where
        examples.append(example)
    if not examples:
        raise UserError(f"{_name(source)} holds no questions")
    return examples


def local_path(source: str | Path) -> Path:
    """The path of a source that is a file: the path of "tiny_world:NAME"; other names are paths."""
    if str(source).startswith("tiny_world:"):
        from tlqa_jax.data.tiny_world import bundled

        return bundled(str(source).removeprefix("tiny_world:"))
    check_local(source)
    return Path(source).expanduser()


def _open(
    source: str | Path, data_dir: str | Path | None, suffixes: Sequence[str]
) -> tuple[list[Path], TfdsRecords | None]:
    if str(source).startswith("tfds:"):
        return [], TfdsRecords(str(source), data_dir=data_dir)
    return find_files(local_path(source), suffixes), None


def _marked_files(source: str | Path) -> list[Path]:
    path = local_path(source)
    if str(source).startswith("tfds:") or (path.is_file() and suffix(path) not in MARKED):
        raise UserError(
            f"{source}: spans are marked in rows, which only {' and '.join(MARKED)} files have; in any other text "
            "--salient-spans rule finds names and dates"
        )
    return find_files(path, MARKED)


def _texts_of_file(path: Path, field: str) -> Iterator[str]:
    if suffix(path) == ".txt":
        lines: list[str] = []
        for _, line in numbered_lines(path):
            if line := line.strip():
                lines.append(line)
            elif lines:
                yield " ".join(lines)
                lines = []
        if lines:
            yield " ".join(lines)
    else:
        squad, rows = squad_or_rows(path)
        if squad is not None:
            yield from (text_of(paragraph, "context", where) for where, _, paragraph in squad_paragraphs(squad, path))
        else:
            yield from (text_of(row, field, where) for where, row in rows)


def _all_rows(
    source: Source, data_dir: str | Path | None, of_tfds: Callable[[TfdsRecords], Iterator[tuple[str, str, dict]]]
) -> Iterator[tuple[str, str, dict]]:
    """(where, id to use if there is none, row) for each question of SQuAD's layout, and for each row."""
    opened = [_open(one, data_dir, ROWS) for one in _as_list(source)]
    names = Counter(file.name for files, _ in opened for file in files)
    for files, records in opened:
        if records is not None:
            yield from of_tfds(records)
        for file in files:
            yield from _rows_of_file(file, file.name if names[file.name] == 1 else str(file))


def _rows_of_file(path: Path, name: str) -> Iterator[tuple[str, str, dict]]:
    squad, rows = squad_or_rows(path)
    if squad is None:
        for number, (where, row) in enumerate(rows, 1):
            yield where, f"{name}:{number}", row
        return
    number = 0
    for where, title, paragraph in squad_paragraphs(squad, path):
        context = text_of(paragraph, "context", where)
        for qa in objects_of(paragraph, "qas", where):
            number += 1
            named = f"question {qa['id']!r}" if isinstance(qa.get("id"), str) else f"question {number}"
            yield f"{path}, {named}", f"{name}:{number}", {**qa, "context": context, "title": title}


def _tfds_texts(records: TfdsRecords, field: str) -> Iterator[str]:
    if field not in records.fields:
        raise UserError(
            f'{records.source} has no field "{field}" to read as text; its fields are {", ".join(records.fields)}'
        )
    markers = ("_START_ARTICLE_", "_START_SECTION_", "_START_PARAGRAPH_", "_NEWLINE_")  # Wiki40B's layout, not words
    for number, row in enumerate(records):
        text = text_of(row, field, f"{records.source}, record {number}")
        if records.source.startswith("tfds:wiki40b"):
            for marker in markers:
                text = text.replace(marker, "\n")
        yield text


def _tfds_rows(records: TfdsRecords) -> Iterator[tuple[str, str, dict]]:
    for number, row in enumerate(records):
        numbered = {name: row[name] for name in records.classes if isinstance(row[name], int)}  # not a list of classes
        named = {name: records.classes[name][place] for name, place in numbered.items() if place >= 0}  # -1: a test set
        yield f"{records.source}, record {number}", f"{records.source}:{number}", row | named


def _tfds_questions(records: TfdsRecords) -> Iterator[tuple[str, str, dict]]:
    fields = set(records.fields)
    if "question" not in fields or not fields & {"answer", "answers"}:
        raise UserError(
            f'{records.source} is no set of questions, with "question" and "answers": '
            f"its fields are {', '.join(records.fields)}"
        )
    for number, row in enumerate(records):
        named = f"question {row['id']!r}" if isinstance(row.get("id"), str) else f"record {number}"
        yield f"{records.source}, {named}", f"{records.source}:{number}", row


def _question(row: dict, where: str, default_id: str, require_answers: bool) -> QAExample:
    names = [name for name in ("id", "question_id") if name in row]
    id = id_of(row, names[0], where) if names else default_id
    if "question" not in row:
        check_format(row, where)
    question = text_of(row, "question", where)
    if not question.strip():
        raise UserError(f'{where}: "question" is empty')
    context = text_of(row, "context", where) if row.get("context") is not None else None
    answers, starts = _answers(row, where) if require_answers else ([], [])
    if require_answers and _is_impossible(row, where) and answers:
        raise UserError(f'{where}: "is_impossible" is true, yet there is an answer {answers[0]!r}')
    for answer, start in zip(answers, starts, strict=False):
        if context is None:
            raise UserError(f'{where}: the answer {answer!r} has a start but there is no "context"')
        there = context[start : start + len(answer)] if start >= 0 else ""
        if there != answer:
            place = context.find(answer)
            hint = f"it stands at {place}" if place >= 0 else "it is nowhere in the context"
            raise UserError(
                f"{where}: the answer {answer!r} is not in its context at answer_start {start}, "
                f"where there is {there!r}; {hint}"
            )
    title = row.get("title")
    return QAExample(id, question, tuple(answers), context, tuple(starts), title if isinstance(title, str) else "")


def check_format(row: dict, where: str) -> None:
    """Raise UserError that names the format of a row of questions, if it is one that is known to be of no use here."""
    for field, name in FORMATS.items():
        if field in row:
            needed = 'convert them to rows with "question", "context" and "answers"'
            raise UserError(f"{where}: these are {name} rows, which are not read here: {needed}")


def _is_impossible(row: dict, where: str) -> bool:
    """The field "is_impossible"; in a .csv it is a text."""
    value = row.get("is_impossible", False)
    known = {"true": True, "false": False, None: False}
    value = known.get(value.strip().lower() if isinstance(value, str) else value, value)
    return field_of({"is_impossible": value}, "is_impossible", where, bool)


def _answers(row: dict, where: str) -> tuple[list[str], list[int]]:
    """Texts and starts, from all the ways in which rows write answers."""
    name = "answer" if "answer" in row and "answers" not in row else "answers"
    if name not in row:
        raise UserError(
            f'{where}: no field "answers" or "answer"; found {listed(row)} '
            '(an empty cell of a .csv is no field; a question without an answer has "answers" [])'
        )
    value = field_of(row, name, where, (str, list, dict))
    starts: Any = row.get("answer_start", [])
    if isinstance(value, dict) and "aliases" in value:  # TriviaQA: all of them are right, and "value" is the first
        aliases = field_of(value, "aliases", f"{where}, {name}", list)
        texts = list(dict.fromkeys([text_of(value, "value", f"{where}, {name}"), *aliases]))
    elif isinstance(value, dict):  # TFDS and Hugging Face: {"text": [...], "answer_start": [...]}
        texts, starts = (field_of(value, name, f"{where}, answers", list) for name in ("text", "answer_start"))
    elif isinstance(value, list) and value and all(isinstance(answer, dict) for answer in value):  # SQuAD
        texts = [text_of(answer, "text", f"{where}, answers") for answer in value]
        starts = [field_of(answer, "answer_start", f"{where}, answers", int) for answer in value]
    else:
        texts = value if isinstance(value, list) else [value]
    starts = starts if isinstance(starts, list) else [starts]
    for text in texts:
        if not isinstance(text, str):
            raise UserError(f'{where}: an answer in "{name}" is {show_value(text)}, not text')
        if not text.strip():
            raise UserError(f'{where}: an answer in "{name}" is empty; a question without an answer has an empty list')
    if any(type(start) is not int for start in starts) or (starts and len(starts) != len(texts)):
        raise UserError(
            f'{where}: "answer_start" is {show_value(starts)}, not one whole number for each of {len(texts)} answers'
        )
    return texts, starts


def _as_list(source: Source) -> list[str | Path]:
    return [source] if isinstance(source, str | Path) else list(source)


def _name(source: Source) -> str:
    return ", ".join(map(str, _as_list(source)))
