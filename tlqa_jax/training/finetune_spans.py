"""Fine-tuning BERT to point at answers in their contexts, over all devices with pmap (Devlin et al. 2019, section 4.2).

    tlqa finetune-spans --start-from bert-base-uncased --questions train-v1.1.json --held-out dev-v1.1.json

A context too long for the model is read through several windows (`tasks.extractive_qa`), and a row of a batch is a
window. Questions without an answer point at [CLS] (section 4.3).

From MiniLM (6 layers of 384), 2 epochs of 6,710 questions in SQuAD's format took 77 minutes on one busy CPU core: EM
54.6, F1 69.1 on 1,228 dev questions. On all of SQuAD not yet measured.

Read it top to bottom, as `span_corruption.py`: settings, data, model, `train_step`, the loop.
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float

from tlqa_jax.checkpoints.bert_runs import save_wordpiece
from tlqa_jax.checkpoints.runs import Checkpoints, check_run, save_threshold, start_run
from tlqa_jax.core.devices import (
    AXIS,
    accumulate,
    check_batch,
    compute_dtype,
    dropout_key,
    on_host,
    replicate,
    unreplicate,
)
from tlqa_jax.core.losses import cross_entropy
from tlqa_jax.data.batches import evaluation_batches, training_batches
from tlqa_jax.data.sources import open_questions
from tlqa_jax.errors import UserError
from tlqa_jax.inference.answer_spans import SpanAnswerer, span_logits, write_n_best
from tlqa_jax.metrics.squad import write_predictions
from tlqa_jax.models.bert_heads import BertForQuestionAnswering
from tlqa_jax.models.functional import as_function
from tlqa_jax.tasks.extractive_qa import Windows, check_lengths, make_windows
from tlqa_jax.training.evaluation import mean_over_examples, score_answers, summed_over_devices
from tlqa_jax.training.freezing import merged, split, trained_part
from tlqa_jax.training.initial_bert import begin_with, taken_over
from tlqa_jax.training.memory import keep_freed_memory
from tlqa_jax.training.optimizers import Decay, adamw, schedule, total_steps
from tlqa_jax.training.progress import Progress, draw_curves
from tlqa_jax.training.settings import Settings, check_settings, recorded

PREDICTIONS, N_BEST = "predictions.json", "nbest_predictions.json"
EPOCHS = 2.0  # where neither --epochs nor --steps is given


@dataclass(frozen=True)
class FinetuneSpansSettings(Settings):
    """Settings of a fine-tuning run on answers that stand in their contexts."""

    out: str = "runs/finetuned"
    """Directory of the run: configuration, vocabulary, checkpoints, metrics, curves, predictions."""
    start_from: str | None = None
    """A pretrained BERT: a run, a Hugging Face directory or hub name. Without it: --model with random weights."""
    questions: str | None = None
    """Questions to learn from, with contexts: SQuAD JSON, .jsonl, .csv, tfds:squad:train, tiny_world:FILE."""
    held_out: str | None = None
    """Questions to evaluate on, of the same kinds."""
    data_dir: str | None = None
    """Where TFDS data sets are prepared."""
    vocabulary: str | None = "tiny_world:wordpiece.txt"
    """A WordPiece vocab.txt (without --start-from)."""
    lowercase: bool = True
    """Whether that vocabulary is of lower-cased text (without --start-from)."""
    model: str = "tiny"
    """tiny, mini, small, base, large, or a JSON file of BertConfig fields (without --start-from)."""
    input_length: int = 384
    """Length of a window in tokens: the question, a part of the context, three special tokens."""
    stride: int = 128
    """Tokens of the context that a window shares with the next one."""
    max_question_length: int = 64
    """Longest question in tokens; one that does not fit loses its end, and how many do is reported."""
    max_answer_length: int = 30
    """Longest answer to give in tokens."""
    n_best: int = 20
    """Number of answers to write for each held-out question."""
    epochs: float | None = None
    """How often each window is seen (default: 2, without --steps)."""
    steps: int | None = None
    """Number of optimizer steps, instead of --epochs."""
    batch_size: int = 16
    """Windows a step, over all devices and accumulation slices."""
    accumulate: int = 1
    """Slices a device takes its rows in, to save memory. The gradients stay those of the whole batch."""
    learning_rate: float = 5e-5
    """Peak learning rate."""
    warmup_share: float = 0.1
    """Share of the steps in which the learning rate rises."""
    decay: Decay = "linear"
    """How the learning rate falls after the warm-up."""
    weight_decay: float = 0.01
    """AdamW's weight decay, on matrices only."""
    clip: float = 1.0
    """Largest global norm of the gradients."""
    freeze: tuple[str, ...] = ()
    """What is not trained: names of parameters, * for any; "encoder": its features as they are."""
    dropout: float = 0.1
    """Dropout rate."""
    seed: int = 0
    """Seed of the initial weights, the order of the data and the dropout."""
    dtype: str = "auto"
    """What to compute in: auto, float32 or bfloat16. Parameters are float32."""
    log_every: int = 20
    """Steps between reports."""
    evaluate_every: int = 500
    """Steps between evaluations on held-out questions; there is always one at the end."""
    save_every: int = 500
    """Steps between checkpoints; there is always one at the end."""
    keep: int = 3
    """Number of checkpoints to keep."""
    resume: bool = False
    """Go on from the newest checkpoint in --out."""
    overwrite: bool = False
    """Delete a run that is already in --out."""


