"""What people have, in one table: a file or a setting, the function that reads it, and the right value or the one line.

A right value is a value. A line of error is `Line("a part of it")`: the whole is one line of a UserError.
"""

import json
import os
import subprocess
import sys
from typing import NamedTuple

import pytest

from tlqa_jax import cli
from tlqa_jax.checkpoints.family import load_sizes
from tlqa_jax.checkpoints.load import load
from tlqa_jax.checkpoints.run_record import check_run, start_run
from tlqa_jax.checkpoints.weights import read_safetensors
from tlqa_jax.commands.generating import as_json
from tlqa_jax.data.sources import open_labelled_texts, open_marked_texts, open_questions, open_texts
from tlqa_jax.errors import UserError
from tlqa_jax.flags import terminal_width
from tlqa_jax.metrics.squad import read_predictions
from tlqa_jax.models.bert import BertConfig
from tlqa_jax.tasks.task_rows import read_examples
from tlqa_jax.tasks.text_tasks import TextTask, read_task
from tlqa_jax.text.sentencepiece import SentencePieceTokenizer
from tlqa_jax.training.initial_model import sizes_in_file
from tlqa_jax.training.memory import check_memory


class Line(NamedTuple):
    """A part of the one line of a UserError."""

    part: str


def check(function, expected):
    if not isinstance(expected, Line):
        assert function() == expected
        return
    with pytest.raises(UserError) as error:
        function()
    assert expected.part in str(error.value)
    assert "\n" not in str(error.value) and len(str(error.value)) < 600


def table(*cases):
    return pytest.mark.parametrize(("name", "content", "expected"), cases, ids=range(len(cases)))


