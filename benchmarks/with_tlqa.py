"""The works with tlqa_jax: its own update under pmap, its own losses and decoding.

As our programs do, it tells the C library to keep freed memory, unless the benchmark has done so for all contenders.
"""

import os
from collections.abc import Callable
from functools import partial

import jax
import numpy as np
import optax
import works
from flax import nnx

from tlqa_jax.core.devices import AXIS, replicate
from tlqa_jax.inference.beam_search import beam_search
from tlqa_jax.inference.greedy import greedy
from tlqa_jax.models.bert import BertConfig
from tlqa_jax.models.bert_heads import BertForMaskedLM, BertForQuestionAnswering
from tlqa_jax.models.functional import Params, as_function
from tlqa_jax.models.t5 import T5, T5Config
from tlqa_jax.training.memory import keep_freed_memory
from tlqa_jax.training.optimizers import adamw
from tlqa_jax.training.pretrain_mlm import pretraining_logits, pretraining_losses, pretraining_weights
from tlqa_jax.training.sequence_loss import sequence_loss, target_tokens
from tlqa_jax.training.step import initial_state, update

if "GLIBC_TUNABLES" not in os.environ:
    keep_freed_memory()


def versions() -> str:
    return f"tlqa_jax (jax {jax.__version__})"


def train() -> Callable[[], float]:
    inputs, targets = works.training_tokens()
    model = T5(T5Config(**works.T5_SMALL, dropout_rate=works.DROPOUT), rngs=nnx.Rngs(0))
    apply, params = as_function(model)
    return training_step(partial(sequence_loss, apply), target_tokens, params, {"inputs": inputs, "targets": targets})


def bert(kind: type, size: str, dropout: float) -> nnx.Module:
    rates = dict(hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout)
    return kind(BertConfig(vocab_size=works.BERT_VOCABULARY, **works.BERTS[size], **rates), rngs=nnx.Rngs(0))


def masked_lm(size: str) -> Callable[[], float]:
    tokens, positions, targets = works.masked_tokens(size)
    weights = np.ones(targets.shape, np.float32)
    batch = {"tokens": tokens, "positions": positions, "targets": targets, "weights": weights}
    batch["token_types"] = np.zeros_like(tokens)
    apply, params = as_function(bert(BertForMaskedLM, size, works.DROPOUT))
    loss = partial(pretraining_losses, partial(pretraining_logits, apply, 0))
    return training_step(loss, pretraining_weights, params, batch)


def training_step(
    loss: Callable, weight: Callable, params: Params, batch: dict[str, np.ndarray]
) -> Callable[[], float]:
    optimizer = adamw(optax.constant_schedule(works.LEARNING_RATE), weight_decay=works.WEIGHT_DECAY, clip=None)
    train_step = jax.pmap(
        partial(update, loss, weight, optimizer), axis_name=AXIS, in_axes=(None, 0), out_axes=None, donate_argnums=0
    )
    state = replicate(initial_state(params, optimizer))
    batch = {name: array[None] for name, array in batch.items()}  # one device

    def step() -> float:
        nonlocal state
        state, metrics = jax.block_until_ready(train_step(state, batch))
        return float(metrics["loss"])

    return step


def decoding(batch: int, beams: int = 1) -> Callable[[], float]:
    apply, params = as_function(T5(T5Config(**works.T5_SMALL, dropout_rate=0.0), rngs=nnx.Rngs(0)))
    search = greedy if beams == 1 else partial(beam_search, num_beams=beams)
    generate = jax.jit(partial(search, apply, max_new_tokens=works.NEW_TOKENS, eos_id=-1))  # an end that never comes
    inputs = works.questions(batch)

    def step() -> float:
        generated = jax.block_until_ready(generate(params, inputs, inputs != 0))
        assert generated.tokens.shape[-1] == works.NEW_TOKENS
        return 0.0

    return step


def span_logits(size: str) -> Callable[[], float]:
    apply, params = as_function(bert(BertForQuestionAnswering, size, 0.0))
    predict = jax.jit(apply)
    tokens = works.windows()

    def step() -> float:
        start, end = jax.block_until_ready(predict(params, tokens, mask=tokens != 0))
        return float(start.sum() + end.sum())

    return step
