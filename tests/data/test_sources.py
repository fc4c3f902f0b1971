"""Texts and questions from every kind of file, each with made-up content small enough to check by eye."""

import csv
import gzip
import json

import pytest
from hypothesis import given, strategies as st

from tlqa_jax.data.sources import (
    local_path,
    open_labelled_texts,
    open_marked_texts,
    open_questions,
    open_rows,
    open_texts,
)  # fmt: skip
from tlqa_jax.errors import UserError
from tlqa_jax.examples import LabelledText, MarkedText, QAExample

CONTEXT = "Größe: Mira Voss tunes harps in Oss."
EXAMPLE = QAExample("q1", "Who tunes harps?", ("Mira Voss", "Mira"), CONTEXT, (7, 7), "Harps")


def squad(*qas: dict, context: str = CONTEXT) -> dict:
    return {"version": "v2.0", "data": [{"title": "Harps", "paragraphs": [{"context": context, "qas": list(qas)}]}]}


QA = {
    "id": "q1",
    "question": "Who tunes harps?",
    "answers": [{"text": "Mira Voss", "answer_start": 7}, {"text": "Mira", "answer_start": 7}],
}


def write(path, content: str):
    path.write_bytes(gzip.compress(content.encode()) if path.suffix == ".gz" else content.encode())
    return path


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_text_documents_end_at_a_blank_line(tmp_path, name):
    path = write(tmp_path / name, "\ufeffone\r\n two \n\n \t\n\nthree\x85still three\n\n")
    texts = open_texts(path)
    assert list(texts) == ["one two", "three\x85still three"]
    assert list(texts) == ["one two", "three\x85still three"], "a second reading starts from the beginning"


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "c4-train.00000-of-01024.json.gz", "a.json"])
def test_rows_of_texts(tmp_path, name):
    rows = [{"text": "one\ntwo", "url": "x"}, {"text": "é"}, {"text": "  "}]
    path = write(tmp_path / name, "\n".join(map(json.dumps, rows)) + "\n\n")
    assert list(open_texts(path)) == ["one\ntwo", "é"]
    assert list(open_texts(write(tmp_path / "list.json", json.dumps(rows, indent=1)))) == ["one\ntwo", "é"]


def test_another_field_and_csv(tmp_path):
    path = write(tmp_path / "a.csv", 'label,body\n1,"one, ""two""\nthree"\n\n0,four\n')
    assert list(open_texts(path, field="body")) == ['one, "two"\nthree', "four"]


def test_squad_files_as_texts_give_each_context_once(tmp_path):
    path = write(tmp_path / "dev.json", json.dumps(squad(QA, {**QA, "id": "q2"})))
    assert list(open_texts(path)) == [CONTEXT]


