"""Asking a trained model: `ask` one question, `open_run` for many and their scores, `classify` for classes of texts,
`generate` for whatever else a T5 writes.

    >>> tlqa_jax.ask("Where was Mira born?", "Mira, a clockmaker from Oss, plays the flute.", "runs/quickstart").text
    'Oss'

A T5 writes its answer, from a context or from memory; a BERT points at it in a context. (The module is called `asking`
because `tlqa_jax.ask` is the function.)
"""

import copy
import functools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from tlqa_jax.checkpoints.bert_runs import is_bert, load_bert_model
from tlqa_jax.checkpoints.huggingface import is_hub_name
from tlqa_jax.checkpoints.runs import (
    CHECKPOINTS,
    CONFIG,
    THRESHOLD,
    is_run,
    load_t5,
    main_run,
    read_config,
    read_threshold,
    trained_with,
)
from tlqa_jax.core.devices import compute_dtype, replicate
from tlqa_jax.data.batches import evaluation_batches
from tlqa_jax.errors import UserError
from tlqa_jax.examples import QAExample
from tlqa_jax.inference.answer_spans import SpanAnswer, SpanAnswerer, span_logits
from tlqa_jax.inference.answers import Answer, Answerer, answer_of
from tlqa_jax.inference.classifier import Classifier, TextClass
from tlqa_jax.inference.generation_config import Method
from tlqa_jax.inference.generator import Writer, Written
from tlqa_jax.inference.length_buckets import padded_length
from tlqa_jax.models.bert_heads import BertForQuestionAnswering, BertForSequenceClassification
from tlqa_jax.models.functional import as_function
from tlqa_jax.models.t5 import T5, T5Config
from tlqa_jax.tasks.extractive_qa import make_windows
from tlqa_jax.tasks.text_tasks import TextExample, TextTask, task_of
from tlqa_jax.tasks.text_to_text import TextArrays, encode_examples, encode_sources, encode_texts
from tlqa_jax.text.sentencepiece import SentencePieceTokenizer
from tlqa_jax.text.wordpiece import WordPieceTokenizer
from tlqa_jax.training import finetune_spans as extractive_qa, sequence_loss
from tlqa_jax.training.evaluation import mean_over_examples, summed_over_devices


def ask(
    question: str, context: str | None = None, run: str | Path = "runs/quickstart",
    *, threshold: float | None = None, **method: Any,
) -> Answer | SpanAnswer:  # fmt: skip
    """Answer a question, from a context or, without one, from memory (a T5 only).

    The first question loads the run and compiles; later ones to the same run do neither, for lengths seen before. A
    run that has been trained on since is loaded again. A context longer than the model reads at once is read through
    several windows.

    Args:
        run: directory of a fine-tuned run, or of a quickstart; or a Hugging Face directory or hub name.
        threshold: no answer where the no-answer score is above it, instead of the run's own threshold.
        method: how a T5 writes, `beams=4` or `temperature=0.7`, say: the settings of `decoding.methods.Method`.

    Raises UserError if there is no such run, it was not taught to answer, or the question is empty or, for a T5, too
    long. A BERT reads the beginning of a long question (`SpanAnswer.question_cut`).
    """
    if not question.strip():
        raise UserError("the question is empty")
    examples = [QAExample("question", question, (), context)]
    return open_run(run)(examples, method=Method(**method), threshold=threshold)[0]


def generate(
    texts: Sequence[str], run: str | Path, *, max_length: int | None = None, **method: Any
) -> list[list[Written]]:
    """What a T5 writes when it reads each of the texts, best first; of a pretrained run, what fills its sentinels.

    Args:
        run: directory of a T5's run, or of a quickstart.
        max_length: longest text to write in tokens; as in training where nothing is said.
        method: how it writes, and how many texts (`n`): the settings of `decoding.methods.Method`.

    Raises UserError if there is no such run, a text is too long for it, or `texts` is no list of them.
    """
    return open_t5(run).generate(texts, Method(**method), max_length)


def classify(texts: Sequence[str], run: str | Path) -> list[TextClass]:
    """The class of each text, by a classifier's run, Hugging Face directory or hub name, which is loaded once."""
    opened = _opened(run)
    if not isinstance(opened, OpenClassifier):
        raise UserError(
            f"{run} answers questions: `tlqa answer {run} --question …` (a classifier: `tlqa finetune-classifier`)"
        )
    return opened(texts)


