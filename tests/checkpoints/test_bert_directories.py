"""BERTs from directories and back, and what is said of those that do not fit. (That the numbers mean the same in
Transformers is tested in tests/models/test_bert_golden.py and, where it is installed, in tests/parity.)"""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest

from tlqa_jax.checkpoints.load import load
from tlqa_jax.checkpoints.save import save_pretrained
from tlqa_jax.checkpoints.weights import write_safetensors
from tlqa_jax.errors import UserError
from tlqa_jax.models.bert import Bert, BertConfig
from tlqa_jax.models.bert_heads import (
    BertForMaskedLM,
    BertForPreTraining,
    BertForQuestionAnswering,
    BertForSequenceClassification,
    BertLMHeadModel,
)
from tlqa_jax.models.functional import as_function

from .small_models import BERT, assert_same, change_arrays, random_model, read_arrays, set_config

KINDS = (
    Bert, BertForPreTraining, BertForMaskedLM, BertLMHeadModel, BertForQuestionAnswering, BertForSequenceClassification,
)  # fmt: skip


@pytest.fixture
def saved(tmp_path):
    """The directory of a masked LM, and a function that changes its arrays."""
    folder = save_pretrained(random_model(BertForMaskedLM), tmp_path / "model")
    return folder, lambda function: change_arrays(folder, function)


# there and back ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_saved_is_loaded(kind, tmp_path):
    save_pretrained(random_model(kind), tmp_path / "a" / "b")
    assert sorted(path.name for path in (tmp_path / "a" / "b").iterdir()) == ["config.json", "model.safetensors"]
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]  # nothing is left beside it
    model = load(tmp_path / "a" / "b").model()
    labels = BERT.id2label if kind is BertForSequenceClassification else BertConfig().id2label
    assert type(model) is kind and model.config == replace(BERT, id2label=labels)
    assert_same(model, random_model(kind))


def test_their_names_and_the_orientation_of_their_matrices(tmp_path):
    model = random_model(BertForQuestionAnswering)
    arrays = read_arrays(save_pretrained(model, tmp_path / "m"))
    layer = model.encoder.layer_0
    assert (arrays["qa_outputs.weight"] == model.span.matrix[...].T).all()
    query = np.stack([layer.attention.query[...][:, h].T for h in range(3)])  # [H, K, D]
    assert (arrays["bert.encoder.layer.0.attention.self.query.weight"].reshape(3, 2, 6) == query).all()
    out = arrays["bert.encoder.layer.0.attention.output.dense.weight"].reshape(6, 3, 2)
    assert (out == np.moveaxis(np.asarray(layer.attention.out[...]), -1, 0)).all()
    assert not any(name.startswith("bert.pooler") for name in arrays)


def test_a_causal_model_stays_causal(tmp_path):
    model = random_model(BertForMaskedLM, attention="causal")
    folder = save_pretrained(model, tmp_path / "m")
    assert json.loads((folder / "config.json").read_text())["is_decoder"] is True
    assert_same(load(folder).model(), model)
    assert load(folder).model().encoder.causal
    assert not load(save_pretrained(random_model(BertForMaskedLM), tmp_path / "other")).model().encoder.causal


def test_a_causal_lm_and_a_masked_lm_have_the_same_arrays(tmp_path):
    folder = save_pretrained(random_model(BertLMHeadModel), tmp_path / "m")
    config = json.loads((folder / "config.json").read_text())
    assert (config["architectures"], config["is_decoder"]) == (["BertLMHeadModel"], True)
    masked = load(folder, "BertForMaskedLM").model()
    assert type(masked) is BertForMaskedLM and masked.encoder.causal
    again = load(save_pretrained(masked, tmp_path / "masked"), "BertLMHeadModel").model()
    assert_same(again, random_model(BertLMHeadModel))


def test_dtype_is_that_of_the_computation(saved):
    model = load(saved[0]).model(dtype=jnp.bfloat16)
    encoded, logits = jax.eval_shape(lambda tokens: (model.encoder(tokens).last, model(tokens)), jnp.array([[5, 6]]))
    assert (encoded.dtype, logits.dtype) == (jnp.bfloat16, jnp.float32)
    assert {leaf.dtype for leaf in jax.tree.leaves(as_function(model)[1])} == {jnp.dtype("float32")}


