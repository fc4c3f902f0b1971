"""T5 against Hugging Face's on seeded random weights: every layer, logits, loss, every gradient, and greedy answers.

The files come from `tests/golden/make_t5.py`. Differences are measured against the largest entry of the array.
"""

import json
import re
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from flax.traverse_util import flatten_dict, unflatten_dict

from tlqa_jax.core.losses import cross_entropy
from tlqa_jax.core.masks import causal_mask
from tlqa_jax.inference.greedy import greedy
from tlqa_jax.models.functional import as_function, as_module
from tlqa_jax.models.t5 import T5, T5Config, shift_right

GOLDEN = Path(__file__).parents[1] / "golden"
FILES = ("t5_1_0", "t5_1_1", "t5_1_0_long")

# their name -> ours; a matrix of theirs is [out, in], so it is transposed, and the heads are split out of its H * K
NAMES = {
    r"shared\.weight": "embedding.table",
    r"lm_head\.weight": "output",
    r"(encoder|decoder)\.final_layer_norm\.weight": r"\1_norm.scale",
    r"(encoder|decoder)\.block\.0\.layer\.0\.SelfAttention\.relative_attention_bias\.weight": r"\1_bias.table",
    r"encoder\.block\.(\d+)\.layer\.0\.SelfAttention\.(.)\.weight": r"encoder_\1.attention.\2",
    r"encoder\.block\.(\d+)\.layer\.0\.layer_norm\.weight": r"encoder_\1.attention_norm.scale",
    r"decoder\.block\.(\d+)\.layer\.0\.SelfAttention\.(.)\.weight": r"decoder_\1.self_attention.\2",
    r"decoder\.block\.(\d+)\.layer\.0\.layer_norm\.weight": r"decoder_\1.self_attention_norm.scale",
    r"decoder\.block\.(\d+)\.layer\.1\.EncDecAttention\.(.)\.weight": r"decoder_\1.cross_attention.\2",
    r"decoder\.block\.(\d+)\.layer\.1\.layer_norm\.weight": r"decoder_\1.cross_attention_norm.scale",
    r"(en|de)coder\.block\.(\d+)\.layer\.[12]\.DenseReluDense\.(\w+)\.weight": r"\1coder_\2.feed_forward.\3",
    r"(en|de)coder\.block\.(\d+)\.layer\.[12]\.layer_norm\.weight": r"\1coder_\2.feed_forward_norm.scale",
}
MATRICES = {"q": "query", "k": "key", "v": "value", "o": "out", "wi": "up", "wi_0": "gate", "wi_1": "up", "wo": "down"}


def renamed(name: str) -> tuple[str, ...]:
    for theirs, ours in NAMES.items():
        if match := re.fullmatch(theirs, name):
            path = match.expand(ours).split(".")
            return (*path[:-1], MATRICES.get(path[-1], path[-1]))
    raise KeyError(name)


def as_params(arrays: dict[str, np.ndarray], config: T5Config) -> dict:
    flat = {}
    for name, array in arrays.items():
        path = renamed(name)
        if path[-1] in ("query", "key", "value"):
            array = array.T.reshape(config.d_model, config.num_heads, config.d_kv)
        elif path[-1] == "out":
            array = array.T.reshape(config.num_heads, config.d_kv, config.d_model)
        elif path[-1] in ("up", "gate", "down", "output"):
            array = array.T
        assert path not in flat
        flat[path] = jnp.asarray(array)
    return unflatten_dict(flat)


class Golden:
    """One golden file, and our model with its weights."""

    def __init__(self, name: str):
        with np.load(GOLDEN / f"{name}.npz") as file:
            arrays = {key: file[key] for key in file.files}
        settings = json.loads(arrays.pop("config").item())
        settings.pop("use_cache")
        self.config = T5Config(**settings)
        below = lambda folder: {key.removeprefix(folder): a for key, a in arrays.items() if key.startswith(folder)}
        self.params = as_params(below("weight/"), self.config)
        self.gradients = as_params(below("gradient/"), self.config)
        self.arrays = {key: jnp.asarray(a, jnp.int32) if a.dtype == np.int16 else a for key, a in arrays.items()}
        self.model = nnx.eval_shape(lambda: T5(self.config, rngs=nnx.Rngs(0)))
        self.apply, self.empty = as_function(self.model)
        self.input_mask, self.target_mask = self["input_mask"] == 1, self["target_mask"] == 1

    def __getitem__(self, name: str):
        return self.arrays[name]


