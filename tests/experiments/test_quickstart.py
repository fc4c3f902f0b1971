"""The main job: who is in which file of its world, what its report says, and (slow) all of it in a few steps."""

import json
import re
import shlex
from collections import Counter

import numpy as np
import pytest

from tlqa_jax.commands.answering import answer
from tlqa_jax.data.tiny_world import World, closed_book_questions, make_people
from tlqa_jax.data.tiny_world.question_forms import HELD_OUT_FORMS, TRAINING_FORMS
from tlqa_jax.experiments import quickstart as experiment
from tlqa_jax.experiments.quickstart import QuickstartSettings, build_world, quickstart
from tlqa_jax.experiments.report import compared, write_report

FILES = {
    "pretraining", "reading", "remembering", "mixed_in",
    "reading_dev", "reading_dev_heldout_forms", "remembering_dev", "remembering_dev_heldout_forms",
}  # fmt: skip
FIGURES = {
    "context_em", "context_em_heldout_forms", "context_em_questions_alone", "context_em_text_then_questions",
    "context_em_baseline", "context_chance_em", "closed_book_em", "closed_book_em_heldout_forms",
    "closed_book_em_questions_alone", "closed_book_em_text_then_questions", "chance_em",
}  # fmt: skip
OTHERS = {"context_questions", "closed_book_questions", "question_rows", "question_rows_of_pretraining", "seed", "seconds"}
RUNS = {"pretrained", "finetuned", "questions_alone", "text_alone", "text_then_questions"}


