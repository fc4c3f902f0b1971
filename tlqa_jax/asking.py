"""Asking a trained model: `ask` one question, `open_run` for many and their scores, `classify` for classes of texts.

    >>> tlqa_jax.ask("Where was Mira born?", "Mira, a clockmaker from Oss, plays the flute.", run="runs/quickstart")
    Answer(text='Oss', probability=0.93, context_cut=False)

A T5 writes its answer, from a context or from memory; a BERT points at it in a context. (The module is called `asking`
because `tlqa_jax.ask` is the function.)
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from flax import nnx

from tlqa_jax.data.batches import evaluation_batches
from tlqa_jax.data.sources import QAExample
from tlqa_jax.decoding.answers import Answer, Answerer
from tlqa_jax.decoding.classes import Classifier, TextClass
from tlqa_jax.decoding.spans import SpanAnswer, SpanAnswerer, span_logits
from tlqa_jax.errors import UserError
from tlqa_jax.models.bert_heads import BertForQuestionAnswering, BertForSequenceClassification
from tlqa_jax.models.functional import as_function
from tlqa_jax.models.t5 import T5, T5Config
from tlqa_jax.tasks.extractive_qa import make_windows
from tlqa_jax.tasks.text_tasks import TextExample, TextTask, task_of
from tlqa_jax.tasks.text_to_text import TextArrays, encode_examples, encode_texts
from tlqa_jax.text.sentencepiece import SentencePieceTokenizer
from tlqa_jax.text.wordpiece import WordPieceTokenizer
from tlqa_jax.training import extractive_qa, sequence_loss
from tlqa_jax.training.devices import compute_dtype, replicate
from tlqa_jax.training.evaluation import mean_over_examples, summed_over_devices
from tlqa_jax.weights.bert_runs import THRESHOLD, is_bert, is_run, load_bert_model, read_threshold
from tlqa_jax.weights.checkpoints import CHECKPOINTS, CONFIG, load_t5, main_run, read_config


def ask(question: str, context: str | None = None, run: str | Path = "runs/quickstart") -> Answer | SpanAnswer:
    """Answer a question, from a context or, without one, from memory (a T5 only).

    The first question loads the run and compiles; later ones to the same run do neither, for lengths seen before. A
    run that has been trained on since is loaded again.

    Args:
        run: directory of a fine-tuned run, or of a quickstart; or a BERT's Hugging Face directory or hub name.

    Raises UserError if there is no such run, it was not taught to answer, or the question is empty or too long.
    """
    if not question.strip():
        raise UserError("the question is empty")
    return open_run(run)([QAExample("question", question, (), context)])[0]


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


@dataclass(frozen=True)
class OpenT5:
    """A trained T5 with its parameters on all of this process's devices. Called with examples, it answers them."""

    path: Path
    config: T5Config
    tokenizer: SentencePieceTokenizer
    apply: Callable
    params: Any  # replicated: a leading axis of local devices
    answerer: Answerer
    tasks: Mapping[str, TextTask] = field(default_factory=dict)  # what it was taught, if by `tlqa finetune`
    loss_is = "nats per token of the gold answers"

    def __call__(self, examples: Sequence[QAExample], *, use_context: bool = True) -> list[Answer]:
        """The answers, in the order of the examples; their gold answers are not looked at."""
        if self.tasks and not any(task.questions for task in self.tasks.values()):
            raise UserError(f"{self.path} was not taught to answer questions; its tasks are {', '.join(self.tasks)}")
        return self.answerer(self.params, without_gold(examples), use_context=use_context)

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
        task, written = self.task(name), self.write(examples)
        rows = encode_texts(self.tokenizer, examples, **self._lengths)
        return {"loss": self._loss(rows), **task.score([one.text for one in written], examples)}, written

    def write(self, examples: Sequence[TextExample]) -> list[Answer]:
        """What the model writes for each input, whatever the task."""
        return self.answerer.write(self.params, encode_texts(self.tokenizer, examples, **self._lengths))

    @property
    def _lengths(self) -> dict[str, int]:
        return {"input_length": self.answerer.input_length, "target_length": self.answerer.target_length}

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

    def __call__(self, examples: Sequence[QAExample], *, use_context: bool = True) -> list[SpanAnswer]:
        self._check(examples, use_context)
        return self.answerer(self.params, without_gold(examples))

    def loss(self, examples: Sequence[QAExample], *, use_context: bool = True, batch_size: int = 32) -> float:
        """-log p of the first gold answer's first and last token, averaged; the mean over the windows to learn from."""
        self._check(examples, use_context)
        windows = make_windows(self.tokenizer, examples, **self.answerer.lengths)
        build = lambda indices, *_: windows.batch(windows.learnable[indices])
        sums = partial(extractive_qa.evaluation_sums, partial(span_logits, self.apply, self.tokenizer.pad_id))
        return _loss(sums, self.params, len(windows.learnable), build, batch_size)

    def _check(self, examples: Sequence[QAExample], use_context: bool) -> None:
        if not use_context:
            raise UserError(f"{self.path} points at answers in a context: --closed-book is for a T5")
        without = next((example.id for example in examples if not (example.context or "").strip()), None)
        if without is not None:
            advice = f"give --context (question {without!r} has none)"
            raise UserError(f"{self.path} points at answers in a context: {advice}")


