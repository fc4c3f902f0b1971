"""Run directories of the BERT programs: what a program leaves is what another one finds."""

import json
from dataclasses import asdict

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tlqa_jax.checkpoints.bert_runs import is_bert, load_bert, load_bert_model, save_wordpiece
from tlqa_jax.checkpoints.exchange import export_run, import_run
from tlqa_jax.checkpoints.huggingface import save_pretrained
from tlqa_jax.checkpoints.runs import Checkpoints, is_run, load_t5, start_run
from tlqa_jax.errors import UserError
from tlqa_jax.models.bert import Bert, BertConfig
from tlqa_jax.models.bert_heads import BertForMaskedLM, BertForPreTraining, BertForQuestionAnswering
from tlqa_jax.models.functional import as_function
from tlqa_jax.text.wordpiece import SPECIALS, WordPieceTokenizer
from tlqa_jax.training.initial_bert import load_encoder

from .test_huggingface import random_model

CONFIG = BertConfig(
    vocab_size=13, hidden_size=6, num_hidden_layers=1, num_attention_heads=3, intermediate_size=11,
    max_position_embeddings=9,
)  # fmt: skip
TOKENS = jnp.array([[2, 5, 6, 3, 0], [2, 7, 3, 0, 0]])


def write_run(path, model, tokenizer, program="mlm", **training):
    """A run as the training programs leave it."""
    record = {"program": program, "architecture": type(model).__name__, "model": asdict(model.config)}
    record["training"] = training
    start_run(path, record)
    save_wordpiece(path, tokenizer)
    with Checkpoints(path) as checkpoints:
        checkpoints.save(7, {"params": as_function(model)[1], "step": np.int32(7)})
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three runs and a Hugging Face directory."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "v.txt").write_text("\n".join([*SPECIALS, "the", "##s", "cat", "Cat"]) + "\n")
    cased = WordPieceTokenizer(folder / "v.txt", lowercase=False)
    model = random_model(BertForPreTraining, CONFIG, attention="causal")
    write_run(folder / "mlm", model, cased, attention="causal", lowercase=False)
    spans = random_model(BertForQuestionAnswering, CONFIG)
    write_run(folder / "spans", spans, cased, "extractive_qa", lowercase=True)
    save_pretrained(spans, folder / "hf", cased)
    start_run(folder / "t5", {"program": "qa", "model": {}, "training": {}})
    return folder


def test_a_run_is_rebuilt_as_it_was_trained(folder):
    architecture, config, params, tokenizer = load_bert(folder / "mlm")
    assert (architecture, config, tokenizer.lowercase) == ("BertForPreTraining", CONFIG, False)
    assert tokenizer.pieces("Cats") == ["Cat", "##s"]
    trained = random_model(BertForPreTraining, CONFIG, attention="causal")
    assert jax.tree.all(jax.tree.map(np.array_equal, params, as_function(trained)[1]))
    model, _ = load_bert_model(folder / "mlm")
    assert type(model) is BertForPreTraining and model.encoder.causal
    assert jnp.array_equal(model(TOKENS).masked_lm, trained(TOKENS).masked_lm)


def test_a_run_and_a_hugging_face_directory_go_through_one_door(folder):
    ours, uncased = load_bert_model(str(folder / "spans"))
    theirs, cased = load_bert_model(folder / "hf", dtype=jnp.bfloat16)
    assert (uncased.lowercase, cased.lowercase) == (True, False)
    assert jnp.array_equal(ours(TOKENS).start, load_bert_model(folder / "hf")[0](TOKENS).start)
    assert theirs.encoder.dtype == jnp.bfloat16
    assert [is_run(folder / name) for name in ("mlm", "hf", "t5", "nowhere")] == [True, False, True, False]
    assert [is_bert(folder / name) for name in ("mlm", "hf", "t5", "no/bert/here")] == [True, True, False, False]


def test_what_a_run_is_started_from(folder):
    started = load_encoder(str(folder / "mlm"))
    assert started.attention == "causal" and started.config == CONFIG and not started.tokenizer.lowercase
    assert started.params.keys() == {"encoder", "masked_lm", "next_sentence"}
    assert load_encoder(str(folder / "hf")).attention == "plain"
    save_pretrained(random_model(Bert, CONFIG), folder / "encoder", load_encoder(str(folder / "hf")).tokenizer)
    assert load_encoder(str(folder / "encoder")).params["encoder"].keys() == {"embeddings", "layer_0", "pooler"}


