"""LoRA and adapters as small files beside their base: written, opened and merged; what is refused."""

import json
from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from flax.traverse_util import unflatten_dict

from tlqa_jax.checkpoints.load import load
from tlqa_jax.checkpoints.named_arrays import flatten
from tlqa_jax.checkpoints.run_record import fingerprint
from tlqa_jax.checkpoints.save import copy_pretrained, save_pretrained, write_config, write_weights
from tlqa_jax.checkpoints.weights import read_safetensors, write_safetensors
from tlqa_jax.errors import UserError
from tlqa_jax.models.adapters import add_adapters, add_lora
from tlqa_jax.models.bert import Bert
from tlqa_jax.models.bert_heads import BertForMaskedLM, BertForQuestionAnswering, BertForSequenceClassification
from tlqa_jax.models.functional import as_function, as_module
from tlqa_jax.models.t5 import T5
from tlqa_jax.text.wordpiece import WordPieceTokenizer

from .small_models import BERT, PIECES, V10, V11, random_model

CONFIG = replace(BERT, num_hidden_layers=2)
CASES = {  # (the base, the model with LoRA or adapters, its config, what is stored beside the added parts)
    "spans": (Bert, BertForQuestionAnswering, CONFIG, {"qa_outputs.bias", "qa_outputs.weight"}),
    "classes": (
        BertForMaskedLM, BertForSequenceClassification, CONFIG,
        {"bert.pooler.dense.bias", "bert.pooler.dense.weight", "classifier.bias", "classifier.weight"},
    ),
    "t5": (T5, T5, V10, set()),
    "t5 1.1": (T5, T5, V11, set()),
}  # fmt: skip


def changed(kind, config, base, add, size):
    """A model around the base's parameters, with random added parts and a random head."""
    of_base = flatten(as_function(base)[1])
    of_base |= {f"encoder/{path}": leaf for path, leaf in of_base.items()}
    model = random_model.__wrapped__(kind, config)
    add(model, size, nnx.Rngs(1))
    random = np.random.default_rng(5)
    params = {path: jnp.asarray(of_base.get(path, random.normal(size=leaf.shape)), jnp.float32)
              for path, leaf in flatten(as_function(model)[1]).items()}  # fmt: skip
    return as_module(model, unflatten_dict(params, sep="/"))


@pytest.fixture(params=CASES)
def case(request, tmp_path):
    """(name, the base in tmp_path/base, kind, config)"""
    of_base, kind, config, stored = CASES[request.param]
    base = random_model(of_base, config)
    vocabulary = None
    if config is CONFIG:
        (tmp_path / "v.txt").write_text("\n".join(PIECES) + "\n")
        vocabulary = WordPieceTokenizer(tmp_path / "v.txt")
    save_pretrained(base, tmp_path / "base", vocabulary)
    return base, kind, config, stored


def write(folder, model, base):
    folder.mkdir()
    write_config(folder, model, {"input_length": 5}, str(base))
    write_weights(folder, model)
    return folder


@pytest.mark.parametrize("add", [add_lora, add_adapters])
def test_what_is_written_beside_a_base_is_the_same_model_again(case, add, tmp_path):
    base, kind, config, stored = case
    model = changed(kind, config, base, add, 2)
    folder = write(tmp_path / "added", model, tmp_path / "base")
    assert {path.name for path in folder.iterdir()} == {"config.json", "adapter_config.json", "adapter_model.safetensors"}
    names = {name.removeprefix("base_model.model.") for name in read_safetensors(folder / "adapter_model.safetensors")}
    others = {name for name in names if "lora_" not in name and "/adapter/" not in name}
    if add is add_lora:
        assert others == stored
    else:
        assert others >= stored and all("orm" in name for name in others - stored)
    opened = load(folder)
    assert opened.usage == {"input_length": 5} and opened.base.directory == tmp_path / "base"
    assert type(opened.model()) is kind
    found, wanted = (flatten(as_function(one)[1]) for one in (opened.model(), model))
    assert found.keys() == {path for path in wanted if "_lora/" not in path}
    for path, array in found.items():
        if f"{path}_lora/a" in wanted:  # merged: alpha 16, rank 2
            a, b = np.asarray(wanted[f"{path}_lora/a"]), np.asarray(wanted[f"{path}_lora/b"]).reshape(2, -1)
            expected = wanted[path] + 8 * (a @ b).reshape(array.shape)
            np.testing.assert_allclose(array, expected, atol=1e-6 * np.abs(expected).max())
        else:
            assert (array == wanted[path]).all(), path
    if config is CONFIG:
        assert opened.tokenizer.vocab_size == len(PIECES)  # the base's


