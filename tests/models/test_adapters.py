"""Adapters and LoRA: the formulas in numpy, hardly any change at first, the same model with LoRA merged by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from flax.traverse_util import unflatten_dict
from scipy.special import erf

from tlqa_jax.checkpoints.named_arrays import flatten
from tlqa_jax.models.adapters import Adapter, LoRA, add_adapters, add_lora, layer_parts
from tlqa_jax.models.bert import Bert, BertConfig
from tlqa_jax.models.functional import as_function, as_module
from tlqa_jax.models.t5 import T5, T5Config, T5Encoder

BERT = BertConfig(
    vocab_size=13, hidden_size=6, num_hidden_layers=2, num_attention_heads=3, intermediate_size=11,
    max_position_embeddings=9,
)  # fmt: skip
T5_SIZES = T5Config(vocab_size=13, d_model=6, d_kv=5, d_ff=11, num_layers=1, num_decoder_layers=1, num_heads=3)
TOKENS = jnp.array([[5, 6, 7, 8, 9], [12, 11, 10, 1, 1]], jnp.int32)  # B=2, L=5
MODELS = {
    "bert": (lambda: Bert(BERT, rngs=nnx.Rngs(0)), (TOKENS,), lambda out: out.last),
    "t5": (lambda: T5(T5_SIZES, rngs=nnx.Rngs(0)), (TOKENS, TOKENS[:, :4]), lambda out: out),
}


def random(shape, seed=0):
    return np.float32(np.random.default_rng(seed).normal(size=shape))


def leaves(model):
    return flatten(as_function(model)[1])


def changed(model, change):
    """The model with `change(path, leaf)` for each of its parameters."""
    params = {path: jnp.asarray(change(path, leaf)) for path, leaf in leaves(model).items()}
    return as_module(model, unflatten_dict(params, sep="/"))


def test_an_adapter_is_a_narrow_network_beside_the_identity():
    adapter, x = Adapter(6, 4, rngs=nnx.Rngs(0)), random((2, 5, 6))
    assert {name: leaf.shape for name, leaf in leaves(adapter).items()} == {
        "down/matrix": (6, 4), "down/bias": (4,), "up/matrix": (4, 6), "up/bias": (6,)
    }  # fmt: skip
    assert 0 < float(jnp.abs(adapter(jnp.asarray(x)) - x).max()) < 0.01
    adapter = changed(adapter, lambda path, leaf: random(leaf.shape, path.startswith("up")))
    hidden = x @ random((6, 4), 0) + random(4, 0)
    hidden = hidden * (1 + erf(hidden / np.sqrt(2))) / 2
    np.testing.assert_allclose(adapter(jnp.asarray(x)), x + hidden @ random((4, 6), 1) + random(6, 1), atol=1e-5)


def test_lora_is_a_product_of_two_narrow_matrices():
    lora, x = LoRA((6, 3, 5), 4, rngs=nnx.Rngs(0)), random((2, 5, 6))
    assert lora.a.shape == (6, 4) and lora.b.shape == (4, 3, 5) and not lora(jnp.asarray(x)).any()
    lora = changed(lora, lambda path, leaf: random(leaf.shape) if path == "b" else leaf)
    change = np.asarray(lora.a[...]) @ random((4, 3, 5)).reshape(4, 15)
    np.testing.assert_allclose(lora(jnp.asarray(x)), 16 / 4 * (x @ change).reshape(2, 5, 3, 5), atol=1e-5)


@pytest.mark.parametrize("name", ["bert", pytest.param("t5", marks=pytest.mark.slow)])
def test_with_new_adapters_a_model_is_nearly_and_with_new_lora_exactly_as_before(name):
    make, inputs, output = MODELS[name]
    model = make()
    before = output(model(*inputs))
    with_lora, with_adapters = make(), make()
    add_lora(with_lora, 2, nnx.Rngs(1))
    add_adapters(with_adapters, 4, nnx.Rngs(1))
    assert (output(with_lora(*inputs)) == before).all()
    np.testing.assert_allclose(output(with_adapters(*inputs)), before, atol=0.01)
    assert not (output(with_adapters(*inputs)) == before).all()
    old = leaves(model)
    for new in (leaves(with_lora), leaves(with_adapters)):  # what was there is there still
        assert all((new[path] == leaf).all() for path, leaf in old.items())
    added = {path: leaf.size for path, leaf in leaves(with_lora).items() if path not in old}
    attentions = {"bert": 2, "t5": 1 + 2}[name]
    assert sum(added.values()) == attentions * 2 * (6 * 2 + 2 * {"bert": 6, "t5": 15}[name])
    added = {path: leaf.size for path, leaf in leaves(with_adapters).items() if path not in old}
    assert sum(added.values()) == {"bert": 2 * 2, "t5": 2 + 3}[name] * (2 * 6 * 4 + 4 + 6)


@pytest.mark.parametrize("name", MODELS)
def test_lora_equals_a_change_of_the_query_and_value_matrices(name):
    make, inputs, output = MODELS[name]
    model, by_hand = make(), make()
    add_lora(model, 2, nnx.Rngs(1))
    model = changed(model, lambda path, leaf: random(leaf.shape, len(path)) if path.endswith("_lora/b") else leaf)
    lora = {path: np.asarray(leaf) for path, leaf in leaves(model).items() if "_lora/" in path}

    def merged(path, leaf):
        if f"{path}_lora/a" not in lora:
            return leaf
        return leaf + 8 * (lora[f"{path}_lora/a"] @ lora[f"{path}_lora/b"].reshape(2, -1)).reshape(leaf.shape)

    found, expected = output(model(*inputs)), output(changed(by_hand, merged)(*inputs))
    assert jnp.abs(output(make()(*inputs)) - expected).max() > 0.1
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.slow
def test_generation_with_lora_and_adapters_reads_them_from_the_cache_too():
    model = T5(T5_SIZES, rngs=nnx.Rngs(0))
    add_lora(model, 2, nnx.Rngs(1))
    add_adapters(model, 4, nnx.Rngs(1))
    apply, params = as_function(model)
    params = jax.tree.map(lambda leaf: leaf + 0.3 * random(leaf.shape), params)
    whole = apply(params, TOKENS, TOKENS)
    encoded = apply(params, TOKENS, method="encode")
    cache = apply(params, encoded, 5, method="start_cache")
    for step in range(5):
        logits, cache = apply(params, TOKENS[:, step], jnp.int32(step), cache, method="decode_step")
        np.testing.assert_allclose(logits, whole[:, step], rtol=2e-5, atol=2e-5 * float(jnp.abs(whole).max()))


def test_the_parts_of_an_encoder_alone():
    assert len([*layer_parts(T5Encoder(T5_SIZES, rngs=nnx.Rngs(0)))]) == 2