# older and other directories -----------------------------------------------------------------------------------------


def test_gamma_and_beta_buffers_and_copies(saved):
    folder, change = saved

    def older(arrays):
        arrays["cls.predictions.decoder.weight"] = arrays["bert.embeddings.word_embeddings.weight"]
        arrays["cls.predictions.decoder.bias"] = arrays["cls.predictions.bias"]
        arrays["bert.embeddings.position_ids"] = np.arange(9.0)[None]
        arrays["cls.seq_relationship.weight"] = np.ones((2, 6))  # as bert-base-uncased
        rename = lambda name: (
            name.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta")
        )
        return {rename(name): array for name, array in arrays.items()}

    change(older)
    assert_same(load(folder).model(), random_model(BertForMaskedLM))


def test_an_output_matrix_of_its_own_is_refused(saved):
    folder, change = saved
    change(lambda arrays: arrays | {"cls.predictions.decoder.weight": np.ones((13, 6))})
    with pytest.raises(UserError, match="decoder.weight differs from .*word_embeddings"):
        load(folder).model()


def test_an_encoder_with_and_without_its_prefix_and_pooler(tmp_path):
    folder = save_pretrained(random_model(Bert), tmp_path / "m")
    arrays = read_arrays(folder)
    write_safetensors(folder / "model.safetensors", {f"bert.{name}": array for name, array in arrays.items()})
    assert_same(load(folder).model(), random_model(Bert))
    write_safetensors(folder / "model.safetensors", {n: a for n, a in arrays.items() if not n.startswith("pooler")})
    assert load(folder).model().pooler is None


def test_a_pooler_that_no_head_reads_is_kept(saved):
    folder, change = saved
    pooler = {"bert.pooler.dense.weight": np.eye(6), "bert.pooler.dense.bias": np.ones(6)}
    change(lambda arrays: arrays | pooler)
    model = load(folder).model()
    assert (model.encoder.pooler.matrix[...] == np.eye(6)).all()
    again = save_pretrained(model, folder.parent / "again")
    assert pooler.keys() <= read_arrays(again).keys()


def test_another_architecture_on_request(saved):
    folder, change = saved
    more = {f"cls.seq_relationship.{name}": np.ones(shape) for name, shape in (("weight", (2, 6)), ("bias", 2))}
    pooler = {"bert.pooler.dense.weight": np.eye(6), "bert.pooler.dense.bias": np.ones(6)}
    change(lambda arrays: arrays | more | pooler)
    assert type(load(folder, "BertForPreTraining").model()) is BertForPreTraining
    encoder = load(folder, "BertModel").model()  # without the heads
    assert_same(encoder, load(folder, "BertForPreTraining").model().encoder)
    change(lambda arrays: arrays | {"bert.unknown": np.ones(3)})
    with pytest.raises(UserError, match="left over unknown"):
        load(folder, "BertModel").model()


@pytest.mark.parametrize("problem", ["regression", "multi_label_classification", 3])
def test_a_classifier_chooses_one_class_of_several(tmp_path, problem):
    folder = save_pretrained(random_model(BertForSequenceClassification), tmp_path / "m")
    for known in (None, "single_label_classification"):
        set_config(folder, problem_type=known)
        assert load(folder).config.id2label == BERT.id2label
    set_config(folder, problem_type=problem)
    with pytest.raises(UserError, match=f"problem_type is {json.dumps(problem)}, of 3 label.s.; only one class"):
        load(folder).model()
    assert type(load(folder, "BertModel").model()) is Bert
    score = random_model(BertForSequenceClassification, replace(BERT, id2label=("score",)))
    with pytest.raises(UserError, match="problem_type is null, of 1 label.s."):
        load(save_pretrained(score, tmp_path / "score"))


@pytest.mark.parametrize(("dtype", "name"), [(np.float16, "F16"), (ml_dtypes.bfloat16, "BF16"), (np.float64, "F64")])
def test_all_floats_become_float32(saved, dtype, name):
    folder, _ = saved
    half = {key: array.astype(dtype) for key, array in read_arrays(folder).items()}
    header, data = {}, b""
    for key, array in half.items():
        header[key] = {"dtype": name, "shape": array.shape, "data_offsets": [len(data), len(data) + array.nbytes]}
        data += array.tobytes()
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)
    table = load(folder).model().encoder.embeddings.word.table[...]
    assert table.dtype == jnp.float32
    original = np.asarray(random_model(BertForMaskedLM).encoder.embeddings.word.table[...])
    assert (table == original.astype(dtype).astype(np.float32)).all()


