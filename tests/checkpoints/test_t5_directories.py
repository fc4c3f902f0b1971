"""T5s from Hugging Face's directories and back.

That the numbers mean the same in Transformers of two versions is tested in tests/parity, where it is installed; here
the judge is what it once computed, in tests/golden.
"""

import json
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tlqa_jax.checkpoints.load import load
from tlqa_jax.checkpoints.save import save_pretrained
from tlqa_jax.checkpoints.weights import write_safetensors
from tlqa_jax.errors import UserError
from tlqa_jax.models.functional import as_function
from tlqa_jax.models.t5 import T5, T5Encoder

from .small_models import V10, V11, assert_same, change_arrays, random_model, read_arrays, set_config

GOLDEN = Path(__file__).parents[1] / "golden"
INPUTS, TARGETS = jnp.array([[5, 6, 3, 0], [2, 7, 3, 1]]), jnp.array([[0, 4, 9], [0, 12, 1]])


@pytest.fixture
def saved(tmp_path):
    """The directory of a T5 1.1, and a function that changes its arrays."""
    folder = save_pretrained(random_model(T5, V11), tmp_path / "model")
    return folder, lambda function: change_arrays(folder, function)


# there and back ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind, config", [(T5, V10), (T5, V11), (T5Encoder, V10), (T5Encoder, V11)])
def test_what_is_saved_is_loaded(kind, config, tmp_path):
    model = random_model(kind, config)
    folder = save_pretrained(model, tmp_path / "m")
    again = load(folder).model()
    assert type(again) is kind and again.config == config
    assert_same(again, model)
    assert ("lm_head.weight" in read_arrays(folder)) == (kind is T5 and config is V11)


@pytest.mark.parametrize("name", ["t5_1_0", "t5_1_1"])
def test_what_transformers_computed(name, tmp_path):
    with np.load(GOLDEN / f"{name}.npz") as file:
        golden = {key: file[key] for key in file.files}
    weights = {key.removeprefix("weight/"): a for key, a in golden.items() if key.startswith("weight/")}
    write_safetensors(tmp_path / "model.safetensors", weights)
    config = json.loads(golden["config"].item()) | {"model_type": "t5", "architectures": ["T5ForConditionalGeneration"]}
    (tmp_path / "config.json").write_text(json.dumps(config))
    inputs, targets = (jnp.asarray(golden[key], jnp.int32) for key in ("inputs", "targets_in"))
    masks = [jnp.asarray(golden[key] == 1) for key in ("input_mask", "target_mask")]
    apply, params = as_function(load(tmp_path).model())
    result = jax.jit(apply)(params, inputs, targets, input_mask=masks[0], target_mask=masks[1])
    np.testing.assert_allclose(result, golden["logits"], atol=1e-5 * np.abs(golden["logits"]).max())
    encoder = load(tmp_path, "T5EncoderModel").model()
    assert type(encoder) is T5Encoder
    apply, params = as_function(encoder)
    np.testing.assert_allclose(jax.jit(apply)(params, inputs, input_mask=masks[0]), golden["encoded"], atol=2e-5)


def test_their_names_and_the_orientation_of_their_matrices(tmp_path):
    model = random_model(T5, V11)
    arrays = read_arrays(save_pretrained(model, tmp_path / "m"))
    layer = model.decoder_1
    query = np.stack([layer.cross_attention.query[...][:, h].T for h in range(3)])  # [H, K, D]
    assert (arrays["decoder.block.1.layer.1.EncDecAttention.q.weight"].reshape(3, 5, 6) == query).all()
    out = np.moveaxis(np.asarray(layer.self_attention.out[...]), -1, 0)
    assert (arrays["decoder.block.1.layer.0.SelfAttention.o.weight"].reshape(6, 3, 5) == out).all()
    for theirs, ours in (("wi_0", "gate"), ("wi_1", "up"), ("wo", "down")):
        array = arrays[f"decoder.block.1.layer.2.DenseReluDense.{theirs}.weight"]
        assert (array == getattr(layer.feed_forward, ours)[...].T).all()
    bias = "block.0.layer.0.SelfAttention.relative_attention_bias.weight"
    assert (arrays[f"decoder.{bias}"] == model.decoder_bias.table[...]).all()
    assert sum(name.endswith("relative_attention_bias.weight") for name in arrays) == 2
    assert (arrays["lm_head.weight"] == model.output[...].T).all()


