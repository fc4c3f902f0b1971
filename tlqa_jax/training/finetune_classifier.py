"""Fine-tuning a BERT to name the class of a text, over all devices with pmap: sentiment, or the type of a question.

    tlqa finetune-classifier --start-from bert-base-uncased --texts train.jsonl --held-out dev.jsonl

The encoder's pooled [CLS] vector and one matrix decide (Devlin et al. 2019, section 4.1).

From MiniLM (6 layers of 384), 2 epochs of 9,594 sentences with a sentiment took 20 minutes on 2 busy CPU cores: 86.9%
of 1,066 held-out sentences right.

Read it top to bottom, as `span_corruption.py`: settings, data, model, `train_step`, the loop.
"""

import dataclasses
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

from tlqa_jax.checkpoints.bert_runs import save_wordpiece
from tlqa_jax.checkpoints.runs import Checkpoints, check_run, start_run
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
from tlqa_jax.data.batches import training_batches
from tlqa_jax.data.sources import open_labelled_texts
from tlqa_jax.errors import UserError
from tlqa_jax.examples import LabelledText
from tlqa_jax.inference.classifier import Classifier, TextClass, class_logits
from tlqa_jax.metrics.squad import write_predictions
from tlqa_jax.models.bert_heads import BertForSequenceClassification
from tlqa_jax.models.functional import Params, as_function
from tlqa_jax.tasks.classification import encode_labelled
from tlqa_jax.training.evaluation import held_out_source
from tlqa_jax.training.freezing import merged, split, trained_part
from tlqa_jax.training.initial_bert import begin_with, taken_over
from tlqa_jax.training.memory import keep_freed_memory
from tlqa_jax.training.optimizers import Decay, adamw, schedule, total_steps
from tlqa_jax.training.progress import Progress, draw_curves
from tlqa_jax.training.settings import Settings, check_settings, recorded

PREDICTIONS = "predictions.json"
EPOCHS = 3.0  # where neither --epochs nor --steps is given


@dataclass(frozen=True)
class FinetuneClassifierSettings(Settings):
    """Settings of a run that teaches a classifier."""

    out: str = "runs/classifier"
    """Directory of the run: configuration, vocabulary, checkpoints, metrics, curves, predictions."""
    start_from: str | None = None
    """A pretrained BERT: a run, a Hugging Face directory or hub name. Without it: --model with random weights."""
    texts: str = "tiny_world:reviews_train.jsonl"
    """What to learn from, rows with a text and a label: .jsonl, .csv, tfds:NAME:SPLIT, tiny_world:FILE."""
    held_out: str | None = "auto"
    """The same, to evaluate on; "auto": the tiny world's for the tiny world's, none for others; "None" for none."""
    text_field: str = "text"
    """Name of the field with the text."""
    label_field: str = "label"
    """Name of the field with the label."""
    data_dir: str | None = None
    """Where TFDS data sets are prepared."""
    vocabulary: str = "tiny_world:wordpiece.txt"
    """A WordPiece vocab.txt (without --start-from)."""
    lowercase: bool = True
    """Whether that vocabulary is of lower-cased text (without --start-from)."""
    model: str = "tiny"
    """tiny, mini, small, base, large, or a JSON file of BertConfig fields (without --start-from)."""
    input_length: int = 128
    """Longest input in tokens; a text that does not fit loses its end, and how many do is reported."""
    epochs: float | None = None
    """How often each text is seen (default: 3, without --steps)."""
    steps: int | None = None
    """Number of optimizer steps, instead of --epochs."""
    batch_size: int = 32
    """Rows a step, over all devices and accumulation slices."""
    accumulate: int = 1
    """Slices a device takes its rows in, to save memory. The gradients stay those of the whole batch."""
    learning_rate: float = 1e-4
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
    """Steps between evaluations on held-out texts; there is always one at the end."""
    save_every: int = 500
    """Steps between checkpoints; there is always one at the end."""
    keep: int = 3
    """Number of checkpoints to keep."""
    resume: bool = False
    """Go on from the newest checkpoint in --out."""
    overwrite: bool = False
    """Delete a run that is already in --out."""


