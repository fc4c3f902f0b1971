"""The works with tlqa_jax: its own pmap-ed train step and its own greedy decoding, nothing rewritten for the benchmark."""

from collections.abc import Callable
from functools import partial

import jax
import numpy as np
import optax
import works
from flax import nnx

from tlqa_jax.decoding.generate import greedy
from tlqa_jax.models.functional import as_function
from tlqa_jax.models.t5 import T5, T5Config
from tlqa_jax.training.devices import replicate
from tlqa_jax.training.optimizers import adamw
from tlqa_jax.training.span_corruption import make_train_step


def versions() -> str:
    return f"tlqa_jax (jax {jax.__version__})"


def train() -> Callable[[], float]:
    apply, params = as_function(T5(T5Config(**works.T5_SMALL, dropout_rate=works.DROPOUT), rngs=nnx.Rngs(0)))
    optimizer = adamw(optax.constant_schedule(works.LEARNING_RATE), weight_decay=works.WEIGHT_DECAY, clip=None)
    train_step = make_train_step(apply, optimizer, seed=0)
    state = replicate({"params": params, "opt_state": optimizer.init(params), "step": np.int32(0)})
    inputs, targets = works.training_tokens()
    batch = {"inputs": inputs[None], "targets": targets[None]}  # one device

    def step() -> float:
        nonlocal state
        state, metrics = jax.block_until_ready(train_step(state, batch))
        return float(metrics["loss"].addressable_data(0)[0])

    return step


def greedy_decoding(batch: int) -> Callable[[], float]:
    apply, params = as_function(T5(T5Config(**works.T5_SMALL, dropout_rate=0.0), rngs=nnx.Rngs(0)))
    generate = jax.jit(partial(greedy, apply, max_length=works.NEW_TOKENS, eos_id=-1))  # an end that never comes
    inputs = works.questions(batch)

    def step() -> float:
        generated = jax.block_until_ready(generate(params, inputs, inputs != 0))
        assert generated.tokens.shape == (batch, works.NEW_TOKENS)
        return 0.0

    return step