def open_run(run: str | Path) -> "OpenT5 | OpenSpans":
    """A model that answers questions, ready to do so; the last two stay in memory."""
    opened = _opened(run)
    if isinstance(opened, OpenClassifier):
        raise UserError(f"{run} names the classes of texts: `tlqa classify {run} TEXT` does that")
    return opened


def open_any(run: str | Path) -> "OpenT5 | OpenSpans | OpenClassifier":
    """What `open_run` opens, or a classifier of texts."""
    return _opened(run)


def open_t5(run: str | Path) -> "OpenT5":
    """Any T5, whether or not it was taught to answer."""
    if is_bert(run):
        raise UserError(f"{run} holds a BERT, and a T5 is wanted here: a BERT does not write")
    return _opened(run, to_answer=False)


@dataclass(frozen=True)
class OpenT5:
    """A trained T5 with its parameters on all of this process's devices. Called with examples, it answers them."""

    path: Path
    config: T5Config
    tokenizer: SentencePieceTokenizer
    apply: Callable
    params: Any  # replicated
    input_length: int
    target_length: int
    null_threshold: float | None = None
    tasks: Mapping[str, TextTask] = field(default_factory=dict)  # what it was taught, if by `tlqa finetune`
    compiled: dict[Any, Any] = field(default_factory=dict)  # a Writer for each way of writing, whatever the seed
    loss_is = "nats per token of the gold answers"

    def __call__(
        self, examples: Sequence[QAExample], *, use_context: bool = True, method: Method = Method(),
        threshold: float | None = None,
    ) -> list[Answer]:  # fmt: skip
        """The answers, in the order of the examples; their gold answers are not looked at.

        Contexts that do not fit are read through windows that share a third of the input length.
        """
        if self.tasks and not any(task.questions for task in self.tasks.values()):
            raise UserError(f"{self.path} was not taught to answer questions; its tasks are {', '.join(self.tasks)}")
        answerer = Answerer(
            self.apply, self.tokenizer, **self._lengths, stride=self.input_length // 3,
            writer=self._writer(method, None), null_threshold=_threshold(threshold, self.null_threshold),
        )
        return answerer(self.params, without_gold(examples), use_context=use_context)

    def generate(
        self, texts: Sequence[str], method: Method = Method(), max_length: int | None = None
    ) -> list[list[Written]]:
        """What it writes to each text, best first."""
        _check_list(texts)
        if not texts:
            return []
        inputs, _ = self._encode(texts)
        return self._writer(method, max_length)(self.params, inputs, (inputs != self.tokenizer.pad_id).sum(axis=1))

    def stream(
        self, text: str, method: Method = Method(), max_length: int | None = None
    ) -> Iterator[tuple[str, str, float]]:
        """The same of one text while it is written: what it grows by, the piece, and its probability."""
        if "stream" not in self.compiled:
            self.compiled["stream"] = jax.tree.map(lambda x: x.addressable_data(0), self.params)
        inputs, length = self._encode([text])
        return self._writer(method, max_length).stream(self.compiled["stream"], inputs[:, :length])

    def _writer(self, method: Method, max_length: int | None) -> Writer:
        if max_length is not None and max_length < 1:
            raise UserError(f"max_length is {max_length}: it has to be at least 1")
        length = max_length or self.target_length
        way = replace(method, seed=0), length
        if way not in self.compiled:
            self.compiled[way] = Writer(self.apply, self.tokenizer, target_length=length, method=method)
        return self.compiled[way].with_seed(method.seed)

    def _encode(self, texts: Sequence[str]) -> tuple[np.ndarray, int]:
        """Rows of ids, and a length that few shapes have and that the longest fits into."""
        longest = max(len(ids) + 1 for ids in self.tokenizer.encode_batch(texts))
        if longest > self.input_length:
            raise UserError(
                f"a text of {longest} tokens is too long for {self.path}, which reads {self.input_length}: shorten it"
            )
        inputs, _ = encode_sources(self.tokenizer, texts, self.input_length)
        return inputs, padded_length(longest, self.input_length)

    def loss(self, examples: Sequence[QAExample], *, use_context: bool = True, batch_size: int = 32) -> float:
        """-log p(first gold answer) in nats per token of it, the end token among them."""
        rows = encode_examples(self.tokenizer, examples, **self._lengths, use_context=use_context)
        return self._loss(rows, batch_size)

    def task(self, name: str) -> TextTask:
        """The record of a task that the run was taught by `tlqa finetune`; UserError if it was not."""
        if name not in self.tasks:
            taught = f"its tasks are {', '.join(self.tasks)}" if self.tasks else "it was taught by no `tlqa finetune`"
            raise UserError(f"{self.path} has no task {name!r}: {taught}")
        return self.tasks[name]

    def score(self, name: str, examples: Sequence[TextExample]) -> tuple[dict[str, float], list[Answer]]:
        """The loss of a task's examples and its metrics in percent, and what was written for each example."""
        task, rows = self.task(name), encode_texts(self.tokenizer, examples, **self._lengths)
        written = self._written(rows)
        scores = task.score([one.text for one in written], examples, self.tokenizer.normalize)
        return {"loss": self._loss(rows), **scores}, written

    def write(self, examples: Sequence[TextExample]) -> list[Answer]:
        """What the model writes for each input, whatever the task."""
        return self._written(encode_texts(self.tokenizer, examples, **self._lengths))

    def _written(self, rows: TextArrays) -> list[Answer]:
        found = self._writer(Method(), None)(self.params, rows.inputs, rows.input_lengths)
        return [answer_of(texts[0], cut=cut) for texts, cut in zip(found, rows.inputs_cut.tolist())]

    @property
    def _lengths(self) -> dict[str, int]:
        return {"input_length": self.input_length, "target_length": self.target_length}

    def _loss(self, rows: TextArrays, batch_size: int = 32) -> float:
        build = lambda indices, *_: {"inputs": rows.inputs[indices], "targets": rows.targets[indices]}
        sums = partial(sequence_loss.evaluation_sums, self.apply)
        return _loss(sums, self.params, len(rows.inputs), build, batch_size)


