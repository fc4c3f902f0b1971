"""Valid files, damaged at random: what reads them returns a value or raises a UserError of one line, and soon.

Seconds here. For minutes, with other damage each time: python -m pytest tests/test_fuzz.py --hypothesis-profile search
(WordPiece is compared with the `tokenizers` library on any text in text/test_wordpiece.py.)
"""

import copy
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tlqa_jax.checkpoints.load import load
from tlqa_jax.checkpoints.tokenizer_files import read_tokenizer
from tlqa_jax.checkpoints.weights import read_safetensors
from tlqa_jax.data.sources import open_labelled_texts, open_marked_texts, open_questions, open_texts
from tlqa_jax.errors import UserError
from tlqa_jax.examples import QAExample
from tlqa_jax.metrics.squad import read_predictions
from tlqa_jax.tasks.task_rows import read_examples
from tlqa_jax.tasks.text_tasks import TextTask, read_task
from tlqa_jax.text.sentencepiece import SentencePieceTokenizer
from tlqa_jax.text.wordpiece import SPECIALS, WordPieceTokenizer

SECONDS = 5  # of CPU for one file, most of which have less than 1 KB
CONTEXT = "Ilka, a glazier from Tarn, is 40."
ROWS = [
    {"id": "q1", "question": "Where from?", "context": CONTEXT, "answers": {"text": ["Tarn"], "answer_start": [21]}},
    {"id": "q2", "question": "Who?", "context": None, "answer": "Ilka", "is_impossible": False, "title": "Tarn"},
]
QAS = [{"id": "q1", "question": "Where?", "answers": [{"text": "Tarn", "answer_start": 21}], "is_impossible": False}]
SQUAD = {"version": "1.1", "data": [{"title": "t", "paragraphs": [{"context": CONTEXT, "qas": QAS}]}]}
CELLS = 'id,question,context,answers,answer_start\nq1,"Where, from?",Tarn.,"[""Tarn""]",[0]\nq2,Who?,,Ilka,\n'
LABELLED = [{"text": "bright", "label": 1}, {"text": "dull", "label": "no"}, {"text": "so-so", "label": True}]
MARKED = [{"text": "Mira left Oss.", "spans": [[0, 4], [10, 13]]}]
TASK = {
    "name": "boolq", "input": "boolq: {q} {text}", "target": "label", "labels": {"true": "yes", "1": "no"},
    "step": None, "metrics": ["accuracy"], "whole": False, "questions": False, "other_names": {"q": ["text"]},
    "train": "a.jsonl",
}  # fmt: skip
USAGE = {"input_length": 8, "stride": 2, "no_answer_threshold": 0.5, "answers": True, "dtype": "auto"}
USAGE["tasks"] = {"t": TASK}
BERT = {
    "model_type": "bert", "architectures": ["BertForSequenceClassification"], "vocab_size": 13, "hidden_size": 6,
    "num_hidden_layers": 1, "num_attention_heads": 3, "intermediate_size": 11, "max_position_embeddings": 9,
    "hidden_act": "gelu", "hidden_dropout_prob": 0.1, "id2label": {"0": "no", "1": "yes"}, "pad_token_id": 0,
    "task_specific_params": {"tlqa": USAGE},
}  # fmt: skip
T5 = {
    "model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "vocab_size": 13, "d_model": 6, "d_kv": 5,
    "d_ff": 11, "num_layers": 1, "num_heads": 3, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False,
    "pad_token_id": 0, "eos_token_id": 1, "dropout_rate": 0.1, "task_specific_params": {"tlqa": USAGE},
}  # fmt: skip
WORDPIECE = {
    "normalizer": {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "lowercase": True,
                   "strip_accents": None},
    "pre_tokenizer": {"type": "BertPreTokenizer"}, "post_processor": None,
    "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
              "max_input_chars_per_word": 100, "vocab": {**{name: id for id, name in enumerate(SPECIALS)}, "##b": 5}},
    "added_tokens": [{"id": id, "content": piece, "special": True} for id, piece in enumerate(SPECIALS)],
}  # fmt: skip
UNIGRAM = {
    "normalizer": None, "pre_tokenizer": {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": "always"},
    "model": {"type": "Unigram", "unk_id": 2, "vocab": [["<pad>", 0.0], ["</s>", 0.0], ["<unk>", 0.0], ["\u2581", -1.5],
                                                        ["a", -2.5], ["<extra_id_0>", 0.0]]},
    "added_tokens": [{"id": 5, "content": "<extra_id_0>", "special": True}],
}  # fmt: skip
HEADER = {
    "__metadata__": {"format": "pt"}, "a": {"dtype": "F32", "shape": [2, 1], "data_offsets": [0, 8]},
    "b": {"dtype": "BF16", "shape": [3], "data_offsets": [8, 14]},
}  # fmt: skip


def as_lines(rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows) if isinstance(rows, list) else json.dumps(rows)


def as_safetensors(header: Any) -> bytes:
    written = json.dumps(header).encode()
    return len(written).to_bytes(8, "little") + written + np.arange(14, dtype=np.uint8).tobytes()


class Kind(NamedTuple):
    """A file: its name, its values, how they are written, and what reads them."""

    name: str
    values: Any
    write: Callable[[Any], str | bytes]
    read: Callable[[Path], Any]


def questions(path: Path) -> list[QAExample]:
    """`open_questions`, and what each of them promises."""
    examples = open_questions(path)
    assert examples and len({example.id for example in examples}) == len(examples)
    for example in examples:
        json.dumps(vars(example), ensure_ascii=False).encode()
        assert example.question.strip() and all(answer.strip() for answer in example.answers)
        for answer, start in zip(example.answers, example.answer_starts):
            assert example.context[start : start + len(answer)] == answer
    return examples


def of_task(path: Path) -> list:
    return read_examples(TextTask("t", "{q}: {text}", "label", other_names={"q": ("text",)}), path)


def vocabulary(kind: type) -> Callable[[Path], int]:
    return lambda path: read_tokenizer(path.parent, kind).vocab_size


def shapes(path: Path) -> dict[str, tuple[int, ...]]:
    return {name: array.shape for name, array in read_safetensors(path).items()}


KINDS = {
    "SQuAD": Kind("squad.json", SQUAD, json.dumps, questions),
    "rows of questions": Kind("a.jsonl", ROWS, as_lines, questions),
    "list of questions": Kind("a.json", ROWS, json.dumps, questions),
    "CSV": Kind("a.csv", CELLS, str, questions),
    "TSV": Kind("a.tsv", "text\tlabel\nbright\t1\n\"du\"\"ll\"\tno\n", str, open_labelled_texts),
    "texts": Kind("a.txt", "One mill.\nOld\n\nTwo é 町.\n", str, lambda path: list(open_texts(path))),
    "rows of texts": Kind("a.jsonl", LABELLED, as_lines, lambda path: list(open_texts(path))),
    "labelled texts": Kind("a.jsonl", LABELLED, as_lines, open_labelled_texts),
    "marked texts": Kind("a.jsonl", MARKED, as_lines, lambda path: list(open_marked_texts(path))),
    "rows of a task": Kind("a.jsonl", LABELLED, as_lines, of_task),
    "task": Kind("task.json", TASK, json.dumps, lambda path: read_task(path).fields),
    "predictions": Kind("p.json", {"q1": "Tarn", "q2": ""}, json.dumps, read_predictions),
    "BERT's config": Kind("config.json", BERT, json.dumps, lambda path: load(path.parent)),
    "T5's config": Kind("config.json", T5, json.dumps, lambda path: load(path.parent)),
    "WordPiece": Kind("tokenizer.json", WORDPIECE, json.dumps, vocabulary(WordPieceTokenizer)),
    "Unigram": Kind("tokenizer.json", UNIGRAM, json.dumps, vocabulary(SentencePieceTokenizer)),
    "safetensors": Kind("model.safetensors", HEADER, as_safetensors, shapes),
}  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    """A directory for each kind of file: what is read from it may depend on other files there."""
    return {name: tmp_path_factory.mktemp("fuzz") for name in KINDS}


def read(kind: Kind, folder: Path, content: bytes) -> Any:
    """What `kind.read` returns; None for a UserError of one line."""
    (folder / kind.name).write_bytes(content)
    start = time.process_time()
    try:
        value = kind.read(folder / kind.name)
    except UserError as error:
        assert str(error).isprintable() and len(str(error)) < 1010
        value = None
    assert time.process_time() - start < SECONDS
    return value


def written(kind: Kind, values: Any) -> bytes:
    content = kind.write(values)
    return content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass")


@pytest.mark.parametrize("name", KINDS)
def test_as_they_are(folders, name):
    assert read(KINDS[name], folders[name], written(KINDS[name], KINDS[name].values)) is not None


# bytes ----------------------------------------------------------------------------------------------------------------

MARKS = [
    b'"', b"'", b"{", b"}", b"[", b"]", b",", b":", b"\n", b"\r", b"\r\n\n", b"\t", b"\\", b"\\ud83d", b"\\u0000",
    b"\0", b"\xff", b"\xc3", b"\xef\xbb\xbf", b"\xed\xa0\xbd", b"\xff\xfe", b"\x1f\x8b\x08", b"null", b"NaN", b"-1",
    b"1e999", b"9" * 30, b"1" * 5000, b"[" * 3000, b'{"a":' * 3000, b"\xe2\x80\xa8", b"<extra_id_0>",
]  # fmt: skip
EDITS = st.lists(
    st.tuples(st.integers(0, 2**16), st.integers(0, 30), st.sampled_from(MARKS) | st.binary(max_size=5)),
    min_size=1, max_size=4,
)  # fmt: skip


@pytest.mark.parametrize("name", KINDS)
@given(edits=EDITS)
def test_changed_bytes(folders, name, edits):
    """In some places bytes are taken out and others put in."""
    kind = KINDS[name]
    content = written(kind, kind.values)
    for place, removed, new in edits:
        place %= len(content) + 1
        content = content[:place] + new + content[place + removed :]
    read(kind, folders[name], content)


# values ---------------------------------------------------------------------------------------------------------------

DEEP, DIGITS = "<deep>", "<digits>"  # too deep and too long for `json.dumps`
VALUES = st.sampled_from([
    None, True, False, 0, 1, -1, 2, 7, 1.5, -0.0, 1e308, 10**30, 2**31, 2**63, float("nan"), float("inf"), "", " ", "a",
    "0", "true", "\ud83d", "\0", "a\nb", "{", "{}", "{a.b}", "{0!r:>9}", "[", "label", "F8_E4M3", "I64", [], [[]], [None],
    [0], [-1, 5], ["a", 5], {}, {"": None}, {"a": {"a": []}}, {"text": [], "answer_start": [0]},
    [{"text": "Ilka", "answer_start": 0}], DEEP, DIGITS,
]) | st.text(max_size=3)  # fmt: skip
CHANGES = st.lists(st.tuples(st.integers(0, 2**16), st.sampled_from(("put", "drop", "double", "rename")), VALUES),
                   min_size=1, max_size=3)  # fmt: skip


def places(value: Any) -> list[tuple[Any, Any]]:
    """(the list or object, the index or key) of each value inside of this one."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [found for key, inner in items for found in ((value, key), *places(inner))]


def change(values: Any, changes: list[tuple[int, str, Any]]) -> Any:
    """Of some values: another in its place, none, twice the same, or under another name."""
    root = [copy.deepcopy(values)]
    for place, how, new in changes:
        found = places(root)
        holder, key = found[place % len(found)]
        if how == "put" or holder is root:
            holder[key] = copy.deepcopy(new)
        elif how == "double" and isinstance(holder, list):
            holder.append(copy.deepcopy(holder[key]))
        else:
            value = holder.pop(key)
            if how != "drop" and isinstance(holder, dict):
                holder[str(new)] = value
    return root[0]


@pytest.mark.parametrize("name", [name for name, kind in KINDS.items() if not isinstance(kind.values, str)])
@given(changes=CHANGES)
def test_changed_values(folders, name, changes):
    """The file is valid JSON still, with other values."""
    kind = KINDS[name]
    content = written(kind, change(kind.values, changes))
    for mark, text in ((DEEP, b"[" * 3000 + b"]" * 3000), (DIGITS, b"1" * 5000)):
        content = content.replace(json.dumps(mark).encode(), text)
    read(kind, folders[name], content)
