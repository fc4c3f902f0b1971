"""What the pretraining programs read of their texts: the field, the first tokens, a file to keep them in."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest

from tlqa_jax import cli
from tlqa_jax.data.sources import local_path
from tlqa_jax.errors import UserError
from tlqa_jax.text.sentencepiece import SentencePieceTokenizer
from tlqa_jax.text.wordpiece import WordPieceTokenizer
from tlqa_jax.training import pretrain_mlm as mlm, pretrain_spans as span_corruption
from tlqa_jax.training.pretrain_mlm import MaskedLMData, PretrainMLMSettings
from tlqa_jax.training.pretrain_spans import PretrainSpansSettings, SpanCorruptionData

SENTENCES = ["Mira Voss tunes harps in Oss.", "Her sister left in 1901.", "Nobody knew why."]
T5 = SentencePieceTokenizer(local_path("tiny_world:vocabulary.model"))
BERT = WordPieceTokenizer(local_path("tiny_world:wordpiece.txt"))


class Stop(Exception):
    pass


@pytest.fixture
def folder(tmp_path):
    texts = [" ".join(SENTENCES[: 1 + n % 3]) for n in range(60)]
    spans = [[[0, 9], [24, 28]]] * 60
    lines = [json.dumps({"body": text, "spans": span}) for text, span in zip(texts, spans)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    (tmp_path / "dev.jsonl").write_text("\n".join(lines[:20]))
    (tmp_path / "t5.json").write_text('{"d_model": 8, "d_kv": 4, "d_ff": 12, "num_layers": 1, "num_heads": 2}')
    (tmp_path / "bert.json").write_text(
        '{"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 12}'
    )
    return tmp_path


def all_tokens(folder, name, tokenizer) -> list[int]:
    lines = (folder / f"{name}.jsonl").read_text().splitlines()
    return sum(tokenizer.encode_batch([json.loads(line)["body"] for line in lines]), [])


@pytest.mark.parametrize("program", ["spans", "mlm"])
def test_the_flags_from_the_command_line(folder, program, monkeypatch, capsys):
    """As far as the first batch: what is learned from, what is held out, and the file."""
    module, kind, tokenizer, model = {
        "spans": (span_corruption, SpanCorruptionData, T5, "t5.json"), "mlm": (mlm, MaskedLMData, BERT, "bert.json"),
    }[program]  # fmt: skip
    made, built = [], []

    class Noted(kind):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            made.append(self)

    def stop(size, batch_size, seed, build, **_):
        built.append((build.__self__, build(np.arange(batch_size) % size, slice(0, batch_size), 0)))
        raise Stop

    monkeypatch.setattr(module, kind.__name__, Noted)
    monkeypatch.setattr(module, "training_batches", stop)
    monkeypatch.setattr(cli, "quiet_libraries", lambda: None)
    (folder / "own.tokens").write_bytes(b"made anew")
    line = (
        f"pretrain-{program} --texts {folder}/a.jsonl --held-out {folder}/dev.jsonl --text-field body --max-tokens 101 "
        f"--tokens-file {folder}/own.tokens --model {folder}/{model} --out {folder}/run --input-length 16 "
        "--batch-size 8 --steps 1 --warmup 0"
    )
    with pytest.raises(Stop):
        cli.main(line.split())
    [(data, batch)] = built
    first, whole = all_tokens(folder, "a", tokenizer)[:101], all_tokens(folder, "dev", tokenizer)
    assert made[1] is data and not isinstance(made[0].tokens, np.memmap)  # before it what is held out, and all of that
    assert made[0].tokens.ravel().tolist() == whole[: made[0].tokens.size] and made[0].tokens.size > 101
    assert isinstance(data.tokens, np.memmap)
    assert data.tokens.ravel().tolist() == first[: data.tokens.size] and data.tokens.size > 101 - 17
    assert np.fromfile(folder / "own.tokens", np.int32).tolist() == first
    assert "101 tokens" in capsys.readouterr().out
    assert all(type(array) is np.ndarray for array in batch.values())
    training = json.loads((folder / "run" / "config.json").read_text())["training"]
    assert (training["text_field"], training["max_tokens"], "tokens_file" in training) == ("body", 101, False)
    for changes, message in (
        ("--max-tokens 100", "max_tokens was 101, is 100"),
        ("--text-field spans", "text_field was 'body', is 'spans'"),
    ):
        with pytest.raises(SystemExit):
            cli.main([*line.replace("own", "other").split(), *changes.split(), "--resume"])
        assert message in capsys.readouterr().err
    with pytest.raises(Stop):  # another file
        cli.main([*line.replace("own", "other").split(), "--resume"])
    assert (folder / "other.tokens").read_bytes() == (folder / "own.tokens").read_bytes()


@pytest.mark.parametrize("program", ["spans", "mlm"])
def test_what_may_be_something_else_is_not_replaced(folder, program):
    source = str(folder / "a.jsonl")
    config, pretrain = {
        "spans": (PretrainSpansSettings(texts=source, out=str(folder / "run")), span_corruption.pretrain_spans),
        "mlm": (PretrainMLMSettings(texts=source, out=str(folder / "run")), mlm.pretrain_mlm),
    }[program]
    before = (folder / "a.jsonl").read_bytes()
    for changes, message in (
        (dict(tokens_file=source), r"a\.jsonl: .* has to end in \.tokens"),
        (dict(tokens_file=str(folder / "run" / "a.tokens")), "is in --out"),
        (dict(max_tokens=0), "--max-tokens is 0: it has to be at least 1"),
    ):
        with pytest.raises(UserError, match=message):
            pretrain(replace(config, **changes), quiet=True)
    assert (folder / "a.jsonl").read_bytes() == before and not (folder / "run").exists()


def test_salient_spans_are_in_memory_and_may_be_the_first(folder):
    config = PretrainSpansSettings(
        texts=str(folder / "a.jsonl"), held_out=None, out=str(folder / "run"), input_length=16, batch_size=8,
        text_field="body", max_tokens=200, salient_share=0.5,
    )  # fmt: skip
    with pytest.raises(UserError, match="--tokens-file holds no salient spans"):
        span_corruption.pretrain_spans(replace(config, tokens_file=str(folder / "a.tokens")), quiet=True)
    assert not (folder / "a.tokens").exists() and not (folder / "run").exists()
    for kind in ("marked", "rule"):
        data = SpanCorruptionData(replace(config, salient_spans=kind), T5, config.texts)
        first = all_tokens(folder, "a", T5)[:200]
        assert data.tokens.ravel().tolist() == first[: data.tokens.size] and data.tokens.size > 200 - 20
        assert data.spans.any()


def test_no_pairs_of_the_first_document_alone(folder):
    config = PretrainMLMSettings(texts=str(folder / "a.jsonl"), text_field="body", input_length=16, max_tokens=3)
    with pytest.raises(UserError, match="the text has 1 documents"):
        MaskedLMData(config, BERT, config.texts)
    whole = MaskedLMData(replace(config, max_tokens=10**6), BERT, config.texts)
    assert whole.tokens.tolist() == all_tokens(folder, "a", BERT)


@pytest.mark.parametrize("kind", ["sentencepiece", "wordpiece"])
def test_a_vocabulary_of_another_field(folder, kind, monkeypatch, capsys):
    monkeypatch.setattr(cli, "quiet_libraries", lambda: None)
    out = str(folder / "vocabulary")
    size = {"sentencepiece": 34, "wordpiece": 60}[kind]
    line = f"vocab train --kind {kind} --texts {folder}/a.jsonl --size {size} --out {out}"
    with pytest.raises(SystemExit) as end:
        cli.main(line.split())
    assert end.value.code == 2 and 'no field "text"; found "body", "spans"' in capsys.readouterr().err
    with pytest.raises(SystemExit) as end:
        cli.main([*line.split(), "--text-field", "body"])
    assert not end.value.code and os.path.getsize(out)