def test_lora_merged_is_a_whole_model_and_adapters_cannot_be(case, tmp_path):
    base, kind, config, _ = case
    if config is not CONFIG:
        return
    folder = write(tmp_path / "lora", changed(kind, config, base, add_lora, 2), tmp_path / "base")
    copied, merged = copy_pretrained(folder, tmp_path / "copied"), copy_pretrained(folder, tmp_path / "m", merge=True)
    assert not (copied / "model.safetensors").exists() and load(copied).added == load(folder).added
    assert load(merged).added is None and not (merged / "adapter_config.json").exists()
    assert load(merged).usage == {"input_length": 5}
    paths, wanted = flatten(as_function(load(merged).model())[1]), flatten(as_function(load(folder).model())[1])
    assert paths.keys() == wanted.keys() and all((paths[path] == leaf).all() for path, leaf in wanted.items())
    assert fingerprint(folder) != fingerprint(merged)
    folder = write(tmp_path / "adapters", changed(kind, config, base, add_adapters, 2), tmp_path / "base")
    with pytest.raises(UserError, match="adapters holds adapters, and these cannot be merged"):
        copy_pretrained(folder, tmp_path / "never", merge=True)


@pytest.fixture
def lora(tmp_path):
    """A directory as PEFT writes it: without config.json, LoRA of the keys' matrices, alpha 3, rank 4."""
    base = random_model(Bert, CONFIG)
    save_pretrained(base, tmp_path / "base")
    (tmp_path / "lora").mkdir()
    set_added(tmp_path / "lora", peft_type="LORA", base_model_name_or_path=str(tmp_path / "base"), r=4, lora_alpha=3)
    random = np.random.default_rng(5)
    key = "base_model.model.encoder.layer.1.attention.self.key.lora_"
    arrays = {f"{key}A.weight": random.normal(size=(4, 6)), f"{key}B.weight": random.normal(size=(6, 4))}
    write_safetensors(tmp_path / "lora" / "adapter_model.safetensors", arrays)
    return tmp_path / "lora"


def set_added(folder, **changes):
    file = folder / "adapter_config.json"
    file.write_text(json.dumps((json.loads(file.read_text()) if file.exists() else {}) | changes))


def change(folder, function):
    file = folder / "adapter_model.safetensors"
    write_safetensors(file, function(read_safetensors(file)))


@pytest.mark.parametrize("rs, scale", [(False, 3 / 4), (True, 3 / 2)])
def test_lora_of_other_matrices_is_merged(lora, rs, scale):
    set_added(lora, use_rslora=rs)
    found, before = (flatten(as_function(load(where).model())[1]) for where in (lora, lora.parent / "base"))
    moved = [path for path in before if not (found[path] == before[path]).all()]
    assert moved == ["layer_1/attention/key"] and found.keys() == before.keys()
    a, b = read_safetensors(lora / "adapter_model.safetensors").values()
    np.testing.assert_allclose(
        np.asarray(found[moved[0]] - before[moved[0]]).reshape(6, 6), scale * (b @ a).T, atol=1e-6
    )


def test_the_class_without_a_config_is_that_of_the_task(lora):
    assert load(lora).architecture == "BertModel"
    set_added(lora, task_type="SEQ_CLS")
    head = {"classifier.weight": np.ones((4, 6)), "classifier.bias": np.ones(4)}
    pooler = {"bert.pooler.dense.weight": np.ones((6, 6)), "bert.pooler.dense.bias": np.ones(6)}
    change(lora, lambda arrays: {f"base_model.model.{name}": array for name, array in (head | pooler).items()} | {
        name.replace("model.encoder", "model.bert.encoder"): array for name, array in arrays.items()
    })  # fmt: skip
    opened = load(lora)
    assert opened.architecture == "BertForSequenceClassification"
    assert opened.config.id2label == ("LABEL_0", "LABEL_1", "LABEL_2", "LABEL_3")
    assert opened.model().classifier.matrix.shape == (6, 4)


@pytest.mark.parametrize("changes, message", [
    (dict(peft_type="IA3"), "adapter_config.json: peft_type is 'IA3'; known are LORA, HOULSBY"),
    (dict(base_model_name_or_path=None), "base_model_name_or_path is missing"),
    (dict(base_model_name_or_path="no/where/at/all"), "trained with is needed, too: no/where/at/all: there is no such"),
    (dict(use_dora=True, rank_pattern={"key": 2}), "use_dora, rank_pattern is set, which is not known here"),
    (dict(r="4"), "the rank or size is '4' and lora_alpha 3"),
    (dict(task_type="SEQ_2_SEQ_LM"), "its base, .*base, is no T5ForConditionalGeneration"),
])  # fmt: skip
def test_what_an_adapter_config_cannot_mean(lora, changes, message):
    set_added(lora, **changes)
    with pytest.raises(UserError, match=message):
        load(lora)


@pytest.mark.parametrize("function, message", [
    (lambda arrays: {name.replace("key", "keys"): a for name, a in arrays.items()}, "keys.lora_A.weight is of no matrix"),
    (lambda arrays: {name: a for name, a in arrays.items() if "lora_A" in name}, "or half of it is missing"),
    (lambda arrays: {name: a[:, :3] if "A.w" in name else a for name, a in arrays.items()},
     r"key is \[6, 3\], in the base \[6, 6\]: it was trained with another model"),
    (lambda arrays: arrays | {"base_model.model.score.weight": np.ones((2, 2))}, r"left over score.weight float32\[2, 2"),
])  # fmt: skip
def test_arrays_that_are_none_of_the_base(lora, function, message):
    change(lora, function)
    with pytest.raises(UserError, match=message):
        load(lora).model()
