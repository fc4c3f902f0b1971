"""What is special to pretraining: the flags for the texts, models that look back only, what they are started from."""

import json
from dataclasses import replace

import numpy as np
import pytest

from tlqa_jax import cli
from tlqa_jax.checkpoints.load import load
from tlqa_jax.data.sources import local_path
from tlqa_jax.errors import UserError
from tlqa_jax.text.sentencepiece import SentencePieceTokenizer
from tlqa_jax.text.wordpiece import WordPieceTokenizer
from tlqa_jax.training.pretrain_mlm import pretrain_mlm

from .programs import BERT_SIZES, PROGRAMS, Stop, save_bert, short, stop

SENTENCES = ["Mira Voss tunes harps in Oss.", "Her sister left in 1901.", "Nobody knew why."]
T5 = SentencePieceTokenizer(local_path("tiny_world:vocabulary.model"))
BERT = WordPieceTokenizer(local_path("tiny_world:wordpiece.txt"))


@pytest.fixture
def folder(tmp_path, files):
    lines = [json.dumps({"body": " ".join(SENTENCES[: 1 + n % 3])}) for n in range(60)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    (tmp_path / "dev.jsonl").write_text("\n".join(lines[:20]))
    for name in ("t5.json", "bert.json"):
        (tmp_path / name).write_bytes((files / name).read_bytes())
    return tmp_path


def all_tokens(folder, name, tokenizer, end) -> list[int]:
    lines = (folder / f"{name}.jsonl").read_text().splitlines()
    return sum(tokenizer.encode_batch([json.loads(line)["body"] + end for line in lines]), [])


@pytest.mark.parametrize("program, kind, tokenizer, model", [
    ("pretrain_spans", "SpanCorruptionRows", T5, "t5.json"), ("pretrain_mlm", "MaskedLMRows", BERT, "bert.json"),
    ("pretrain_clm", "CausalLMRows", BERT, "bert.json"),
])  # fmt: skip
def test_the_flags_for_the_texts(program, kind, tokenizer, model, folder, monkeypatch, capsys):
    """As far as the first batch: what is learned from, what is held out, and the file."""
    module, made = PROGRAMS[program].module, []

    class Noted(getattr(module, kind)):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            made.append(self)

    monkeypatch.setattr(module, kind, Noted)
    monkeypatch.setattr("tlqa_jax.training.loop.TrainingRun.training", stop)
    monkeypatch.setattr(module.jax, "pmap", lambda *_, **__: stop)
    monkeypatch.setattr(cli, "quiet_libraries", lambda: None)
    (folder / "own.tokens").write_bytes(b"from an earlier start")
    line = (
        f"{program.replace('_', '-')} --texts {folder}/a.jsonl --held-out {folder}/dev.jsonl --text-field body "
        f"--max-tokens 101 --tokens-file {folder}/own.tokens --model {folder}/{model} --out {folder}/run "
        "--input-length 16 --batch-size 8 --steps 1 --warmup 0"
    )
    with pytest.raises(Stop):
        cli.main(line.split())
    held_out, data = made
    end = " [SEP]" if program == "pretrain_clm" else ""
    first, whole = (all_tokens(folder, name, tokenizer, end) for name in ("a", "dev"))
    first = first[:101]
    assert not isinstance(held_out.tokens, np.memmap)  # and all of it
    assert held_out.tokens.ravel().tolist() == whole[: held_out.tokens.size] and held_out.tokens.size > 101
    assert isinstance(data.tokens, np.memmap)
    assert data.tokens.ravel().tolist() == first[: data.tokens.size] and data.tokens.size > 101 - 17
    assert np.fromfile(folder / "own.tokens", np.int32).tolist() == first
    assert "101 tokens" in capsys.readouterr().out
    batch = data.build(np.arange(8) % data.size, slice(0, 8), 0)
    assert all(type(array) is np.ndarray for array in batch.values())
    settings = json.loads((folder / "run" / "run.json").read_text())["settings"]
    assert (settings["text_field"], settings["max_tokens"], "tokens_file" in settings) == ("body", 101, False)
    other_file = line.replace("own", "other").split()
    for changes, message in (
        ("--max-tokens 100", "max_tokens was 101, is 100"),
        ("--text-field spans", "text_field was 'body', is 'spans'"),
    ):
        with pytest.raises(SystemExit):
            cli.main([*other_file, *changes.split()])
        assert message in capsys.readouterr().err
    with pytest.raises(Stop):
        cli.main(other_file)
    assert (folder / "other.tokens").read_bytes() == (folder / "own.tokens").read_bytes()


@pytest.mark.parametrize("kind", ["sentencepiece", "wordpiece"])
def test_a_vocabulary_of_another_field(folder, kind, monkeypatch, capsys):
    monkeypatch.setattr(cli, "quiet_libraries", lambda: None)
    size = {"sentencepiece": 34, "wordpiece": 60}[kind]
    line = f"vocab train --kind {kind} --texts {folder}/a.jsonl --size {size} --out {folder}/vocabulary"
    with pytest.raises(SystemExit) as end:
        cli.main(line.split())
    assert end.value.code == 2 and 'no field "text"; found "body"' in capsys.readouterr().err
    with pytest.raises(SystemExit) as end:
        cli.main([*line.split(), "--text-field", "body"])
    assert not end.value.code and (folder / "vocabulary").stat().st_size


@pytest.fixture
def looking_back(files, tmp_path):
    return str(save_bert(tmp_path / "causal", WordPieceTokenizer(files / "vocab.txt"), attention="causal"))


@pytest.mark.parametrize("given, seen", [(None, "causal"), ("plain", "plain"), ("causal", "causal")])
def test_it_attends_as_what_it_starts_from_unless_told(given, seen, looking_back, files, tmp_path, monkeypatch):
    monkeypatch.setattr("tlqa_jax.training.loop.TrainingRun.training", stop)
    settings = short(
        PROGRAMS["pretrain_mlm"], files, out=str(tmp_path / "run"), start_from=looking_back, attention=given,
        next_sentence=False, whole_words=True,
    )  # fmt: skip
    with pytest.raises(Stop):
        pretrain_mlm(settings, quiet=True)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["architectures"] == ["BertForMaskedLM"] and config["is_decoder"] == (seen == "causal")
    assert load(tmp_path / "run").options.get("attention", "plain") == seen
    if seen == "causal":
        with pytest.raises(UserError, match="add --no-next-sentence"):
            pretrain_mlm(replace(settings, out=str(tmp_path / "other"), next_sentence=True), quiet=True)


def test_what_no_masked_lm_can_be_trained_on(files, tmp_path, no_compilation):
    (tmp_path / "one.txt").write_text("One document.\nOf two sentences.\n")
    settings = short(PROGRAMS["pretrain_mlm"], files, out=str(tmp_path / "run"))
    (tmp_path / "one_type.json").write_text(json.dumps(BERT_SIZES | {"type_vocab_size": 1}))
    for changes, message in (
        (dict(attention="causal"), "add --no-next-sentence"),
        (dict(input_length=48), "--input-length 48: this model reads at most 40 tokens"),
        (dict(texts=str(tmp_path / "one.txt")), "one.txt: the text has 1 documents: .*--no-next-sentence"),
        (dict(model=str(tmp_path / "one_type.json")), "one token type, and pairs need two: add --no-next-sentence"),
    ):
        with pytest.raises(UserError, match=message):
            pretrain_mlm(replace(settings, **changes), quiet=True)
    assert not (tmp_path / "run").exists()
