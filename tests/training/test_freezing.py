"""Frozen means bit-identical after training, and costs no backward pass."""

import json
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx
from hypothesis import given, strategies as st

from tlqa_jax.checkpoints.named_arrays import flatten
from tlqa_jax.core.devices import unreplicate
from tlqa_jax.errors import UserError
from tlqa_jax.inference.answer_spans import span_logits
from tlqa_jax.models.bert import BertConfig
from tlqa_jax.models.bert_heads import BertForQuestionAnswering
from tlqa_jax.models.functional import as_function
from tlqa_jax.training import (
    finetune_classifier as classification,
    finetune_qa as qa,
    finetune_spans as extractive_qa,
    finetune_tasks as text_to_text,
)
from tlqa_jax.training.freezing import merged, split, trained_part

from .comparing import final_state

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
    assert set(flatten(split(PARAMS, freeze)[0])) == set(trained.split())


names = st.text("ab", min_size=1, max_size=2)
trees = st.dictionaries(names, st.recursive(st.integers(), lambda inner: st.dictionaries(names, inner, min_size=1)))


@given(trees, st.lists(st.text("ab/*", min_size=1, max_size=4), max_size=3))
def test_each_leaf_is_in_one_part_and_both_make_the_whole(tree, freeze):
    trained, frozen = split(tree, freeze)
    assert not flatten(trained).keys() & flatten(frozen).keys()
    assert flatten(trained) | flatten(frozen) == flatten(tree)
    assert merged(trained, frozen) == tree


def test_it_says_what_it_trains_and_refuses_what_cannot_be_meant(capsys):
    params = jax.tree.map(lambda size: np.zeros(1000 * size), PARAMS)
    assert trained_part(params, ("encoder",)) == {name: params[name] for name in ("encoder_bias", "head")}
    assert capsys.readouterr().out == "training 9,000 of 15,000 parameters, frozen is the rest\n"
    assert trained_part(params, ()) == params and not capsys.readouterr().out
    with pytest.raises(UserError, match="--freeze encodr matches no parameters; there are encoder/layer_0, encoder/la"):
        trained_part(params, ("head", "encodr"))
    with pytest.raises(UserError, match=r"--freeze enc\*,head leaves nothing to train"):
        trained_part(params, ("enc*", "head"))


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


def step_and_state(freeze, optimizer):
    step = extractive_qa.make_train_step(partial(span_logits, APPLY, 0), optimizer, 0, 1, freeze)
    opt_state = optimizer.init(split(WEIGHTS, freeze)[0])
    return step, {"params": jax.tree.map(np.array, WEIGHTS), "opt_state": opt_state, "step": np.int32(0)}


def test_the_rest_moves_as_if_nothing_were_frozen():
    """Of one step of plain gradient descent the gradients can be read off."""
    freeze, moved = ("encoder/embeddings", "encoder/layer_0"), []
    for frozen in ((), freeze):
        step, state = step_and_state(frozen, optax.sgd(1.0))
        after = flatten(unreplicate(step(state, ROWS)[0]["params"]))
        moved.append({name: after[name] - value for name, value in flatten(WEIGHTS).items()})
    for name, move in moved[0].items():
        if name.startswith(freeze):
            assert not np.array_equal(move, 0 * move) and np.array_equal(moved[1][name], 0 * move), name
        else:
            np.testing.assert_allclose(moved[1][name], move, atol=1e-7)


def test_frozen_layers_cost_no_backward_pass_and_no_memory():
    flops, moments = {}, {}
    for freeze in ((), ("encoder/embeddings", "encoder/layer_0"), ("encoder",)):
        step, state = step_and_state(freeze, optax.adamw(1e-3))
        cost = step.lower(state, ROWS).compile().cost_analysis()
        flops[freeze] = (cost[0] if isinstance(cost, list) else cost)["flops"]
        moments[freeze] = sum(x.size for x in jax.tree.leaves(state["opt_state"]))
    forward = jax.jit(lambda tokens: APPLY(WEIGHTS, tokens, token_types=0 * tokens, mask=tokens != 0))
    cost = forward.lower(jnp.asarray(ROWS["tokens"][0])).compile().cost_analysis()
    forward_flops = (cost[0] if isinstance(cost, list) else cost)["flops"]
    whole, half, head = flops.values()
    assert whole > 2.5 * forward_flops  # a backward pass is two forward ones
    assert 0.3 < (half - forward_flops) / (whole - forward_flops) < 0.5 and head < 1.25 * forward_flops
    assert [moments[freeze] for freeze in flops][2] == 2 * (12 * 2 + 2) + 1  # of the head: two moments; and a count


