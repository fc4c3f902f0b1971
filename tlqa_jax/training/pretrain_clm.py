"""Pretraining of a BERT on the next token, over all devices with pmap: causal language modelling (Radford et al. 2018).

    tlqa pretrain-clm --texts corpus.txt --vocabulary vocab.txt --model small --out runs/clm

The model is BERT's encoder with the causal mask, and the head of the masked LM. The loss is the mean over all tokens.
Perplexity is e to that mean on held-out text: the number of equally probable tokens that would be as hard to guess.

On the tiny world, 1,500 steps of 32 rows of 64 tokens at a rate of 2e-3 without dropout take 3 minutes on one of 2 busy
CPU cores. The tiny model then names 57% of the next tokens of held-out text, with a perplexity of 23.7; after 1,000 steps
it was 14.7: by the end it knows the 54,000 tokens by heart.

Read it from top to bottom: settings, data, model, `train_step`, the loop, the losses. What all programs share is in
`loop.py`, `step.py` and `settings.py`.
"""

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
from jaxtyping import Array, Float

from tlqa_jax.core.losses import correct_predictions, cross_entropy
from tlqa_jax.data.batches import evaluation_batches, training_batches
from tlqa_jax.models.bert_heads import BertLMHeadModel
from tlqa_jax.tasks.causal_lm import CausalLMRows
from tlqa_jax.training.evaluation import held_out_source, mean_over_examples, summed_over_devices
from tlqa_jax.training.initial_model import load_or_init_bert
from tlqa_jax.training.loop import TrainingRun
from tlqa_jax.training.settings import BertSettings, TextSettings, number, settings_class
from tlqa_jax.training.step import AXIS, initial_state, update

Rows = dict[str, Array]


@settings_class
class PretrainCLMSettings(BertSettings, TextSettings):
    """Settings of a pretraining run."""

    out: str = "runs/clm"
    input_length: int = number(128, at_least=2)
    """Length of a row in tokens."""
    warmup: int | float = 0.01


def pretrain_clm(settings: PretrainCLMSettings, *, quiet: bool = False) -> Path:
    """Run the program; returns the run's directory. Raises UserError for wrong settings or files."""
    # --- settings and data: everything that can be wrong is found here, before anything is compiled
    run = TrainingRun("pretrain-clm", settings, quiet=quiet)
    if run.is_complete:
        return run.path
    initial = load_or_init_bert(settings, settings.input_length, continues=run.continues)
    initial.options["attention"] = "causal"
    tokenizer = initial.tokenizer
    how = dict(input_length=settings.input_length, text_field=settings.text_field, data_dir=settings.data_dir)
    held_out_texts = held_out_source(settings.held_out, settings.texts, "tiny_world:pretraining_dev.txt")
    held_out = CausalLMRows(held_out_texts, tokenizer, **how) if held_out_texts else None
    data = CausalLMRows(  # last, because it may be large
        settings.texts, tokenizer, **how, max_tokens=settings.max_tokens, tokens_file=settings.tokens_file
    )
    run.say(f"training: {data.report()}")
    steps = settings.total_steps(data.size)
    optimizer, rate = run.optimizer(steps)

    # --- model
    model, apply, params = initial.build(BertLMHeadModel)
    state = initial_state(params, optimizer, settings.freeze, run.say)
    run.start(model, tokenizer, {"input_length": settings.input_length, "answers": False})
    del initial, model, params  # or the first device would hold them twice
    train_step = jax.pmap(
        partial(
            update, partial(next_token_loss, apply), number_of_targets, optimizer,
            seed=settings.seed, accumulate=settings.accumulate, freeze=settings.freeze,
        ),
        axis_name=AXIS, in_axes=(None, 0), out_axes=None, donate_argnums=0,
    )  # fmt: skip
    evaluate_step = summed_over_devices(partial(next_token_sums, apply))

    def evaluate(params: Any) -> dict[str, float]:
        """Loss in nats per token, perplexity and accuracy on the held-out text."""
        batches = evaluation_batches(held_out.size, settings.batch_size, held_out.build)
        return with_perplexity(mean_over_examples(evaluate_step, params, batches))

    # --- the loop
    with run.training(state, steps, rate, evaluate if held_out else None, "pretraining") as loop:
        del state  # the loop has it on the devices; this one is on the host
        batches = training_batches(data.size, settings.batch_size, settings.seed, data.build, start=loop.start)
        for step in range(loop.start + 1, steps + 1):
            loop.state, metrics = train_step(loop.state, next(batches))
            loop.finish_step(step, metrics, tokens=settings.batch_size * settings.input_length)
    return run.path


# The losses


def next_token_loss(apply: Callable, params: Any, rows: Rows, key=None) -> Float[Array, ""]:
    """The sum of -log p of the targets, in nats. `key` seeds dropout; None: no dropout.

    There is no mask for padding: it stands behind all tokens that count, and nothing looks forward.
    """
    return cross_entropy(apply(params, rows["tokens"], key=key), rows["targets"], rows["weights"])[0]


def number_of_targets(rows: Rows) -> Float[Array, ""]:
    """What the loss is a mean over."""
    return rows["weights"].sum()


def next_token_sums(apply: Callable, params: Any, rows: Rows) -> dict[str, Array]:
    """Sums over a batch, without dropout: of the loss in nats, of right predictions, and their number ("weight").

    Rows whose "weight" is 0 only fill up the last batch.
    """
    logits, weights = apply(params, rows["tokens"]), rows["weights"] * rows["weight"][:, None]
    loss, weight = cross_entropy(logits, rows["targets"], weights)
    return {"loss": loss, "accuracy": correct_predictions(logits, rows["targets"], weights), "weight": weight}


def with_perplexity(means: dict[str, float]) -> dict[str, float]:
    """The means of `next_token_sums` over the targets, and the perplexity: e to the mean loss."""
    return {"loss": means["loss"], "perplexity": math.exp(means["loss"]), "accuracy": means["accuracy"]}