@dataclass(frozen=True)
class OpenClassifier:
    """A BERT that names the classes of texts."""

    params: Any  # replicated
    classifier: Classifier

    def __call__(self, texts: Sequence[str]) -> list[TextClass]:
        return self.classifier(self.params, texts)


def without_gold(examples: Sequence[QAExample]) -> list[QAExample]:
    return [replace(example, answers=(), answer_starts=()) for example in examples]


def _loss(sums: Callable, params: Any, size: int, build: Callable, batch_size: int) -> float:
    return mean_over_examples(summed_over_devices(sums), params, evaluation_batches(size, batch_size, build))["loss"]


def _opened(run: str | Path) -> OpenT5 | OpenSpans | OpenClassifier:
    bert = is_bert(run)
    if not bert or is_run(run):
        run = main_run(run)
    record = read_config(run) if is_run(run) else {}
    if record.get("program") == "span_corruption" and not record.get("training", {}).get("questions_share"):
        raise UserError(
            f"{run} was pretrained but not taught to answer: `tlqa finetune-qa --start-from {run}` does that"
        )
    path = Path(run)
    if not path.is_dir():  # a name on the hub
        return _open_bert(run)
    patterns = (CONFIG, THRESHOLD, f"{CHECKPOINTS}/*", "*.safetensors")
    changed = sorted(file.stat().st_mtime_ns for pattern in patterns for file in path.glob(pattern))
    return (_open_bert if bert else _open_t5)(path.resolve(), *changed)


@functools.lru_cache(maxsize=2)
def _open_t5(run: Path, *_changed: int) -> OpenT5:
    """`_changed`: numbers that differ when the run has been trained on."""
    training = read_config(run).get("training", {})
    config, params, tokenizer = load_t5(run)
    model = nnx.eval_shape(lambda: T5(config, rngs=nnx.Rngs(0), dtype=compute_dtype(training.get("dtype", "auto"))))
    apply, _ = as_function(model)
    answerer = Answerer(
        apply,
        tokenizer,
        input_length=training.get("input_length", 512),
        target_length=training.get("target_length", 32),
    )
    taught = training.get("tasks", {})  # the records, in a run of `tlqa finetune`
    tasks = {name: task_of(record, f"{run}/{CONFIG}") for name, record in taught.items()}
    return OpenT5(run, config, tokenizer, apply, replicate(params), answerer, tasks)


@functools.lru_cache(maxsize=2)
def _open_bert(run: Path | str, *_changed: int) -> OpenSpans | OpenClassifier:
    """With the lengths it was trained with; of a Hugging Face directory, which does not tell them, with BERT's."""
    training = read_config(run)["training"] if is_run(run) else {}
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
