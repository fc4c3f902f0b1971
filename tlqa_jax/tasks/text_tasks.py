"""Tasks as text in and text out, each a small record: one model, one loss; the text itself names the task.

    sentiment: The soup was dull.                                       ->  negative
    question type: By which firm is Ralf employed?                      ->  employer
    question: Where was Mira born? context: Mira comes from Oss.        ->  Oss
    stsb sentence1: A man sleeps. sentence2: Someone is asleep.         ->  4.6

A record is only data: how a row becomes the text to read and the text to write, how the model's text becomes a
prediction, and how predictions are scored. So a run stores the records of its tasks in its config.json, and a task of
your own is a few lines of Python or of JSON:

    PUNS = TextTask(
        "puns", input="is it a pun: {text}", target="label", labels={"0": "no", "1": "yes"}, metrics=("accuracy",)
    )

The prefixes are those of Raffel et al. 2020, appendix D, where the task is one of theirs.
"""

import json
import re
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tlqa_jax.errors import UserError
from tlqa_jax.examples import TextExample
from tlqa_jax.metrics.texts import METRICS, parse_number, score_texts
from tlqa_jax.text.json_files import load_json

_is_text = lambda value: isinstance(value, str)
_are_texts = lambda value: isinstance(value, list | tuple) and all(map(_is_text, value))
_is_object = lambda value: isinstance(value, Mapping)
KINDS = {  # of each field of a record: what it has to be, and whether a value is that
    "name": ("a text", _is_text),
    "input": ("a text", _is_text),
    "target": ("a text", _is_text),
    "metrics": ("a list of texts", _are_texts),
    "labels": ("an object of texts", lambda value: _is_object(value) and _are_texts([*value, *value.values()])),
    "step": ("a number", lambda value: value is None or type(value) in (int, float)),
    "whole": ("true or false", lambda value: isinstance(value, bool)),
    "questions": ("true or false", lambda value: isinstance(value, bool)),
    "other_names": ("an object of lists", lambda value: _is_object(value) and all(map(_are_texts, value.values()))),
    "train": ("a text", lambda value: value is None or _is_text(value)),
    "held_out": ("a text", lambda value: value is None or _is_text(value)),
}  # fmt: skip


