"""The rows of pretraining that hide names and dates: by rule in any text, or where they are marked."""

import json
import math
from types import SimpleNamespace

import numpy as np
import pytest

from tlqa_jax.data.sources import local_path
from tlqa_jax.errors import UserError
from tlqa_jax.tasks.span_corruption import reassemble
from tlqa_jax.text.sentencepiece import SentencePieceTokenizer
from tlqa_jax.training.pretrain_spans import PretrainSpansSettings, SpanCorruptionData
from tlqa_jax.training.settings import check_settings

TEXT = (
    "Nobody knew that Mira Voss was born in Oss. "
    "She tuned harps in 1897, and her sister left on 3 May 1901 at last. "
)
NAMES = {"Mira Voss", "Oss", "1897", "3 May 1901"}


@pytest.fixture(scope="module")
def tokenizer():
    return SentencePieceTokenizer(local_path("tiny_world:vocabulary.model"))


@pytest.fixture
def sources(tmp_path):
    (tmp_path / "a.txt").write_text("\n\n".join([TEXT] * 20))
    spans = [[TEXT.index(name), TEXT.index(name) + len(name)] for name in ("Oss", "1897")]
    (tmp_path / "a.jsonl").write_text((json.dumps({"text": TEXT, "spans": spans}) + "\n") * 20)
    return {"rule": str(tmp_path / "a.txt"), "marked": str(tmp_path / "a.jsonl")}


def hidden_texts(tokenizer, batch):
    """The spans of the targets as text."""
    texts = []
    for row in batch["targets"]:
        parts = np.split(row, np.flatnonzero(np.isin(row, tokenizer.sentinels)))[1:]
        texts.append([tokenizer.decode(part[1:]) for part in parts])
    return texts


@pytest.mark.parametrize("kind, known", [("rule", NAMES), ("marked", {"Oss", "1897"})])
def test_salient_rows_hide_whole_names_and_dates(tokenizer, sources, kind, known):
    config = PretrainSpansSettings(
        salient_share=0.5, salient_spans=kind, salient_rate=1.0, input_length=48, batch_size=8, seed=3
    )
    data = SpanCorruptionData(config, tokenizer, sources[kind])
    batch = data.build(np.arange(8) % data.size, slice(0, 8), 0)
    hidden = hidden_texts(tokenizer, batch)
    salient, random = hidden[:4], hidden[4:]
    for row in salient:
        assert row and set(row[1:-1]) <= known  # at the borders of a window a name may be cut
        assert any(text in known for text in row)
    assert not any(set(row) <= known for row in random)
    sources_again = reassemble(batch["inputs"], batch["targets"], sentinels=tokenizer.sentinels)
    assert [row.tolist() for row in sources_again] == data.tokens[np.arange(8) % data.size].tolist()


def test_there_are_never_more_spans_than_sentinels(tmp_path, tokenizer):
    (tmp_path / "a.txt").write_text("in 5 of 7 x 3 y " * 200)
    few = SentencePieceTokenizer(local_path("tiny_world:vocabulary.model"), extra_ids=9)
    config = PretrainSpansSettings(
        salient_share=1.0, salient_spans="rule", salient_rate=1.0, input_length=60, batch_size=8
    )
    data = SpanCorruptionData(config, few, str(tmp_path / "a.txt"))
    for step in range(5):
        targets = data.build(np.arange(8), slice(0, 8), step)["targets"]
        assert (np.isin(targets, few.sentinels).sum(axis=1) == 9).all()


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"salient_spans": "rule"}, "--salient-spans rule wants a --salient-share"),
        ({"salient_spans": "rules", "salient_share": 0.5}, "--salient-spans is 'rules': known are marked, rule"),
        ({"optimizer": "adam"}, "--optimizer is 'adam': known are adamw, adafactor"),
        ({"mean_span_length": 0.5}, "--mean-span-length is 0.5: it has to be at least 1"),
        ({"input_length": 2}, "--input-length is 2: it has to be at least 3"),
        ({"seed": 2**32}, "--seed is 4294967296: it has to be at most 4294967295"),
        ({"steps": 10**400}, "--steps is 10+: it has to be at most 2147483647"),
        ({"salient_share": 0.05, "batch_size": 8}, "--salient-share 0.05 of --batch-size 8 is not one row"),
        ({"questions_share": 0.007}, "--questions-share 0.007 of --batch-size 64 is not one row: give a larger share"),
        ({"relative_bias_rate": -7.0}, "--relative-bias-rate is -7.0: it has to be above 0"),
        ({"relative_bias_rate": math.inf}, "--relative-bias-rate is inf: it has to be above 0"),
    ],
)
def test_what_cannot_be_meant_is_refused(changes, message):
    with pytest.raises(UserError, match=message):  # no PretrainSpansSettings: the tests check its types as well
        check_settings(SimpleNamespace(**{**vars(PretrainSpansSettings()), **changes}))


def test_no_answer_of_the_questions_is_cut(tmp_path, tokenizer, sources):
    answer = " ".join(["harps"] * 40)
    (tmp_path / "q.jsonl").write_text(json.dumps({"question": "What does Mira tune?", "answer": answer}) + "\n")
    config = PretrainSpansSettings(
        questions=str(tmp_path / "q.jsonl"), questions_share=0.5, input_length=48, batch_size=8
    )
    data = SpanCorruptionData(config, tokenizer, sources["rule"])
    assert "none cut to the target length" in data.questions.report()
    batch = data.build(np.arange(8) % data.size, slice(0, 8), 0)
    assert [tokenizer.decode(row[row > 1].tolist()) for row in batch["targets"][:4]] == [answer] * 4
