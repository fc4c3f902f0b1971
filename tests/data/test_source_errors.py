"""What a user reads when a source is wrong: one line that says where and what, for each way to be wrong."""

import gzip
import json

import pytest

from tlqa_jax.data.sources import open_marked_texts, open_questions, open_texts
from tlqa_jax.errors import UserError

GOOD = {"id": "q1", "question": "Who?", "answers": [{"text": "Mira", "answer_start": 4}]}


def message_of(function, *arguments, **options) -> str:
    with pytest.raises(UserError) as error:
        list(function(*arguments, **options))
    message = str(error.value)
    assert "\n" not in message
    return message


def squad(**changes) -> str:
    qa = {name: value for name, value in {**GOOD, **changes}.items() if value is not ...}
    return json.dumps({"data": [{"title": "T", "paragraphs": [{"context": "Now Mira plays.", "qas": [qa]}]}]})


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.txt", b"", "a.txt is empty"),
        ("a.txt", b" \n\n \n", "a.txt holds no text"),
        ("a.txt", b"caf\xc3\xa9\nfine\ncaf\xe9!\n", "a.txt is not UTF-8: byte 0xe9 at offset 14 (line 3); convert it"),
        ("a.txt", "one".encode("utf-16"), "a.txt is not UTF-8: byte 0xff at offset 0 (line 1); it looks like UTF-16"),
        ("a.txt", gzip.compress(b"one", mtime=0), "it looks like gzip: name it .gz"),
        ("a.txt.gz", b"one", "a.txt.gz is not a gzip file, though its name ends in .gz"),
        ("a.txt.gz", gzip.compress(b"one\n" * 999, mtime=0)[:-12], "a.txt.gz is cut short or damaged (gzip, after"),
        ("a.txt.gz", gzip.compress(b"one\n", mtime=0)[:-8] + bytes(8), "a.txt.gz is cut short or damaged (gzip, after"),
        ("a.txt.gz", gzip.compress(b"one\n", mtime=0) + b"two\n", "a.txt.gz is cut short or damaged (gzip, after line"),
        ("a.txt.gz", gzip.compress(b"", mtime=0), "a.txt.gz is empty"),
        ("a.md", b"one", "a.md: a .md file cannot be read here; known are .txt, .jsonl, .json, .csv, .tsv ("),
        ("LICENSE", b"one", "LICENSE: a file without a suffix cannot be read here"),
        ("a.jsonl", b'{"text": "a"}\n\n{"text": "b",}\n', "a.jsonl, line 3: malformed JSON at column"),
        ("a.jsonl", b'{"text": "a"}\n{"text": "b', "a.jsonl, line 2: malformed JSON at column 10: unterminated string"),
        ("a.jsonl", b'["a", "b"]\n', 'a.jsonl, line 1 is a list (["a", "b"]), not an object with named fields'),
        ("a.jsonl", b'{"url": 1, "body": "b"}\n', 'a.jsonl, line 1: no field "text"; found "url", "body"'),
        ("a.jsonl", b'{"text": 5}\n', 'a.jsonl, line 1: "text" is a number (5), not text'),
        ("a.jsonl", b'{"text": null}\n', 'a.jsonl, line 1: "text" is null, not text'),
        ("a.jsonl", b'{"text": "a\\ud83d"}\n', 'a.jsonl, line 1: "text" has half of a surrogate pair'),
        ("a.jsonl", b'{"text": ' + b"1" * 5000 + b"}", "a.jsonl, line 1: a number has more than 4,300 digits"),
        ("a.json", b'{"text": ' + b"1" * 5000 + b"}", "a.json: a number has more than 4,300 digits"),
        ("a.jsonl", b"[" * 200_000, "a.jsonl, line 1: malformed JSON"),
        (
            "a.json",
            b'{"data": [\n{"paragraphs": [}]}',
            "a.json: malformed JSON at line 2, column 17: expecting value, near",
        ),
        ("a.json", b'[{"text": "a"}, 7]', "a.json, record 2 is a number (7), not an object"),
        ("a.csv", b"text\n\xff\n", "a.csv is not UTF-8: byte 0xff at offset 5 (line 2)"),
        ("a.csv", b"url,text\nx,one\ny,two, three\n", "a.csv, line 3: 3 cells, but the first row names 2 (url, text)"),
        ("a.csv", b"url,body\nx,one\n", 'a.csv, line 2: no field "text"; found "url", "body"'),
        ("a.csv", b'text\n"one\n', "a.csv, line 2: malformed CSV: unexpected end of data"),
        ("a.csv", b"text,label, text\none,1,two\n", "a.csv: two columns are named text: rename one"),
        ("a.csv", b"text\n\n", "a.csv holds no text"),
    ],
)
def test_texts(tmp_path, name, content, expected):
    (tmp_path / name).write_bytes(content)
    message = message_of(lambda: open_texts(tmp_path / name))
    assert str(tmp_path / name) in message
    assert expected in message


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (squad(question=...), "question 'q1': no field \"question\"; found \"id\", \"answers\", \"context\""),
        (squad(question=3), "question 'q1': \"question\" is a number (3), not text"),
        (squad(question=" "), "question 'q1': \"question\" is empty"),
        (squad(answers=...), "question 'q1': no field \"answers\" or \"answer\"; found \"id\", \"question\""),
        (squad(answers=7), "question 'q1': \"answers\" is a number (7), not text or a list or an object"),
        (squad(answers=[{"text": "Mira"}]), "question 'q1', answers: no field \"answer_start\"; found \"text\""),
        (squad(answers=[{"text": "Mira", "answer_start": "4"}]), "\"answer_start\" is text (\"4\"), not a whole"),
        (squad(answers=["Mira", 7]), "question 'q1': an answer in \"answers\" is a number (7), not text"),
        (squad(answers=[""]), "an answer in \"answers\" is empty; a question without an answer has an empty list"),
        (
            squad(answers={"text": ["Mira"], "answer_start": [4, 5]}),
            '"answer_start" is a list ([4, 5]), not one whole number for each of 1 answers',
        ),
        (squad(is_impossible=True), "question 'q1': \"is_impossible\" is true, yet there is an answer 'Mira'"),
        (
            squad(id=..., answers=[{"text": "Mara", "answer_start": 4}]),
            "dev.json, question 1: the answer 'Mara' is not in its context at answer_start 4, where there is 'Mira'",
        ),
        (
            squad(answers=[{"text": "Mira", "answer_start": 5}]),
            "'q1': the answer 'Mira' is not in its context at answer_start 5, where there is 'ira '; it stands at 4",
        ),
        (
            squad(answers=[{"text": "Mara", "answer_start": -4}]),
            "'Mara' is not in its context at answer_start -4, where there is ''; it is nowhere in the context",
        ),
        (squad(is_impossible="perhaps"), '"is_impossible" is text ("perhaps"), not true or false'),
        (squad(is_impossible=1), '"is_impossible" is a number (1), not true or false'),
        ('{"data": {}}', '"data" is an object ({}), not a list'),
        ('{"data": []}', "holds no questions"),
        ('{"data": [[]]}', '"data" 1 is a list ([]), not an object with named fields'),
        ('{"data": [{}]}', 'article 1: no field "paragraphs"; found none'),
        ('{"data": [{"paragraphs": [{"qas": []}]}]}', 'article 1, paragraph 1: no field "context"; found "qas"'),
        ('{"data": [{"paragraphs": [{"context": "a"}]}]}', 'article 1, paragraph 1: no field "qas"; found "context"'),
        ('{"question": "Who?"}', 'no field "answers" or "answer"; found "question"'),
        ('{"question": "Who?", "answer": "Mira", "answer_start": 3}', "'Mira' has a start but there is no \"context\""),
        ('{"question": "Who?", "answer": "a", "id": [1]}', '"id" is a list ([1]), not text'),
        ('{"question": "?", "answer": "a", "id": 1}\n' * 2, "line 2: the id '1' occurs twice (before:"),
    ],
)  # fmt: skip
def test_questions(tmp_path, content, expected):
    path = tmp_path / "dev.json"
    path.write_text(content)
    message = message_of(open_questions, path)
    assert str(path) in message
    assert expected in message


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("question,answer\nWho?,\n", 'found "question" (an empty cell of a .csv is no field; a question without an'),
        ("question,answers\nWho?,\"{'text': ['Mira']}\"\n", 'line 2, answers: no field "answer_start"'),
        ("question,answers\nWho?,['Mira' 'Zoë']\n", "line 2, \"answers\" is text (\"['Mira' 'Zo"),
        ("question,answer,is_impossible\nWho?,Mira,TRUE\n", '"is_impossible" is true, yet there is an answer'),
        ("question,answer,is_impossible\nWho?,Mira,no\n", '"is_impossible" is text ("no"), not true or false'),
    ],
)
def test_questions_in_csv(tmp_path, content, expected):
    (tmp_path / "a.csv").write_text(content)
    message = message_of(open_questions, tmp_path / "a.csv")
    assert f"{tmp_path}/a.csv, line 2" in message
    assert expected in message