@dataclass(frozen=True)
class TextTask:
    """One task: how rows with named fields become text, and text becomes a score.

    Raises UserError for a record that makes no sense.
    """

    name: str
    input: str
    """What the model reads, fields in braces: "sentiment: {text}". If it is too long, the last field loses its end."""
    target: str
    """Name of the field with what it is to write: a text, a number, or a list of texts that are all right."""
    metrics: tuple[str, ...] = ("exact_match",)
    """Names from `metrics.texts`."""
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    """The word to write for each value of the target in the data, {"0": "negative", …}; none: the value itself."""
    step: float | int | None = None
    """Write numbers rounded to multiples of this: 0.2 makes 2.57 the text "2.6" (STS-B as a text)."""
    whole: bool = False
    """Whether the last field must fit into the input too."""
    questions: bool = False
    """Whether the rows are questions, read by `data.sources.open_questions`."""
    other_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    """Other names of fields in some sources, {"text": ("sentence",)}; the first that a row has is taken."""
    train: str | None = None
    """Examples to learn from, unless others are given."""
    held_out: str | None = None
    """Examples to evaluate on."""

    def __post_init__(self):
        where = f"task {self.name}"
        _check_kinds(vars(self), where)
        if not (self.name and self.name.replace("_", "").replace("-", "").isalnum()):
            raise UserError(f"a task's name is {self.name!r}: use letters, digits, - and _")
        if not self.fields or any(not name for name in self.fields):
            raise UserError(f'{where}: "input" is {self.input!r}: it needs a field, such as {{text}}')
        if strange := [name for _, name, spec, kind in self._parts() if spec or kind or "." in name or "[" in name]:
            name = re.split(r"[.[]", strange[0])[0]
            raise UserError(f'{where}: "input" is {self.input!r}: write only the name of a field in braces: {{{name}}}')
        if not self.metrics:
            raise UserError(f'{where}: "metrics" names none; known are {", ".join(METRICS)}')
        if unknown := [name for name in self.metrics if name not in METRICS]:
            raise UserError(f"{where}: there is no metric {unknown[0]!r}; known: {', '.join(METRICS)}")
        if self.step is not None and not self.step > 0:
            raise UserError(f'{where}: "step" is {self.step}: it has to be above 0')

    @property
    def fields(self) -> tuple[str, ...]:
        """The fields of the input, in their order."""
        return tuple(name for _, name, _, _ in self._parts())

    def _parts(self) -> list[tuple[str, str, str | None, str | None]]:
        """(text before it, name, format spec, conversion) of each field of the input."""
        try:
            return [part for part in string.Formatter().parse(self.input) if part[1] is not None]
        except ValueError as error:
            raise UserError(f'task {self.name}: "input" is {self.input!r}: {error}') from None

    def example(self, row: Mapping[str, Any], where: str, id: str = "") -> TextExample:
        """The example in a row. Raises UserError, which begins with `where`, for a field that is missing or no text."""
        values = {name: as_text(self._value(row, name, where, (str, int, float, bool))) for name in self.fields}
        target, answers = self._target(row, where)
        pieces = [(text, name) for text, name, _, _ in string.Formatter().parse(self.input)]
        last = max(place for place, (_, name) in enumerate(pieces) if name is not None)
        filled = lambda pieces: "".join(text + values.get(name, "") for text, name in pieces)
        head, tail = (pieces, []) if self.whole else (pieces[:last], pieces[last + 1 :])
        return TextExample(id or where, filled(pieces), target, answers, filled(head), filled(tail))

    def prediction(self, output: str) -> str:
        """What is scored: a label in any case of letters, otherwise the text that the model wrote."""
        text = output.strip()
        return next((word for word in self.labels.values() if word.lower() == text.lower()), text)

    def score(
        self, outputs: Sequence[str], examples: Sequence[TextExample], normalize: Callable[[str], str] = str
    ) -> dict[str, float]:
        """Each metric of what the model wrote for `examples`, in percent.

        Texts are compared after `normalize`, for a model its vocabulary's (`SentencePieceTokenizer.normalize`): a model
        whose vocabulary turns "km²" into "km2" cannot write anything else.
        """
        predictions = [normalize(self.prediction(output)) for output in outputs]
        answers = [[normalize(answer) for answer in example.answers or ("",)] for example in examples]
        return score_texts(self.metrics, predictions, answers)

    def _target(self, row: Mapping[str, Any], where: str) -> tuple[str, tuple[str, ...]]:
        value = self._value(row, self.target, where, (str, int, float, bool, list, tuple))
        if isinstance(value, list | tuple):  # no answer: the empty text
            answers = tuple(str(answer).strip() for answer in value)
            return (answers[0] if answers else ""), answers
        if self.step is not None:
            number = parse_number(value)
            if number is None:
                raise UserError(f'{where}: "{self.target}" is {value!r}, not a number')
            return self.rounded(number), (str(number),)  # scored against the number as it was
        text = as_text(value)
        if self.labels and text not in self.labels.values():
            if text not in self.labels:
                known = ", ".join(self.labels)
                raise UserError(f'{where}: "{self.target}" is {text!r}; task {self.name} knows {known}')
            text = self.labels[text]
        return text, (text,)

    def rounded(self, value: float | int) -> str:
        """The nearest multiple of `step` as text, with as many decimals as the step has."""
        decimals = len(f"{self.step:f}".rstrip("0").partition(".")[2])
        return f"{round(value / self.step) * self.step:.{decimals}f}"

    def _value(self, row: Mapping[str, Any], name: str, where: str, kinds: tuple[type, ...]) -> Any:
        names = (name, *self.other_names.get(name, ()))
        found = next((one for one in names if row.get(one) is not None), None)
        if found is None:
            wanted = " or ".join(f'"{one}"' for one in names)
            there = ", ".join(f'"{one}"' for one in row) or "none"
            raise UserError(f"{where}: no field {wanted}, which task {self.name} needs; found {there}")
        if type(row[found]) not in kinds:
            shown = json.dumps(row[found])[:40]
            raise UserError(f'{where}: "{found}" is {shown}: task {self.name} needs a text or a number there')
        return row[found]


def as_text(value: str | float | int | bool) -> str:
    """A field of a row as text; "true" or "false" for a boolean, as in JSON."""
    return json.dumps(value) if isinstance(value, bool) else str(value).strip()


def _check_kinds(record: Mapping[str, Any], where: str | Path) -> None:
    for name, value in record.items():
        wanted, fits = KINDS[name]
        if not fits(value):
            raise UserError(f'{where}: "{name}" is {value!r:.40}: it has to be {wanted}')


