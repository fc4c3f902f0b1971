"""Directories in and out, and what is said of those that do not fit. (That the numbers mean the same in Transformers is
tested in tests/models/test_bert_golden.py and, where it is installed, in tests/parity.)"""

import json
from dataclasses import replace

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pytest
from flax import nnx

from tlqa_jax.checkpoints.huggingface import from_pretrained, load_tokenizer, save_pretrained
from tlqa_jax.checkpoints.safetensors_file import read_safetensors, write_safetensors
from tlqa_jax.errors import UserError
from tlqa_jax.models.bert import Bert, BertConfig
from tlqa_jax.models.bert_heads import (
    BertForMaskedLM,
    BertForPreTraining,
    BertForQuestionAnswering,
    BertForSequenceClassification,
)
from tlqa_jax.models.functional import as_function, as_module
from tlqa_jax.models.t5 import T5, T5Config
from tlqa_jax.text.wordpiece import WordPieceTokenizer

CONFIG = BertConfig(
    vocab_size=13, hidden_size=6, num_hidden_layers=1, num_attention_heads=3, intermediate_size=11,
    max_position_embeddings=9, id2label=("no", "yes", "perhaps"),
)
PIECES = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "the", "##s", "cat", "Cat"]
KINDS = (Bert, BertForPreTraining, BertForMaskedLM, BertForQuestionAnswering, BertForSequenceClassification)


@pytest.fixture(scope="module")
def models():
    return {kind: random_model(kind) for kind in KINDS}


def random_model(kind, config: BertConfig = CONFIG, **options):
    model, random = nnx.eval_shape(lambda: kind(config, rngs=nnx.Rngs(0), **options)), np.random.default_rng(0)
    empty = as_function(model)[1]
    return as_module(model, jax.tree.map(lambda leaf: jnp.asarray(random.normal(size=leaf.shape), jnp.float32), empty))


@pytest.fixture
def saved(models, tmp_path):
    """The directory of a masked LM, and a function that changes its arrays."""
    folder = save_pretrained(models[BertForMaskedLM], tmp_path / "model")

    def change(function):
        arrays = {name: np.array(array) for name, array in read_safetensors(folder / "model.safetensors").items()}
        write_safetensors(folder / "model.safetensors", function(arrays))

    return folder, change


def set_config(folder, **changes):
    file = folder / "config.json"
    values = {k: v for k, v in (json.loads(file.read_text()) | changes).items() if v is not ...}
    file.write_text(json.dumps(values))


def assert_same(one, other):
    (_, one), (_, other) = as_function(one), as_function(other)
    assert jax.tree.structure(one) == jax.tree.structure(other)
    assert all((a == b).all() for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other)))


@pytest.fixture
def vocabulary(tmp_path) -> WordPieceTokenizer:
    (tmp_path / "v.txt").write_text("\n".join(PIECES) + "\n")
    return WordPieceTokenizer(tmp_path / "v.txt", lowercase=False)


# there and back ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_saved_is_loaded(models, kind, tmp_path):
    save_pretrained(models[kind], tmp_path / "a" / "b")
    assert sorted(path.name for path in (tmp_path / "a" / "b").iterdir()) == ["config.json", "model.safetensors"]
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["b"]  # nothing is left beside it
    model = from_pretrained(tmp_path / "a" / "b")
    labels = CONFIG.id2label if kind is BertForSequenceClassification else BertConfig().id2label
    assert type(model) is kind and model.config == replace(CONFIG, id2label=labels)
    assert_same(model, models[kind])


def test_their_names_and_the_orientation_of_their_matrices(models, tmp_path):
    model = models[BertForQuestionAnswering]
    arrays = read_safetensors(save_pretrained(model, tmp_path / "m") / "model.safetensors")
    layer = model.encoder.layer_0
    assert (arrays["qa_outputs.weight"] == model.span.matrix[...].T).all()
    query = np.stack([layer.attention.query[...][:, h].T for h in range(3)])  # [H, K, D]
    assert (arrays["bert.encoder.layer.0.attention.self.query.weight"].reshape(3, 2, 6) == query).all()
    out = arrays["bert.encoder.layer.0.attention.output.dense.weight"].reshape(6, 3, 2)
    assert (out == np.moveaxis(np.asarray(layer.attention.out[...]), -1, 0)).all()
    assert not any(name.startswith("bert.pooler") for name in arrays)


def test_the_vocabulary_comes_along(models, vocabulary, tmp_path):
    save_pretrained(models[BertForMaskedLM], tmp_path / "m", vocabulary)
    settings = json.loads((tmp_path / "m" / "tokenizer_config.json").read_text())
    assert (settings["do_lower_case"], settings["mask_token"], settings["model_max_length"]) == (False, "[MASK]", 9)
    again = load_tokenizer(tmp_path / "m")
    assert again.pieces("the Cats") == ["the", "Cat", "##s"] and again.vocab_size == 9


