"""The rows of span-corruption pretraining: a function of seed and step; salient spans by rule or mark; questions."""

import json

import numpy as np
import pytest

from tlqa_jax.data.sources import local_path
from tlqa_jax.errors import UserError
from tlqa_jax.tasks.span_corruption import reassemble
from tlqa_jax.tasks.span_corruption_rows import SpanCorruptionRows
from tlqa_jax.text.sentencepiece import SentencePieceTokenizer

TEXT = (
    "Nobody knew that Mira Voss was born in Oss. "
    "She tuned harps in 1897, and her sister left on 3 May 1901 at last. "
)
NAMES = {"Mira Voss", "Oss", "1897", "3 May 1901"}
TOKENIZER = SentencePieceTokenizer(local_path("tiny_world:vocabulary.model"))


@pytest.fixture
def sources(tmp_path):
    (tmp_path / "a.txt").write_text("\n\n".join([TEXT] * 20))
    spans = [[TEXT.index(name), TEXT.index(name) + len(name)] for name in ("Oss", "1897")]
    (tmp_path / "a.jsonl").write_text((json.dumps({"text": TEXT, "spans": spans}) + "\n") * 20)
    return {"rule": str(tmp_path / "a.txt"), "marked": str(tmp_path / "a.jsonl")}


def rows(texts: str, tokenizer=TOKENIZER, **changes) -> SpanCorruptionRows:
    return SpanCorruptionRows(texts, tokenizer, **{"input_length": 48, "batch_size": 8, "seed": 3, **changes})


def batch(data: SpanCorruptionRows, step: int = 0) -> dict[str, np.ndarray]:
    return data.build(np.arange(8) % data.size, slice(0, 8), step)


def masked_texts(inputs_and_targets) -> list[list[str]]:
    """The spans of the targets as text."""
    texts = []
    for row in inputs_and_targets["targets"]:
        parts = np.split(row, np.flatnonzero(np.isin(row, TOKENIZER.sentinels)))[1:]
        texts.append([TOKENIZER.decode(part[1:]) for part in parts])
    return texts


@pytest.mark.parametrize("kind, known", [("rule", NAMES), ("marked", {"Oss", "1897"})])
def test_salient_rows_mask_whole_names_and_dates(sources, kind, known):
    data = rows(sources[kind], salient_share=0.5, salient_spans=kind, salient_rate=1.0)
    built = batch(data)
    masked = masked_texts(built)
    salient, random = masked[:4], masked[4:]
    for row in salient:
        assert row and set(row[1:-1]) <= known  # at the borders of a window a name may be cut
        assert any(text in known for text in row)
    assert not any(set(row) <= known for row in random)
    sources_again = reassemble(built["inputs"], built["targets"], sentinels=TOKENIZER.sentinels)
    assert [row.tolist() for row in sources_again] == data.tokens[np.arange(8) % data.size].tolist()


def test_there_are_never_more_spans_than_sentinels(tmp_path):
    (tmp_path / "a.txt").write_text("in 5 of 7 x 3 y " * 200)
    few = SentencePieceTokenizer(local_path("tiny_world:vocabulary.model"), extra_ids=9)
    salient = dict(salient_share=1.0, salient_spans="rule", salient_rate=1.0)
    data = rows(str(tmp_path / "a.txt"), few, input_length=60, **salient)
    for step in range(5):
        assert (np.isin(batch(data, step)["targets"], few.sentinels).sum(axis=1) == 9).all()
    with pytest.raises(UserError, match="--input-length 300 needs 17 sentinels, the vocabulary has 9"):
        rows(str(tmp_path / "a.txt"), few, input_length=300)


def test_no_answer_of_the_questions_is_cut(tmp_path, sources):
    answer = " ".join(["harps"] * 40)
    (tmp_path / "q.jsonl").write_text(json.dumps({"question": "What does Mira tune?", "answer": answer}) + "\n")
    data = rows(sources["rule"], questions=str(tmp_path / "q.jsonl"), questions_share=0.5)
    assert "none cut to the target length" in data.questions.report() and "questions: " in data.report()[1]
    targets = batch(data)["targets"][:4]
    assert [TOKENIZER.decode(row[row > 1].tolist()) for row in targets] == [answer] * 4


def test_rows_depend_on_seed_and_step_alone(sources, tmp_path):
    questions = [json.dumps({"question": f"{n}?", "answer": f"{n}"}) + "\n" for n in range(9)]
    (tmp_path / "q.jsonl").write_text("".join(questions))
    asked = dict(questions=str(tmp_path / "q.jsonl"), questions_share=0.25)
    data = rows(sources["marked"], batch_size=16, salient_share=0.25, **asked)
    indices = np.arange(16) % data.size
    whole = data.build(indices, slice(0, 16), 5)
    halves = [data.build(indices[part], part, 5) for part in (slice(0, 8), slice(8, 16))]
    for name in whole:
        assert np.array_equal(whole[name], np.concatenate([half[name] for half in halves]))
    assert not np.array_equal(whole["inputs"], data.build(indices, slice(0, 16), 6)["inputs"])
    other = rows(sources["marked"], batch_size=16, salient_share=0.25, seed=4, **asked)
    assert not np.array_equal(whole["inputs"], other.build(indices, slice(0, 16), 5)["inputs"])
    assert ((whole["inputs"] == 1).sum(1) == 1).all() and ((whole["targets"] == 1).sum(1) == 1).all()  # one end each
    evaluated = data.build_evaluation(indices, slice(0, 16), 0)
    alone = [data.build_evaluation(np.array([index]), slice(0, 1), 7) for index in indices]
    assert np.array_equal(evaluated["inputs"], np.concatenate([row["inputs"] for row in alone]))


def test_salient_spans_of_the_first_tokens(tmp_path):
    sentences = ["Mira Voss tunes harps in Oss.", "Her sister left in 1901.", "Nobody knew why."]
    texts = [" ".join(sentences[: 1 + n % 3]) for n in range(60)]
    lines = [json.dumps({"body": text, "spans": [[0, 9], [24, 28]]}) for text in texts]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    first = sum(TOKENIZER.encode_batch(texts), [])[:200]
    for kind in ("marked", "rule"):
        data = rows(
            str(tmp_path / "a.jsonl"), text_field="body", max_tokens=200, input_length=16, salient_share=0.5,
            salient_spans=kind,
        )  # fmt: skip
        assert data.tokens.ravel().tolist() == first[: data.tokens.size] and data.tokens.size > 200 - 20
        assert data.spans.any()
    with pytest.raises(UserError, match="has 5 tokens, fewer than one window of"):
        rows(str(tmp_path / "a.jsonl"), text_field="body", max_tokens=5)