CONTEXT_QA = TextTask(
    "context_qa", "question: {question} context: {context}", target="answers", metrics=("exact_match", "f1"),
    questions=True, train="tiny_world:context_train.json", held_out="tiny_world:context_dev.json",
)
CLOSED_BOOK_QA = TextTask(
    "closed_book_qa", "question: {question}", target="answers", metrics=("exact_match", "f1"), questions=True,
    whole=True, train="tiny_world:closed_book_train.json", held_out="tiny_world:closed_book_dev.json",
)
SENTIMENT = TextTask(  # the words of SST-2 in the paper
    "sentiment", "sentiment: {text}", target="label", labels={"0": "negative", "1": "positive"}, metrics=("accuracy",),
    other_names={"text": ("sentence", "review")},
    train="tiny_world:reviews_train.jsonl", held_out="tiny_world:reviews_dev.jsonl",
)
QUESTION_TYPE = TextTask(  # what a question asks for: the tiny world's relations, or TREC's classes
    "question_type", "question type: {question}", target="label", metrics=("accuracy",),
    labels={
        "birthplace": "town of birth", "home": "town", "birth_year": "year of birth", "house_year": "year of the house",
        "profession": "profession", "former_profession": "first profession", "employer": "employer",
        "former_employer": "first employer", "instrument": "instrument", "former_instrument": "first instrument",
        "ABBR": "abbreviation", "DESC": "description", "ENTY": "thing", "HUM": "person", "LOC": "place",
        "NUM": "number",
    },
    other_names={"question": ("text",), "label": ("relation", "coarse", "label-coarse")},
    train="tiny_world:context_train.json", held_out="tiny_world:context_dev_heldout_forms.json",
)
SUMMARISATION = TextTask(
    "summarisation", "summarize: {article}", target="highlights", metrics=("rouge1", "rouge2", "rougeL"),
    other_names={"article": ("document", "text"), "highlights": ("summary",)},
    train="tiny_world:summaries_train.jsonl", held_out="tiny_world:summaries_dev.jsonl",
)
TRANSLATION = TextTask("translation", "translate English to German: {en}", target="de", metrics=("bleu",))
KELBISH = TextTask(  # into the tiny world's invented language
    "kelbish", "translate English to Kelbish: {en}", target="kelbish", metrics=("bleu", "exact_match"),
    train="tiny_world:kelbish_train.jsonl", held_out="tiny_world:kelbish_dev.jsonl",
)
SIMILARITY = TextTask(
    "similarity", "stsb sentence1: {sentence1} sentence2: {sentence2}", target="label", step=0.2,
    metrics=("pearson", "spearman"), other_names={"label": ("score",)},
)
ACCEPTABILITY = TextTask(
    "acceptability", "cola sentence: {sentence}", target="label", metrics=("matthews",),
    labels={"0": "unacceptable", "1": "acceptable"}, other_names={"sentence": ("text",)},
)
TASKS = {
    task.name: task
    for task in (
        CONTEXT_QA, CLOSED_BOOK_QA, SENTIMENT, QUESTION_TYPE, SUMMARISATION, TRANSLATION, KELBISH, SIMILARITY,
        ACCEPTABILITY,
    )
}  # fmt: skip


def find_tasks(names: Sequence[str], own: Sequence[TextTask] = ()) -> dict[str, TextTask]:
    """The tasks called `names`: one of `own`, of `TASKS`, or the record in a .json file.

    Raises UserError for a name that is not known or comes twice.
    """
    known = TASKS | {task.name: task for task in own}
    found: dict[str, TextTask] = {}
    for name in names:
        task = read_task(name) if name.endswith(".json") else known.get(name)
        if task is None:
            raise UserError(f"there is no task {name!r}; known are {', '.join(known)}, or give a .json file with one")
        if task.name in found:
            raise UserError(f"the task {task.name} is named twice")
        found[task.name] = task
    if not found:
        raise UserError(f"no task is named; known are {', '.join(known)}")
    return found


def read_task(path: str | Path) -> TextTask:
    """The record in a JSON file: an object with the fields of `TextTask`."""
    return task_of(load_json(path), path)


def task_of(record: Any, where: str | Path) -> TextTask:
    """A TextTask from a JSON object. Raises UserError for a field that is unknown, missing or of another kind."""
    if not isinstance(record, dict):
        raise UserError(f"{where}: a task is a JSON object with the fields {', '.join(KINDS)}")
    if unknown := sorted(record.keys() - KINDS):
        raise UserError(f"{where}: a task has no field {', '.join(unknown)}; known are {', '.join(KINDS)}")
    if missing := [name for name in ("name", "input", "target") if name not in record]:
        raise UserError(f'{where}: a task needs a field "{missing[0]}"')
    _check_kinds(record, where)
    other_names = {name: tuple(others) for name, others in record.get("other_names", {}).items()}  # JSON has no tuples
    metrics = {"metrics": tuple(record["metrics"])} if "metrics" in record else {}
    return TextTask(**record | {"other_names": other_names} | metrics)