def write(folder, name: str, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


CONTEXT = "Ilka, a glazier from Tarn, is 40."
ROW = {"id": "q1", "question": "Where from?", "context": CONTEXT, "answers": {"text": ["Tarn"], "answer_start": [21]}}
ONE = [("q1", ("Tarn",))]
MARK = "\ufeff"  # byte-order mark
DEEP = "[" * 100_000 + "]" * 100_000
DIGITS = "1" * 5000
HALF = "a\ud83d"  # half of a surrogate pair


def lines(*rows) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def without(*names, **changes) -> dict:
    return {name: value for name, value in {**ROW, **changes}.items() if name not in names}


def squad(title="t", **changes) -> dict:
    qa = {"id": "q1", "question": "Where from?", "answers": [{"text": "Tarn", "answer_start": 21}], **changes}
    return {"version": "1.1", "data": [{"title": title, "paragraphs": [{"context": CONTEXT, "qas": [qa]}]}]}


def cells(answers: str, start: str = "", mark: str = ",") -> str:
    quoted = '"' + answers.replace('"', '""') + '"'
    return mark.join(["id", "question", "answers", "answer_start"]) + "\n" + mark.join(["q1", "Where?", quoted, start])


# questions ------------------------------------------------------------------------------------------------------------

TEN = {"text": ["Tarn"], "answer_start": [10]}
TRIVIA = {"value": "Tarn", "aliases": ["Tarn", "Tarn town"], "normalized_aliases": ["tarn"], "type": "WikipediaEntity"}
QUESTIONS = [
    ("a.jsonl", lines(ROW), ONE),
    ("a.jsonl", MARK + lines(ROW), ONE),
    ("a.jsonl", "\n\n" + lines(ROW) + "\n", ONE),
    ("a.jsonl", lines(ROW).replace("\n", "\r\n"), ONE),
    ("a.json", lines(ROW), ONE),
    ("a.json", "\n" + lines(ROW), ONE),
    ("a.json", " \r\n\n" + lines(ROW, without(id="q2")), [*ONE, ("q2", ("Tarn",))]),
    ("a.json", lines(without(data="x")), ONE),
    ("a.json", lines(without(data=[1]), without(id="q2", data=[])), [*ONE, ("q2", ("Tarn",))]),
    ("a.json", json.dumps([ROW]), ONE),
    ("a.json", json.dumps([ROW], indent=1), ONE),
    ("a.json", json.dumps(ROW, indent=1), ONE),
    ("a.json", json.dumps(squad()), ONE),
    ("a.json", MARK + json.dumps(squad(), indent=1), ONE),
    ("a.json", "\n" + json.dumps(squad()), ONE),
    ("a.json", json.dumps({"version": "0.1.0", "data": [ROW]}), ONE),  # run_qa.py's
    ("a.json", json.dumps({"data": [ROW, without(id="q2")]}, indent=1), [*ONE, ("q2", ("Tarn",))]),
    ("a.json", "\n" + json.dumps({"data": [ROW]}), ONE),
    ("a.json", json.dumps({"data": []}), Line("holds no questions")),
    ("a.json", json.dumps({"data": [5]}), Line('"data" 1 is a number (5), not an object')),
    ("a.json", json.dumps({"data": 5}), Line('"data" is a number (5), not a list')),
    ("a.json", json.dumps({"data": [ROW, 5]}), Line("record 2 is a number (5), not an object")),
    ("a.json", json.dumps({"data": [{"paragraphs": []}, 5]}), Line('"data" 2 is a number (5)')),
    ("a.json", json.dumps({"data": [{"paragraphs": []}, ROW]}), Line('article 2: no field "paragraphs"')),
    *[("a.json", json.dumps(squad(title)), ONE) for title in (None, 7, 1.5, True, [], "t")],
    ("a.json", json.dumps(squad(id=7)), [("7", ("Tarn",))]),
    ("a.json", json.dumps(squad(id=None)), Line('"id" is null, not text')),
    ("a.json", json.dumps(squad(id=HALF)), Line('"id" has half of a surrogate pair')),
    ("a.json", "", Line("is empty")),
    ("a.json", "\n \n", Line("malformed JSON")),
    ("a.json", DEEP, Line("brackets nested too deeply")),
    ("a.json", DIGITS, Line("a number has more than 4,300 digits")),
    ("a.jsonl", '{"id": ' + DIGITS + "}", Line("line 1: a number has more than 4,300 digits")),
    ("a.jsonl", '{"id": ' + DEEP + "}", Line("line 1: malformed JSON: brackets nested too deeply")),
    ("a.jsonl", lines(without(id=HALF)), Line('line 1: "id" has half of a surrogate pair')),
    ("a.jsonl", lines(without(question=HALF)), Line('"question" has half of a surrogate pair')),
    ("a.jsonl", lines(without(context=HALF)), Line('"context" has half of a surrogate pair')),
    ("a.jsonl", lines(without("id", question_id="t1")), [("t1", ("Tarn",))]),
    ("a.jsonl", lines(without("id")), [("a.jsonl:1", ("Tarn",))]),
    ("a.jsonl", lines(without("answers", answer=TRIVIA)), [("q1", ("Tarn", "Tarn town"))]),
    ("a.jsonl", lines(without("answers", answer={**TRIVIA, "aliases": 5})), Line('"aliases" is a number (5)')),
    ("a.jsonl", lines(without("answers", answer={**TRIVIA, "value": ""})), Line("is empty")),
    ("a.jsonl", lines(without("question", "answers", qas=[])), Line("these are MRQA's or KorQuAD 2's rows")),
    ("a.jsonl", lines({"header": {"dataset": "x"}}, {"context": "", "qas": []}), Line("these are MRQA's rows")),
    ("a.json", json.dumps({"data": [{"raw_html": "<p>", "qas": []}]}), Line("these are KorQuAD 2's rows")),
    ("a.json", json.dumps({"Data": [], "Domain": "Web"}), Line("these are TriviaQA's original rows")),
    ("a.json", json.dumps({"data": [{"story": "", "questions": []}]}), Line("these are CoQA's rows")),
    ("a.jsonl", lines({"annotations": [], "document_html": ""}), Line("these are Natural Questions' rows")),
    ("a.jsonl", lines({"query": "", "passages": {}}), Line("these are MS MARCO's rows")),
    ("a.jsonl", lines(without(answers=TEN)), Line("it stands at 21")),
    ("a.jsonl", lines(without(answers={"text": [""], "answer_start": [-1]})), Line("is empty")),
    ("a.csv", cells("['Tarn', 'Tarn town']"), [("q1", ("Tarn", "Tarn town"))]),  # as pandas writes it
    ("a.csv", cells('["Tarn", "Tarn town"]'), [("q1", ("Tarn", "Tarn town"))]),
    ("a.csv", cells("""["Tarn's", 'Tarn']"""), [("q1", ("Tarn's", "Tarn"))]),
    ("a.csv", cells("[]"), [("q1", ())]),
    ("a.csv", cells("{'text': [], 'answer_start': []}"), [("q1", ())]),  # as `datasets` writes it
    ("a.csv", cells('{"text": ["Tarn"], "answer_start": []}'), ONE),
    ("a.csv", cells("[sic] Tarn"), [("q1", ("[sic] Tarn",))]),
    ("a.csv", cells("[Tarn]"), [("q1", ("[Tarn]",))]),
    ("a.csv", cells("{Tarn}"), [("q1", ("{Tarn}",))]),
    ("a.csv", cells("Tarn"), ONE),
    ("a.csv", cells("['Tarn' 'Tarn town']"), Line("write it as JSON")),  # as numpy prints it
    ("a.csv", cells("{'text': array(['Tarn'], dtype=object), 'answer_start': []}"), Line("write it as JSON")),
    ("a.csv", cells("['Tarn'"), Line("write it as JSON")),
    ("a.csv", cells("[" * 10_000), Line("write it as JSON")),
    ("a.csv", cells("['" + "x" * 5000), Line("write it as JSON")),
    ("a.csv", cells("__import__('os').getcwd()"), [("q1", ("__import__('os').getcwd()",))]),
    ("a.csv", '"id\n",question\nq1,a,b', Line("the first row names 2 (id, question)")),
    ("a.csv", '"i\nd",question\nq1,a,b', Line(r"the first row names 2 (i\nd, question)")),
    ("a.tsv", cells("Tarn", mark="\t"), ONE),
    ("a.tsv", MARK + cells("['Tarn']", mark="\t"), ONE),
    ("a.tsv", "id\tquestion\nq1", Line("put cells with tabs in quotes")),
    ("a.tsv", 'id\tquestion\nq1\t"Where" from?', Line("malformed TSV")),
]  # fmt: skip


@table(*QUESTIONS)
def test_questions(name, content, expected, tmp_path):
    path = write(tmp_path, name, content)
    check(lambda: [(example.id, example.answers) for example in open_questions(path)], expected)


GOLD_NOT_NEEDED = [
    {"text": ["Tarn"], "answer_start": [0]}, {"text": [""], "answer_start": [-1]}, {"text": "", "answer_start": 5},
    "", 5, None, [], [5], [None], [""], [{}], {}, True, [{"text": "Oss", "answer_start": 3}], {"aliases": 5}, HALF,
]  # fmt: skip


@pytest.mark.parametrize("gold", GOLD_NOT_NEEDED, ids=range(len(GOLD_NOT_NEEDED)))
def test_gold_answers_are_not_looked_at_where_they_are_not_needed(gold, tmp_path):
    path = write(tmp_path, "a.jsonl", lines({**ROW, "answers": gold, "is_impossible": "perhaps"}))
    [example] = open_questions(path, require_answers=False)
    assert (example.id, example.answers, example.answer_starts, example.context) == ("q1", (), (), CONTEXT)


# texts, labels, spans -------------------------------------------------------------------------------------------------


@table(
    ("a.json", "\n" + lines({"data": "one"}, {"data": "two"}), ["one", "two"]),
    ("a.jsonl", lines({"data": "one"}), ["one"]),
    ("a.json", lines({"data": "one"}), ["one"]),
    ("a.tsv", "data\tother\none, two\t3\n", ["one, two"]),
    ("a.csv", 'data\n"[\'one\']"\n', ["['one']"]),  # a text stays a text
    ("a.json", json.dumps({"data": [{"data": "one"}]}), ["one"]),
    ("a.json", json.dumps({"data": ["one"]}), Line('"data" 1 is text')),
    ("a.txt", MARK + "one\n\ntwo\n", ["one", "two"]),
    ("a.txt", b"\xff\xfeo\x00", Line("it looks like UTF-16")),
    ("a.xml", "<a>", Line("a .xml file cannot be read here")),
)
def test_texts(name, content, expected, tmp_path):
    path = write(tmp_path, name, content)
    check(lambda: list(open_texts(path, field="data")), expected)


@table(
    ("a.jsonl", lines({"text": "x", "label": True}, {"text": "y", "label": False}), ["true", "false"]),
    ("a.json", json.dumps([{"text": "x", "label": 1}]), ["1"]),
    ("a.tsv", "text\tlabel\nbright\t1\ndull\t0\n", ["1", "0"]),
    ("a.tsv", 'text\tlabel\n"a ""b"" c"\tx\n', ["x"]),
    ("a.jsonl", lines({"text": "x", "label": " a "}), ["a"]),
    ("a.jsonl", lines({"text": "x", "label": 1.5}), Line('"label" is a number (1.5), not text or a whole')),
    ("a.jsonl", lines({"text": "x", "label": None}), Line('"label" is null')),
    ("a.jsonl", lines({"text": "x", "label": HALF}), Line('"label" has half of a surrogate pair')),
    ("a.jsonl", lines({"text": HALF, "label": "a"}), Line('"text" has half of a surrogate pair')),
    ("a.jsonl", lines({"text": "x", "label": ""}), Line('"label" is empty')),
)
def test_labels(name, content, expected, tmp_path):
    path = write(tmp_path, name, content)
    check(lambda: [example.label for example in open_labelled_texts(path)], expected)


@table(
    ("a.json", "\n" + lines({"text": "Oss", "spans": [[0, 3]]}), [((0, 3),)]),
    ("a.json", json.dumps({"data": [{"text": "Oss", "spans": [[0, 3]]}]}), [((0, 3),)]),
    ("a.tsv", "text\tspans\n", Line("only .jsonl and .json files have")),
    ("a.jsonl", lines({"text": "Oss", "spans": [[True, 3]]}), Line("not [start, end]")),
)
def test_spans(name, content, expected, tmp_path):
    path = write(tmp_path, name, content)
    check(lambda: [marked.spans for marked in open_marked_texts(path)], expected)


# predictions and tasks ------------------------------------------------------------------------------------------------


@table(
    ("p.json", '{"1": "Tarn"}', {"1": "Tarn"}),
    ("p.json", MARK + '{"1": "Tarn"}', {"1": "Tarn"}),
    ("p.json", "", Line("malformed JSON")),
    ("p.json", DEEP, Line("brackets nested too deeply")),
    ("p.json", '{"1": ' + DIGITS + "}", Line("a number has more than 4,300 digits")),
    ("p.json", "[]", Line("is not a file of predictions")),
    ("p.json", '{"1": null}', Line("the prediction for '1' is null, not text")),
    ("p.json", b'{"1": "\xff"}', Line("is not UTF-8: byte 0xff at offset 7")),
)
def test_predictions(name, content, expected, tmp_path):
    path = write(tmp_path, name, content)
    check(lambda: read_predictions(path), expected)


TASK = {"name": "boolq", "input": "{q}", "target": "answer", "labels": {"true": "yes", "false": "no"}}


@table(
    ("t.json", json.dumps(TASK), "boolq"),
    ("t.json", MARK + json.dumps(TASK), "boolq"),
    ("t.json", DEEP, Line("brackets nested too deeply")),
    ("t.json", '{"step": ' + DIGITS + "}", Line("a number has more than 4,300 digits")),
    ("t.json", "[]", Line("a task is a JSON object")),
    ("t.json", "{", Line("malformed JSON at column 2")),
    ("t.json", json.dumps(TASK | {"labels": {"true": True}}), Line('"labels" is')),
    ("t.json", b"\xff", Line("is not UTF-8")),
)
def test_task_records(name, content, expected, tmp_path):
    path = write(tmp_path, name, content)
    check(lambda: read_task(path).name, expected)


@table(
    ("a.jsonl", lines({"q": "x", "answer": True}, {"q": True, "answer": False}), [("x", "yes"), ("true", "no")]),
    ("a.jsonl", lines({"q": "x", "answer": "true"}), [("x", "yes")]),
    ("a.jsonl", lines({"q": "x", "answer": 1}), Line("\"answer\" is '1'; task boolq knows true, false")),
    ("a.jsonl", lines({"q": [], "answer": True}), Line('"q" is []: task boolq needs a text or a number')),
    ("a.tsv", "q\tanswer\nx\ttrue\n", [("x", "yes")]),
)
def test_rows_of_a_task(name, content, expected, tmp_path):
    path = write(tmp_path, name, content)
    check(lambda: [(one.input, one.target) for one in read_examples(TextTask(**TASK), path)], expected)


# config.json ----------------------------------------------------------------------------------------------------------

BERT = {
    "model_type": "bert", "architectures": ["BertForQuestionAnswering"], "vocab_size": 13, "hidden_size": 6,
    "num_hidden_layers": 1, "num_attention_heads": 3, "intermediate_size": 11, "max_position_embeddings": 9,
}  # fmt: skip
T5 = {"model_type": "t5", "architectures": ["T5ForConditionalGeneration"], "vocab_size": 13, "d_model": 6, "d_kv": 5,
      "d_ff": 11, "num_layers": 1, "num_heads": 3}  # fmt: skip
USED = lambda **usage: {"task_specific_params": {"tlqa": usage}}
CONFIGS = [
    (BERT, {}, "BertForQuestionAnswering"),
    (BERT, {"hidden_dropout_prob": 0}, "BertForQuestionAnswering"),
    (BERT, {"attention_probs_dropout_prob": 0, "classifier_dropout": 0}, "BertForQuestionAnswering"),
    (BERT, {"classifier_dropout": None, "hidden_act": "gelu_pytorch_tanh"}, "BertForQuestionAnswering"),
    *[(BERT, {"hidden_act": name}, "BertForQuestionAnswering") for name in ("gelu_python", "gelu_new", "gelu_fast")],
    (BERT, {"hidden_act": "silu"}, Line('hidden_act is "silu"; known are relu, gelu')),
    (BERT, {"architectures": ["TFBertForQuestionAnswering"]}, "BertForQuestionAnswering"),
    (BERT, {"architectures": ["BertLMHeadModel"], "is_decoder": True}, "BertLMHeadModel"),
    (BERT, {"architectures": ["RobertaModel"]}, Line('the architecture is "RobertaModel"')),
    *[(BERT, {"architectures": wrong}, Line("architectures is")) for wrong in ("BertModel", 5, {"a": 1}, [5], [["x"]])],
    *[(BERT, {"architectures": none}, Line("no architecture is named")) for none in ([], None)],
    *[(BERT, {"model_type": wrong}, Line("known are bert, t5")) for wrong in (5, [], {}, "gpt2", None)],
    *[(BERT, {name: wrong}, Line(f"{name} is "))
      for name in ("vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "type_vocab_size")
      for wrong in (0, -1, "5", 5.5, True, [], {}, 10**400)],
    *[(BERT, {name: wrong}, Line(f"{name} is "))
      for name in ("hidden_dropout_prob", "layer_norm_eps")
      for wrong in ("0", True, [], 10**400, float("nan"))],
    (BERT, {"num_hidden_layers": 10_000_000}, Line("num_hidden_layers is 10,000,000; it must be at most 1,000")),
    (BERT, {"pad_token_id": 13}, Line("pad_token_id is 13; the vocabulary has ids from 0 to 12")),
    (BERT, {"pad_token_id": -1}, Line("pad_token_id is -1, which is too small")),
    (BERT, {"pad_token_id": None}, "BertForQuestionAnswering"),
    (T5, {}, "T5ForConditionalGeneration"),
    (T5, {"architectures": ["T5WithLMHeadModel"]}, "T5ForConditionalGeneration"),
    (T5, {"architectures": ["FlaxT5ForConditionalGeneration"]}, "T5ForConditionalGeneration"),
    (T5, {"architectures": ["T5Model"]}, Line('the architecture is "T5Model"')),
    (T5, {"dropout_rate": 0, "layer_norm_epsilon": 1, "initializer_factor": 1}, "T5ForConditionalGeneration"),
    (T5, {"feed_forward_proj": "gated-gelu", "dense_act_fn": "gelu_pytorch_tanh"}, "T5ForConditionalGeneration"),
    (T5, {"feed_forward_proj": "gated-gelu", "dense_act_fn": None}, "T5ForConditionalGeneration"),
    (T5, {"feed_forward_proj": "gated-silu"}, Line('feed_forward_proj is "gated-silu"')),
    (T5, {"feed_forward_proj": ["relu"]}, Line("feed_forward_proj is")),
    (T5, {"dense_act_fn": []}, Line("feed_forward_proj is")),
    (T5, {"num_layers": 2_000_000}, Line("num_layers is 2,000,000; it must be at most 1,000")),
    (T5, {"num_decoder_layers": 2**31}, Line("num_decoder_layers is 2147483648, which is too large")),
    *[(T5, {f"{name}_token_id": 13}, Line(f"{name}_token_id is 13")) for name in ("pad", "eos", "decoder_start")],
    (T5, {"task_specific_params": {"summarization": {"prefix": "summarize: "}}}, "T5ForConditionalGeneration"),
    *[(T5, {"task_specific_params": wrong}, Line('"task_specific_params" is')) for wrong in ([], 5, "x")],
    *[(T5, {"task_specific_params": {"tlqa": wrong}}, Line('"tlqa" is')) for wrong in ([], 5, "x")],
    *[(T5, USED(**{name: wrong}), Line(f"{name} is "))
      for name in ("input_length", "target_length") for wrong in (0, -5, "x", [], True, 1.5, 2**31)],
    (T5, USED(stride=-1), Line("stride is -1, which is too small")),
    (T5, USED(stride=0), "T5ForConditionalGeneration"),
    (T5, USED(no_answer_threshold=float("nan")), Line("no_answer_threshold is NaN")),
    (T5, USED(no_answer_threshold=-3), "T5ForConditionalGeneration"),
    (T5, USED(tasks=[]), Line("tasks is []")),
]  # fmt: skip


@pytest.mark.parametrize(("base", "changes", "expected"), CONFIGS, ids=range(len(CONFIGS)))
def test_config_json(base, changes, expected, tmp_path):
    write(tmp_path, "config.json", json.dumps(base | changes))
    check(lambda: load(tmp_path).architecture, expected)


@table(
    *[(name, content, Line(part))
      for name in ("config.json", "run.json")
      for content, part in (("[]", "is not a JSON object"), ("5", "is not a JSON object"), ("", "malformed JSON"),
                            (DEEP, "nested too deeply"), (DIGITS, "digits"), (b"\xff", "is not UTF-8"))],
    *[("run.json", json.dumps({"main": wrong}), Line('"main" is')) for wrong in (5, [], {})],
    ("run.json", '{"main": "gone"}', Line("has no config.json")),
    ("config.json", MARK + json.dumps(BERT), "BertForQuestionAnswering"),
)  # fmt: skip
def test_whole_files_of_a_directory(name, content, expected, tmp_path):
    write(tmp_path, "config.json", json.dumps(BERT))
    write(tmp_path, name, content)
    check(lambda: load(tmp_path).architecture, expected)


@table(
    *[("m.json", content, Line(part)) for content, part in ((DEEP, "nested too deeply"), (DIGITS, "digits"),
                                                           ("[]", "is not a JSON object"))],
    ("m.json", MARK + '{"hidden_size": 8}', {"hidden_size": 8}),
)  # fmt: skip
def test_files_of_sizes(name, content, expected, tmp_path):
    path = write(tmp_path, name, content)
    check(lambda: sizes_in_file(str(path), {}), expected)


@pytest.mark.parametrize("dtype", ["F8_E4M3", "F8_E5M2", "F8_E8M0", "F4", "F6_E2M3", "C64"])
def test_numbers_of_another_kind(dtype, tmp_path):
    header = json.dumps({"w": {"dtype": dtype, "shape": [4], "data_offsets": [0, 4]}}).encode()
    path = write(tmp_path, "model.safetensors", len(header).to_bytes(8, "little") + header + bytes(4))
    shown = "float8" if dtype.startswith("F8") else dtype
    check(lambda: read_safetensors(path), Line(f"numbers of type {shown} are not known here"))


@pytest.mark.parametrize("content", [b"", b"\xff" * 8, b"\xff" * 16, (2).to_bytes(8, "little") + b"[]", b"\0" * 9])
def test_files_that_are_no_safetensors(content, tmp_path):
    path = write(tmp_path, "model.safetensors", content)
    check(lambda: read_safetensors(path), Line("is not a safetensors file, or is cut short"))


# sentinels ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["<extra_id_05>", "<extra_id_٣>", "<extra_id_" + DIGITS + ">", "<extra_id_5>",
                                  "<extra_id_-1>", "<extra_id_>", "<extra_id_+1>", "<extra_id_ 1>", "<extra_id_1 >",
                                  "<EXTRA_ID_1>", "<extra_id_00>"])  # fmt: skip