def finetune_classifier(config: FinetuneClassifierSettings, *, quiet: bool = False) -> Path:
    """Run the program; returns the run's directory. Raises UserError for anything the settings or files have wrong."""
    # --- settings and data: everything that can be wrong is found here, before anything is compiled
    keep_freed_memory()
    quiet = quiet or jax.process_index() != 0  # one process speaks for all
    check_settings(config)
    check_batch(config.batch_size, config.accumulate)
    dtype = compute_dtype(config.dtype)
    model_config, pretrained, tokenizer, attention = begin_with(config)
    fields = {"field": config.text_field, "label_field": config.label_field}
    read = partial(open_labelled_texts, data_dir=config.data_dir, **fields)
    held_out_texts = held_out_source(config, "tiny_world:reviews_dev.jsonl")
    examples, held_out = read(config.texts), read(held_out_texts) if held_out_texts else []
    labels = labels_of(examples)
    if len(labels) == 1:
        raise UserError(f"{config.texts}: every text is of the class {labels[0]!r}, so there is nothing to tell apart")
    if strange := [label for label in labels_of(held_out) if label not in labels]:
        raise UserError(f"{held_out_texts}: {config.texts} has no text of class {', '.join(strange)} to learn from")
    if model_config.id2label != labels:
        pretrained = without_classifier(pretrained)
    model_config = dataclasses.replace(model_config, id2label=labels)
    training = recorded(config) | {"lowercase": tokenizer.lowercase, "attention": attention}
    training["epochs"] = None if config.steps else config.epochs or EPOCHS
    record = {
        "program": "classification", "architecture": "BertForSequenceClassification",
        "model": dataclasses.asdict(model_config), "training": training,
    }
    check_run(config.out, record, resume=config.resume, overwrite=config.overwrite)
    rows = encode_labelled(tokenizer, examples, labels=labels, input_length=config.input_length)
    if not quiet:
        print(f"training: {rows.report()}, of {len(labels)} classes: {', '.join(labels)}")
    steps = total_steps(config.steps, config.epochs, rows.size, config.batch_size, default=EPOCHS)

    # --- model and optimizer
    model = BertForSequenceClassification(model_config, rngs=nnx.Rngs(config.seed), dtype=dtype, attention=attention)
    apply, params = as_function(model)
    params = taken_over(params, pretrained)
    rate = schedule(config.learning_rate, steps, warmup=round(config.warmup_share * steps), decay=config.decay)
    optimizer = adamw(rate, weight_decay=config.weight_decay, clip=config.clip)
    trained = trained_part(params, config.freeze, quiet=quiet)
    state = on_host({"params": params, "opt_state": optimizer.init(trained), "step": np.int32(0)})
    del model, params, trained, pretrained  # or the first device would hold them twice
    predict = partial(class_logits, apply, tokenizer.pad_id)
    train_step = make_train_step(predict, optimizer, config.seed, config.accumulate, config.freeze)
    classifier = Classifier(apply, tokenizer, labels, input_length=config.input_length, batch_size=config.batch_size)

    def evaluate_all(params: Any) -> dict[str, float]:
        """Loss in nats per text and accuracy; the classes are written beside the checkpoints, by the row's number."""
        classes = classifier(params, [example.text for example in held_out])
        if jax.process_index() == 0:
            write_predictions(run / PREDICTIONS, {str(row): given.label for row, given in enumerate(classes, 1)})
        return score_classes(held_out, classes, labels)

    # --- the loop
    run = start_run(config.out, record, resume=config.resume, overwrite=config.overwrite)
    save_wordpiece(run, tokenizer)
    with Checkpoints(run, config.keep) as checkpoints:
        if config.resume and checkpoints.latest():
            state = checkpoints.restore(state)
        start = int(state["step"])
        state = replicate(state)
        batches = training_batches(rows.size, config.batch_size, config.seed, rows.build, start=start)
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
                        learning_rate=float(rate(step - 1)), tokens_per_step=config.batch_size * rows.tokens.shape[1],
                        latest=checkpoints.latest,
                    )
                if saving:
                    checkpoints.save(step, unreplicate(state))
                if due(step):
                    progress.evaluated(step, **evaluate_all(state["params"]))
    if jax.process_index() == 0:
        draw_curves(run)
    return run


def labels_of(examples: Sequence[LabelledText]) -> tuple[str, ...]:
    """The classes that occur, in alphabetical order, numbers before that by size."""
    by_size = lambda label: (len(label) if label.isdecimal() else 99, label)
    return tuple(sorted({example.label for example in examples}, key=by_size))


def without_classifier(pretrained: Params) -> Params:
    """All but the head of a classifier, which is of no use for other classes, whatever its size."""
    return {name: part for name, part in pretrained.items() if name != "classifier"}


def make_train_step(
    predict: Callable, optimizer: optax.GradientTransformation, seed: int, accumulation: int = 1,
    freeze: Sequence[str] = (),
) -> Callable:  # fmt: skip
    """The pmap-ed step: `train_step(state, batch) -> (state, metrics)`, the old state's memory reused for the new.

    `predict(params, tokens, key=…)` gives the logits of the classes. The batch holds "tokens" [devices, B, L] and
    "labels" [devices, B]. `freeze` names what is not trained (`freezing.split`).
    """

    def train_step(state: dict[str, Any], batch: dict[str, Any]):
        key = dropout_key(seed, state["step"])
        trained, frozen = split(state["params"], freeze)
        # the number of rows on all devices together: the loss is a mean over these, not a mean of means
        weight = jax.lax.psum(float(len(batch["labels"])), AXIS)

        def loss_share(trained, rows, key):
            logits = predict(merged(trained, frozen), rows["tokens"], key=key)
            return cross_entropy(logits, rows["labels"], jnp.ones(len(logits)))[0] / weight

        share = accumulate(jax.value_and_grad(loss_share), trained, batch, key, accumulation)
        loss, gradients = jax.lax.psum(share, AXIS)
        updates, opt_state = optimizer.update(gradients, state["opt_state"], trained)
        params = merged(optax.apply_updates(trained, updates), frozen)
        metrics = {"loss": loss, "gradient_norm": optax.tree.norm(gradients)}
        return {"params": params, "opt_state": opt_state, "step": state["step"] + 1}, metrics

    return jax.pmap(train_step, axis_name=AXIS, in_axes=(None, 0), out_axes=None, donate_argnums=0)


def score_classes(
    examples: Sequence[LabelledText], classes: Sequence[TextClass], labels: Sequence[str]
) -> dict[str, float]:
    """Means over all texts: -log p of the true class in nats, and whether the likeliest class is the true one."""
    pairs = list(zip(examples, classes, strict=True))
    loss = [-given.log_probabilities[labels.index(example.label)] for example, given in pairs]
    right = [example.label == given.label for example, given in pairs]
    return {"loss": float(np.mean(loss)), "accuracy": float(np.mean(right))}