def finetune_spans(config: FinetuneSpansSettings, *, quiet: bool = False) -> Path:
    """Run the program; returns the run's directory. Raises UserError for anything the settings or files have wrong."""
    # --- settings and data: everything that can be wrong is found here, before anything is compiled
    keep_freed_memory()
    quiet = quiet or jax.process_index() != 0  # one process speaks for all
    check_settings(config)
    check_batch(config.batch_size, config.accumulate)
    check_lengths(config.input_length, config.stride, config.max_question_length)
    dtype = compute_dtype(config.dtype)
    model_config, pretrained, tokenizer, attention = begin_with(config)
    training = recorded(config) | {"lowercase": tokenizer.lowercase, "attention": attention}
    training["epochs"] = None if config.steps else config.epochs or EPOCHS
    record = {
        "program": "extractive_qa", "architecture": "BertForQuestionAnswering",
        "model": dataclasses.asdict(model_config), "training": training,
    }
    check_run(config.out, record, resume=config.resume, overwrite=config.overwrite)
    if not config.questions:
        raise UserError("nothing to learn from: give --questions")
    lengths = dict(
        input_length=config.input_length, stride=config.stride, max_question_length=config.max_question_length
    )
    examples = open_questions(config.questions, data_dir=config.data_dir)
    windows = make_windows(tokenizer, examples, **lengths)
    held_out = open_questions(config.held_out, data_dir=config.data_dir) if config.held_out else []
    held_out_windows = make_windows(tokenizer, held_out, **lengths)
    if not len(windows.learnable):
        raise UserError(f"{config.questions}: none of the answers is in its context, so there is nothing to point at")
    if not quiet:
        print("training:", windows.report())
        if held_out:
            print("held out:", held_out_windows.report())
    steps = total_steps(config.steps, config.epochs, len(windows.learnable), config.batch_size, default=EPOCHS)

    # --- model and optimizer
    model = BertForQuestionAnswering(model_config, rngs=nnx.Rngs(config.seed), dtype=dtype, attention=attention)
    apply, params = as_function(model)
    params = taken_over(params, pretrained)
    rate = schedule(config.learning_rate, steps, warmup=round(config.warmup_share * steps), decay=config.decay)
    optimizer = adamw(rate, weight_decay=config.weight_decay, clip=config.clip)
    trained = trained_part(params, config.freeze, quiet=quiet)
    state = on_host({"params": params, "opt_state": optimizer.init(trained), "step": np.int32(0)})
    del model, params, trained, pretrained  # or the first device would hold them twice
    predict = partial(span_logits, apply, tokenizer.pad_id)
    train_step = make_train_step(predict, optimizer, config.seed, config.accumulate, config.freeze)
    evaluate_step = summed_over_devices(partial(evaluation_sums, predict))
    # where some held-out questions have no answer, the threshold is tuned on them; where only those to learn from do,
    # it is 0: no answer where that is likelier
    tuned, untuned = (not all(example.answers for example in known) for known in (held_out, examples))
    answerer = SpanAnswerer(
        apply, tokenizer, **lengths, batch_size=config.batch_size, max_answer_length=config.max_answer_length,
        n_best=config.n_best, null_threshold=math.inf if tuned else 0.0 if untuned else None,
    )  # fmt: skip

    def build(windows: Windows, learnable: np.ndarray, indices: np.ndarray, *_) -> dict[str, np.ndarray]:
        return windows.batch(learnable[indices], windows.longest)

    def evaluate_all(params: Any) -> dict[str, float]:
        """Loss in nats per position, EM and F1; the answers are written beside the checkpoints."""
        learnable, metrics = held_out_windows.learnable, {}
        if len(learnable):
            batches = evaluation_batches(len(learnable), config.batch_size, partial(build, held_out_windows, learnable))
            metrics = mean_over_examples(evaluate_step, params, batches)
        answers = answerer(params, held_out)
        scores, predictions = score_answers(held_out, answers)
        if "no_answer_threshold" in scores:
            save_threshold(run, scores["no_answer_threshold"])
        if jax.process_index() == 0:
            write_predictions(run / PREDICTIONS, predictions)
            write_n_best(run / N_BEST, predictions, answers)
        return metrics | scores

    # --- the loop
    run = start_run(config.out, record, resume=config.resume, overwrite=config.overwrite)
    save_wordpiece(run, tokenizer)
    if untuned and not tuned:
        save_threshold(run, 0.0)
    with Checkpoints(run, config.keep) as checkpoints:
        if config.resume and checkpoints.latest():
            state = checkpoints.restore(state)
        start = int(state["step"])
        state = replicate(state)
        rows = partial(build, windows, windows.learnable)
        batches = training_batches(len(windows.learnable), config.batch_size, config.seed, rows, start=start)
        due = lambda step: held_out and (step == steps or step % config.evaluate_every == 0)
        with Progress(run, "fine-tuning", steps, start=start, quiet=quiet) as progress:
            if start and due(start):  # the run may have been stopped in the midst of it
                progress.evaluated(start, **evaluate_all(state["params"]))
            for step in range(start + 1, steps + 1):
                state, reported = train_step(state, next(batches))
                last = step == steps
                saving = last or step % config.save_every == 0
                if saving or step % config.log_every == 0:
                    progress.train(
                        step, **{name: float(value) for name, value in reported.items()},
                        learning_rate=float(rate(step - 1)), tokens_per_step=config.batch_size * windows.longest,
                        latest=checkpoints.latest,
                    )
                if saving:
                    checkpoints.save(step, unreplicate(state))
                if due(step):
                    progress.evaluated(step, **evaluate_all(state["params"]))
    if jax.process_index() == 0:
        draw_curves(run)
    return run