def test_shards(saved):
    folder, _ = saved
    arrays = read_arrays(folder)
    files = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    place = {name: files[i % 2] for i, name in enumerate(arrays)}
    for file in files:
        write_safetensors(folder / file, {name: array for name, array in arrays.items() if place[name] == file})
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": place}))
    assert_same(load(folder).model(), random_model(BertForMaskedLM))
    (folder / files[1]).unlink()
    with pytest.raises(UserError, match=f"{files[1]} does not exist"):
        load(folder).model()


# what does not fit ---------------------------------------------------------------------------------------------------


def test_missing_unused_and_misshapen_keys_are_listed_together(saved):
    folder, change = saved

    def spoil(arrays):
        del arrays["cls.predictions.bias"]
        arrays["bert.embeddings.word_embeddings.weight"] = np.ones((13, 5))
        return arrays | {"cls.unknown": np.ones(3)}

    change(spoil)
    with pytest.raises(UserError) as error:
        load(folder).model()
    message = str(error.value)
    assert "\n" not in message and "BertForMaskedLM" in message
    assert "missing cls.predictions.bias float32[13]" in message and "left over cls.unknown float32[3]" in message
    assert "word_embeddings.weight is float32[13, 5], the model wants float32[13, 6]" in message


def test_of_many_keys_some_of_each_kind_are_named(saved):
    folder, change = saved
    change(lambda arrays: {f"module.{name}": array for name, array in arrays.items()})
    with pytest.raises(UserError) as error:
        load(folder).model()
    missing, more, *left_over = str(error.value).split("; ")[3:]
    assert missing.startswith("missing bert.") and more == "… and 22 more"
    assert len(left_over) == 5 and all(one.startswith("left over module.") for one in left_over[:4])
    assert left_over[4] == more


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"architectures": ["BertForTokenClassification"]},
            'the architecture is "BertForTokenClassification"; known are BertModel, ',
        ),
        ({"architectures": ...}, "no architecture is named; known are .*architecture="),
        ({"model_type": "roberta"}, 'model_type is "roberta"; known are bert'),
        ({"position_embedding_type": "relative_key"}, 'position_embedding_type is "relative_key"'),
        ({"add_cross_attention": True}, "add_cross_attention"),
        ({"hidden_act": "silu"}, 'hidden_act is "silu"'),
        ({"hidden_size": "6"}, 'hidden_size is "6", not of type int'),
        ({"num_hidden_layers": 1.5}, "num_hidden_layers is 1.5, not of type int"),
        ({"num_attention_heads": True}, "num_attention_heads is true, not of type int"),
        ({"num_hidden_layers": 0}, "config.json: num_hidden_layers is 0, which is too small"),
        ({"id2label": {"1": "a", "2": "b"}}, "id2label is .* not labels numbered"),
        ({"num_labels": 2.5}, "num_labels is 2.5, not of type int"),
        ({"num_hidden_layers": 2}, "missing .*encoder.layer.1"),
    ],
)
def test_configurations_that_are_refused(saved, changes, message):
    set_config(saved[0], **changes)
    with pytest.raises(UserError, match=message):
        load(saved[0]).model()


def test_labels_by_number_alone(saved):
    set_config(saved[0], num_labels=4)
    assert load(saved[0]).config.id2label == ("LABEL_0", "LABEL_1", "LABEL_2", "LABEL_3")


def test_pickles_are_refused_with_the_reason(saved):
    folder, _ = saved
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="has no model.safetensors. A pickle .* can run any code"):
        load(folder).model()
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(UserError, match="has no model.safetensors"):
        load(folder).model()


@pytest.mark.parametrize("content", ["{", "[1]", None])
def test_a_broken_config(saved, content):
    file = saved[0] / "config.json"
    file.unlink() if content is None else file.write_text(content)
    with pytest.raises(UserError, match="config.json"):
        load(saved[0]).model()