def test_what_is_no_sentinel(text, vocabulary):
    assert not set(vocabulary.encode(f"a {text} b")) & set(vocabulary.sentinels.tolist())
    assert vocabulary.encode("<extra_id_0><extra_id_4>") == [1004, 1000]


@pytest.fixture(scope="module")
def vocabulary():
    from tlqa_jax.data.sources import local_path

    return SentencePieceTokenizer(local_path("tiny_world:vocabulary.model"), extra_ids=5)


# a run's record -------------------------------------------------------------------------------------------------------

RECORD = {"program": "p", "settings": {"texts": "a.txt", "seed": 0}, "inputs": {"texts": {"a.txt": "s1"}}}


def record(source, content="s1", **settings):
    path = os.path.expanduser(source)
    return {**RECORD, "settings": {"texts": source, "seed": 0, **settings}, "inputs": {"texts": {path: content}}}


@pytest.mark.parametrize(
    ("new", "expected"),
    [
        (lambda folder: RECORD, "continue"),
        (lambda folder: record("./a.txt"), "continue"),
        (lambda folder: record(str(folder / "a.txt")), "continue"),
        (lambda folder: record("link.txt"), "continue"),
        (lambda folder: record("../" + folder.name + "/a.txt"), "continue"),
        (lambda folder: record("copy.txt"), "continue"),  # the same content
        (lambda folder: record("b.txt", "s2"), Line("texts was 'a.txt', is 'b.txt'")),
        (lambda folder: record(str(folder / "a.txt"), "s2"), Line("a.txt has changed since the run began")),
        (lambda folder: record("a.txt", seed=1), Line("seed was 0, is 1")),
        (lambda folder: record("tfds:squad:train", None), Line("texts was 'a.txt', is 'tfds:squad:train'")),
    ],
)
def test_the_same_path_written_in_another_way(new, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path, "a.txt", "one")
    write(tmp_path, "b.txt", "two")
    write(tmp_path, "copy.txt", "one")
    (tmp_path / "link.txt").symlink_to("a.txt")
    start_run(tmp_path / "run", RECORD)
    check(lambda: check_run(tmp_path / "run", new(tmp_path)), expected)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (["a=x", "b=y"], ["a=./x", "b=y"], "continue"),
        (["a=x", "b=y"], ["a=./x", "c=y"], Line("train was")),
        (["a=x", "b=y"], ["a=x"], Line("train was")),
        (["a=x", "b=y"], ["a=y", "b=x"], Line("train was")),
        (["a=tfds:a", "b=y"], ["a=tfds:b", "b=y"], Line("train was")),
    ],
)
def test_sources_of_tasks(old, new, expected, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in "xy":
        write(tmp_path, name, name)
    inputs = {"train": {"x": "s1", "y": "s2"}}
    of = lambda sources: {"program": "p", "settings": {"train": sources}, "inputs": inputs}
    start_run(tmp_path / "run", of(old))
    check(lambda: check_run(tmp_path / "run", of(new)), expected)


@pytest.mark.parametrize(
    ("content", "part"),
    [("[]", "is not a JSON object"), ("5", "is not a JSON object"), (DEEP, "nested too deeply"), (DIGITS, "digits"),
     ('{"program": "p", "settings": []}', '"settings" is []'), ('{"program": "p", "settings": 5}', '"settings" is 5'),
     ('{"program": "p", "inputs": []}', '"inputs" is []'), ('{"program": "p", "inputs": {"texts": 5}}', '"texts" is 5'),
     ('{"program": []}', "program was []")],
)  # fmt: skip
def test_a_record_that_is_wrong(content, part, tmp_path):
    write(tmp_path, "run.json", content)
    check(lambda: check_run(tmp_path, RECORD), Line(part))


# sizes that cannot be -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "rows", "length", "expected"),
    [
        (BertConfig.base(), 32, 512, None),
        (BertConfig.base(hidden_size=10**6 * 12), 1, 1, Line("GiB of memory")),
        (BertConfig.base(max_position_embeddings=10**9), 1, 1, Line("GiB of memory")),
        (BertConfig.tiny(), 10**9, 512, Line("choose a smaller --model, --batch-size or --input-length")),
        (BertConfig.tiny(), 64, 10**9, Line("1,000,000,000 tokens")),
    ],
)
def test_what_cannot_fit_in_memory(config, rows, length, expected):
    check(lambda: check_memory(config, rows, length), expected)