@pytest.fixture(scope="module", params=FILES)
def golden(request) -> Golden:
    return Golden(request.param)


def assert_close(ours, theirs, name: str = ""):
    difference = np.abs(np.asarray(ours, np.float64) - theirs).max() / np.abs(theirs).max()
    assert difference <= 1e-5, f"{name}: {difference:.1e} of the largest entry"


def test_every_weight_has_its_place_and_shape(golden):
    shapes = lambda params: {path: leaf.shape for path, leaf in flatten_dict(params).items()}
    assert shapes(golden.params) == shapes(golden.empty)


def test_shift_right_makes_their_decoder_inputs(golden):
    assert (shift_right(golden["labels"]) == golden["targets_in"]).all()


def test_layers_logits_loss_and_gradients(golden):
    @partial(jax.value_and_grad, has_aux=True)
    def loss(params):
        encoded = golden.apply(params, golden["inputs"], input_mask=golden.input_mask, method="encode")
        logits = golden.apply(
            params, golden["inputs"], golden["targets_in"], input_mask=golden.input_mask, target_mask=golden.target_mask
        )
        total, weight = cross_entropy(logits, golden["labels"], (golden["labels"] != 0).astype(jnp.float32))
        return total / weight, layers(golden, params) | dict(encoded=encoded, logits=logits)

    (loss_value, arrays), gradients = jax.jit(loss)(golden.params)
    states = ["decoder_0", "decoder_1", "decoder_2", "encoded", "encoder_0", "encoder_1"]
    assert sorted(arrays) == [*states, "logits"]
    for name, array in arrays.items():
        assert_close(array, golden[name], name)
    assert_close(loss_value, golden["loss"], "loss")
    ours, theirs = flatten_dict(gradients), flatten_dict(golden.gradients)
    assert ours.keys() == theirs.keys()
    for path, gradient in theirs.items():
        assert np.abs(gradient).max() > 1e-4, "a gradient too small to test anything"
        assert_close(ours[path], gradient, ".".join(path))


def layers(golden: Golden, params) -> dict[str, jax.Array]:
    """The output of each layer, from the parts that `T5.encode` and `T5.decode` are made of."""
    model, out = as_module(golden.model, params), {}
    sources, targets = (jnp.arange(golden[name].shape[1]) for name in ("inputs", "targets_in"))
    input_mask = golden.input_mask[:, None, None, :]
    target_mask = causal_mask(len(targets))[None, None] & golden.target_mask[:, None, None, :]
    x, bias = model.embedding(golden["inputs"]), model.encoder_bias(sources, sources)
    for i, layer in enumerate(model.encoder_layers):
        x = out[f"encoder_{i}"] = layer(x, bias=bias, mask=input_mask, key=None)
    encoded = model.encoder_norm(x)
    x, bias = model.embedding(golden["targets_in"]), model.decoder_bias(targets, targets)
    for i, layer in enumerate(model.decoder_layers):
        cross = layer.cross_attention.keys_values(encoded)
        x, _ = layer(x, cross, bias=bias, self_mask=target_mask, cross_mask=input_mask)
        out[f"decoder_{i}"] = x
    return out


@pytest.mark.parametrize("golden", FILES[:2], indirect=True)
def test_greedy_writes_their_tokens(golden):
    answer = jax.jit(partial(greedy, golden.apply, max_new_tokens=12))(
        golden.params, golden["generate_inputs"], golden["generate_mask"] == 1
    )
    assert answer.tokens.tolist() == golden["generated"].tolist()
    np.testing.assert_allclose(answer.log_probabilities, golden["generated_log_probabilities"], atol=2e-5)
