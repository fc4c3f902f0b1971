"""Tasks as text in and text out, each a small record: one model, one loss, and the task told in the text itself.

    sentiment: The soup was dull.                                       ->  negative
    question type: By which firm is Ralf employed?                      ->  employer
    question: Where was Mira born? context: Mira comes from Oss.        ->  Oss
    stsb sentence1: A man sleeps. sentence2: Someone is asleep.         ->  4.6

A record is data and nothing else: how a row becomes the text to read and the text to write, how what was written
becomes a prediction, and how predictions are scored. So a run keeps the records of its tasks in its config.json, and a
task of one's own is a few lines of Python or of JSON:

    PUNS = TextTask(
        "puns", input="is it a pun: {text}", target="label", labels={"0": "no", "1": "yes"}, metrics=("accuracy",)
    )

The prefixes are those of Raffel et al. 2020, appendix D, where the task is one of theirs.
"""

import dataclasses
import json
import math
import re
import string
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tlqa_jax.errors import UserError
from tlqa_jax.metrics import texts


@dataclass(frozen=True)
class TextExample:
    """An example of any task. `head` and `tail` are what must not be cut of the input: all but its last field."""

    id: str
    input: str
    target: str  # the text to learn
    answers: tuple[str, ...]  # the texts that count as right, the best known first
    head: str = ""  # the question before its context
    tail: str = ""


@dataclass(frozen=True)
class TextTask:
    """One task: how rows with named fields become text, and text becomes a score.

    Raises UserError for a record that cannot be meant.
    """

    name: str
    input: str
    """What the model reads, fields in braces: "sentiment: {text}". The last field may lose its
    end; the text behind it stays."""
    target: str
    """Name of the field with what it is to write: a text, a number, or a list of texts that are all right."""
    metrics: tuple[str, ...] = ("exact_match",)
    """Names from `metrics.texts`."""
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    """The word to write for each value of the target in the data, {"0": "negative", …}; none: the value itself."""
    step: float | int | None = None
    """Write numbers rounded to multiples of this: 0.2 makes 2.57 the text "2.6" (STS-B as a text)."""
    whole: bool = False
    """Whether also the last field must fit into the input."""
    questions: bool = False
    """Whether the rows are questions: SQuAD's layout, its ways to write answers, no answer at all."""
    other_names: Mapping[str, tuple[str, ...]] = field(default_factory=dict, hash=False)
    """What fields are called in some sources, {"text": ("sentence",)}; the first that a row has is taken."""
    train: str | None = None
    """Where examples come from if nobody says otherwise."""
    held_out: str | None = None
    """Examples to evaluate on."""

    def __post_init__(self):
        if not (self.name and self.name.replace("_", "").replace("-", "").isalnum()):
            raise UserError(f"a task's name is {self.name!r}: letters, digits, - and _ are wanted")
        if not self.fields or any(not name for name in self.fields):
            raise UserError(f'task {self.name}: "input" is {self.input!r}: it needs a field, such as {{text}}')
        if strange := [name for _, name, spec, kind in self._parts() if spec or kind or "." in name or "[" in name]:
            name = re.split(r"[.[]", strange[0])[0]
            raise UserError(
                f'task {self.name}: "input" is {self.input!r}: of a field only its name goes in braces: {{{name}}}'
            )
        if isinstance(self.metrics, str):
            raise UserError(f'task {self.name}: "metrics" is a text; wanted are several: ("{self.metrics}",)')
        if number := [key for key in self.labels if not isinstance(key, str)]:
            raise UserError(f'task {self.name}: the label {number[0]!r} is no text: write "{number[0]}"')
        if not self.metrics:
            raise UserError(f'task {self.name}: "metrics" names none; known are {", ".join(texts.METRICS)}')
        if unknown := [name for name in self.metrics if name not in texts.METRICS]:
            raise UserError(f"task {self.name}: there is no metric {unknown[0]!r}; known: {', '.join(texts.METRICS)}")
        for name, others in self.other_names.items():
            if not isinstance(others, list | tuple) or not all(isinstance(one, str) for one in others):
                raise UserError(f'task {self.name}: "other_names" of {name!r} are {others!r}: several texts are wanted')
        if self.step is not None and not self.step > 0:
            raise UserError(f'task {self.name}: "step" is {self.step}: it has to be above 0')

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
        """The example in a row. Raises UserError, beginning with `where`, for a field that is missing or no text."""
        values = {name: str(self._value(row, name, where, (str, int, float))).strip() for name in self.fields}
        target, answers = self._target(row, where)
        pieces = [(text, name) for text, name, _, _ in string.Formatter().parse(self.input)]
        last = max(place for place, (_, name) in enumerate(pieces) if name is not None)
        written = lambda pieces: "".join(text + values.get(name, "") for text, name in pieces)
        head, tail = (pieces, []) if self.whole else (pieces[:last], pieces[last + 1 :])
        return TextExample(id or where, written(pieces), target, answers, written(head), written(tail))

    def prediction(self, output: str) -> str:
        """What is scored, of what the model wrote: a label whatever its case, else the text."""
        text = output.strip()
        return next((word for word in self.labels.values() if word.lower() == text.lower()), text)

    def score(
        self, outputs: Sequence[str], examples: Sequence[TextExample], normalize: Callable[[str], str] = str
    ) -> dict[str, float]:
        """Each metric of what the model wrote for `examples`, in percent.

        Texts are compared after `normalize`. For a model it is its vocabulary's (`SentencePieceTokenizer.normalize`):
        one that makes "km2" of "km²", and one line of two, can write nothing else.
        """
        predictions = [normalize(self.prediction(output)) for output in outputs]
        answers = [[normalize(answer) for answer in example.answers or ("",)] for example in examples]
        return texts.score(self.metrics, predictions, answers)

    def _target(self, row: Mapping[str, Any], where: str) -> tuple[str, tuple[str, ...]]:
        value = self._value(row, self.target, where, (str, int, float, list, tuple))
        if isinstance(value, list | tuple):  # no answer at all: nothing is to be written
            answers = tuple(str(answer).strip() for answer in value)
            return (answers[0] if answers else ""), answers
        if self.step is not None:
            number = _number(value)
            if number is None:
                raise UserError(f'{where}: "{self.target}" is {value!r}, not a number')
            return self.rounded(number), (str(number),)  # scored against the number as it was
        text = str(value).strip()
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
            raise UserError(f"{where}: no field {wanted}, which task {self.name} wants; found {there}")
        if type(row[found]) not in kinds:
            shown = json.dumps(row[found])[:40]
            raise UserError(f'{where}: "{found}" is {shown}, of which task {self.name} can make no text')
        return row[found]