# which are tied, which are scaled ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tie", "scale", "scaled"),
    [
        (..., ..., True), (True, ..., True), (False, ..., False),  # as Transformers 4 writes them
        (True, True, True), (True, False, False), (False, True, True), (False, False, False),  # as 5 does
        (False, None, False),
    ],
)  # fmt: skip
def test_tied_by_the_file_and_scaled_by_the_config(saved, tie, scale, scaled):
    folder, change = saved
    set_config(folder, tie_word_embeddings=tie, scale_decoder_outputs=scale)
    original = random_model(T5, V11)
    embedding = original.embedding.table[...].T
    for output, matrix in (("own", original.output[...]), ("copy", embedding), ("none", embedding)):
        if output == "copy":
            change(lambda arrays: arrays | {"lm_head.weight": arrays["shared.weight"]})
        elif output == "none":
            change(lambda arrays: {name: array for name, array in arrays.items() if name != "lm_head.weight"})
        model = load(folder).model()
        tied = output != "own"
        assert (model.output is None) == model.config.tie_word_embeddings == tied
        assert model.config.scales_outputs == (scaled and tied)  # a matrix of its own has been scaled when it was read
        hidden = original.decoder_norm(random_state(model))
        expected = np.asarray(hidden @ matrix) * (6**-0.5 if scaled else 1)
        np.testing.assert_allclose(model.logits(hidden), expected, rtol=1e-5, atol=1e-5)
        if output == "own":
            again = load(save_pretrained(model, folder.parent / "again")).model()
            assert again.config == model.config
            assert_same(again, model)


def random_state(model):
    return jax.random.normal(jax.random.key(0), (2, 3, model.config.d_model))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("scaled", [True, False, None])
def test_what_is_saved_says_it_so_that_both_transformers_understand(tmp_path, tied, scaled):
    """Transformers 4 ties and scales where tie_word_embeddings is true, or else does neither; 5 heeds the other too."""
    config = replace(V10, tie_word_embeddings=tied, scale_decoder_outputs=scaled)
    model = random_model(T5, config)
    folder = save_pretrained(model, tmp_path / "m")
    values, arrays = json.loads((folder / "config.json").read_text()), read_arrays(folder)
    assert values["tie_word_embeddings"] == values["scale_decoder_outputs"] == ("lm_head.weight" not in arrays)
    hidden = random_state(model)
    factor = 6**-0.5 if values["tie_word_embeddings"] else 1
    theirs = np.asarray(hidden * factor) @ arrays.get("lm_head.weight", arrays["shared.weight"]).T
    np.testing.assert_allclose(model.logits(hidden), theirs, rtol=1e-5, atol=1e-5)
    again = load(folder).model()
    assert again.config.tie_word_embeddings == tied
    np.testing.assert_allclose(again.logits(hidden), model.logits(hidden), rtol=1e-5, atol=1e-5)


# older and other directories -----------------------------------------------------------------------------------------


def test_copies_of_the_embedding_and_a_table_that_no_layer_reads(saved):
    folder, change = saved
    copies = ("encoder.embed_tokens.weight", "decoder.embed_tokens.weight")
    unused = "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight"
    change(lambda arrays: arrays | {copy: arrays["shared.weight"] for copy in copies} | {unused: np.ones((32, 3))})
    assert_same(load(folder).model(), random_model(T5, V11))
    change(lambda arrays: arrays | {copies[1]: arrays["shared.weight"] + 1})
    with pytest.raises(UserError, match="decoder.embed_tokens.weight differs from shared.weight"):
        load(folder).model()


def test_an_embedding_under_its_other_name(tmp_path):
    folder = save_pretrained(random_model(T5Encoder, V10), tmp_path / "m")
    arrays = read_arrays(folder)
    arrays["encoder.embed_tokens.weight"] = arrays.pop("shared.weight")
    write_safetensors(folder / "model.safetensors", arrays)
    assert_same(load(folder).model(), random_model(T5Encoder, V10))
    whole = save_pretrained(random_model(T5, V10), tmp_path / "whole")
    arrays = read_arrays(whole)
    arrays["decoder.embed_tokens.weight"] = arrays.pop("shared.weight")
    write_safetensors(whole / "model.safetensors", arrays)
    assert_same(load(whole).model(), random_model(T5, V10))
    encoder = load(whole, "T5EncoderModel").model()
    assert (encoder.embedding.table[...] == arrays["decoder.embed_tokens.weight"]).all()


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"feed_forward_proj": "gated-gelu_new"}, "gated-gelu"),
        ({"feed_forward_proj": "gated-gelu", "is_gated_act": ..., "dense_act_fn": ...}, "gated-gelu"),
        ({"feed_forward_proj": "gelu", "is_gated_act": True, "dense_act_fn": "gelu_new"}, "gated-gelu"),
    ],
)
def test_other_names_of_the_feed_forward(saved, changes, kind):
    set_config(saved[0], **changes)
    assert load(saved[0]).config.feed_forward_proj == kind


