"""Pretraining of a BERT on masked tokens and next sentences (Devlin et al. 2019, section 3.1), over all devices with pmap.

    tlqa pretrain-mlm --texts corpus.txt --vocabulary vocab.txt --model small --out runs/bert

The loss is the mean over the masked tokens plus the mean over the pairs of segments. With --no-next-sentence there are no
pairs (Liu et al. 2019): every row is filled with text, and the first mean is the whole loss.

On the tiny world, 1,500 steps of 32 rows of 64 tokens at a rate of 2e-3 without dropout take 5 to 10 minutes on 2 busy
CPU cores. The tiny model then names 59% of the masked tokens of held-out text, and 72% if its initial weights are larger
(a --model file with "initializer_range": 0.05), which helps small models in short runs.

Read it from top to bottom: settings, data, model, `train_step`, the loop, the losses. What all programs share is in
`loop.py`, `step.py` and `settings.py`.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array

from tlqa_jax.core.losses import correct_predictions, cross_entropy
from tlqa_jax.core.masks import padding_mask
from tlqa_jax.data.batches import evaluation_batches, training_batches
from tlqa_jax.errors import UserError
from tlqa_jax.models.bert_heads import BertForMaskedLM, BertForPreTraining, PretrainingLogits
from tlqa_jax.tasks.masked_lm_rows import MaskedLMRows
from tlqa_jax.training.evaluation import held_out_source, mean_over_examples, summed_over_devices
from tlqa_jax.training.initial_model import load_or_init_bert
from tlqa_jax.training.loop import TrainingRun
from tlqa_jax.training.settings import BertSettings, TextSettings, number, settings_class
from tlqa_jax.training.step import AXIS, initial_state, update

Rows = dict[str, Array]


@settings_class
class PretrainMLMSettings(BertSettings, TextSettings):
    """Settings of a pretraining run."""

    out: str = "runs/bert"
    attention: Literal["plain", "causal"] | None = None
    """plain: each token attends to all others. causal: only to those before it, to measure what that costs (with
    --no-next-sentence). Default: that of --start-from, else plain."""
    next_sentence: bool = True
    """Whether rows are pairs of segments, and the model also learns whether the second follows the first."""
    whole_words: bool = False
    """Mask all pieces of a word together."""
    mask_rate: float = number(0.15, above=0, below=1)
    """Share of the tokens to predict."""
    input_length: int = number(128, at_least=3, at_most=2**20)
    """Length of a row in tokens."""
    warmup: int | float = 0.01

    def check(self) -> None:
        super().check()
        if self.next_sentence and self.input_length < 5:  # special tokens, and a token of text in each segment
            raise UserError(f"--input-length is {self.input_length}: a row of two segments has at least 5 tokens")


def pretrain_mlm(settings: PretrainMLMSettings, *, quiet: bool = False) -> Path:
    """Run the program; returns the run's directory. Raises UserError for wrong settings or files."""
    # --- settings and data: everything that can be wrong is found here, before anything is compiled
    run = TrainingRun("pretrain-mlm", settings, quiet=quiet)
    if run.is_complete:
        return run.path
    initial = load_or_init_bert(settings, settings.input_length, continues=run.continues)
    tokenizer = initial.tokenizer
    initial.options["attention"] = settings.attention or initial.options["attention"]
    if initial.options["attention"] == "causal" and settings.next_sentence:
        raise UserError("[CLS] of a causal BERT sees only itself: add --no-next-sentence, or --attention plain")
    if settings.next_sentence and initial.config.type_vocab_size < 2:
        raise UserError("this model has one token type, and pairs need two: add --no-next-sentence")
    masking = dict(
        input_length=settings.input_length, next_sentence=settings.next_sentence, whole_words=settings.whole_words,
        mask_rate=settings.mask_rate, seed=settings.seed, batch_size=settings.batch_size, data_dir=settings.data_dir,
        text_field=settings.text_field,
    )  # fmt: skip
    held_out_texts = held_out_source(settings.held_out, settings.texts, "tiny_world:pretraining_dev.txt")
    held_out = MaskedLMRows(held_out_texts, tokenizer, **masking) if held_out_texts else None
    data = MaskedLMRows(  # last, because it may be large
        settings.texts, tokenizer, **masking, max_tokens=settings.max_tokens, tokens_file=settings.tokens_file
    )
    run.say(f"training: {data.report()}")
    steps = settings.total_steps(data.size)
    optimizer, rate = run.optimizer(steps)

    # --- model
    model, apply, params = initial.build(BertForPreTraining if settings.next_sentence else BertForMaskedLM)
    state = initial_state(params, optimizer, settings.freeze, run.say)
    run.start(model, tokenizer, {"input_length": settings.input_length, "answers": False})
    del initial, model, params  # or the first device would hold them twice
    predict = partial(pretraining_logits, apply, tokenizer.pad_id)
    train_step = jax.pmap(
        partial(
            update, partial(pretraining_losses, predict), pretraining_weights, optimizer,
            seed=settings.seed, accumulate=settings.accumulate, freeze=settings.freeze,
        ),
        axis_name=AXIS, in_axes=(None, 0), out_axes=None, donate_argnums=0,
    )  # fmt: skip
    evaluate_step = summed_over_devices(partial(pretraining_sums, predict))

    def evaluate(params: Any) -> dict[str, float]:
        """Loss in nats and accuracy of each task on the held-out text."""
        batches = evaluation_batches(held_out.size, settings.batch_size, held_out.build_evaluation)
        return per_prediction(mean_over_examples(evaluate_step, params, batches))

    # --- the loop
    with run.training(state, steps, rate, evaluate if held_out else None, "pretraining") as loop:
        del state  # the loop has it on the devices; this one is on the host
        batches = training_batches(data.size, settings.batch_size, settings.seed, data.build, start=loop.start)
        for step in range(loop.start + 1, steps + 1):
            loop.state, metrics = train_step(loop.state, next(batches))
            loop.finish_step(step, metrics, tokens=settings.batch_size * settings.input_length)
    return run.path