def make_small(patch):
    """100 strangers to learn from instead of 1,200, 12 passages with each name; 2 passages about each resident; 2 forms
    of a question instead of 8."""
    fewer = lambda *given, forms_per_fact=None, **more: closed_book_questions(
        *given, **more, **({"forms_per_fact": forms_per_fact // 4} if forms_per_fact else {})
    )
    patch.setattr(experiment, "PASSAGES_PER_RESIDENT", 2)
    patch.setattr(experiment, "READING_ROUNDS", 12)
    patch.setattr(experiment, "make_people", lambda rng, count, exclude: make_people(rng, count // 12, exclude))
    patch.setattr(experiment, "closed_book_questions", fewer)


def read(folder) -> dict[str, list[dict]]:
    return {path.stem: [json.loads(line) for line in path.read_text().splitlines()] for path in folder.iterdir()}


@pytest.fixture(scope="module")
def build(tmp_path_factory):
    """A small world of a seed: file -> rows."""
    with pytest.MonkeyPatch.context() as patch:
        make_small(patch)

        def build(seed: int):
            folder = tmp_path_factory.mktemp("small") / "world"
            build_world(folder, seed)
            return read(folder)

        yield build


@pytest.fixture(scope="module")
def world(build):
    return build(0)


TRAINING = ("pretraining", "reading", "remembering", "mixed_in")


def test_nobody_is_in_two_groups(world):
    assert world.keys() == FILES
    text = {name: json.dumps(lines) for name, lines in world.items()}
    tiny = World()
    for person in tiny.unasked:  # told of, and asked about in no training file, nor named in a passage to read
        assert sum(person.name in row["text"] for row in world["pretraining"]) == 2
        assert not any(person.name in text[name] for name in TRAINING[1:] + ("reading_dev",))
        for name in ("remembering_dev", "remembering_dev_heldout_forms"):
            assert sum(person.name in row["question"] for row in world[name]) == len(experiment.RELATIONS)
    for person in tiny.strangers_dev:  # in no training file
        assert not any(person.name in text[name] for name in TRAINING)
        assert person.name in text["reading_dev"] and person.name in text["reading_dev_heldout_forms"]
    assert all(person.name in text["remembering"] for person in tiny.asked)


def test_the_rows_are_what_the_programs_read(world):
    assert len(world["pretraining"]) == 2 * 60
    for row in world["pretraining"]:
        assert row.keys() == {"text", "spans"} and len(row["spans"]) >= 5
    for name in FILES - {"pretraining", "mixed_in"}:
        reading = name.startswith("reading")
        for row in world[name]:
            assert row.keys() == {"question", "answer", "relation"} | ({"context"} if reading else set())
            assert row["relation"] in experiment.RELATIONS
            assert not reading or row["answer"] in row["context"]
    reading, remembering = len(world["reading"]), len(world["remembering"])
    assert reading == 100 * 12 and remembering == reading // 4  # one question in five is to be answered from memory
    assert world["mixed_in"] == world["reading"] + world["remembering"]


def test_held_out_forms_are_asked_of_the_same_facts_and_stand_in_no_training_file(world):
    forms = {True: HELD_OUT_FORMS, False: TRAINING_FORMS}
    patterns = {
        held_out: re.compile("|".join(
            re.escape(form).replace(r"\{name\}", r"\w+ \w+") for of_relation in known.values() for form in of_relation
        ))
        for held_out, known in forms.items()
    }  # fmt: skip
    for name in FILES - {"pretraining"}:
        held_out = name.endswith("heldout_forms")
        questions = [row["question"] for row in world[name]]
        assert questions and all(patterns[held_out].fullmatch(question) for question in questions)
        assert not any(patterns[not held_out].fullmatch(question) for question in questions)
    facts = lambda name: Counter((row["relation"], row["answer"], row.get("context")) for row in world[name])
    for name in ("reading_dev", "remembering_dev"):
        assert facts(f"{name}_heldout_forms") == facts(name)


@pytest.mark.slow
def test_the_seed_decides(build, world):
    again, other = build(0), build(1)
    assert again == world
    assert all(other[name] != world[name] for name in TRAINING)
    assert all(other[name] == world[name] for name in FILES - set(TRAINING))  # all seeds are measured on the same


REPORT = {name: 10.0 + number for number, name in enumerate(sorted(FIGURES))} | {
    "context_questions": 300, "closed_book_questions": 150, "question_rows": 80_000,
    "question_rows_of_pretraining": 48_000,
    "seed": 7, "seconds": 443.4,
}  # fmt: skip
EXAMPLES = [
    {"question": "Where was Mira born?", "context": "Mira [b] & co. was born in Oss.", "gold": "Oss", "text": "Oss",
     "probability": 0.9},
    {"question": "Who's [/dim] & <i>?", "context": None, "gold": "a <smith>", "text": "[/x] <i>:smile: [red]",
     "probability": 0.25},
]  # fmt: skip


def test_the_report_in_words_and_as_a_page(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "300")
    for run in RUNS:
        (tmp_path / run).mkdir()
        rows = [{"step": 1, "loss": 2.5}, {"step": 1, "eval_context_qa_em": 20.0, "eval_closed_book_qa_em": 3.0}]
        (tmp_path / run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_report(tmp_path, REPORT, EXAMPLES)
    written = capsys.readouterr().out
    for line in ("Mira [b] & co. was born in Oss.", "Where was Mira born?  Oss  (90% sure, right)",
                 "Who's [/dim] & <i>?  [/x] <i>:smile: [red]  (25% sure, wrong: a <smith>)"):  # fmt: skip
        assert line in written.splitlines()
    command = written.splitlines()[-1].split(maxsplit=1)[1]
    assert shlex.split(command) == ["answer", str(tmp_path), "--question", "Who's [/dim] & <i>?"]
    assert answer.__name__ == shlex.split(command)[0]
    page = (tmp_path / "report.html").read_text()
    assert page.count("<svg") == page.count("</svg>") == 2 and "seed 7,\n443 seconds" in page
    for text in ("Mira [b] &amp; co. was born in Oss.", "<b>[/x] &lt;i&gt;:smile: [red]</b>", "a &lt;smith&gt;",
                 "Who&#x27;s [/dim] &amp; &lt;i&gt;?"):  # fmt: skip
        assert text in page
    assert (tmp_path / "report.png").read_bytes().startswith(b"\x89PNG")
    for name in FIGURES:
        figure = f"{REPORT[name]:.1f}"
        assert f"<td>{figure}</td>" in page and f" {figure} " in written, name


@pytest.mark.parametrize(
    ("score", "other", "says"),
    [
        (100.0, 27.3, "better by "), (27.3, 100.0, "worse by "), (85.0, 84.0, "no difference that 300 questions could show"),
        (100.0, 100.0, "no difference"), (100.0, 99.0, "no difference"), (5.0, 5.3, "no difference"),
    ],
)  # fmt: skip
def test_a_score_is_better_where_its_interval_says_so(score, other, says):
    assert compared(score, other, 300).startswith(says)


def test_the_interval_holds_the_true_difference_in_19_of_20_samples():
    rng, covered = np.random.default_rng(0), 0
    for _ in range(2000):
        verdict = compared(*(rng.binomial(150, [0.9, 0.6]) / 1.5), 150)
        low, high = map(int, re.fullmatch(r"better by (\d+) to (\d+) points", verdict).groups())
        covered += low - 0.5 <= 30 <= high + 0.5  # the interval is written in whole points
    assert 0.93 < covered / 2000 < 0.985


@pytest.mark.slow
def test_all_of_it_in_two_steps_each(monkeypatch, tmp_path, capsys):
    make_small(monkeypatch)
    out = tmp_path / "quick start"
    config = QuickstartSettings(out=str(out), pretrain_steps=2, finetune_steps=2)
    report = quickstart(config, quiet=True)
    assert report.keys() == FIGURES | OTHERS
    assert json.loads((out / "report.json").read_text()) == report
    assert all(0 <= report[name] <= 100 for name in FIGURES)
    assert report["closed_book_em_heldout_forms"] < 20 and report["context_em"] < 20  # two steps teach nothing
    assert 0 < report["chance_em"] < 50 and 0 < report["context_em_baseline"] < 60
    assert (out / "report.html").exists()
    assert {path.name for path in out.iterdir()} == {
        "run.json", "world", "report.json", "report.html", "report.png", *RUNS
    }  # fmt: skip
    written = capsys.readouterr().out
    assert f"tlqa answer '{out}' --question" in written
    settings = lambda run: json.loads((out / run / "run.json").read_text())["settings"]
    assert settings("finetuned")["start_from"] == str(out / "pretrained")
    assert settings("text_then_questions")["start_from"] == str(out / "text_alone")
    assert settings("questions_alone")["start_from"] is None and settings("text_alone")["questions"] is None
    rows_of_questions = 64 * (settings("finetuned")["steps"] + settings("pretrained")["steps"] // 2)
    for control in ("questions_alone", "text_then_questions"):
        assert rows_of_questions == 64 * settings(control)["steps"] == report["question_rows"]
    assert settings("text_alone")["steps"] == 1  # as much text: the other half of the rows
    assert quickstart(config) == report and "is complete: see" in capsys.readouterr().out
