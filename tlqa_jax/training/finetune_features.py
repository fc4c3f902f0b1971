"""A classifier on the features of a frozen BERT or T5, over all devices with pmap: feature-based transfer.

    tlqa finetune-features --start-from bert-base-uncased --layers last:4 --texts train.jsonl --held-out dev.jsonl

The encoder reads each text once. The states of some of its layers, pooled, are the text's features (Devlin et al. 2019,
section 5.3); they are kept on disk, so that the next head costs seconds. Trained is one matrix.

Measured on one of 2 busy CPU cores: 1,500 reviews of the tiny world by a causal BERT of 2 layers of 128 take 8 seconds,
and 5 with the features in the cache. No score on real text is measured yet.

Read it from top to bottom: settings, data, model, `train_step`, the loop, the loss. What all programs share is in
`loop.py`, `step.py` and `settings.py`.
"""

import dataclasses
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from tlqa_jax.core.losses import cross_entropy
from tlqa_jax.data.batches import training_batches
from tlqa_jax.errors import UserError
from tlqa_jax.inference.features import FeatureExtractor, classes_of_features
from tlqa_jax.models.features import FeatureClassifier, Pooling
from tlqa_jax.models.functional import as_function
from tlqa_jax.training.evaluation import save_answers, score_classes
from tlqa_jax.training.labelled_texts import LabelledSettings, read_labelled
from tlqa_jax.training.loop import TrainingRun
from tlqa_jax.training.settings import settings_class
from tlqa_jax.training.step import AXIS, initial_state, update

PREDICTIONS = "predictions.json"


@settings_class
class FinetuneFeaturesSettings(LabelledSettings):
    """Settings of a run that trains a head on features."""

    default_length: ClassVar[dict[str, float]] = {"epochs": 30.0}

    out: str = "runs/features"
    layers: tuple[str, ...] = ("last",)
    """Layers of the encoder: last, last:N, or numbers, 0 for the embeddings. Several are put side by side."""
    pooling: Pooling = "mean"
    """mean: over a text's tokens; cls: the first token, [CLS] (BERT only)."""
    cache: str | None = "runs/cache"
    """Directory in which features are kept, under a hash of the model, the tokens, the layers and the pooling; "None": they
    are computed at each start."""
    batch_size: int = 32
    learning_rate: float = 1e-2
    dropout: float = 0.0

    def check(self) -> None:
        super().check()
        if not self.start_from:
            raise UserError("features are of a pretrained model: give --start-from")


def finetune_features(settings: FinetuneFeaturesSettings, *, quiet: bool = False) -> Path:
    """Run the program; returns the run's directory. Raises UserError for wrong settings or files."""
    # --- settings and data: everything that can be wrong is found here, before anything is compiled
    run = TrainingRun("finetune-features", settings, quiet=quiet)
    if run.is_complete:
        return run.path
    extract = FeatureExtractor(
        settings.start_from, layers=settings.layers, pooling=settings.pooling, input_length=settings.input_length,
        dtype=settings.dtype,
    )  # fmt: skip
    examples, held_out, labels = read_labelled(settings)
    steps = settings.total_steps(len(examples))
    optimizer, rate = run.optimizer(steps)

    # --- model
    sizes = dataclasses.replace(extract.config, id2label=labels, hidden_dropout_prob=settings.dropout)
    model = FeatureClassifier(sizes, rngs=nnx.Rngs(settings.seed))
    apply, params = as_function(model)
    state = initial_state(params, optimizer, settings.freeze, run.say)
    run.start(model, extract.tokenizer, {"input_length": settings.input_length})
    features, cut = extract([example.text for example in examples], cache=settings.cache)
    numbers = np.array([labels.index(example.label) for example in examples], np.int32)
    run.say(f"training: {len(examples):,} texts, {cut.sum():,} of them cut, {extract.size} features each")
    held_out_features = extract([example.text for example in held_out], cache=settings.cache) if held_out else None
    del params, extract
    train_step = jax.pmap(
        partial(
            update, partial(head_loss, apply), number_of_rows, optimizer,
            seed=settings.seed, accumulate=settings.accumulate, freeze=settings.freeze,
        ),
        axis_name=AXIS, in_axes=(None, 0), out_axes=None, donate_argnums=0,
    )  # fmt: skip

    def evaluate(params: Any) -> dict[str, float]:
        """Loss in nats per text and accuracy; the classes are written into the run, by the row's number."""
        classes = classes_of_features(apply, params, *held_out_features, labels)
        save_answers(run.path, PREDICTIONS, {}, {str(row): given.label for row, given in enumerate(classes, 1)})
        return score_classes(held_out, classes, labels)

    # --- the loop
    with run.training(state, steps, rate, evaluate if held_out else None, "fine-tuning") as loop:
        del state  # the loop has it on the devices; this one is on the host
        build = lambda indices, *_: {"features": features[indices], "labels": numbers[indices]}
        batches = training_batches(len(examples), settings.batch_size, settings.seed, build, start=loop.start)
        for step in range(loop.start + 1, steps + 1):
            loop.state, metrics = train_step(loop.state, next(batches))
            loop.finish_step(step, metrics, tokens=settings.batch_size)
    return run.path


# The loss


def head_loss(apply: Callable, params: Any, rows: dict[str, Array], key=None) -> Float[Array, ""]:
    """The sum of -log p of the true classes, in nats. `key` seeds dropout; None: no dropout."""
    logits = apply(params, rows["features"], key=key)
    return cross_entropy(logits, rows["labels"], jnp.ones(len(logits)))[0]


def number_of_rows(rows: dict[str, Array]) -> Array:
    """What the loss is a mean over."""
    return jnp.float32(len(rows["labels"]))