def _number(value: str | int | float) -> float | None:
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None


CONTEXT_QA = TextTask(
    "context_qa", "question: {question} context: {context}", target="answers", metrics=("exact_match", "f1"),
    questions=True, train="tiny_world:context_train.json", held_out="tiny_world:context_dev.json",
)
CLOSED_BOOK_QA = TextTask(
    "closed_book_qa", "question: {question}", target="answers", metrics=("exact_match", "f1"), questions=True,
    whole=True, train="tiny_world:closed_book_train.json", held_out="tiny_world:closed_book_dev.json",
)
SENTIMENT = TextTask(  # its words are those of SST-2 in the paper
    "sentiment", "sentiment: {text}", target="label", labels={"0": "negative", "1": "positive"}, metrics=("accuracy",),
    other_names={"text": ("sentence", "review")},
    train="tiny_world:reviews_train.jsonl", held_out="tiny_world:reviews_dev.jsonl",
)
QUESTION_TYPE = TextTask(  # what is asked for: the tiny world's relations (held out are other forms), or TREC's classes
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
)
TRANSLATION = TextTask("translation", "translate English to German: {en}", target="de", metrics=("bleu",))
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
        CONTEXT_QA, CLOSED_BOOK_QA, SENTIMENT, QUESTION_TYPE, SUMMARISATION, TRANSLATION, SIMILARITY, ACCEPTABILITY,
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
            raise UserError(f"there is no task {name!r}; known are {', '.join(known)}, or give a .json file of one")
        if task.name in found:
            raise UserError(f"the task {task.name} is named twice")
        found[task.name] = task
    if not found:
        raise UserError(f"no task is named; known are {', '.join(known)}")
    return found


def read_task(path: str | Path) -> TextTask:
    """The record in a JSON file: an object with the fields of `TextTask`."""
    try:
        record = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"the task {path} cannot be read: {error.strerror}") from None
    except ValueError as error:  # not JSON, or not UTF-8
        raise UserError(f"the task {path} is not JSON: {error}") from None
    return task_of(record, path)


def task_of(record: Any, where: str | Path) -> TextTask:
    """A TextTask from a JSON object; a field that is unknown, missing or of another kind is an error that names it."""
    kinds = {
        "name": str, "input": str, "target": str, "metrics": list | tuple, "labels": dict,
        "step": float | int | None, "whole": bool, "questions": bool, "other_names": dict,
        "train": str | None, "held_out": str | None,
    }  # fmt: skip
    if not isinstance(record, dict):
        raise UserError(f"{where}: a task is a JSON object with the fields {', '.join(kinds)}")
    if unknown := sorted(record.keys() - kinds):
        raise UserError(f"{where}: a task has no field {', '.join(unknown)}; known are {', '.join(kinds)}")
    if missing := [name for name in ("name", "input", "target") if name not in record]:
        raise UserError(f'{where}: a task needs a field "{missing[0]}"')
    several = lambda value: value if isinstance(value, list | tuple) else [None]
    texts_of = {
        "metrics": list, "labels": dict.values,
        "other_names": lambda names: [text for value in names.values() for text in several(value)],
    }  # fmt: skip
    for name, value in record.items():
        within = texts_of.get(name, lambda _: ())
        if not isinstance(value, kinds[name]) or not all(isinstance(text, str) for text in within(value)):
            raise UserError(f'{where}: "{name}" is {json.dumps(value)[:40]}, which is of the wrong kind')
    other_names = {name: tuple(others) for name, others in record.get("other_names", {}).items()}  # JSON has no tuples
    metrics = {"metrics": tuple(record["metrics"])} if "metrics" in record else {}
    return TextTask(**record | {"other_names": other_names} | metrics)


def records(tasks: Mapping[str, TextTask]) -> dict[str, dict]:
    """The tasks as JSON objects, for a run's config.json."""
    return {name: dataclasses.asdict(task) for name, task in tasks.items()}
