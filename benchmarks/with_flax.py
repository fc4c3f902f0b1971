"""The works with Transformers' Flax models, whole steps under jit: the last Transformers that has it is 4.57."""

import inspect
from collections.abc import Callable

import flax
import jax
import jax.numpy as jnp
import numpy as np
import optax
import transformers
import works
from flax.training.train_state import TrainState
from transformers import (
    BertConfig,
    FlaxBertForMaskedLM,
    FlaxBertForQuestionAnswering,
    FlaxT5ForConditionalGeneration,
    T5Config,
)  # fmt: skip


def versions() -> str:
    return f"Transformers {transformers.__version__}, Flax {flax.__version__} (jax {jax.__version__})"


def new_model(dropout: float) -> FlaxT5ForConditionalGeneration:
    if "a_max" not in inspect.signature(jnp.clip).parameters:
        raise SystemExit("this jax no longer has jnp.clip(a_max=...), which Transformers' Flax T5 calls: use jax 0.9.2")
    config = T5Config(**works.T5_SMALL, dropout_rate=dropout, decoder_start_token_id=0, pad_token_id=0, eos_token_id=1)
    return FlaxT5ForConditionalGeneration(config, input_shape=(1, 8), seed=0)


def bert(kind: type, size: str, dropout: float):
    rates = dict(hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout)
    config = BertConfig(vocab_size=works.BERT_VOCABULARY, **works.BERTS[size], **rates)
    return kind(config, input_shape=(1, 8), seed=0)


def train() -> Callable[[], float]:
    inputs, targets = works.training_tokens()
    shifted = np.pad(targets[:, :-1], ((0, 0), (1, 0)))
    rows = dict(input_ids=inputs, decoder_input_ids=shifted)
    # kinder than the one-hot product of Transformers' example script
    loss = lambda logits: optax.softmax_cross_entropy_with_integer_labels(logits, targets).mean()
    return training_step(new_model(works.DROPOUT), rows, loss)


def masked_lm(size: str) -> Callable[[], float]:
    tokens, positions, targets = works.masked_tokens(size)
    labels, asked = np.zeros_like(tokens), np.zeros(tokens.shape, np.float32)
    np.put_along_axis(labels, positions, targets, axis=1)
    np.put_along_axis(asked, positions, 1, axis=1)

    def loss(logits):
        return (optax.softmax_cross_entropy_with_integer_labels(logits, labels) * asked).sum() / asked.sum()

    rows = dict(input_ids=tokens, attention_mask=np.ones_like(tokens))
    return training_step(bert(FlaxBertForMaskedLM, size, works.DROPOUT), rows, loss)


def training_step(model, rows: dict[str, np.ndarray], loss: Callable) -> Callable[[], float]:
    optimizer = optax.adamw(works.LEARNING_RATE, weight_decay=works.WEIGHT_DECAY)

    def train_step(state, key):
        key, dropout_key = jax.random.split(key)
        loss_of = lambda params: loss(state.apply_fn(**rows, params=params, dropout_rng=dropout_key, train=True).logits)
        value, gradients = jax.value_and_grad(loss_of)(state.params)
        return state.apply_gradients(grads=gradients), key, value

    train_step = jax.jit(train_step, donate_argnums=0)
    state = TrainState.create(apply_fn=model.__call__, params=model.params, tx=optimizer)
    key = jax.random.PRNGKey(0)

    def step() -> float:
        nonlocal state, key
        state, key, value = jax.block_until_ready(train_step(state, key))
        return float(value)

    return step


def decoding(batch: int, beams: int = 1) -> Callable[[], float]:
    model = new_model(0.0)
    never = works.T5_SMALL["vocab_size"]  # an end that never comes
    generate = jax.jit(
        lambda params, inputs: model.generate(
            inputs, params=params, max_length=works.NEW_TOKENS + 1, do_sample=False, num_beams=beams, eos_token_id=never
        ).sequences
    )
    inputs = works.questions(batch)

    def step() -> float:
        sequences = jax.block_until_ready(generate(model.params, inputs))
        assert sequences.shape == (batch, works.NEW_TOKENS + 1)  # with the start token
        return 0.0

    return step


def span_logits(size: str) -> Callable[[], float]:
    model = bert(FlaxBertForQuestionAnswering, size, 0.0)
    predict = jax.jit(lambda params, tokens: model(tokens, params=params))
    tokens = works.windows()

    def step() -> float:
        logits = jax.block_until_ready(predict(model.params, tokens))
        return float(logits.start_logits.sum() + logits.end_logits.sum())

    return step