@dataclass(frozen=True)
class OpenSpans:
    """A BERT that points at answers in their contexts, in the same way. The answers are a `SpanAnswer` each."""

    path: Path
    tokenizer: WordPieceTokenizer
    apply: Callable
    params: Any  # replicated
    answerer: SpanAnswerer
    loss_is = "nats for the first and the last token of an answer, the mean over windows"

    def __call__(
        self, examples: Sequence[QAExample], *, use_context: bool = True, method: Method = Method(),
        threshold: float | None = None,
    ) -> list[SpanAnswer]:  # fmt: skip
        self._check(examples, use_context)
        if method != Method():
            raise UserError(f"{self.path} points at answers and writes none: beams, temperature, … are for a T5")
        answerer = copy.copy(self.answerer)
        answerer.null_threshold = _threshold(threshold, answerer.null_threshold)
        return answerer(self.params, without_gold(examples))

    def loss(self, examples: Sequence[QAExample], *, use_context: bool = True, batch_size: int = 32) -> float:
        """-log p of the first gold answer's first and last token, averaged; the mean over the windows to learn from.

        nan where there is none: no answer is in its context.
        """
        self._check(examples, use_context)
        windows = make_windows(self.tokenizer, examples, **self.answerer.lengths)
        if not len(windows.learnable):
            return math.nan
        build = lambda indices, *_: windows.batch(windows.learnable[indices])
        sums = partial(extractive_qa.evaluation_sums, partial(span_logits, self.apply, self.tokenizer.pad_id))
        return _loss(sums, self.params, len(windows.learnable), build, batch_size)

    def _check(self, examples: Sequence[QAExample], use_context: bool) -> None:
        if not use_context:
            raise UserError(f"{self.path} points at answers in a context: --closed-book is for a T5")
        without = next((example.id for example in examples if not (example.context or "").strip()), None)
        if without is not None:
            advice = f'give question {without!r} one (with --question: --context; in rows: the field "context")'
            raise UserError(f"{self.path} points at answers in a context: {advice}")


