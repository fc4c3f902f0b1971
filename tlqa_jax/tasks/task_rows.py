"""The rows of a T5's fine-tuning: examples of one task or of several, mixed at their rates, packed or not.

    sources = find_sources(tasks, ["sentiment=train.jsonl"], [])        # what each task is learned from
    examples = {name: read_examples(tasks[name], source) for name, source in sources.train.items()}
    rows = TaskRows(tokenizer, examples, input_length=512, target_length=32, mixing="proportional", seed=0)
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from tlqa_jax.data.batches import ShuffledOrder
from tlqa_jax.data.sources import Source, open_questions, open_rows
from tlqa_jax.errors import UserError
from tlqa_jax.examples import TextExample
from tlqa_jax.tasks.mixture import Mixture, mixing_rates
from tlqa_jax.tasks.packing import Packing
from tlqa_jax.tasks.text_tasks import TextTask
from tlqa_jax.tasks.text_to_text import TextArrays, encode_texts, join
from tlqa_jax.text.sentencepiece import SentencePieceTokenizer


class Sources(NamedTuple):
    """Of each task, what to learn it from, and what to evaluate it on, if anything."""

    train: dict[str, list[str]]
    held_out: dict[str, list[str]]


def find_sources(tasks: Mapping[str, TextTask], train: Sequence[str], held_out: Sequence[str]) -> Sources:
    """The sources of each task: those given as TASK=SOURCE, else those in its record.

    Raises UserError for a source of no task, for a task without any source, and for a metric to evaluate with whose
    library is not installed.
    """
    given: dict[str, dict[str, list[str]]] = {"--train-on": {}, "--held-out": {}}
    for flag, texts in zip(given, (train, held_out)):
        for text in texts:
            name, equals, source = text.partition("=")
            if not (equals and source):
                raise UserError(f"{flag} {text}: it has to be TASK=SOURCE, such as {next(iter(tasks))}=examples.jsonl")
            if name not in tasks:
                raise UserError(f"{flag} {text}: there is no task {name!r} in this run; its tasks are {', '.join(tasks)}")
            given[flag].setdefault(name, []).append(source)
    train_of, held_out_of = given.values()
    for name, task in tasks.items():
        if name not in train_of:
            if task.train is None:
                raise UserError(f"nothing to learn the task {name} from: give --train-on {name}=SOURCE")
            train_of[name] = [task.train]
            if task.held_out is not None:
                held_out_of.setdefault(name, [task.held_out])
    in_order = lambda sources: {name: sources[name] for name in tasks if name in sources}
    return Sources(in_order(train_of), in_order(held_out_of))


def read_examples(task: TextTask, source: Source, data_dir: str | None = None) -> list[TextExample]:
    """All examples of a task in a source. Raises UserError, naming the record, for one that cannot be read."""
    if task.questions:
        examples = [
            task.example({k: v for k, v in vars(e).items() if v not in (None, "")}, f"question {e.id!r}", e.id)
            for e in open_questions(source, data_dir=data_dir)
        ]
    else:
        examples = [task.example(row, where, id) for where, id, row in open_rows(source, data_dir=data_dir)]
    if not examples:
        raise UserError(f"{source if isinstance(source, str) else ', '.join(map(str, source))} holds no {task.name}")
    return examples


def check_unique_ids(examples: Sequence[TextExample], where: str) -> None:
    """Raise UserError if an id occurs twice: predictions are kept by id, and one of two would be lost."""
    id, count = Counter(example.id for example in examples).most_common(1)[0]
    if count > 1:
        raise UserError(f"{where}: the id {id!r} occurs twice: predictions are kept by id, so ids must be unique")


class TaskRows:
    """The training rows of several tasks, one stream: each task at its rate (`mixing_rates`), each shuffled on its own.

    With `pack` several examples of a task share a row; the rates of the examples stay. `encode(examples)` makes arrays of
    the same lengths of other examples.
    """

    def __init__(
        self, tokenizer: SentencePieceTokenizer, examples: Mapping[str, Sequence[TextExample]], *, input_length: int,
        target_length: int, mixing: str = "proportional", pack: bool = False, seed: int = 0,
    ):  # fmt: skip
        self.encode = partial(encode_texts, tokenizer, input_length=input_length, target_length=target_length)
        self.arrays = {name: self.encode(of_task) for name, of_task in examples.items()}
        sizes = [len(of_task) for of_task in examples.values()]
        self.rates, joined = mixing_rates(sizes, mixing), join(list(self.arrays.values()))
        self.packing = Packing(joined, seed, sizes) if pack else None
        rates = self.rates
        if self.packing:
            # each task's examples come as often as before, and so many of them share a row
            rates = self.rates * self.packing.sizes / sizes
            rates, sizes, self.build = rates / rates.sum(), self.packing.sizes, self.packing.build
            self.input_length = self.packing.input_length
        else:
            trimmed = joined.trimmed()
            self.build, self.input_length = partial(rows_of, trimmed), trimmed.inputs.shape[1]
        seeds = np.random.SeedSequence(seed).generate_state(len(sizes)).tolist()
        self.order = Mixture([ShuffledOrder(size, own) for size, own in zip(sizes, seeds)], rates, seed)
        self.size = self.order.num_examples

    def report(self) -> list[str]:
        """Lines for the user: each task's share, how much was cut, what packing saves."""
        lines = [
            f"{name}: {100 * rate:.1f}% of the examples; {arrays.report()}"
            for (name, arrays), rate in zip(self.arrays.items(), self.rates)
        ]
        return lines + ([self.packing.report()] if self.packing else [])


def rows_of(arrays: TextArrays, indices: np.ndarray, *_) -> dict[str, np.ndarray]:
    """The rows with these numbers, as `data.batches` asks for them."""
    return {"inputs": arrays.inputs[indices], "targets": arrays.targets[indices]}