# commands -------------------------------------------------------------------------------------------------------------


def run(*argv) -> int:
    with pytest.raises(SystemExit) as ended:
        cli.main(argv)
    return ended.value.code


@pytest.mark.parametrize(
    ("argv", "part"),
    [
        (("pretrain-spans", "--input-length", "1000000000"), "--input-length is 1000000000: it has to be"),
        (("pretrain-mlm", "--input-length", "1000000000"), "--input-length is 1000000000: it has to be"),
        (("finetune-qa", "--target-length", "10000000"), "--target-length is 10000000: it has to be"),
        (("finetune-spans", "--max-answer-length", "10000000"), "--max-answer-length is 10000000: it has to be"),
        (("finetune-spans", "--n-best", "10000000"), "--n-best is 10000000: it has to be"),
        (("answer", "x", "--question", "q", "--max-new-tokens", "10000000"), "--max-new-tokens is 10000000: it has"),
        (("answer", "x", "--question", "q", "--num-beams", "10000000"), "--num-beams is 10000000: it has to be"),
        (("pretrain-mlm", "--model", "layers.json"), "num_hidden_layers is 1,000,000; it must be at most 1,000"),
        (("pretrain-mlm", "--model", "deep.json"), "deep.json: malformed JSON: brackets nested too deeply"),
        (("pretrain-mlm", "--model", "digits.json"), "digits.json: a number has more than 4,300 digits"),
        (("pretrain-mlm", "--model", "wide.json"), "GiB of memory"),
        (("pretrain-spans", "--batch-size", "2147483640"), "GiB of memory"),
        (("export", "bert", "--out", "."), ". is the directory you are in, or one around it: give the name of a new"),
        (("export", "bert", "--out", "..", "--overwrite"), ".. is the directory you are in, or one around it"),
        (("evaluate", "p.json", "--questions", "q.jsonl"), "p.json has no prediction for any question"),
        (("answer", "bert", "--file", "half.jsonl"), 'half.jsonl, line 1: "id" has half of a surrogate pair'),
        (("answer", "bert", "--file", "half.jsonl", "--out", "o.json"), '"id" has half of a surrogate pair'),
    ],
)
def test_commands(argv, part, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bert").mkdir()
    write(tmp_path, "bert/config.json", json.dumps(BERT))
    write(tmp_path, "bert/model.safetensors", "")
    for name, content in (("deep", DEEP), ("digits", DIGITS), ("layers", '{"num_hidden_layers": 1000000}'),
                          ("wide", '{"hidden_size": 1000000, "num_attention_heads": 2}')):  # fmt: skip
        write(tmp_path, f"{name}.json", content)
    write(tmp_path, "half.jsonl", lines({"id": HALF, "question": "q", "answer": "Tarn"}))
    write(tmp_path, "p.json", json.dumps({HALF: "Tarn"}))
    write(tmp_path, "q.jsonl", lines(ROW))
    assert run(*argv) == 2
    out, err = capsys.readouterr()
    assert part in err and err.startswith("tlqa: ") and err.count("\n") == 1 and not out
    assert not (tmp_path / "runs").exists()


class Full:
    """A standard output on a full disk."""

    encoding, fileno = "utf-8", lambda self: os.open(os.devnull, os.O_WRONLY)

    def write(self, text):
        return len(text)

    def flush(self):
        raise OSError(28, "No space left on device")


def test_a_full_standard_output(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdout", Full())
    monkeypatch.setattr(os, "dup2", lambda *_: None)
    assert run("--version") == 2
    assert capsys.readouterr().err == "tlqa: the system: No space left on device\n"


def test_a_closed_standard_output(monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)
    assert run("--help") == 0


@pytest.mark.parametrize("columns", ["0", "1", "2", "39", "100000"])
def test_narrow_terminals(columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", columns)
    assert 40 <= terminal_width() <= 120
    for argv in (("--help",), ("export", "--help")):
        assert run(*argv) == 0
    assert "usage: tlqa" in capsys.readouterr().out


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8", "latin-1"])
@pytest.mark.parametrize("text", ["Łódź →", "😀", "é", HALF])
def test_output_in_any_encoding(encoding, text, tmp_path, monkeypatch):
    with open(tmp_path / "out", "w", encoding=encoding) as file, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", file)
        cli.prepare_streams()
        print(as_json({"answer": text}))
        print(cli.overview())
    line = (tmp_path / "out").read_text(encoding=encoding).splitlines()[0]
    assert json.loads(line) == {"answer": text}


@pytest.mark.parametrize(
    ("error", "part"),
    [
        (ValueError("RESOURCE_EXHAUSTED: Error writing: No space left on device"), "no space left on the file system"),
        (ValueError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate"), "out of memory"),
        (MemoryError(), "out of memory"),
    ],
)
def test_errors_of_libraries(error, part):
    assert part in cli.explained(error)
    with pytest.raises(ZeroDivisionError):
        cli.explained(ZeroDivisionError("a defect of ours"))


def test_a_message_is_one_line_of_bounded_length():
    assert str(UserError("a\nb\tc\x1b\ud83d é …")) == r"a\nb\tc\x1b\ud83d é …"
    assert str(UserError("a" * 2000 + "z")) == f"{'a' * 500} … {'a' * 499}z"


@pytest.mark.parametrize("platforms", ["cuda", "unknown"])
def test_platforms_that_are_not_there(platforms):
    """In a process of its own: JAX looks for its devices once."""
    command = [sys.executable, "-m", "tlqa_jax.cli", "devices"]
    ended = subprocess.run(command, env=os.environ | {"JAX_PLATFORMS": platforms}, capture_output=True, text=True)
    assert ended.returncode == 2 and not ended.stdout
    lines = ended.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith(f"tlqa: JAX finds no device of JAX_PLATFORMS={platforms}: unset it")


def test_whole_numbers_are_floats():
    sizes = load_sizes({"hidden_dropout_prob": 0, "classifier_dropout": 0, "num_hidden_layers": 2}, BertConfig, "here")
    assert [type(value) for value in sizes.values()] == [int, float, float]
