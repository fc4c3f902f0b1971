"""A batch split differently: 8 devices, 1 device, and accumulation give the same loss, gradients and parameters.

All programs share the update; only their losses differ. So the T5's is split in every way, a BERT's four in one.
"""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tlqa_jax.inference.answer_spans import span_logits
from tlqa_jax.inference.classifier import class_logits
from tlqa_jax.models.bert import BertConfig
from tlqa_jax.models.bert_heads import (
    BertForPreTraining, BertForQuestionAnswering, BertForSequenceClassification, BertLMHeadModel,
)  # fmt: skip
from tlqa_jax.models.functional import as_function
from tlqa_jax.models.t5 import T5, T5Config
from tlqa_jax.training import finetune_classifier, finetune_spans, pretrain_clm, pretrain_mlm
from tlqa_jax.training.optimizers import adamw, schedule
from tlqa_jax.training.sequence_loss import sequence_loss, target_tokens

from .comparing import assert_leaves_close, train
from .programs import random_model

T5_CONFIG = T5Config(vocab_size=61, d_model=12, d_kv=4, d_ff=20, num_layers=1, num_heads=3, dropout_rate=0.0)
BERT_CONFIG = BertConfig(
    vocab_size=61, hidden_size=12, num_hidden_layers=1, num_attention_heads=3, intermediate_size=20,
    max_position_embeddings=24, initializer_range=0.1, id2label=("a", "b", "c"),
    hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
)  # fmt: skip
KEY_BIAS = "encoder/layer_0/attention/key_bias"  # moves all scores of a query alike: its gradient is truly 0
SPAN_BIASES = ("span/bias", "encoder/layer_0/feed_forward_norm/bias")  # move all logits of a row alike


def uneven_batch(rows=32, vocab_size=61, input_length=11, target_length=9) -> dict[str, np.ndarray]:
    """Rows of 1 to 9 target tokens, short ones first: the devices' shares weigh very differently."""
    rng = np.random.default_rng(3)
    inputs = rng.integers(2, vocab_size, (rows, input_length)).astype(np.int32)
    targets = rng.integers(2, vocab_size, (rows, target_length)).astype(np.int32)
    lengths = np.linspace(1, target_length, rows).astype(int)
    targets[np.arange(target_length) >= lengths[:, None]] = 0
    inputs[np.arange(input_length) >= input_length - target_length + 1 + lengths[:, None]] = 0
    return {"inputs": inputs, "targets": targets}