SQUAD = {"data": [{"title": "t", "paragraphs": [{
    "context": "Mira was born in Oss . Emil was born in Lun .", "qas": [
        {"id": "1", "question": "Where was Mira born ?", "answers": [{"text": "Oss", "answer_start": 17}]},
        {"id": "2", "question": "Where was Emil born ?", "answers": [{"text": "Lun", "answer_start": 40}]},
]}]}]}  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("freezing")
    t5 = {"d_model": 12, "d_kv": 4, "d_ff": 20, "num_layers": 1, "num_heads": 3}
    bert = {"hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 3, "intermediate_size": 20}
    for name, content in (("t5", t5), ("bert", bert), ("questions", SQUAD)):
        (folder / f"{name}.json").write_text(json.dumps(content))
    rows = [{"text": "a fine soup", "label": "good"}, {"text": "a dull soup", "label": "bad"}]
    (folder / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


SHORT = dict(steps=3, batch_size=8, input_length=32, weight_decay=0.5, learning_rate=0.01, log_every=1)
T5 = SHORT | dict(warmup=0, target_length=4)


@pytest.mark.parametrize("finetune, config, freeze", [
    (qa.finetune_qa, lambda folder: qa.FinetuneQASettings(
        model=str(folder / "t5.json"), context_questions=str(folder / "questions.json"), **T5,
    ), ("encoder_*", "embedding")),
    (text_to_text.finetune_tasks, lambda folder: text_to_text.FinetuneTasksSettings(
        model=str(folder / "t5.json"), tasks=("context_qa",), train=(f"context_qa={folder / 'questions.json'}",),
        held_out=(f"context_qa={folder / 'questions.json'}",), **T5,
    ), ("decoder_0/*_attention", "embedding")),
    (extractive_qa.finetune_spans, lambda folder: extractive_qa.FinetuneSpansSettings(
        model=str(folder / "bert.json"), questions=str(folder / "questions.json"), max_question_length=12, stride=4,
        **SHORT,
    ), ("encoder",)),
    (classification.finetune_classifier, lambda folder: classification.FinetuneClassifierSettings(
        model=str(folder / "bert.json"), texts=str(folder / "texts.jsonl"), held_out=None, **SHORT,
    ), ("encoder/embeddings",)),
], ids=["qa", "text_to_text", "extractive_qa", "classification"])  # fmt: skip
def test_what_a_program_freezes_stays_bit_identical_and_the_rest_moves(folder, finetune, config, freeze, capsys):
    config = replace(config(folder), freeze=freeze, save_every=1, keep=9)
    out = folder / finetune.__module__
    finetune(replace(config, out=str(out)))
    assert "parameters, frozen is the rest" in capsys.readouterr().out
    first, last = final_state(out, 1), final_state(out)
    fixed = flatten(split(unflatten(last), [f"params/{pattern}" for pattern in freeze])[1])
    moving = {name for name in last if name.startswith("params/")} - fixed.keys()
    assert fixed and moving
    assert all(np.array_equal(first[name], last[name]) for name in fixed)
    assert not any(np.array_equal(first[name], last[name]) for name in moving)
    with pytest.raises(UserError, match="--freeze nothing matches no parameters"):
        finetune(replace(config, out=str(out), freeze=("nothing",), overwrite=True), quiet=True)
    assert final_state(out).keys() == last.keys()  # what was there is there still


def unflatten(arrays):
    tree = {}
    for path, value in arrays.items():
        *above, name = path.split("/")
        inner = tree
        for one in above:
            inner = inner.setdefault(one, {})
        inner[name] = value
    return tree