def test_directories_patterns_and_lists(tmp_path):
    for name in ("b.txt", "a.txt.gz", "c.jsonl"):
        write(tmp_path / name, json.dumps({"text": name}) + "\n" if "json" in name else name)
    (tmp_path / "notes.md").write_text("not a text")
    assert list(open_texts(tmp_path)) == ["a.txt.gz", "b.txt", "c.jsonl"]
    assert list(open_texts(f"{tmp_path}/*.txt*")) == ["a.txt.gz", "b.txt"]
    assert list(open_texts([tmp_path / "c.jsonl", tmp_path / "b.txt"])) == ["c.jsonl", "b.txt"]


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=20), min_size=1, max_size=5))
def test_rows_come_back_as_they_were_written(tmp_path_factory, texts):
    folder = tmp_path_factory.mktemp("rows")
    texts = [*texts, "last"]
    write(folder / "a.jsonl.gz", "".join(json.dumps({"text": text}, ensure_ascii=False) + "\n" for text in texts))
    with (folder / "a.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["n", "text"], *enumerate(texts)])
    kept = [text for text in texts if text.strip()]
    assert list(open_texts(folder / "a.jsonl.gz")) == kept
    if all("\r" not in text for text in texts):  # readers of CSV see \r and \n alike
        assert list(open_texts(folder / "a.csv")) == kept


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("name", ["train-v1.1.json", "train.json.gz"])
def test_squad(tmp_path, name, indent):
    impossible = {
        "id": "q2",
        "question": "Who tunes lutes?",
        "answers": [],
        "is_impossible": True,
        "plausible_answers": [3],
    }
    path = write(tmp_path / name, json.dumps(squad({**QA, "is_impossible": False}, impossible), indent=indent))
    assert open_questions(path) == [EXAMPLE, QAExample("q2", "Who tunes lutes?", (), CONTEXT, (), "Harps")]


@pytest.mark.parametrize(
    ("row", "answers", "starts"),
    [
        ({"answer": "Mira"}, ("Mira",), ()),
        ({"answer": "Mira", "answer_start": 7}, ("Mira",), (7,)),
        ({"answers": ["Mira", "a harp tuner, in other words"]}, ("Mira", "a harp tuner, in other words"), ()),
        ({"answers": "Mira"}, ("Mira",), ()),
        ({"answers": []}, (), ()),
        ({"answers": {"text": ["Mira", "Oss"], "answer_start": [7, 32]}}, ("Mira", "Oss"), (7, 32)),
        ({"answers": [{"text": "Oss", "answer_start": 32}]}, ("Oss",), (32,)),
    ],
)
def test_the_ways_to_write_answers(tmp_path, row, answers, starts):
    path = write(tmp_path / "a.jsonl", json.dumps({"question": "?", "context": CONTEXT, "id": 5, **row}))
    assert open_questions(path) == [QAExample("5", "?", answers, CONTEXT, starts)]


def test_rows_of_questions_without_context_or_id(tmp_path):
    path = write(
        tmp_path / "a.jsonl.gz", '{"question": "Who?", "answer": "Mira"}\n{"question": "Where?", "answers": ["Oss"]}\n'
    )
    expected = [QAExample("a.jsonl.gz:1", "Who?", ("Mira",)), QAExample("a.jsonl.gz:2", "Where?", ("Oss",))]
    assert open_questions(path) == expected


def test_csv_questions(tmp_path):
    text = 'id,question,answer,context,answer_start\nx,Who?,Mira,"Mira, of Oss",0\ny,"Where, then?",Oss,,\n'
    assert open_questions(write(tmp_path / "a.csv", text)) == [
        QAExample("x", "Who?", ("Mira",), "Mira, of Oss", (0,)),
        QAExample("y", "Where, then?", ("Oss",)),
    ]
    text = 'question,answers\nWho?,"[""Mira"", ""she""]"\n'
    assert open_questions(write(tmp_path / "b.csv", text)) == [QAExample("b.csv:1", "Who?", ("Mira", "she"))]
    text = 'question,context,answers\nWho?,"Mira, of Oss","{""text"": [""Mira""], ""answer_start"": [0]}"\n'
    assert open_questions(write(tmp_path / "c.csv", text)) == [
        QAExample("c.csv:1", "Who?", ("Mira",), "Mira, of Oss", (0,))
    ]


@pytest.mark.parametrize("value", ["False", "false", " FALSE", ""])
def test_what_is_possible_in_csv(tmp_path, value):
    text = f"question,answers,is_impossible\nWho?,Mira,{value}\nWho else?,[],True\n"
    assert [example.answers for example in open_questions(write(tmp_path / "a.csv", text))] == [("Mira",), ()]


def test_files_of_one_name_have_ids_of_their_own(tmp_path):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        write(tmp_path / folder / "rows.jsonl", '{"question": "Who?", "answer": "Mira"}\n')
    pattern = f"{tmp_path}/*/rows.jsonl"
    ids = [f"{tmp_path}/a/rows.jsonl:1", f"{tmp_path}/b/rows.jsonl:1"]
    assert [example.id for example in open_questions(pattern)] == ids
    assert [id for _, id, _ in open_rows(pattern)] == ids
    assert [example.id for example in open_questions(f"{tmp_path}/b/*.jsonl")] == ["rows.jsonl:1"]


def test_questions_to_be_answered(tmp_path):
    path = write(tmp_path / "a.jsonl", '{"question": "Who?"}\n')
    assert open_questions(path, require_answers=False) == [QAExample("a.jsonl:1", "Who?", ())]


def test_rows_without_text_are_counted(tmp_path):
    texts = open_texts(write(tmp_path / "a.jsonl", '{"text": "one"}\n{"text": " "}\n{"text": ""}\n'))
    for _ in range(2):
        assert list(texts) == ["one"] and texts.left_out == 2


def test_marked_texts(tmp_path):
    path = write(
        tmp_path / "a.jsonl", '{"text": "Mira of Oss", "spans": [[0, 4], [8, 11]]}\n{"text": "no one", "spans": []}\n'
    )
    texts = [MarkedText("Mira of Oss", ((0, 4), (8, 11))), MarkedText("no one", ())]
    assert list(open_marked_texts(path)) == texts
    rows = ",\n".join(path.read_text().splitlines())
    assert list(open_marked_texts(write(tmp_path / "a.json", f"[{rows}]"))) == texts
    path = write(tmp_path / "b.jsonl", '{"body": "Mira of Oss", "spans": [[8, 11], [0, 4]]}\n')
    assert list(open_marked_texts(path, field="body")) == texts[:1], "in the order of the text"


def test_local_paths(tmp_path):
    assert local_path(tmp_path / "a.txt") == tmp_path / "a.txt"
    assert local_path("tiny_world:vocabulary.model").name == "vocabulary.model"
    assert "~" not in str(local_path("~/a.txt"))


def test_labelled_texts_from_json_lines_and_csv(tmp_path):
    rows = write(tmp_path / "a.jsonl.gz", '{"text": "good", "label": 1}\n{"text": "bad", "label": "no"}\n')
    assert open_labelled_texts(rows) == [LabelledText("good", "1"), LabelledText("bad", "no")]
    spaces = write(tmp_path / "spaces.csv", 'text,label,,\ngood,1,,\nbad," 1",,\n')
    assert [example.label for example in open_labelled_texts(spaces)] == ["1", "1"]
    table = write(tmp_path / "a.csv", "sentence,kind\nWho?,HUM\n")
    assert open_labelled_texts(table, field="sentence", label_field="kind") == [LabelledText("Who?", "HUM")]


@pytest.mark.parametrize(
    "row, message",
    [
        ('{"text": "good"}', 'no field "label"'),
        ('{"text": "good", "label": 1.0}', r'"label" is a number \(1.0\), not text or a whole number'),
        ('{"text": "good", "label": " "}', '"label" is empty: give the text a class'),
        ('{"text": " ", "label": 1}', "empty"),
    ],
)
def test_a_labelled_text_that_is_none_is_named(tmp_path, row, message):
    with pytest.raises(UserError, match=f"a.jsonl, line 1.*{message}"):
        open_labelled_texts(write(tmp_path / "a.jsonl", row + "\n"))


def test_rows_of_any_kind_of_file_with_their_ids(tmp_path):
    lines = write(tmp_path / "a.jsonl", '{"text": "x", "id": 7}\n\n{"text": "y", "label": 0.5}\n')
    squad = {"context": "Oss", "qas": [{"id": "q", "question": "?", "kind": "town", "answers": []}]}
    nested = write(tmp_path / "b.json", json.dumps({"data": [{"paragraphs": [squad]}]}))
    (where, id, row), second, third = open_rows([lines, nested])
    assert (where, id, row) == (f"{lines}, line 1", "7", {"text": "x", "id": 7})
    assert second == (f"{lines}, line 3", "a.jsonl:2", {"text": "y", "label": 0.5})
    assert third[1:] == ("q", {**squad["qas"][0], "context": "Oss", "title": ""})