# The losses


def pretraining_logits(apply: Callable, pad_id: int, params: Any, rows: Rows, key=None) -> PretrainingLogits:
    """The logits of the masked tokens, and of the next sentence (None from a model without that task).

    `key` seeds dropout; None: no dropout.
    """
    logits = apply(
        params, rows["tokens"], positions=rows["positions"], token_types=rows["token_types"],
        mask=padding_mask(rows["tokens"], pad_id), key=key,
    )  # fmt: skip
    return logits if isinstance(logits, PretrainingLogits) else PretrainingLogits(logits, None)


def pretraining_tasks(predict: Callable, params: Any, rows: Rows, key=None) -> dict[str, tuple[Array, Array, Array]]:
    """(logits, targets, weights) of "mlm", and of "nsp" if the rows are pairs. Rows count by their "weight", if any."""
    logits, each = predict(params, rows, key=key), rows.get("weight", jnp.ones(len(rows["tokens"])))
    tasks = {"mlm": (logits.masked_lm, rows["targets"], rows["weights"] * each[:, None])}
    return tasks | ({"nsp": (logits.next_sentence, rows["next_sentence"], each)} if "next_sentence" in rows else {})


def pretraining_losses(predict: Callable, params: Any, rows: Rows, key=None) -> dict[str, Array]:
    """The sum of the losses of each task, in nats."""
    return {name: cross_entropy(*task)[0] for name, task in pretraining_tasks(predict, params, rows, key).items()}


def pretraining_weights(rows: Rows) -> dict[str, Array]:
    """What the losses are means over: the number of masked tokens, and of pairs."""
    weights = {"mlm": rows["weights"].sum()}
    return weights | ({"nsp": jnp.float32(len(rows["tokens"]))} if "next_sentence" in rows else {})


def pretraining_sums(predict: Callable, params: Any, rows: Rows) -> dict[str, Array]:
    """Sums over a batch, without dropout: losses in nats, right answers, masked tokens ("predictions") and "weight".

    Rows whose "weight" is 0 only fill up the last batch.
    """
    sums = {"weight": rows["weight"].sum()}
    for name, task in pretraining_tasks(predict, params, rows).items():
        loss, weight = cross_entropy(*task)
        sums |= {f"{name}_loss": loss, f"{name}_accuracy": correct_predictions(*task)}
        sums |= {"predictions": weight} if name == "mlm" else {}
    return sums


def per_prediction(means: dict[str, float]) -> dict[str, float]:
    """What is reported, from the means of `pretraining_sums` over the rows: the masked LM's are over its predictions."""
    means = dict(means)
    predictions = means.pop("predictions") or float("nan")
    means |= {name: means[name] / predictions for name in ("mlm_loss", "mlm_accuracy")}
    return {"loss": means["mlm_loss"] + means.get("nsp_loss", 0.0)} | means
