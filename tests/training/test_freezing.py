"""Frozen means bit-identical after training, and costs no backward pass."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from hypothesis import given, settings, strategies as st

from tlqa_jax.checkpoints.named_arrays import flatten
from tlqa_jax.core.devices import AXIS, unreplicate
from tlqa_jax.errors import UserError
from tlqa_jax.inference.answer_spans import span_logits
from tlqa_jax.models.bert import BertConfig
from tlqa_jax.models.bert_heads import BertForQuestionAnswering
from tlqa_jax.models.functional import as_function
from tlqa_jax.models.t5 import T5, T5Config
from tlqa_jax.models.word_vectors import BagOfVectors, WordVectorsConfig
from tlqa_jax.training.finetune_spans import number_of_rows, span_loss
from tlqa_jax.training.freezing import (
    check_freeze, combine, frozen_names, partition, read_train, unfreezing_stages,
)  # fmt: skip
from tlqa_jax.training.initial_model import ADDERS
from tlqa_jax.training.optimizers import make_optimizer
from tlqa_jax.training.step import initial_state, update

PARAMS = {"encoder": {"norm": {"scale": 1}, "layer_0": {"up": 2}, "layer_1": {"up": 3}}, "encoder_bias": 4, "head": 5}


@pytest.mark.parametrize("freeze, trained", [
    ([], "encoder/norm/scale encoder/layer_0/up encoder/layer_1/up encoder_bias head"),
    (["encoder"], "encoder_bias head"),
    (["encoder*"], "head"),
    (["encoder/layer_0", "head"], "encoder/norm/scale encoder/layer_1/up encoder_bias"),
    (["encoder/layer_[1-9]"], "encoder/norm/scale encoder/layer_0/up encoder_bias head"),
    (["*/up"], "encoder/norm/scale encoder_bias head"),
])  # fmt: skip
def test_what_a_pattern_freezes(freeze, trained):
    assert set(flatten(partition(PARAMS, freeze)[0])) == set(trained.split())


names = st.text("ab", min_size=1, max_size=2)
trees = st.dictionaries(names, st.recursive(st.integers(), lambda inner: st.dictionaries(names, inner, min_size=1)))


@settings(max_examples=40)
@given(trees, st.lists(st.text("ab/*", min_size=1, max_size=4), max_size=3))
def test_each_leaf_is_in_one_part_and_both_make_the_whole(tree, freeze):
    trained, frozen = partition(tree, freeze)
    assert not flatten(trained).keys() & flatten(frozen).keys()
    assert flatten(trained) | flatten(frozen) == flatten(tree)
    assert combine(trained, frozen) == tree


def test_it_says_what_it_trains_and_refuses_what_cannot_be_meant():
    params, said = jax.tree.map(lambda size: np.zeros(1000 * size), PARAMS), []
    state = initial_state(params, optax.sgd(0.1, momentum=0.9), ("encoder",), said.append)
    assert said == ["training 9,000 of 15,000 parameters (60.0%)"]
    assert flatten(state["params"]).keys() == flatten(params).keys()
    assert sum(x.size for x in jax.tree.leaves(state["opt_state"])) == 9000
    initial_state(params, optax.sgd(0.1), (), said.append)
    assert said[1] == "training 15,000 of 15,000 parameters (100.0%)"
    with pytest.raises(UserError, match="--freeze encodr matches no parameters; there are encoder/layer_0, encoder/la"):
        check_freeze(params, ("head", "encodr"))
    with pytest.raises(UserError, match=r"--freeze enc\*,head leaves nothing to train"):
        check_freeze(params, ("enc*", "head"))


BERT = BertConfig(
    vocab_size=30, hidden_size=12, num_hidden_layers=2, num_attention_heads=3, intermediate_size=20,
    max_position_embeddings=16, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
)  # fmt: skip
APPLY, WEIGHTS = as_function(BertForQuestionAnswering(BERT, rngs=nnx.Rngs(0)))
ROWS = {
    "tokens": np.random.default_rng(0).integers(5, 30, (1, 8, 16)).astype(np.int32),
    "token_types": np.zeros((1, 8, 16), np.int32),
    "start": np.arange(8, dtype=np.int32)[None], "end": np.arange(1, 9, dtype=np.int32)[None],
}  # fmt: skip
HALF = ("encoder/embeddings", "encoder/layer_0")


def compiled_step(freeze, optimizer, waiting=()):
    """(step, state)"""
    loss = lambda params, rows, key: span_loss(partial(span_logits, APPLY, 0), params, rows, key).sum()
    step = jax.pmap(
        partial(update, loss, number_of_rows, optimizer, freeze=freeze, waiting=waiting),
        axis_name=AXIS, in_axes=(None, 0), out_axes=None,
    )  # fmt: skip
    state = initial_state(WEIGHTS, optimizer, freeze, lambda _: None)
    return step.lower(state, ROWS).compile(), state


def flops(compiled) -> float:
    cost = compiled.cost_analysis()
    return (cost[0] if isinstance(cost, list) else cost)["flops"]


def test_frozen_layers_move_nothing_cost_no_backward_pass_and_no_memory():
    """Of one step of plain gradient descent the gradients can be read off."""
    moved, cost, moments = {}, {}, {}
    for freeze in ((), HALF, ("encoder",)):
        step, state = compiled_step(freeze, optax.sgd(1.0))
        after = flatten(unreplicate(step(state, ROWS)[0]["params"]))
        moved[freeze] = {name: after[name] - np.asarray(value) for name, value in flatten(WEIGHTS).items()}
        cost[freeze] = flops(step)
        kept = initial_state(WEIGHTS, optax.adamw(1e-3), freeze, lambda _: None)["opt_state"]
        moments[freeze] = sum(x.size for x in jax.tree.leaves(kept))
    for name, move in moved[()].items():
        if name.startswith(HALF):
            assert move.any() and not moved[HALF][name].any(), name
        else:  # the rest moves as if nothing were frozen
            np.testing.assert_allclose(moved[HALF][name], move, atol=1e-7)
    forward = jax.jit(lambda tokens: APPLY(WEIGHTS, tokens, token_types=0 * tokens, mask=tokens != 0))
    forward_flops = flops(forward.lower(jnp.asarray(ROWS["tokens"][0])).compile())
    whole, half, head = cost.values()
    assert whole > 2.5 * forward_flops  # a backward pass is two forward ones
    assert 0.3 < (half - forward_flops) / (whole - forward_flops) < 0.5 and head < 1.25 * forward_flops
    assert moments["encoder",] == 2 * (12 * 2 + 2) + 1  # of the head: two moments; and a count


@pytest.mark.slow
def test_layers_that_wait_move_nothing_cost_no_backward_pass_and_have_their_optimizer_state():
    """The first of two stages of gradual unfreezing, beside the same layers frozen. Weight decay included."""
    waiting, none = unfreezing_stages(WEIGHTS)
    assert none == () and all(path.startswith(HALF) for path in waiting)
    optimizer = make_optimizer("adamw", optax.constant_schedule(0.1), weight_decay=0.5)
    (step, state), (frozen_step, frozen_state) = compiled_step((), optimizer, waiting), compiled_step(HALF, optimizer)
    assert flops(step) < 1.02 * flops(frozen_step)
    for _ in range(2):
        (state, _), (frozen_state, _) = step(state, ROWS), frozen_step(frozen_state, ROWS)
    after, expected = (flatten(unreplicate(one["params"])) for one in (state, frozen_state))
    for path, before in flatten(WEIGHTS).items():
        assert np.array_equal(after[path], before) == path.startswith(HALF), path
        np.testing.assert_allclose(after[path], expected[path], atol=1e-6)
    moments = {path: x for path, x in flatten(unreplicate(state["opt_state"])).items() if path.endswith(waiting)}
    assert len(moments) == 2 * len(waiting) and not any(x.any() for x in moments.values())


T5_SIZES = T5Config(vocab_size=13, d_model=6, d_kv=5, d_ff=11, num_layers=1, num_decoder_layers=2, num_heads=3)


@pytest.mark.parametrize("config, train, trained", [
    (BERT, "head", "span"),
    (BERT, "last:1", "span encoder/layer_1"),
    (BERT, "last:2", "span encoder/layer_1 encoder/layer_0"),
    (BERT, "bias", "span *bias"),
    (BERT, "adapters:2", "span *norm/* *adapter/*"),
    (BERT, "lora:2", "span *_lora/*"),
    (BERT, "gradual", "*"),
    (T5_SIZES, "last:1", "decoder_norm decoder_1 encoder_norm encoder_0"),
    (T5_SIZES, "last:2", "decoder_norm decoder_? encoder_norm encoder_0"),
    (T5_SIZES, "adapters:2", "*norm/* *adapter/*"),
    (T5_SIZES, "lora:2", "*_lora/*"),
    (replace(T5_SIZES, tie_word_embeddings=False), "head", "output decoder_norm"),
    (replace(T5_SIZES, tie_word_embeddings=False), "lora:2", "*_lora/*"),
])  # fmt: skip
def test_how_much_is_trained(config, train, trained):
    model = nnx.eval_shape(lambda: made(T5 if isinstance(config, T5Config) else BertForQuestionAnswering, config, train))
    params = as_function(model)[1]
    found = partition(params, frozen_names(params, train))[0]
    assert flatten(found).keys() == flatten(partition(params, trained.split())[1]).keys()


def test_a_bag_of_vectors_has_no_layers():
    params = as_function(BagOfVectors(WordVectorsConfig(7, 4), rngs=nnx.Rngs(0)))[1]
    assert frozen_names(params, "all") == () and unfreezing_stages(params) == [()]
    assert flatten(partition(params, frozen_names(params, "head"))[0]).keys() == {"classifier/bias", "classifier/matrix"}
    with pytest.raises(UserError, match="--train last:1: this model has 0 layers"):
        frozen_names(params, "last:1")


def made(kind, config, train):
    model, (how, size) = kind(config, rngs=nnx.Rngs(0)), read_train(train)
    if how in ADDERS:
        ADDERS[how](model, size, nnx.Rngs(0))
    return model


@pytest.mark.parametrize("name", ["adamw", "adafactor"])
def test_no_optimizer_changes_a_bit_of_what_is_frozen(name):
    step, state = compiled_step(("encoder",), make_optimizer(name, optax.constant_schedule(0.1), weight_decay=0.5))
    for _ in range(3):
        state, _ = step(state, ROWS)
    after = flatten(unreplicate(state["params"]))
    for path, before in flatten(WEIGHTS).items():
        assert np.array_equal(after[path], before) == path.startswith("encoder"), path
