"""Records of tasks: rows to text and back by hand, and every way to write a record wrong in one line."""

import dataclasses
import json
import unicodedata

import jaxtyping
import pytest
from hypothesis import given, strategies as st

from tlqa_jax.errors import UserError
from tlqa_jax.tasks.text_tasks import (
    ACCEPTABILITY,
    CLOSED_BOOK_QA,
    CONTEXT_QA,
    KELBISH,
    QUESTION_TYPE,
    SENTIMENT,
    SIMILARITY,
    SUMMARISATION,
    TASKS,
    TRANSLATION,
    TextTask,
    find_tasks,
    read_task,
    task_of,
)  # fmt: skip
from tlqa_jax.tasks.text_to_text import qa_source

PUNS = {"name": "puns", "input": "is it a pun: {text}", "target": "label", "metrics": ["accuracy"]}

EXAMPLES = {
    CONTEXT_QA: ({"question": " Who? ", "context": "Ann did.", "answers": ["Ann", "Ann B"]},
                 "question: Who? context: Ann did.", "Ann", ("Ann", "Ann B")),
    CLOSED_BOOK_QA: ({"question": "Who?", "context": "ignored", "answers": []}, "question: Who?", "", ()),
    SENTIMENT: ({"text": "dull {soup}", "label": 0}, "sentiment: dull {soup}", "negative", ("negative",)),
    QUESTION_TYPE: ({"text": "Who?", "coarse": "HUM"}, "question type: Who?", "person", ("person",)),
    SUMMARISATION: ({"document": "A. B.", "summary": "A."}, "summarize: A. B.", "A.", ("A.",)),
    TRANSLATION: ({"en": "yes", "de": "ja"}, "translate English to German: yes", "ja", ("ja",)),
    KELBISH: ({"en": "The nurse hears.", "kelbish": "nol yoda"},
              "translate English to Kelbish: The nurse hears.", "nol yoda", ("nol yoda",)),
    SIMILARITY: ({"sentence1": "a", "sentence2": "b", "label": 2.5}, "stsb sentence1: a sentence2: b", "2.4", ("2.5",)),
    ACCEPTABILITY: ({"sentence": "It rain.", "label": "1"}, "cola sentence: It rain.", "acceptable", ("acceptable",)),
}  # fmt: skip


@pytest.mark.parametrize("task", EXAMPLES, ids=lambda task: task.name)
def test_every_task_by_an_example(task):
    row, input, target, answers = EXAMPLES[task]
    example = task.example(row, "row 1", "7")
    assert (example.id, example.input, example.target, example.answers) == ("7", input, target, answers)


def test_there_is_an_example_of_every_task():
    assert {task.name for task in EXAMPLES} == set(TASKS)


@given(st.text(max_size=9), st.text(max_size=9))
def test_questions_are_written_in_one_way(question, context):
    row = {"question": question, "context": context, "answers": ()}
    assert qa_source(question) == CLOSED_BOOK_QA.example(row, "").input
    if context.strip():
        assert qa_source(question, context) == CONTEXT_QA.example(row, "").input


def test_only_the_last_field_may_lose_its_end_and_of_some_tasks_nothing():
    row = {"question": "Who?", "context": "Ann did.", "answers": []}
    assert CONTEXT_QA.example(row, "").head == "question: Who?"
    assert CLOSED_BOOK_QA.example(row, "").head == "question: Who?"
    assert SENTIMENT.example({"text": "dull", "label": 0}, "").head == ""
    assert SIMILARITY.example({"sentence1": "a", "sentence2": "b", "label": 1}, "").head == "stsb sentence1: a"


def test_similarity_is_rounded_to_fifths_as_text():
    written = {0: "0.0", 0.09: "0.0", 0.11: "0.2", 2.57: "2.6", 3.0: "3.0", 4.95: "5.0", 5: "5.0"}
    assert {value: SIMILARITY.rounded(value) for value in written} == written
    assert TextTask("t", "{x}", "y", step=5).rounded(12) == "10"
    assert TextTask("t", "{x}", "y", step=0.05).rounded(0.13) == "0.15"