def test_a_causal_model_stays_causal(tmp_path):
    model = random_model(BertForMaskedLM, attention="causal")
    folder = save_pretrained(model, tmp_path / "m")
    assert json.loads((folder / "config.json").read_text())["is_decoder"] is True
    for attention in (None, "causal"):
        assert from_pretrained(folder, attention=attention).encoder.causal
    for attention in ("fused", "plain"):
        with pytest.raises(UserError, match=f"is_decoder is true, so attention is causal and cannot be '{attention}'"):
            from_pretrained(folder, attention=attention)
    other = save_pretrained(random_model(BertForMaskedLM), tmp_path / "other")
    assert from_pretrained(other, attention="causal").encoder.causal
    assert from_pretrained(other, attention="fused").encoder.layer_0.attention.kind == "fused"


def test_dtype_is_that_of_the_computation(saved):
    model = from_pretrained(saved[0], dtype=jnp.bfloat16)
    encoded, logits = jax.eval_shape(lambda tokens: (model.encoder(tokens).last, model(tokens)), jnp.array([[5, 6]]))
    assert (encoded.dtype, logits.dtype) == (jnp.bfloat16, jnp.float32)
    assert {leaf.dtype for leaf in jax.tree.leaves(as_function(model)[1])} == {jnp.dtype("float32")}


# older and other directories -----------------------------------------------------------------------------------------


def test_gamma_and_beta_buffers_and_copies(saved, models):
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
    assert_same(from_pretrained(folder), models[BertForMaskedLM])


def test_an_output_matrix_of_its_own_is_refused(saved):
    folder, change = saved
    change(lambda arrays: arrays | {"cls.predictions.decoder.weight": np.ones((13, 6))})
    with pytest.raises(UserError, match="decoder.weight differs from .*word_embeddings"):
        from_pretrained(folder)


def test_an_encoder_with_and_without_its_prefix_and_pooler(models, tmp_path):
    folder = save_pretrained(models[Bert], tmp_path / "m")
    arrays = dict(read_safetensors(folder / "model.safetensors"))
    write_safetensors(folder / "model.safetensors", {f"bert.{name}": array for name, array in arrays.items()})
    assert_same(from_pretrained(folder), models[Bert])
    write_safetensors(folder / "model.safetensors", {n: a for n, a in arrays.items() if not n.startswith("pooler")})
    assert from_pretrained(folder).pooler is None


def test_a_pooler_that_no_head_reads_is_kept(saved):
    folder, change = saved
    pooler = {"bert.pooler.dense.weight": np.eye(6), "bert.pooler.dense.bias": np.ones(6)}
    change(lambda arrays: arrays | pooler)
    model = from_pretrained(folder)
    assert (model.encoder.pooler.matrix[...] == np.eye(6)).all()
    again = save_pretrained(model, folder.parent / "again")
    assert pooler.keys() <= read_safetensors(again / "model.safetensors").keys()


def test_another_architecture_on_request(saved, models):
    folder, change = saved
    more = {f"cls.seq_relationship.{name}": np.ones(shape) for name, shape in (("weight", (2, 6)), ("bias", 2))}
    pooler = {"bert.pooler.dense.weight": np.eye(6), "bert.pooler.dense.bias": np.ones(6)}
    change(lambda arrays: arrays | more | pooler)
    assert type(from_pretrained(folder, architecture="BertForPreTraining")) is BertForPreTraining
    encoder = from_pretrained(folder, architecture="BertModel")  # without the heads
    assert_same(encoder, from_pretrained(folder, architecture="BertForPreTraining").encoder)
    change(lambda arrays: arrays | {"bert.unknown": np.ones(3)})
    with pytest.raises(UserError, match="left over unknown"):
        from_pretrained(folder, architecture="BertModel")


@pytest.mark.parametrize("problem", ["regression", "multi_label_classification", 3])
def test_a_classifier_chooses_one_class_of_several(models, tmp_path, problem):
    folder = save_pretrained(models[BertForSequenceClassification], tmp_path / "m")
    for known in (None, "single_label_classification"):
        set_config(folder, problem_type=known)
        assert from_pretrained(folder).config.id2label == CONFIG.id2label
    set_config(folder, problem_type=problem)
    with pytest.raises(UserError, match=f"problem_type is {json.dumps(problem)}, of 3 label.s.; known here is"):
        from_pretrained(folder)
    assert type(from_pretrained(folder, architecture="BertModel")) is Bert
    score = random_model(BertForSequenceClassification, replace(CONFIG, id2label=("score",)))
    with pytest.raises(UserError, match="problem_type is null, of 1 label.s."):
        from_pretrained(save_pretrained(score, tmp_path / "score"))