def test_the_first_configurations_named_no_feed_forward(tmp_path):
    folder = save_pretrained(random_model(T5, V10), tmp_path / "m")
    defaults = dict.fromkeys(("feed_forward_proj", "is_gated_act", "dense_act_fn", "scale_decoder_outputs"), ...)
    set_config(folder, **defaults, n_positions=512, task_specific_params={"summarization": {"num_beams": 4}})
    assert load(folder).model().config == V10


def test_dtype_is_that_of_the_computation(saved):
    model = load(saved[0]).model(dtype=jnp.bfloat16)
    encoded, logits = jax.eval_shape(lambda: (model.encode(INPUTS), model(INPUTS, TARGETS)))
    assert (encoded.dtype, logits.dtype) == (jnp.bfloat16, jnp.float32)
    with pytest.raises(UserError, match="float16"):
        load(saved[0]).model(dtype=jnp.float16)


# what does not fit ---------------------------------------------------------------------------------------------------


def test_missing_unused_and_misshapen_keys_are_listed_together(saved):
    folder, change = saved

    def spoil(arrays):
        del arrays["decoder.block.1.layer.2.DenseReluDense.wi_0.weight"]
        arrays["lm_head.weight"] = np.ones((13, 5))
        return arrays | {"decoder.block.2.layer.0.layer_norm.weight": np.ones(6)}

    change(spoil)
    with pytest.raises(UserError) as error:
        load(folder).model()
    message = str(error.value)
    assert "\n" not in message and "T5ForConditionalGeneration" in message
    assert "missing decoder.block.1.layer.2.DenseReluDense.wi_0.weight float32[11, 6]" in message
    assert "left over decoder.block.2.layer.0.layer_norm.weight float32[6]" in message
    assert "lm_head.weight is float32[13, 5], the model wants float32[13, 6]" in message


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"feed_forward_proj": "gated-silu", "is_gated_act": ..., "dense_act_fn": ...}, '"gated-silu" .*known are'),
        ({"feed_forward_proj": "gelu", "is_gated_act": ..., "dense_act_fn": ...}, 'feed_forward_proj is "gelu"'),
        ({"feed_forward_proj": "a-relu", "is_gated_act": ..., "dense_act_fn": ...}, 'feed_forward_proj is "a-relu"'),
        ({"feed_forward_proj": 3, "is_gated_act": ..., "dense_act_fn": ...}, 'feed_forward_proj is "3"'),
        ({"dense_act_fn": "gelu"}, "'dense_act_fn': 'gelu'.*the tanh one"),
        ({"feed_forward_proj": "relu", "is_gated_act": ..., "dense_act_fn": ...}, "missing .*DenseReluDense.wi.weight"),
        ({"architectures": ["T5ForTokenClassification"]}, "known are T5ForConditionalGeneration, T5EncoderModel"),
        ({"architectures": ["T5EncoderModel"], "num_layers": 2}, "missing encoder.block.1"),
        ({"num_decoder_layers": 3}, "missing decoder.block.2"),
        ({"num_decoder_layers": None}, "left over decoder.block.1"),
        ({"d_kv": 4}, "Attention.k.weight is float32.15, 6., the model wants float32.12, 6.; .* … and 16 more$"),
        ({"d_model": "6"}, 'd_model is "6", not of type int'),
        ({"d_ff": 0}, "config.json: d_ff is 0, which is too small"),
        ({"eos_token_id": [1, 2]}, r"eos_token_id is \[1, 2\], not of type int"),
        ({"scale_decoder_outputs": "yes"}, 'scale_decoder_outputs is "yes", not of type bool'),
        ({"model_type": "mt5"}, 'model_type is "mt5"; known are bert, t5'),
    ],
)
def test_what_is_refused(saved, changes, message):
    set_config(saved[0], **changes)
    with pytest.raises(UserError, match=message):
        load(saved[0]).model()