@dataclass(frozen=True)
class OpenClassifier:
    """A BERT that names the classes of texts."""

    params: Any  # replicated
    classifier: Classifier

    def __call__(self, texts: Sequence[str]) -> list[TextClass]:
        _check_list(texts)
        return self.classifier(self.params, texts)


def _check_list(texts: Sequence[str]) -> None:
    """Refuse one text where many are meant: its letters would be read, one by one."""
    if isinstance(texts, str):
        raise UserError(f"{texts[:40]!r} is a text, and a list of texts is wanted here: put it into brackets")


def without_gold(examples: Sequence[QAExample]) -> list[QAExample]:
    return [replace(example, answers=(), answer_starts=()) for example in examples]


def _threshold(asked: float | None, own: float | None) -> float | None:
    """The no-answer threshold to keep to: that asked for, else the run's own. Infinity: there always is an answer."""
    if asked is not None and math.isnan(asked):
        raise UserError("--threshold is nan: it has to be a number")
    return own if asked is None else asked


def _loss(sums: Callable, params: Any, size: int, build: Callable, batch_size: int) -> float:
    return mean_over_examples(summed_over_devices(sums), params, evaluation_batches(size, batch_size, build))["loss"]


def _opened(run: str | Path, *, to_answer: bool = True) -> OpenT5 | OpenSpans | OpenClassifier:
    open_model = _open_bert if is_bert(run) else _open_t5
    if not Path(run).exists() and is_hub_name(run):
        return open_model(run)
    run = main_run(run)
    record = read_config(run) if is_run(run) else {}
    pretrained = record.get("program") == "span_corruption" and not record.get("training", {}).get("questions_share")
    if to_answer and pretrained:
        raise UserError(
            f"{run} was pretrained but not taught to answer: `tlqa finetune-qa --start-from {run}` does that"
        )
    patterns = (CONFIG, THRESHOLD, f"{CHECKPOINTS}/*", "*.safetensors")
    changed = sorted(file.stat().st_mtime_ns for pattern in patterns for file in run.glob(pattern))
    return open_model(run.resolve(), *changed)


@functools.lru_cache(maxsize=2)
def _open_t5(run: Path | str, *_changed: int) -> OpenT5:
    """`_changed`: numbers that differ when the run has been trained on."""
    training = trained_with(run)
    config, params, tokenizer = load_t5(run)
    model = nnx.eval_shape(lambda: T5(config, rngs=nnx.Rngs(0), dtype=compute_dtype(training.get("dtype", "auto"))))
    apply, _ = as_function(model)
    lengths = training.get("input_length", 512), training.get("target_length", 32)
    taught = training.get("tasks", {})  # the records, in a run of `tlqa finetune`
    tasks = {name: task_of(record, f"{run}/{CONFIG}") for name, record in taught.items()}
    return OpenT5(Path(run), config, tokenizer, apply, replicate(params), *lengths, read_threshold(run), tasks)


@functools.lru_cache(maxsize=2)
def _open_bert(run: Path | str, *_changed: int) -> OpenSpans | OpenClassifier:
    """With the lengths it was trained with; of a Hugging Face directory that does not tell them, with BERT's."""
    training = trained_with(run)
    model, tokenizer = load_bert_model(run, dtype=compute_dtype(training.get("dtype", "auto")))
    apply, params = as_function(model)
    longest = model.config.max_position_embeddings
    if isinstance(model, BertForSequenceClassification):
        length = training.get("input_length", min(512, longest))
        classifier = Classifier(apply, tokenizer, model.config.id2label, input_length=length)
        return OpenClassifier(replicate(params), classifier)
    if not isinstance(model, BertForQuestionAnswering):
        raise UserError(
            f"{run} was pretrained but not taught to answer or to classify (it is a {type(model).__name__}): "
            f"`tlqa finetune-qa --start-from {run}` or `tlqa finetune-classifier` does that"
        )
    length = min(384, longest)
    lengths = {"input_length": length, "stride": length // 3, "max_question_length": length // 6}  # 384, 128, 64
    lengths |= {name: training[name] for name in (*lengths, "max_answer_length") if name in training}
    answerer = SpanAnswerer(apply, tokenizer, **lengths, null_threshold=read_threshold(run))
    return OpenSpans(Path(run), tokenizer, apply, replicate(params), answerer)