@pytest.mark.parametrize(("dtype", "name"), [(np.float16, "F16"), (ml_dtypes.bfloat16, "BF16"), (np.float64, "F64")])
def test_all_floats_become_float32(saved, models, dtype, name):
    folder, _ = saved
    half = {key: array.astype(dtype) for key, array in read_safetensors(folder / "model.safetensors").items()}
    header, data = {}, b""
    for key, array in half.items():
        header[key] = {"dtype": name, "shape": array.shape, "data_offsets": [len(data), len(data) + array.nbytes]}
        data += array.tobytes()
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)
    table = from_pretrained(folder).encoder.embeddings.word.table[...]
    assert table.dtype == jnp.float32
    original = np.asarray(models[BertForMaskedLM].encoder.embeddings.word.table[...])
    assert (table == original.astype(dtype).astype(np.float32)).all()


def test_shards(saved, models):
    folder, _ = saved
    arrays = read_safetensors(folder / "model.safetensors")
    files = [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    place = {name: files[i % 2] for i, name in enumerate(arrays)}
    for file in files:
        write_safetensors(folder / file, {name: array for name, array in arrays.items() if place[name] == file})
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": place}))
    assert_same(from_pretrained(folder), models[BertForMaskedLM])
    (folder / files[1]).unlink()
    with pytest.raises(UserError, match=f"{files[1]} does not exist"):
        from_pretrained(folder)


# what does not fit ---------------------------------------------------------------------------------------------------


def test_missing_unused_and_misshapen_keys_are_listed_together(saved):
    folder, change = saved

    def spoil(arrays):
        del arrays["cls.predictions.bias"]
        arrays["bert.embeddings.word_embeddings.weight"] = np.ones((13, 5))
        return arrays | {"cls.unknown": np.ones(3)}

    change(spoil)
    with pytest.raises(UserError) as error:
        from_pretrained(folder)
    message = str(error.value)
    assert "\n" not in message and "BertForMaskedLM" in message
    assert "missing cls.predictions.bias float32[13]" in message and "left over cls.unknown float32[3]" in message
    assert "word_embeddings.weight is float32[13, 5], the model wants float32[13, 6]" in message


def test_of_many_keys_some_of_each_kind_are_named(saved):
    folder, change = saved
    change(lambda arrays: {f"module.{name}": array for name, array in arrays.items()})
    with pytest.raises(UserError) as error:
        from_pretrained(folder)
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
        from_pretrained(saved[0])


def test_labels_by_number_alone(saved):
    set_config(saved[0], num_labels=4)
    assert from_pretrained(saved[0]).config.id2label == ("LABEL_0", "LABEL_1", "LABEL_2", "LABEL_3")


def test_pickles_are_refused_with_the_reason(saved):
    folder, _ = saved
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="pytorch_model.bin, a pickle, which can run any code"):
        from_pretrained(folder)
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(UserError, match="has no model.safetensors"):
        from_pretrained(folder)


@pytest.mark.parametrize("content", ["{", "[1]", None])
def test_a_broken_config(saved, content):
    file = saved[0] / "config.json"
    file.unlink() if content is None else file.write_text(content)
    with pytest.raises(UserError, match="config.json"):
        from_pretrained(saved[0])


# saving --------------------------------------------------------------------------------------------------------------


def test_a_directory_in_use_is_left_alone_unless_told(saved, models):
    folder, _ = saved
    (folder / "notes").write_text("mine")
    with pytest.raises(UserError, match="already in use: .*overwrite"):
        save_pretrained(models[Bert], folder)
    assert type(from_pretrained(folder)) is BertForMaskedLM and (folder / "notes").exists()
    save_pretrained(models[Bert], folder, overwrite=True)
    assert type(from_pretrained(folder)) is Bert and not (folder / "notes").exists()
    (folder / "config.json").unlink()
    with pytest.raises(UserError, match="does not look like an exported model"):
        save_pretrained(models[Bert], folder, overwrite=True)


def test_a_save_that_fails_leaves_what_was_there(saved, models, monkeypatch):
    folder, _ = saved

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr("tlqa_jax.checkpoints.huggingface.write_safetensors", fail)
    for target in (folder, folder.parent / "new"):
        with pytest.raises(OSError, match="disk full"):
            save_pretrained(models[Bert], target, overwrite=True)
    assert_same(from_pretrained(folder), models[BertForMaskedLM])
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_other_models_and_vocabularies_that_are_too_large_are_refused(models, vocabulary, tmp_path):
    t5 = nnx.eval_shape(lambda: T5(T5Config.tiny(), rngs=nnx.Rngs(0)))
    with pytest.raises(UserError, match="an? RMSNorm cannot be saved this way; known are Bert, .*T5"):
        save_pretrained(t5.encoder_norm, tmp_path / "m")
    with pytest.raises(UserError, match="a T5 reads by a SentencePieceTokenizer, and this is a WordPieceTokenizer"):
        save_pretrained(t5, tmp_path / "m", vocabulary)
    small = random_model(Bert, replace(CONFIG, vocab_size=8))
    with pytest.raises(UserError, match="the vocabulary has 9 pieces, the model only 8"):
        save_pretrained(small, tmp_path / "m", vocabulary)
    assert not (tmp_path / "m").exists()