@given(st.floats(0, 5))
def test_a_rounded_number_is_the_nearest_of_the_21(value):
    written = SIMILARITY.rounded(value)
    assert written in {f"{k / 5:.1f}" for k in range(26)}
    assert abs(float(written) - value) <= 0.1 + 1e-9


def test_what_was_written_becomes_a_prediction_and_a_score():
    assert [SENTIMENT.prediction(text) for text in (" Positive ", "grand")] == ["positive", "grand"]
    rows = [{"text": "a", "label": label} for label in (1, 0, "positive", "1")]
    examples = [SENTIMENT.example(row, str(number)) for number, row in enumerate(rows)]
    assert SENTIMENT.score(["Positive", "positive", "positive", ""], examples) == {"accuracy": 50}
    unanswerable = CLOSED_BOOK_QA.example({"question": "Who?", "answers": []}, "")
    assert CLOSED_BOOK_QA.score(["Ann", ""], [unanswerable] * 2) == {"exact_match": 50, "f1": 50}


def test_numbers_are_scored_against_what_they_were_before_rounding():
    rows = [{"sentence1": "a", "sentence2": "b", "label": label} for label in (0.9, 1.1, 2.0)]
    examples = [SIMILARITY.example(row, "") for row in rows]
    assert [example.target for example in examples] == ["0.8", "1.2", "2.0"]
    assert SIMILARITY.score(["0.9", "1.1", "2.0"], examples)["pearson"] == pytest.approx(100)


@pytest.mark.parametrize("value", [-1, "-1", -1.0, " -1.0 "])
def test_minus_one_is_a_number(value):
    example = TextTask("t", "{x}", "y", step=0.5).example({"x": "a", "y": value}, "")
    assert (example.target, example.answers) == ("-1.0", ("-1.0",))


@pytest.mark.parametrize("answer", ["km²", "line one\nline two", "two  spaces"])
def test_a_perfect_writer_is_right_whatever_its_vocabulary_cannot_say(answer):
    normalize = lambda text: " ".join(unicodedata.normalize("NFKC", text).split())
    tasks = (
        TextTask("t", "{x}", "y", metrics=("accuracy", "exact_match", "f1")),
        TextTask("t", "{x}", "y", metrics=("accuracy", "exact_match", "f1"), labels={"1": answer}),
    )
    for task in tasks:
        example = task.example({"x": "a", "y": answer}, "")
        written = normalize(example.target)
        assert task.score([written], [example])["accuracy"] == 0
        assert set(task.score([written], [example], normalize).values()) == {100}
        assert task.score(["another"], [example], normalize)["accuracy"] == 0
        assert task.score([answer], [example], normalize)["accuracy"] == 100


@pytest.mark.parametrize(
    ("task", "row", "message"),
    [
        (SENTIMENT, {"txt": "a", "label": 1}, 'row 3: no field "text" or "sentence" or .*; found "txt", "label"'),
        (SENTIMENT, {"text": "a", "label": None}, 'row 3: no field "label"'),
        (SENTIMENT, {"text": "a", "label": 2}, 'row 3: "label" is \'2\'; task sentiment knows 0, 1'),
        (SENTIMENT, {"text": ["a"], "label": 1}, 'row 3: "text" is .*: task sentiment needs a text or a number there'),
        (SIMILARITY, {"sentence1": "a", "sentence2": "b", "label": "high"}, 'row 3: "label" is \'high\', not a number'),
        (SIMILARITY, {"sentence1": "a", "sentence2": "b", "label": float("nan")}, '"label" is nan, not a number'),
        (SIMILARITY, {"sentence1": "a", "sentence2": "b", "label": "inf"}, "\"label\" is 'inf', not a number"),
        (SIMILARITY, {"sentence1": "a", "sentence2": "b", "label": 10**400}, '"label" is 10+, not a number'),
        (CONTEXT_QA, {"question": "a", "answers": []}, 'row 3: no field "context"'),
        (TRANSLATION, {"en": "a"}, 'row 3: no field "de", which task translation needs; found "en"'),
    ],
)
def test_a_row_that_does_not_fit_is_named(task, row, message):
    with pytest.raises(UserError, match=message) as error:
        task.example(row, "row 3")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("slip", "message"),
    [
        ({"metrics": "accuracy"}, "task puns: \"metrics\" is 'accuracy': it has to be a list of texts"),
        ({"labels": {0: "no", 1: "yes"}}, "\"labels\" is {0: 'no', 1: 'yes'}: it has to be an object of texts"),
        ({"other_names": {"text": "joke"}}, "\"other_names\" is {'text': 'joke'}: it has to be an object of lists"),
        ({"other_names": {"text": ("joke", 5)}}, r"is {'text': \('joke', 5\)}: it has to be an object of lists"),
    ],
)
def test_a_slip_in_a_record_is_named(slip, message):
    jaxtyping.config.update("jaxtyping_disable", True)  # outside the tests nobody checks the types
    try:
        with pytest.raises(UserError, match=message):
            TextTask(**PUNS | slip)
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


