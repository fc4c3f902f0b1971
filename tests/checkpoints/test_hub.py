"""Names on the Hugging Face hub: what they are is told by their `config.json`, and each file is downloaded once."""

import shutil
import sys
from dataclasses import replace
from fnmatch import fnmatch
from pathlib import Path
from types import SimpleNamespace

import pytest

from tlqa_jax.checkpoints import directories
from tlqa_jax.checkpoints.load import load
from tlqa_jax.checkpoints.save import copy_pretrained, save_pretrained
from tlqa_jax.data.sources import local_path
from tlqa_jax.errors import UserError
from tlqa_jax.models.bert import Bert
from tlqa_jax.models.bert_heads import BertForMaskedLM
from tlqa_jax.models.t5 import T5
from tlqa_jax.text.sentencepiece import SentencePieceTokenizer
from tlqa_jax.text.wordpiece import WordPieceTokenizer

from .small_models import PIECES, V10, assert_same, random_model, set_config


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
    directories._download.cache_clear()
    yield folder, asked
    directories._download.cache_clear()


@pytest.fixture
def wordpiece(tmp_path) -> WordPieceTokenizer:
    (tmp_path / "v.txt").write_text("\n".join(PIECES) + "\n")
    return WordPieceTokenizer(tmp_path / "v.txt")


def test_a_bert_whose_name_does_not_say_so(hub, wordpiece):
    folder, asked = hub
    name = "sentence-transformers/t5-like-MiniLM"
    save_pretrained(random_model(Bert), folder / name, wordpiece)
    for _ in range(2):
        pretrained = load(name)
        assert (pretrained.family, pretrained.architecture, pretrained.usage) == ("bert", "BertModel", {})
    assert asked == [(name, ["config.json", "adapter_config.json"])]  # no gigabytes for a question about the family
    assert_same(pretrained.model(), random_model(Bert))
    assert pretrained.tokenizer.vocab_size == len(PIECES)
    assert_same(load(name).model(), random_model(Bert))
    assert len(asked) == 2 and "model.safetensors" in asked[1][1]
    assert not any("bin" in pattern for pattern in asked[1][1])


def test_a_t5_whose_name_does_not_say_so(hub, tmp_path):
    folder, asked = hub
    vocabulary = SentencePieceTokenizer(local_path("tiny_world:vocabulary.model"), extra_ids=5)
    save_pretrained(random_model(T5, replace(V10, vocab_size=1007)), folder / "some/writer", vocabulary)
    (folder / "some/writer" / "README.md").write_text("about it")
    pretrained = load("some/writer")
    assert (pretrained.family, pretrained.tokenizer.vocab_size) == ("t5", 1005)
    out = copy_pretrained("some/writer", tmp_path / "out")
    assert_same(load(out).model(), pretrained.model())
    assert not (out / "README.md").exists() and load(out).tokenizer.vocab_size == 1005 and len(asked) == 2


def test_added_tokens_of_a_name_on_the_hub(hub, wordpiece):
    folder, _ = hub
    save_pretrained(random_model(Bert), folder / "some/bert", wordpiece)
    (folder / "some/bert" / "added_tokens.json").write_text('{"<new>": 9}')
    with pytest.raises(UserError, match="some/bert: tokens were added"):
        load("some/bert").tokenizer


@pytest.mark.parametrize(("name", "kind"), [("roberta-base", "roberta"), ("google/mt5-small", "mt5"), ("x", None)])
def test_other_families_are_refused_by_name(hub, name, kind):
    folder, asked = hub
    set_config(save_pretrained(random_model(Bert), folder / name), model_type=kind)
    for _ in range(2):
        with pytest.raises(UserError, match=f'^{name}/config.json: model_type is "{kind}"; known are bert, t5, tlqa$'):
            load(name)
    assert asked == [(name, ["config.json", "adapter_config.json"])]


def test_what_is_there_is_not_asked_for(hub, wordpiece, tmp_path, monkeypatch):
    _, asked = hub
    monkeypatch.chdir(tmp_path)
    save_pretrained(random_model(Bert), Path("my/model"), wordpiece)
    pretrained = load("my/model")
    assert pretrained.family == "bert" and pretrained.tokenizer.pad_id == 0
    for name in (Path("no/model"), str(tmp_path / "nothing"), "a/b/c", "../x", "runs/"):
        with pytest.raises(UserError, match="no such directory, and it cannot be a name on the Hugging Face hub"):
            load(name)
    assert asked == []


def test_a_hub_that_does_not_have_it(hub):
    message = "there is no such directory, and it cannot be downloaded from the Hugging Face hub .no such name."
    with pytest.raises(UserError, match=f"^runs/quickstart: {message}$"):
        load("runs/quickstart")


def test_pickles_on_the_hub_are_not_fetched_and_the_reason_is_said(hub, tmp_path):
    folder, _ = hub
    save_pretrained(random_model(BertForMaskedLM), folder / "some/old-bert")
    (folder / "some/old-bert" / "model.safetensors").rename(folder / "some/old-bert" / "pytorch_model.bin")
    for call in (lambda name: load(name).model(), lambda name: copy_pretrained(name, tmp_path / "out")):
        with pytest.raises(UserError, match="some/old-bert has no model.safetensors. A pickle .* can run any"):
            call("some/old-bert")
    assert not (tmp_path / "cache/some/old-bert/pytorch_model.bin").exists() and not (tmp_path / "out").exists()
