"""Names on the Hugging Face hub: what they are is told by their `config.json`, wherever they come from."""

import shutil
import sys
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace

import pytest

from tlqa_jax.checkpoints.bert_runs import is_bert, load_bert_model
from tlqa_jax.checkpoints.exchange import import_run
from tlqa_jax.checkpoints.huggingface import from_pretrained, hub_family, is_t5, load_tokenizer, save_pretrained
from tlqa_jax.checkpoints.runs import load_t5
from tlqa_jax.commands.training import of_family
from tlqa_jax.data.sources import local_path
from tlqa_jax.errors import UserError
from tlqa_jax.inference import predictors as asking
from tlqa_jax.models.bert import Bert
from tlqa_jax.models.bert_heads import BertForMaskedLM, BertForSequenceClassification
from tlqa_jax.models.t5 import T5
from tlqa_jax.text.sentencepiece import SentencePieceTokenizer
from tlqa_jax.text.wordpiece import WordPieceTokenizer

from .test_huggingface import CONFIG, PIECES, assert_same, random_model, set_config
from .test_t5_names import V10


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub that has what is in the folder, and the list of what was asked of it: (name, patterns)."""
    folder, asked = tmp_path / "hub", []

    def snapshot_download(name, *, allow_patterns):
        asked.append((name, allow_patterns))
        if not (folder / name).is_dir():
            raise OSError("no\nsuch name")
        here = tmp_path / "cache" / name
        here.mkdir(parents=True, exist_ok=True)
        for file in (folder / name).iterdir():
            if any(fnmatch(file.name, pattern) for pattern in allow_patterns):
                shutil.copy(file, here)
        return str(here)

    monkeypatch.setitem(sys.modules, "huggingface_hub", SimpleNamespace(snapshot_download=snapshot_download))
    hub_family.cache_clear()
    yield folder, asked
    hub_family.cache_clear()


@pytest.fixture
def wordpiece(tmp_path) -> WordPieceTokenizer:
    (tmp_path / "v.txt").write_text("\n".join(PIECES) + "\n")
    return WordPieceTokenizer(tmp_path / "v.txt")


def test_a_bert_whose_name_does_not_say_so(hub, wordpiece):
    folder, asked = hub
    name = "sentence-transformers/all-MiniLM-L6-v2"
    save_pretrained(random_model(Bert), folder / name, wordpiece)
    for _ in range(2):
        assert is_bert(name) and not is_t5(name)
    assert asked == [(name, ["config.json"])]
    assert of_family("finetune-qa", ["--start-from", name]) == "finetune-spans"
    assert_same(load_bert_model(name)[0], random_model(Bert))
    with pytest.raises(UserError, match="all-MiniLM-L6-v2 was pretrained but not taught to answer .*it is a Bert"):
        asking.ask("Where?", "Here.", name)
    save_pretrained(random_model(BertForSequenceClassification), folder / "moods", wordpiece)
    assert asking.classify(["the cats"], "moods")[0].label in CONFIG.id2label
    save_pretrained(random_model(BertForMaskedLM), folder / "some/t5-like-bert", wordpiece)
    assert is_bert("some/t5-like-bert") and not is_t5("some/t5-like-bert")


def test_a_t5_whose_name_does_not_say_so(hub, tmp_path):
    folder, _ = hub
    vocabulary = SentencePieceTokenizer(local_path("tiny_world:vocabulary.model"), extra_ids=5)
    save_pretrained(random_model(T5, replace(V10, vocab_size=1007)), folder / "some/writer", vocabulary)
    assert is_t5("some/writer") and not is_bert("some/writer")
    assert load_t5("some/writer")[2].vocab_size == 1005
    assert of_family("finetune-qa", ["--start-from", "some/writer"]) == "finetune-qa"
    assert len(asking.generate(["the clock"], "some/writer", max_new_tokens=3)[0]) == 1
    (folder / "some/writer" / "added_tokens.json").write_text('{"<new>": 1005}')
    with pytest.raises(UserError, match="some/writer: tokens were added"):
        load_tokenizer("some/writer")


@pytest.mark.parametrize(("name", "kind"), [("roberta-base", "roberta"), ("google/mt5-small", "mt5"), ("x", None)])
def test_other_families_are_refused_by_name(hub, wordpiece, name, kind):
    folder, asked = hub
    set_config(save_pretrained(random_model(Bert), folder / name, wordpiece), model_type=kind)
    for call in (is_bert, is_t5, asking.open_model, lambda name: of_family("finetune-qa", ["--start-from", name])):
        with pytest.raises(UserError, match=f'^{name}: model_type is "{kind}"; known are bert, t5$'):
            call(name)
    assert {(one, *patterns) for one, patterns in asked} == {(name, "config.json")}  # no gigabytes for nothing
    with pytest.raises(UserError, match=f'model_type is "{kind}"'):
        load_bert_model(name)


def test_what_is_there_is_not_asked_for(hub, wordpiece, tmp_path, monkeypatch):
    folder, asked = hub
    monkeypatch.chdir(tmp_path)
    save_pretrained(random_model(Bert), Path("my/model"), wordpiece)
    assert is_bert("my/model") and not is_t5("my/model")
    for name in (Path("no/model"), str(tmp_path / "nothing"), "a/b/c", "../x", "runs/"):
        assert not is_bert(name) and not is_t5(name)
    assert asked == []


def test_a_hub_that_cannot_be_asked(hub, monkeypatch):
    message = r"^runs/quickstart is not a run: there is no such directory, and the hub did not give it .no such name.$"
    for call in (is_bert, is_t5, asking.open_model, load_t5):
        with pytest.raises(UserError, match=message):
            call("runs/quickstart")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    message = "^bert-base-uncased is not a run: there is no such directory; to download .* pip install huggingface_hub$"
    for call in (is_bert, asking.open_model):
        with pytest.raises(UserError, match=message):
            call("bert-base-uncased")


def test_pickles_on_the_hub_are_not_fetched_and_the_reason_is_said(hub, wordpiece, tmp_path):
    folder, _ = hub
    save_pretrained(random_model(Bert), folder / "some/old-bert", wordpiece)
    (folder / "some/old-bert" / "model.safetensors").rename(folder / "some/old-bert" / "pytorch_model.bin")
    for call in (from_pretrained, load_bert_model, lambda name: import_run(name, tmp_path / "run")):
        with pytest.raises(UserError, match="hub has no safetensors of some/old-bert, .* a pickle, which can run any"):
            call("some/old-bert")
    assert not (tmp_path / "cache/some/old-bert/pytorch_model.bin").exists() and not (tmp_path / "run").exists()


def test_names_that_are_no_directory(tmp_path, monkeypatch):
    with pytest.raises(UserError, match="there is no such directory, nor can it be a name"):
        from_pretrained(tmp_path / "nothing")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(UserError, match="bert-base-uncased is no directory here; .*pip install huggingface_hub"):
        from_pretrained("bert-base-uncased")


def test_a_hub_that_does_not_answer_and_one_that_does(hub):
    folder, asked = hub
    save_pretrained(random_model(BertForMaskedLM), folder / "some/bert")
    assert_same(from_pretrained("some/bert"), random_model(BertForMaskedLM))
    [(_, patterns)] = asked
    assert "model.safetensors" in patterns and not any("bin" in pattern for pattern in patterns)
    with pytest.raises(UserError, match=r"some/other is no directory here, and the hub did not .* \(no such name\)"):
        load_tokenizer("some/other")