def test_missing_files(tmp_path):
    (tmp_path / "corpus.txt").write_text("one")
    (tmp_path / "empty").mkdir()
    assert f"{tmp_path}/corpsu.txt does not exist; near it: corpus.txt" in message_of(
        open_texts, tmp_path / "corpsu.txt"
    )
    assert "there is no directory" in message_of(open_texts, tmp_path / "nowhere" / "a.txt")
    assert f"no file matches {tmp_path}/*.jsonl" in message_of(open_texts, f"{tmp_path}/*.jsonl")
    assert "has no file of a kind that can be read here" in message_of(open_texts, tmp_path / "empty")
    assert "corpus.txt: a .txt file cannot be read here; known are .jsonl" in message_of(
        open_questions, tmp_path / "corpus.txt"
    )
    assert "the tiny world has no file 'nothing.txt'" in message_of(open_texts, "tiny_world:nothing.txt")


def test_missing_files_are_found_before_anything_is_read(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        open_texts(tmp_path / "a.txt")  # not iterated


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"text": "Mira"}, 'line 1: no field "spans"; found "text"'),
        ({"text": "Mira", "spans": [[0]]}, 'line 1, "spans" 1: this is a list ([0]), not [start, end]'),
        ({"text": "Mira", "spans": [[0, 1.5]]}, 'line 1, "spans" 1: this is a list ([0, 1.5]), not [start, end]'),
        (
            {"text": "Mira", "spans": [[0, 2], [2, 5]]},
            'line 1, "spans" 2: [2, 5] is not inside the text of 4 characters',
        ),
        ({"text": "Mira", "spans": [[2, 2]]}, 'line 1, "spans" 1: [2, 2] is not inside the text of 4 characters'),
        ({"text": "Mira", "spans": [[2, 4], [0, 3]]}, 'line 1, "spans": [0, 3] and [2, 4] overlap'),
    ],
)
def test_marked_texts(tmp_path, row, expected):
    (tmp_path / "a.jsonl").write_text(json.dumps(row))
    assert expected in message_of(lambda: open_marked_texts(tmp_path / "a.jsonl"))
