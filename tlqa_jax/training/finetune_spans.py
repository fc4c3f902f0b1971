"""Fine-tuning of a BERT to point at answers in their contexts, over all devices with pmap (Devlin et al. 2019, 4.2).

    tlqa finetune-spans --start-from bert-base-uncased --questions train-v1.1.json --held-out dev-v1.1.json

A context too long for the model is read through several windows (`tasks.extractive_qa`), and a row of a batch is a
window. The answer to a question without one is [CLS] (section 4.3).

From MiniLM (6 layers of width 384), 2 epochs of 6,710 questions in SQuAD's format took 77 minutes on one busy CPU core:
EM 54.6, F1 69.1 on 1,228 dev questions. On all of SQuAD not yet measured.

Read it from top to bottom: settings, data, model, `train_step`, the loop, the loss. What all programs share is in
`loop.py`, `step.py` and `settings.py`.
"""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tlqa_jax.core.losses import cross_entropy
from tlqa_jax.data.batches import evaluation_batches, training_batches
from tlqa_jax.data.sources import open_questions
from tlqa_jax.errors import UserError
from tlqa_jax.inference.answer_spans import SpanAnswerer, span_logits, write_n_best
from tlqa_jax.models.bert_heads import BertForQuestionAnswering
from tlqa_jax.tasks.extractive_qa import Windows, check_lengths, make_windows
from tlqa_jax.training.evaluation import mean_over_examples, save_answers, score_questions, summed_over_devices
from tlqa_jax.training.initial_model import load_or_init_bert
from tlqa_jax.training.loop import TrainingRun
from tlqa_jax.training.settings import BertSettings, FinetuningSettings, input_file, number, settings_class
from tlqa_jax.training.step import AXIS, initial_state, update

PREDICTIONS, N_BEST = "predictions.json", "nbest_predictions.json"


@settings_class
class FinetuneSpansSettings(FinetuningSettings, BertSettings):
    """Settings of a fine-tuning run on answers that are spans of their contexts."""

    default_length: ClassVar[dict[str, float]] = {"epochs": 2.0}

    out: str = "runs/finetuned"
    questions: str | None = input_file(None)
    """Questions to learn from, with contexts: SQuAD JSON, .jsonl, .csv, tfds:squad:train, tiny_world:FILE."""
    held_out: str | None = input_file(None)
    """Questions to evaluate on, of the same kinds."""
    input_length: int = number(384, at_least=1, at_most=2**20)
    """Length of a window in tokens: the question, a part of the context, three special tokens."""
    stride: int = number(128, at_least=0)
    """Number of context tokens that a window shares with the next one."""
    max_question_length: int = number(64, at_least=1)
    """Longest question in tokens. A longer one loses its end, and how many do is reported."""
    max_answer_length: int = number(30, at_least=1, at_most=2**12)
    """Longest answer to give, in tokens."""
    n_best: int = number(20, at_least=1, at_most=2**12)
    """Number of answers to write for each held-out question."""
    batch_size: int = 16
    learning_rate: float = 5e-5
    warmup: int | float = 0.1

    def check(self) -> None:
        super().check()
        check_lengths(self.input_length, self.stride, self.max_question_length)


