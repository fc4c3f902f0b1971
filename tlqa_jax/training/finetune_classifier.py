"""Fine-tuning of a BERT, or of word vectors, to classify texts (sentiment, type of a question), over all devices with pmap.

    tlqa finetune-classifier --start-from bert-base-uncased --texts train.jsonl --held-out dev.jsonl

The encoder's pooled [CLS] vector and one matrix give the logits (Devlin et al. 2019, section 4.1). From word vectors
(--start-from a run of pretrain-vectors) it is a bag of vectors: their mean, and one matrix.

From MiniLM (6 layers of width 384), 2 epochs of 9,594 sentences with a sentiment took 20 minutes on 2 busy CPU cores:
86.9% of 1,066 held-out sentences right.

Read it from top to bottom: settings, data, model, `train_step`, the loop, the loss. What all programs share is in
`loop.py`, `step.py` and `settings.py`.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from tlqa_jax.core.losses import cross_entropy
from tlqa_jax.data.batches import training_batches
from tlqa_jax.inference.classifier import Classifier, class_logits
from tlqa_jax.tasks.classification import encode_labelled
from tlqa_jax.training.evaluation import save_answers, score_classes
from tlqa_jax.training.initial_model import load_or_init_classifier
from tlqa_jax.training.labelled_texts import LabelledSettings, read_labelled
from tlqa_jax.training.loop import TrainingRun
from tlqa_jax.training.settings import BertSettings, FinetuningSettings, settings_class
from tlqa_jax.training.step import AXIS, initial_state, update

PREDICTIONS = "predictions.json"


@settings_class
class FinetuneClassifierSettings(FinetuningSettings, BertSettings, LabelledSettings):
    """Settings of a run that trains a classifier."""

    default_length: ClassVar[dict[str, float]] = {"epochs": 3.0}

    out: str = "runs/classifier"
    batch_size: int = 32
    learning_rate: float = 1e-4
    warmup: int | float = 0.1


def finetune_classifier(settings: FinetuneClassifierSettings, *, quiet: bool = False) -> Path:
    """Run the program; returns the run's directory. Raises UserError for wrong settings or files."""
    # --- settings and data: everything that can be wrong is found here, before anything is compiled
    run = TrainingRun("finetune-classifier", settings, quiet=quiet)
    if run.is_complete:
        return run.path
    initial = load_or_init_classifier(settings, settings.input_length, continues=run.continues)
    tokenizer = initial.tokenizer
    if initial.options.get("attention") == "causal":
        run.say("the model to start from looks back only, and [CLS] would see only itself: now it looks both ways")
        initial.options["attention"] = "plain"
    examples, held_out, labels = read_labelled(settings)
    if initial.config.id2label != labels:
        initial.params.pop("classifier", None)  # the head of a classifier for other classes, whatever its size
    rows = encode_labelled(tokenizer, examples, labels=labels, input_length=settings.input_length)
    run.say(f"training: {rows.report()}, of {len(labels)} classes: {', '.join(labels)}")
    steps = settings.total_steps(rows.size)
    optimizer, rate = run.optimizer(steps)

    # --- model
    model, apply, params = initial.build(initial.classifier, settings.train, id2label=labels)
    freeze, waiting = run.frozen(params, steps)
    state = initial_state(params, optimizer, freeze, run.say)
    run.start(model, tokenizer, {"input_length": settings.input_length})
    del initial, model, params  # or the first device would hold them twice
    predict = partial(class_logits, apply, tokenizer.pad_id)
    train_step = jax.pmap(
        partial(
            update, partial(class_loss, predict), number_of_texts, optimizer,
            seed=settings.seed, accumulate=settings.accumulate, freeze=freeze,
        ),
        axis_name=AXIS, in_axes=(None, 0, None), out_axes=None, donate_argnums=0, static_broadcasted_argnums=2,
    )  # fmt: skip
    classifier = Classifier(
        apply, tokenizer, labels, input_length=settings.input_length, batch_size=settings.batch_size
    )

    def evaluate(params: Any) -> dict[str, float]:
        """Loss in nats per text and accuracy; the classes are written into the run, by the row's number."""
        classes = classifier(params, [example.text for example in held_out])
        save_answers(run.path, PREDICTIONS, {}, {str(row): given.label for row, given in enumerate(classes, 1)})
        return score_classes(held_out, classes, labels)

    # --- the loop
    with run.training(state, steps, rate, evaluate if held_out else None, "fine-tuning") as loop:
        del state  # the loop has it on the devices; this one is on the host
        batches = training_batches(rows.size, settings.batch_size, settings.seed, rows.build, start=loop.start)
        for step in range(loop.start + 1, steps + 1):
            loop.state, metrics = train_step(loop.state, next(batches), waiting(step))
            loop.finish_step(step, metrics, tokens=settings.batch_size * rows.tokens.shape[1])
    return run.path


# The loss


def class_loss(predict: Callable, params: Any, rows: dict[str, Array], key=None) -> Float[Array, ""]:
    """The sum of -log p of the true classes, in nats. `key` seeds dropout; None: no dropout."""
    logits = predict(params, rows["tokens"], key=key)
    return cross_entropy(logits, rows["labels"], jnp.ones(len(logits)))[0]


def number_of_texts(rows: dict[str, Array]) -> Array:
    """What the loss is a mean over."""
    return jnp.float32(len(rows["labels"]))