def make_train_step(
    predict: Callable, optimizer: optax.GradientTransformation, seed: int, accumulation: int = 1,
    freeze: Sequence[str] = (),
) -> Callable:  # fmt: skip
    """The pmap-ed step: `train_step(state, batch) -> (state, metrics)`, the old state's memory reused for the new.

    `predict(params, tokens, token_types, key=…)` gives the start and end logits. The batch is that of `Windows.batch`,
    with a leading axis of devices. `freeze` names what is not trained (`freezing.split`).
    """

    def train_step(state: dict[str, Any], batch: dict[str, Any]):
        key = dropout_key(seed, state["step"])
        trained, frozen = split(state["params"], freeze)
        # the number of rows on all devices together: the loss is a mean over these, not a mean of means
        weight = jax.lax.psum(float(len(batch["start"])), AXIS)

        def loss_share(trained, rows, key):
            return span_loss(predict, merged(trained, frozen), rows, key).sum() / weight

        share = accumulate(jax.value_and_grad(loss_share), trained, batch, key, accumulation)
        loss, gradients = jax.lax.psum(share, AXIS)
        updates, opt_state = optimizer.update(gradients, state["opt_state"], trained)
        params = merged(optax.apply_updates(trained, updates), frozen)
        metrics = {"loss": loss, "gradient_norm": optax.tree.norm(gradients)}
        return {"params": params, "opt_state": opt_state, "step": state["step"] + 1}, metrics

    return jax.pmap(train_step, axis_name=AXIS, in_axes=(None, 0), out_axes=None, donate_argnums=0)


def span_loss(predict: Callable, params: Any, rows: dict[str, Array], key=None) -> Float[Array, "B"]:
    """-log p of the start and the end, each a softmax over all positions of the row, averaged: in nats, for each row.

    `key` seeds dropout; None for none.
    """
    start, end = predict(params, rows["tokens"], rows["token_types"], key=key)
    loss = jax.vmap(lambda logits, target: cross_entropy(logits, target, jnp.float32(1))[0])
    return (loss(start, rows["start"]) + loss(end, rows["end"])) / 2


def evaluation_sums(predict: Callable, params: Any, rows: dict[str, Array]) -> dict[str, Array]:
    """Sums over a batch, without dropout: of the loss in nats and of the weights.

    Rows of "weight" 0 only fill up the last batch.
    """
    return {"loss": (span_loss(predict, params, rows) * rows["weight"]).sum(), "weight": rows["weight"].sum()}