def finetune_spans(settings: FinetuneSpansSettings, *, quiet: bool = False) -> Path:
    """Run the program; returns the run's directory. Raises UserError for wrong settings or files."""
    # --- settings and data: everything that can be wrong is found here, before anything is compiled
    run = TrainingRun("finetune-spans", settings, quiet=quiet)
    if run.is_complete:
        return run.path
    if not settings.questions:
        raise UserError("nothing to learn from: give --questions")
    initial = load_or_init_bert(settings, settings.input_length, continues=run.continues)
    tokenizer = initial.tokenizer
    lengths = dict(
        input_length=settings.input_length, stride=settings.stride, max_question_length=settings.max_question_length
    )
    examples = open_questions(settings.questions, data_dir=settings.data_dir)
    held_out = open_questions(settings.held_out, data_dir=settings.data_dir) if settings.held_out else []
    windows, held_out_windows = make_windows(tokenizer, examples, **lengths), make_windows(tokenizer, held_out, **lengths)
    if not len(windows.learnable):
        raise UserError(f"{settings.questions}: none of the answers is in its context, so there is nothing to learn")
    run.say(f"training: {windows.report()}", *([f"held out: {held_out_windows.report()}"] if held_out else []))
    steps = settings.total_steps(len(windows.learnable))
    optimizer, rate = run.optimizer(steps)

    # --- model
    model, apply, params = initial.build(BertForQuestionAnswering, settings.train)
    freeze, waiting = run.frozen(params, steps)
    state = initial_state(params, optimizer, freeze, run.say)
    # if some held-out questions have no answer, the threshold is tuned on them; if only training questions have none, it
    # is 0: no answer where that has the higher score
    tuned, untuned = (not all(example.answers for example in known) for known in (held_out, examples))
    threshold = {"no_answer_threshold": 0.0} if untuned and not tuned else {}
    run.start(model, tokenizer, lengths | {"max_answer_length": settings.max_answer_length} | threshold)
    del initial, model, params  # or the first device would hold them twice
    predict = partial(span_logits, apply, tokenizer.pad_id)
    train_step = jax.pmap(
        partial(
            update, lambda params, rows, key: span_loss(predict, params, rows, key).sum(), number_of_rows, optimizer,
            seed=settings.seed, accumulate=settings.accumulate, freeze=freeze,
        ),
        axis_name=AXIS, in_axes=(None, 0, None), out_axes=None, donate_argnums=0, static_broadcasted_argnums=2,
    )  # fmt: skip
    evaluate_step = summed_over_devices(partial(span_loss_sums, predict))
    answerer = SpanAnswerer(
        apply, tokenizer, **lengths, batch_size=settings.batch_size, max_answer_length=settings.max_answer_length,
        n_best=settings.n_best, no_answer_threshold=math.inf if tuned else 0.0 if untuned else None,
    )  # fmt: skip

    def build(windows: Windows, indices: np.ndarray, *_) -> dict[str, np.ndarray]:
        return windows.batch(windows.learnable[indices], windows.longest)

    def evaluate(params: Any) -> dict[str, float]:
        """Loss in nats per position, EM and F1; the answers are written into the run."""
        metrics, size = {}, len(held_out_windows.learnable)
        if size:
            batches = evaluation_batches(size, settings.batch_size, partial(build, held_out_windows))
            metrics = mean_over_examples(evaluate_step, params, batches)
        answers = answerer(params, held_out)
        texts, no_answer_scores = (
            {example.id: getattr(answer, name) for example, answer in zip(held_out, answers)}
            for name in ("text", "no_answer_score")
        )
        scores, predictions = score_questions(held_out, texts, no_answer_scores)
        save_answers(run.path, PREDICTIONS, scores, predictions)
        if jax.process_index() == 0:
            write_n_best(run.path / N_BEST, predictions, answers)
        return metrics | scores

    # --- the loop
    with run.training(state, steps, rate, evaluate if held_out else None, "fine-tuning") as loop:
        del state  # the loop has it on the devices; this one is on the host
        size, rows = len(windows.learnable), partial(build, windows)
        batches = training_batches(size, settings.batch_size, settings.seed, rows, start=loop.start)
        for step in range(loop.start + 1, steps + 1):
            loop.state, metrics = train_step(loop.state, next(batches), waiting(step))
            loop.finish_step(step, metrics, tokens=settings.batch_size * windows.longest)
    return run.path


# The loss


def span_loss(predict: Callable, params: Any, rows: dict[str, Array], key=None) -> Float[Array, "B"]:
    """-log p of the start and of the end, each a softmax over all positions of the row; their mean, in nats, by row.

    `key` seeds dropout; None: no dropout.
    """
    start, end = predict(params, rows["tokens"], rows["token_types"], key=key)
    loss = jax.vmap(lambda logits, target: cross_entropy(logits, target, jnp.float32(1))[0])
    return (loss(start, rows["start"]) + loss(end, rows["end"])) / 2


def number_of_rows(rows: dict[str, Array]) -> Array:
    """What the loss is a mean over."""
    return jnp.float32(len(rows["start"]))


def span_loss_sums(predict: Callable, params: Any, rows: dict[str, Array]) -> dict[str, Array]:
    """Sums over a batch, without dropout: of the loss in nats and of the weights.

    Rows whose "weight" is 0 only fill up the last batch.
    """
    return {"loss": (span_loss(predict, params, rows) * rows["weight"]).sum(), "weight": rows["weight"].sum()}
