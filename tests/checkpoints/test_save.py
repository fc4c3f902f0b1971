"""Directories that we write: when they appear, what is overwritten, what is kept for using the model."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest
from flax import nnx

from tlqa_jax.checkpoints.load import load
from tlqa_jax.checkpoints.resume import Checkpoints
from tlqa_jax.checkpoints.run_record import start_run
from tlqa_jax.checkpoints.save import copy_pretrained, save_pretrained, update_usage, write_config, write_weights
from tlqa_jax.checkpoints.tokenizer_files import write_tokenizer
from tlqa_jax.data.sources import local_path
from tlqa_jax.errors import UserError
from tlqa_jax.models.bert import Bert
from tlqa_jax.models.bert_heads import BertForMaskedLM, BertForPreTraining
from tlqa_jax.models.t5 import T5, T5Encoder
from tlqa_jax.text.sentencepiece import SentencePieceTokenizer
from tlqa_jax.text.wordpiece import WordPieceTokenizer

from .small_models import BERT, PIECES, V11, assert_same, random_model, set_config

USAGE = {"input_length": 40, "target_length": 7, "answers": True, "no_answer_threshold": -1.5, "dtype": "auto"}


@pytest.fixture(scope="module")
def wordpiece(tmp_path_factory) -> WordPieceTokenizer:
    file = tmp_path_factory.mktemp("vocabulary") / "v.txt"
    file.write_text("\n".join(PIECES) + "\n")
    return WordPieceTokenizer(file, lowercase=False)


@pytest.fixture(scope="module")
def sentencepiece() -> SentencePieceTokenizer:
    return SentencePieceTokenizer(local_path("tiny_world:vocabulary.model"), extra_ids=5)


def write_run(out, model, tokenizer, usage=USAGE):
    """A run as the training programs leave it."""
    run = start_run(out, {"program": "finetune-qa", "settings": {"seed": 3}, "inputs": {}})
    write_tokenizer(tokenizer, run, getattr(model.config, "max_position_embeddings", None))
    write_config(run, model, usage)
    with Checkpoints(run) as checkpoints:
        checkpoints.save(7, {"step": np.int32(7)})
    write_weights(run, model)
    (run / "metrics.jsonl").write_text("{}\n")
    return run


@pytest.fixture(scope="module")
def runs(wordpiece, sentencepiece, tmp_path_factory):
    """Runs of a BERT and a T5, and a directory that calls the second one its main run, as the quickstart does."""
    folder = tmp_path_factory.mktemp("runs")
    write_run(folder / "bert", random_model(BertForPreTraining, attention="causal"), wordpiece)
    write_run(folder / "all" / "main", random_model(T5, replace(V11, vocab_size=1005)), sentencepiece)
    (folder / "all" / "run.json").write_text('{"program": "quickstart", "main": "main"}')
    return folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# runs ----------------------------------------------------------------------------------------------------------------


def test_a_run_is_loaded_as_it_stands(runs):
    pretrained = load(runs / "bert")
    assert (pretrained.family, pretrained.architecture) == ("bert", "BertForPreTraining")
    assert (pretrained.directory, pretrained.usage) == (runs / "bert", USAGE)
    assert_same(pretrained.model(), random_model(BertForPreTraining, attention="causal"))
    assert pretrained.model().encoder.causal and pretrained.tokenizer.pieces("Cats") == ["Cat", "##s"]
    main = load(str(runs / "all"))
    assert (main.directory, main.family, main.architecture) == (runs / "all/main", "t5", "T5ForConditionalGeneration")
    assert main.config == main.model().config == replace(V11, vocab_size=1005)
    # <extra_id_0> is the last piece
    assert (main.tokenizer.vocab_size, main.tokenizer.encode("<extra_id_0>")) == (1005, [1004])
    assert main.tokenizer is main.tokenizer


def test_config_json_is_read_once(runs, monkeypatch):
    opened = []
    read_text = type(runs).read_text
    monkeypatch.setattr(type(runs), "read_text", lambda path, **how: opened.append(path.name) or read_text(path, **how))
    pretrained = load(runs / "bert")
    pretrained.model()
    assert pretrained.tokenizer.pad_id == 0 and opened.count("config.json") == 1


@pytest.mark.parametrize(("name", "files"), [("bert", ["vocab.txt"]), ("all", ["spiece.model"])])
def test_of_a_run_the_model_is_copied_and_nothing_else(runs, tmp_path, name, files):
    out = copy_pretrained(runs / name, tmp_path / "out")
    files = sorted([*files, "config.json", "model.safetensors", "special_tokens_map.json", "tokenizer_config.json"])
    assert names(out) == files and names(tmp_path) == ["out"]
    again = copy_pretrained(out, tmp_path / "again")
    for file in files:
        assert (again / file).read_bytes() == (load(runs / name).directory / file).read_bytes(), file
    with pytest.raises(UserError, match="out is already in use"):
        copy_pretrained(runs / "bert", out)
    copy_pretrained(runs / "bert", out, overwrite=True)
    assert load(out).architecture == "BertForPreTraining"
    with pytest.raises(UserError, match="bert is a run: delete it yourself"):
        copy_pretrained(out, runs / "bert", overwrite=True)


def test_without_weights_there_is_nothing_to_copy(runs, tmp_path):
    run = start_run(tmp_path / "run", {"program": "finetune-qa", "settings": {}, "inputs": {}})
    with pytest.raises(UserError, match="run has no config.json: this run has not saved a model yet"):
        load(run)
    write_config(run, random_model(Bert))
    for call in (lambda: copy_pretrained(run, tmp_path / "out"), load(run).model):
        with pytest.raises(UserError, match="run has no model.safetensors"):
            call()
    assert names(tmp_path) == ["run"]


def test_a_run_of_the_old_version_is_refused_with_what_to_do(tmp_path):
    for record in ({"program": "qa", "model": {}, "training": {}}, {"program": "quickstart", "main": "finetuned"}):
        (tmp_path / "config.json").write_text(json.dumps(record))
        with pytest.raises(UserError, match=r"was made by tlqa_jax 0.1: .*tlqa export \S+ --out DIR\) and use DIR$"):
            load(tmp_path)


# what is needed to use a model ---------------------------------------------------------------------------------------


def test_usage_is_kept_and_changed(tmp_path):
    folder = save_pretrained(random_model(Bert), tmp_path / "m")
    assert load(folder).usage == {}  # as of a directory that we did not write
    assert "task_specific_params" not in json.loads((folder / "config.json").read_text())
    set_config(folder, task_specific_params={"summarization": {"num_beams": 4}})
    update_usage(folder, input_length=5, stride=0, no_answer_threshold=np.float64(0.5), tasks={"a": {"prefix": "b"}})
    assert load(folder).usage == {
        "input_length": 5, "stride": 0, "no_answer_threshold": 0.5, "tasks": {"a": {"prefix": "b"}}
    }
    update_usage(folder, no_answer_threshold=None, tasks=None, later="unknown here")
    assert load(folder).usage == {"input_length": 5, "stride": 0, "later": "unknown here"}
    values = json.loads((folder / "config.json").read_text())
    assert values["task_specific_params"]["summarization"] == {"num_beams": 4}
    assert_same(load(folder).model(), random_model(Bert))


@pytest.mark.parametrize(
    ("usage", "message"),
    [
        ({"no_answer_threshold": "0.5"}, 'no_answer_threshold is "0.5", not of type float'),
        ({"no_answer_threshold": True}, "no_answer_threshold is true, not of type float"),
        ({"input_length": 4.0}, "input_length is 4.0, not of type int"),
        ({"target_length": 0}, "target_length is 0, which is too small"),
        ({"answers": 1}, "answers is 1, not of type bool"),
        ({"tasks": ["a"]}, r'tasks is \["a"\], not of type dict'),
        ({"dtype": 3}, "dtype is 3, not of type str"),
        ([1], '"tlqa" is \\[1\\], not an object'),
    ],
)
def test_usage_of_another_type_is_refused_by_name(tmp_path, usage, message):
    folder = save_pretrained(random_model(Bert), tmp_path / "m")
    if isinstance(usage, dict):
        before = (folder / "config.json").read_bytes()
        with pytest.raises(UserError, match=message):
            update_usage(folder, **usage)
        assert (folder / "config.json").read_bytes() == before
    set_config(folder, task_specific_params={"tlqa": usage})
    with pytest.raises(UserError, match=f"m/config.json: {message}"):
        load(folder)


# new directories -----------------------------------------------------------------------------------------------------


def test_the_vocabulary_comes_along(wordpiece, tmp_path):
    save_pretrained(random_model(BertForMaskedLM), tmp_path / "m", wordpiece)
    settings = json.loads((tmp_path / "m" / "tokenizer_config.json").read_text())
    assert (settings["do_lower_case"], settings["mask_token"], settings["model_max_length"]) == (False, "[MASK]", 9)
    again = load(tmp_path / "m").tokenizer
    assert again.pieces("the Cats") == ["the", "Cat", "##s"] and again.vocab_size == 9


def test_a_directory_in_use_is_left_alone_unless_told(tmp_path):
    folder = save_pretrained(random_model(BertForMaskedLM), tmp_path / "model")
    (folder / "notes").write_text("mine")
    with pytest.raises(UserError, match="already in use: .*overwrite"):
        save_pretrained(random_model(Bert), folder)
    assert load(folder).architecture == "BertForMaskedLM" and (folder / "notes").exists()
    save_pretrained(random_model(Bert), folder, overwrite=True)
    assert load(folder).architecture == "BertModel" and not (folder / "notes").exists()
    (folder / "config.json").write_text('{"name": "a web page"}')
    with pytest.raises(UserError, match="does not look like an exported model"):
        save_pretrained(random_model(Bert), folder, overwrite=True)
    (folder / "config.json").unlink()
    with pytest.raises(UserError, match="does not look like an exported model"):
        save_pretrained(random_model(Bert), folder, overwrite=True)


def test_an_export_overwrites_no_run(runs):
    before = names(runs / "bert")
    with pytest.raises(UserError, match="bert is a run: delete it yourself if you mean it"):
        save_pretrained(random_model(Bert), runs / "bert", overwrite=True)
    assert names(runs / "bert") == before


def test_a_save_that_fails_leaves_what_was_there(tmp_path, monkeypatch):
    folder = save_pretrained(random_model(BertForMaskedLM), tmp_path / "model")

    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)  # the last step of writing a file
    for target in (folder, tmp_path / "new"):
        with pytest.raises((OSError, UserError)):
            save_pretrained(random_model(Bert), target, overwrite=True)
    with pytest.raises(UserError, match="model.safetensors cannot be written: disk full"):
        write_weights(folder, random_model(BertForMaskedLM))
    assert_same(load(folder).model(), random_model(BertForMaskedLM))
    assert names(tmp_path) == ["model"] and names(folder) == ["config.json", "model.safetensors"]


def test_files_can_be_read_by_others(tmp_path):
    folder = save_pretrained(random_model(Bert), tmp_path / "model")
    (tmp_path / "new").touch()
    for file in folder.iterdir():
        assert file.stat().st_mode == (tmp_path / "new").stat().st_mode, file.name


def test_other_models_and_vocabularies_that_do_not_fit_are_refused(wordpiece, sentencepiece, tmp_path):
    t5 = random_model(T5, V11)
    with pytest.raises(UserError, match="an? RMSNorm cannot be saved this way; known are Bert, .*T5"):
        save_pretrained(t5.encoder_norm, tmp_path / "m")
    with pytest.raises(UserError, match="a T5 needs a SentencePieceTokenizer, and this is a WordPieceTokenizer"):
        save_pretrained(t5, tmp_path / "m", wordpiece)
    with pytest.raises(UserError, match="the vocabulary has 9 pieces, the model only 8"):
        save_pretrained(random_model(Bert, replace(BERT, vocab_size=8)), tmp_path / "m", wordpiece)
    with pytest.raises(UserError, match="the vocabulary has 1005 pieces, the model only 13"):
        save_pretrained(t5, tmp_path / "m", sentencepiece)
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("kind", [Bert, BertForMaskedLM])
def test_a_pooler_survives_saving(kind, tmp_path):
    encoder = random_model(Bert, attention="causal")  # with a pooler, which a masked LM does not read
    model = encoder if kind is Bert else kind(encoder=encoder, rngs=nnx.Rngs(4))
    assert_same(load(save_pretrained(model, tmp_path / "m")).model(), model)


# vocabularies that do not fit the model ------------------------------------------------------------------------------


def test_a_vocabulary_with_more_pieces_than_the_model_is_refused(runs, tmp_path):
    t5, bert = copy_pretrained(runs / "all", tmp_path / "t5"), copy_pretrained(runs / "bert", tmp_path / "bert")
    (t5 / "tokenizer_config.json").unlink()  # as the first ones were: a hundred sentinels
    (bert / "vocab.txt").write_text("\n".join([*PIECES[:5], *"abcdefghij"]) + "\n")
    for folder, sizes in ((t5, "1100 pieces, the model only 1005"), (bert, "15 pieces, the model only 13")):
        pretrained = load(folder)
        pretrained.model()
        with pytest.raises(UserError, match=f"^{folder}: the vocabulary has {sizes}$"):
            pretrained.tokenizer


@pytest.mark.parametrize("name, id", [("decoder_start_token_id", 0), ("eos_token_id", 1), ("pad_token_id", 0)])
def test_other_special_ids_than_t5s_are_refused(runs, tmp_path, name, id):
    folder = copy_pretrained(runs / "all", tmp_path / "t5")
    set_config(folder, **{name: 5})
    with pytest.raises(UserError, match=f"t5: {name} is 5; only {id} is known here"):
        load(folder).tokenizer


def test_a_vocabulary_of_the_other_family(runs, tmp_path):
    t5, bert = copy_pretrained(runs / "all", tmp_path / "t5"), copy_pretrained(runs / "bert", tmp_path / "bert")
    (t5 / "spiece.model").rename(bert / "spiece.model")
    (bert / "vocab.txt").rename(t5 / "vocab.txt")
    with pytest.raises(UserError, match="t5 has vocab.txt, but has no vocabulary of a T5, a spiece.model or"):
        load(t5).tokenizer
    with pytest.raises(UserError, match="vocab.txt does not exist"):
        load(bert).tokenizer


def test_the_encoder_of_a_t5_alone(runs, sentencepiece, tmp_path):
    encoder = load(runs / "all", "T5EncoderModel").model()
    folder = save_pretrained(encoder, tmp_path / "encoder", sentencepiece)
    assert load(folder).architecture == "T5EncoderModel" and type(load(folder).model()) is T5Encoder