def test_tasks_are_found_by_name_or_file_and_survive_a_config(tmp_path):
    (tmp_path / "puns.json").write_text(json.dumps(PUNS | {"labels": {"0": "no"}, "other_names": {"text": ["joke"]}}))
    own = TextTask("rhymes", "rhyme: {text}", "rhyme")
    tasks = find_tasks(["sentiment", str(tmp_path / "puns.json"), "rhymes"], [own])
    assert list(tasks) == ["sentiment", "puns", "rhymes"] and tasks["rhymes"] is own
    assert tasks["puns"].example({"joke": "a", "label": 0}, "").input == "is it a pun: a"
    stored = json.loads(json.dumps({name: dataclasses.asdict(task) for name, task in tasks.items()}))
    assert {name: task_of(record, "config.json") for name, record in stored.items()} == tasks


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["sentimen"], "there is no task 'sentimen'; known are context_qa, closed_book_qa, sentiment"),
        (["sentiment", "sentiment"], "the task sentiment is named twice"),
        ([], "no task is named"),
        (["nowhere.json"], "nowhere.json cannot be read"),
    ],
)
def test_a_task_that_is_not_there_is_named(names, message):
    with pytest.raises(UserError, match=message):
        find_tasks(names)


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ([PUNS], "a task is a JSON object with the fields name, input, target"),
        (PUNS | {"prefix": "x"}, "a task has no field prefix; known are name, input"),
        ({"name": "puns"}, 'a task needs a field "input"'),
        (PUNS | {"input": 3}, '"input" is 3: it has to be a text'),
        (PUNS | {"input": "pun or not"}, "it needs a field, such as {text}"),
        (PUNS | {"input": "pun: {}"}, "it needs a field"),
        (PUNS | {"input": "pun: {text"}, "task puns: \"input\" is 'pun: {text': "),
        (PUNS | {"input": "pun: {text:d}"}, "write only the name of a field in braces: {text}"),
        (PUNS | {"input": "pun: {text!r}"}, "only the name of a field in braces: {text}"),
        (PUNS | {"input": "pun: {text.real} {text[0]}"}, "only the name of a field in braces: {text}"),
        (PUNS | {"name": "a/b"}, "a task's name is 'a/b'"),
        (PUNS | {"metrics": ["fun"]}, "task puns: there is no metric 'fun'; known: accuracy"),
        (PUNS | {"metrics": []}, '"metrics" names none'),
        (PUNS | {"other_names": {"text": "joke"}}, "is {'text': 'joke'}: it has to be an object of lists"),
        (PUNS | {"other_names": {"text": 5}}, "\"other_names\" is {'text': 5}: it has to be an object of lists"),
        (PUNS | {"other_names": {"text": ["joke", 5]}}, "it has to be an object of lists"),
        (PUNS | {"step": 0}, '"step" is 0: it has to be above 0'),
    ],
)
def test_a_record_that_cannot_be_meant_is_refused_in_one_line(record, message, tmp_path):
    (tmp_path / "task.json").write_text(json.dumps(record))
    with pytest.raises(UserError, match=message) as error:
        read_task(tmp_path / "task.json")
    assert "\n" not in str(error.value)


def test_a_record_that_is_not_json_is_refused(tmp_path):
    (tmp_path / "task.json").write_text("{")
    with pytest.raises(UserError, match="task.json: malformed JSON"):
        read_task(tmp_path / "task.json")