@pytest.mark.parametrize("kind", [Bert, BertForPreTraining, BertForMaskedLM])
def test_imported_and_exported_it_is_the_same(folder, kind, tmp_path):
    encoder = random_model(Bert, CONFIG, attention="causal")  # with a pooler, which a masked LM does not read
    model = encoder if kind is Bert else kind(encoder=encoder, rngs=nnx.Rngs(4))
    save_pretrained(model, tmp_path / "hf", load_bert(folder / "mlm")[3])
    run = import_run(tmp_path / "hf", tmp_path / "run")
    assert load_bert(run)[3].pieces("Cats") == ["Cat", "##s"] and (run / "checkpoints" / "0").is_dir()
    export_run(run, tmp_path / "again")
    for file in (tmp_path / "hf").iterdir():
        assert file.read_bytes() == (tmp_path / "again" / file.name).read_bytes(), file.name


def test_a_hugging_face_directory_can_be_imported_as_another_architecture(folder, tmp_path):
    model = random_model(BertForPreTraining, CONFIG)
    save_pretrained(model, tmp_path / "hf", load_bert(folder / "mlm")[3])
    run = import_run(tmp_path / "hf", tmp_path / "run", architecture="BertForMaskedLM")
    assert load_bert(run)[0] == "BertForMaskedLM"


def test_what_cannot_be_imported_or_exported_is_said(folder, tmp_path):
    with pytest.raises(UserError, match="mlm is a run already"):
        import_run(folder / "mlm", tmp_path / "run")
    with pytest.raises(UserError, match="hf is no run"):
        export_run(folder / "hf", tmp_path / "out")
    with pytest.raises(UserError, match="mlm is already in use"):
        import_run(folder / "hf", folder / "mlm")
    assert list(tmp_path.iterdir()) == []


def test_a_vocabulary_with_more_pieces_than_the_model_is_refused(folder, tmp_path):
    (tmp_path / "v.txt").write_text("\n".join([*SPECIALS, *"abcdefghij"]) + "\n")
    large, model = WordPieceTokenizer(tmp_path / "v.txt"), random_model(BertForQuestionAnswering, CONFIG)
    write_run(tmp_path / "run", model, large)
    large.save(save_pretrained(model, tmp_path / "hf") / "vocab.txt")
    for name in ("run", "hf"):
        with pytest.raises(UserError, match=f"{name}: the vocabulary has 15 pieces, the model only 13"):
            load_bert_model(tmp_path / name)
    with pytest.raises(UserError, match="hf: the vocabulary has 15 pieces, the model only 13"):
        import_run(tmp_path / "hf", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_what_does_not_fit_is_said(folder, tmp_path):
    for load in (load_bert, load_bert_model, load_encoder):
        with pytest.raises(UserError, match="t5 is no run of a BERT .its program is 'qa'., and a BERT is wanted here"):
            load(str(folder / "t5"))
    for name, kind in (("mlm", "BertForPreTraining"), ("hf", "BertForQuestionAnswering")):
        with pytest.raises(UserError, match=f"{name} holds another kind of model .*{kind}.*; .* a run of a T5"):
            load_t5(folder / name)
    with pytest.raises(UserError, match="nowhere is not a run"):
        load_bert(folder / "nowhere")
    record = json.loads((folder / "spans" / "config.json").read_text())
    for changes, message in (
        ({"architecture": "Elmo"}, "the architecture is 'Elmo'; known are BertModel, "),
        ({"model": {"hidden_sighs": 3}}, r"unknown model field\(s\) hidden_sighs"),
        ({"model": [3]}, "the model's sizes are not a JSON object"),
        ({"model": {"hidden_size": 16.0}}, "config.json: hidden_size is 16.0, not of type int"),
        ({"model": {"num_hidden_layers": 1.5}}, "num_hidden_layers is 1.5, not of type int"),
        ({"model": {"layer_norm_eps": "1e-12"}}, 'layer_norm_eps is "1e-12", not of type float'),
        ({"model": {"num_hidden_layers": None}}, "num_hidden_layers is null, not of type int"),
        ({"model": {"id2label": [1, 2]}}, r"id2label is \[1, 2\], not a list of texts"),
    ):
        start_run(tmp_path / "run", record | changes, overwrite=True)
        with pytest.raises(UserError, match=message):
            load_bert(tmp_path / "run")