def uneven_texts(name: str, vocab_size: int = 61, length: int = 24, rows: int = 32) -> dict[str, np.ndarray]:
    """Rows of 5 tokens and more, and 1 to 5 predictions, short ones first."""
    rng = np.random.default_rng(3)
    column = lambda array: np.asarray(array, np.int32)
    lengths = np.linspace(5, length, rows).astype(int)[:, None]
    real = np.arange(length) < lengths
    everything = {
        "token_types": column(real & (np.arange(length) >= lengths // 2)),
        "positions": column(rng.integers(0, 5, (rows, 5))), "targets": column(rng.integers(5, vocab_size, (rows, 5))),
        "weights": np.float32(np.arange(5) <= np.arange(rows)[:, None] * 5 // rows),
        "next_sentence": column(rng.integers(0, 2, rows)), "labels": column(rng.integers(0, 3, rows)),
        "start": column(rng.integers(0, 4, rows)), "end": column(rng.integers(0, 5, rows)),
    }  # fmt: skip
    tokens = column(np.where(real, rng.integers(5, vocab_size, (rows, length)), 0))
    if name == "pretrain_clm":
        return {"tokens": tokens, "targets": np.roll(tokens, -1, 1), "weights": np.float32(np.roll(real, -1, 1) & real)}
    return {"tokens": tokens} | {key: everything[key] for key in BERTS[name].asked}


# The T5


def t5(**options):
    """(loss, weight, params) of a T5."""
    apply, params = as_function(random_model(T5, T5_CONFIG, **options))
    return partial(sequence_loss, apply), target_tokens, params


@pytest.fixture(scope="module")
def whole():
    return train(*t5(), uneven_batch())


@pytest.fixture(scope="module")
def eight():
    return train(*t5(), uneven_batch(), 8)


@pytest.fixture
def float64():
    jax.config.update("jax_enable_x64", True)
    yield jnp.float64
    jax.config.update("jax_enable_x64", False)


slow = lambda *values: pytest.param(*values, marks=pytest.mark.slow)


@pytest.mark.parametrize("devices, accumulate", [(8, 1), (1, 8), slow(1, 4), slow(4, 4)])
def test_loss_and_gradients_do_not_depend_on_how_the_batch_is_split(whole, eight, devices, accumulate):
    split = eight if devices == 8 else train(*t5(), uneven_batch(), devices, accumulate)
    assert split.losses == pytest.approx(whole.losses, rel=1e-6)
    assert_leaves_close(split.gradients, whole.gradients, 3e-6)  # the rounding of float32: 2.2e-6 was seen
    assert_leaves_close(split.params, whole.params, 1e-6)  # after a step of plain gradient descent


@pytest.mark.parametrize("devices, accumulate", [(1, 8), slow(2, 4)])
def test_of_equal_micro_batches_they_agree_even_more_closely(eight, devices, accumulate):
    """So the differences above do not come from adding up the micro-batches, but from computing each token: products of
    narrow matrices are rounded in another way for 32 rows than for 4, by 4e-7 of the largest logit here, and that goes
    through all layers and back."""
    fewer = train(*t5(), uneven_batch(), devices, accumulate)
    assert_leaves_close(fewer.gradients, eight.gradients, 1e-6)  # 4e-7 was seen


@pytest.mark.slow
@pytest.mark.parametrize("devices, accumulate", [(8, 1), (1, 8), (1, 4)])
def test_at_a_width_that_models_have_they_agree_to_a_millionth(devices, accumulate):
    """Gated, as in T5 1.1: relu bends at 0, and one of its million inputs may be rounded to the other side. Then a leaf
    differs by some percent, as it does from float64."""
    config = T5Config(
        vocab_size=512, d_model=64, d_kv=16, d_ff=256, num_layers=2, num_heads=4, dropout_rate=0.0,
        feed_forward_proj="gated-gelu", tie_word_embeddings=False,
    )  # fmt: skip
    apply, params = as_function(T5(config, rngs=nnx.Rngs(0)))
    program = partial(sequence_loss, apply), target_tokens, params
    batch = uneven_batch(vocab_size=512, input_length=48, target_length=16)
    whole, split = (train(*program, batch, *how) for how in ((1, 1), (devices, accumulate)))
    assert split.losses == pytest.approx(whole.losses, rel=1e-6)
    assert_leaves_close(split.gradients, whole.gradients, 1e-6)  # 6.4e-7 was seen, over four seeds


@pytest.mark.parametrize("devices, accumulate", [slow(4, 4), slow(8, 1), slow(1, 8)])
def test_in_float64_they_do_not_depend_on_it_at_all(float64, devices, accumulate):
    """What float32 leaves between them is rounding, nothing else."""
    loss, weight, params = t5(dtype=float64)
    step = partial(train, loss, weight, jax.tree.map(lambda x: x.astype(np.float64), params), uneven_batch())
    whole, split = step(), step(devices, accumulate)
    assert split.losses == pytest.approx(whole.losses, rel=1e-7)  # they are divided by a number of tokens in float32
    assert_leaves_close(split.gradients, whole.gradients, 1e-10)


def test_the_loss_is_the_mean_over_all_target_tokens(eight):
    batch, (apply, params) = uneven_batch(), as_function(random_model(T5, T5_CONFIG))
    targets, inputs = batch["targets"], jnp.asarray(batch["inputs"])
    logits = jax.jit(apply)(params, inputs, jnp.pad(targets[:, :-1], ((0, 0), (1, 0))), input_mask=inputs != 0)
    log_probabilities = jax.nn.log_softmax(np.asarray(logits, np.float32))
    picked = np.take_along_axis(np.asarray(log_probabilities), targets[..., None], -1)[..., 0]
    per_token = -picked[targets != 0]
    assert eight.losses == pytest.approx([per_token.mean()], rel=1e-5)
    mean_of_means = np.mean([-picked[i : i + 4][targets[i : i + 4] != 0].mean() for i in range(0, 32, 4)])
    assert abs(mean_of_means - per_token.mean()) > 1e-3  # the batch can tell the wrong way from the right one


@pytest.mark.slow
def test_adamw_follows_the_same_curve_on_8_devices_and_on_1():
    optimizer = adamw(schedule(3e-2, 20, warmup=4), weight_decay=0.01, relative_bias_rate=30.0)
    one, eight = (train(*t5(), uneven_batch(), n, optimizer=optimizer, steps=20).losses for n in (1, 8))
    np.testing.assert_allclose(eight, one, rtol=1e-4)
    assert one[-1] < 0.8 * one[0]  # and it falls


def test_dropout_differs_between_devices_and_steps_but_not_between_runs():
    """The loss, in the place of a model's, is what a key draws: the sums of a step tell its keys."""
    batch = {"rows": np.zeros((8, 2), np.float32)}
    draw = lambda params, rows, key: params["scale"] * jax.random.uniform(key)
    weight = lambda rows: jnp.float32(0.125)  # of all eight devices: 1
    params = {"scale": np.ones(1, np.float32)[0]}
    step = lambda devices, accumulate=1, steps=2: train(
        draw, weight, params, {"rows": batch["rows"].repeat(accumulate * devices // 8 or 1, 0)[: devices * accumulate]},
        devices, accumulate, steps=steps,
    ).losses  # fmt: skip
    first, again = step(8), step(8)
    assert first == again and first[0] != first[1]
    keys = [jax.random.fold_in(jax.random.fold_in(jax.random.key(0), 0), device) for device in range(8)]
    drawn = [float(jax.random.uniform(key)) for key in keys]
    assert len(set(drawn)) == 8 and first[0] == pytest.approx(sum(drawn), rel=1e-5)
    micro = [float(jax.random.uniform(key)) for key in jax.random.split(keys[0], 4)]
    assert step(1, 4, 1) == pytest.approx([sum(micro)], rel=1e-5) and len(set(micro)) == 4


# A BERT


class Bert(NamedTuple):
    """Model, logits, loss, weight of a program; what its rows have beside the text; which leaves change no loss."""

    model: Any
    logits: Any
    loss: Any
    weight: Any
    asked: tuple[str, ...]
    zero: tuple[str, ...] = (KEY_BIAS,)


BERTS = {
    "pretrain_mlm": Bert(
        BertForPreTraining, pretrain_mlm.pretraining_logits, pretrain_mlm.pretraining_losses,
        pretrain_mlm.pretraining_weights, ("token_types", "positions", "targets", "weights", "next_sentence"),
    ),
    "pretrain_clm": Bert(
        BertLMHeadModel, lambda apply, pad_id, *given, **key: apply(*given, **key), pretrain_clm.next_token_loss,
        pretrain_clm.number_of_targets, (),
    ),
    "finetune_spans": Bert(
        BertForQuestionAnswering, span_logits, lambda *how: finetune_spans.span_loss(*how).sum(),
        finetune_spans.number_of_rows, ("token_types", "start", "end"), (KEY_BIAS, *SPAN_BIASES),
    ),
    "finetune_classifier": Bert(
        BertForSequenceClassification, class_logits, finetune_classifier.class_loss,
        finetune_classifier.number_of_texts, ("labels",),
    ),
}  # fmt: skip
EVERY_BERT = pytest.mark.parametrize("name", BERTS)


def bert(name: str, dtype=jnp.float32):
    """(loss, weight, params) of a BERT."""
    program = BERTS[name]
    apply, params = as_function(random_model(program.model, BERT_CONFIG, dtype=dtype))
    params = jax.tree.map(lambda x: np.asarray(x, dtype), params)
    return partial(program.loss, partial(program.logits, apply, 0)), program.weight, params


def losses_by_hand(name: str, params: Any, rows: dict[str, np.ndarray]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """{task: (-log p of each prediction, which of them count)}, from logits at every position."""
    apply, rows = as_function(random_model(BERTS[name].model, BERT_CONFIG))[0], jax.tree.map(jnp.asarray, rows)
    every, real = np.arange(32), rows["tokens"] != 0
    minus_log_p = lambda logits: -np.asarray(jax.nn.log_softmax(logits))
    if name == "finetune_classifier":
        logits = jax.jit(apply)(params, rows["tokens"], mask=real)
        return {"class": (minus_log_p(logits)[every, rows["labels"]], every >= 0)}
    if name == "pretrain_clm":
        logits = jax.jit(apply)(params, rows["tokens"], mask=real)
        picked = minus_log_p(logits)[every[:, None], np.arange(24), rows["targets"]]
        return {"clm": (picked, np.asarray(rows["weights"]) > 0)}
    logits = jax.jit(apply)(params, rows["tokens"], token_types=rows["token_types"], mask=real)
    if name == "finetune_spans":
        picked = [minus_log_p(part)[every, rows[side]] for part, side in zip(logits, ("start", "end"))]
        return {"span": (sum(picked) / 2, every >= 0)}
    masked = minus_log_p(logits.masked_lm)[every[:, None], rows["positions"], rows["targets"]]
    pairs = minus_log_p(logits.next_sentence)[every, rows["next_sentence"]]
    return {"mlm": (masked, np.asarray(rows["weights"]) > 0), "nsp": (pairs, every >= 0)}


# in float32 1.5e-6 was seen, 2.1e-6 in layers 64 wide, most of it in biases
TOLERANCES = {jnp.float32: (1e-6, 3e-6, 1e-6), jnp.float64: (1e-7, 1e-10, 1e-10)}  # of losses, gradients, parameters
FAST = {("pretrain_mlm", jnp.float32), ("finetune_classifier", jnp.float64)}


@pytest.mark.parametrize("name, dtype", [
    pytest.param(name, dtype, marks=[] if (name, dtype) in FAST else pytest.mark.slow, id=f"{name}-{dtype.__name__}")
    for name in BERTS for dtype in TOLERANCES
])  # fmt: skip
def test_a_berts_loss_and_gradients_do_not_depend_on_how_the_batch_is_split(name, dtype):
    jax.config.update("jax_enable_x64", dtype == jnp.float64)
    try:
        program, batch = bert(name, dtype), uneven_texts(name)
        whole, split = train(*program, batch), train(*program, batch, 8, 2)
    finally:
        jax.config.update("jax_enable_x64", False)
    by_hand = losses_by_hand(name, jax.tree.map(np.float32, program[2]), batch)
    expected = sum(losses[counts].mean() for losses, counts in by_hand.values())  # over predictions, and over rows
    assert whole.losses == pytest.approx([expected], rel=1e-5)
    if name == "pretrain_mlm":  # the batch can tell the wrong way from the right one
        losses, counts = by_hand["mlm"]
        means = [losses[i : i + 4][counts[i : i + 4]].mean() for i in range(0, 32, 4)]
        assert abs(np.mean(means) - losses[counts].mean()) > 1e-4
    of_losses, of_gradients, of_params = TOLERANCES[dtype]
    if (name, dtype) == ("finetune_spans", jnp.float64):
        of_losses = 3e-7  # these logits are float32 in any case, and so is their loss
    assert split.losses == pytest.approx(whole.losses, rel=of_losses)
    assert_leaves_close(split.gradients, whole.gradients, of_gradients, BERTS[name].zero)
    assert_leaves_close(split.params, whole.params, of_params)


@pytest.mark.slow
@EVERY_BERT
@pytest.mark.parametrize("devices, accumulate", [(8, 1), (1, 8), (1, 4), (4, 4)])
def test_other_splits_of_a_berts_batch(name, devices, accumulate):
    program, batch = bert(name), uneven_texts(name)
    whole, split = train(*program, batch), train(*program, batch, devices, accumulate)
    assert split.losses == pytest.approx(whole.losses, rel=1e-6)
    assert_leaves_close(split.gradients, whole.gradients, 3e-6, BERTS[name].zero)


@pytest.mark.slow
@EVERY_BERT
def test_a_berts_adamw_follows_the_same_curve_on_8_devices_and_on_1(name):
    program, batch, optimizer = bert(name), uneven_texts(name), adamw(schedule(1e-2, 20, warmup=4), weight_decay=0.01)
    one, eight = (train(*program, batch, n, optimizer=optimizer, steps=20).losses for n in (1, 8))
    np.testing.assert_allclose(eight, one, rtol=1e-4)
    # and it falls; what follows a random token can only be learned by heart
    assert one[-1] < (0.9 if name == "pretrain_clm" else 0.8) * one[0]
