"""What is special to fine-tuning: which pretrained parts are kept, the no-answer threshold, the classes, the tasks."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from tlqa_jax import cli
from tlqa_jax.checkpoints.load import load
from tlqa_jax.checkpoints.named_arrays import flatten
from tlqa_jax.checkpoints.save import save_pretrained
from tlqa_jax.commands.training import of_family
from tlqa_jax.errors import UserError
from tlqa_jax.inference.generator import Generation, Generator
from tlqa_jax.models.bert import BertConfig
from tlqa_jax.models.bert_heads import BertForSequenceClassification
from tlqa_jax.models.functional import as_function
from tlqa_jax.text.wordpiece import WordPieceTokenizer
from tlqa_jax.training.initial_model import merge_pretrained
from tlqa_jax.training.loop import TrainingRun
from tlqa_jax.training.progress import score_table

from .comparing import metrics
from .programs import BERT_SIZES, PROGRAMS, SHOUTS, Stop, in_folder, random_model, save_bert, short, stop


@pytest.fixture
def first_state(monkeypatch):
    """`first_state(program, settings)`: the parameters that a run begins with, flat."""
    monkeypatch.setattr(TrainingRun, "training", lambda self, state, *_: stop(state))

    def run(program, settings):
        with pytest.raises(Stop) as stopped:
            program.run(settings, quiet=True)
        return flatten(stopped.value.args[0]["params"])

    return run


def parameters(directory) -> dict[str, np.ndarray]:
    return flatten(as_function(load(directory).model())[1])


# What a run starts from


def test_pretrained_parts_are_kept_and_another_tasks_head_is_not():
    fresh = {"encoder": {"word": 0, "norm": 0}, "span": {"matrix": 0}}
    assert merge_pretrained(fresh, {"encoder": {"word": 1, "norm": 2, "pooler": 3}, "masked_lm": {"bias": 4}}) == {
        "encoder": {"word": 1, "norm": 2}, "span": {"matrix": 0}
    }  # fmt: skip
    assert merge_pretrained(fresh, {}) == fresh


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_run_begins_with_the_parameters_of_what_it_starts_from(name, files, tmp_path, first_state):
    program = PROGRAMS[name]
    start, prefix = files / program.family, {"t5": "", "bert": "encoder/"}[program.family]
    state = first_state(program, short(program, files, out=str(tmp_path / "run"), start_from=str(start)))
    started = {prefix + path: array for path, array in parameters(start).items()}
    common = state.keys() & started.keys()
    assert len(common) > 15 and all(np.array_equal(state[path], started[path]) for path in common)
    assert program.family == "bert" or state.keys() == started.keys()


def classifier(files, directory, *labels):
    config = BertConfig(vocab_size=128, id2label=labels, **BERT_SIZES)
    model = random_model(BertForSequenceClassification, config)
    return str(save_pretrained(model, directory, WordPieceTokenizer(files / "vocab.txt")))


@pytest.mark.parametrize("labels, kept", [(("0", "2", "10"), True), (("a", "b", "c"), False), (("a", "b"), False)])
def test_the_head_for_other_classes_is_not_kept(labels, kept, files, tmp_path, first_state):
    start, program = classifier(files, tmp_path / "start", *labels), PROGRAMS["finetune_classifier"]
    state = first_state(program, short(program, files, out=str(tmp_path / "run"), start_from=start))
    head = {path: array for path, array in parameters(start).items() if path.startswith("classifier/")}
    assert head and all(np.array_equal(state[path], array) == kept for path, array in head.items())
    assert load(tmp_path / "run").config.id2label == ("0", "2", "10")


# Spans


def spans(files, tmp_path, **changes):
    return short(PROGRAMS["finetune_spans"], files, out=str(tmp_path / "run"), **changes)


@pytest.mark.parametrize("questions, held_out, threshold, of_run", [
    ("questions", "questions", math.inf, None),  # to be tuned at each evaluation
    ("questions", "answered", 0.0, 0.0),  # what is learned of no answer counts, and there is nothing to tune it on
    ("questions", None, 0.0, 0.0),
    ("answered", "answered", None, None),  # always an answer
])  # fmt: skip
def test_the_no_answer_threshold(questions, held_out, threshold, of_run, files, tmp_path, monkeypatch, first_state):
    given = []
    monkeypatch.setattr(PROGRAMS["finetune_spans"].module, "SpanAnswerer", lambda *_, **options: given.append(options))
    path = lambda name: name and str(files / f"{name}.jsonl")
    first_state(PROGRAMS["finetune_spans"], spans(files, tmp_path, questions=path(questions), held_out=path(held_out)))
    assert given[0]["no_answer_threshold"] == threshold
    assert load(tmp_path / "run").usage.get("no_answer_threshold") == of_run


def test_a_run_of_spans_from_a_model_that_looks_back_only(files, tmp_path, first_state):
    start = save_bert(tmp_path / "causal", WordPieceTokenizer(files / "vocab.txt"), attention="causal")
    first_state(PROGRAMS["finetune_spans"], spans(files, tmp_path, start_from=str(start)))
    assert load(tmp_path / "run").options == {"attention": "causal"}
    start.rename(tmp_path / "gone")  # and then the run itself tells its family
    flags = ["--start-from", str(start), "--out", str(tmp_path / "run")]
    assert of_family("finetune-qa", flags) == "finetune-spans"


@pytest.mark.parametrize("name, changes, expected", [
    ("finetune_spans", dict(input_length=40),
     {"tokens": (16, 32), "token_types": (16, 32), "start": (16,), "end": (16,)}),
    ("finetune_qa", dict(input_length=512, target_length=32, pack=False, tasks=(), train_on=()),
     {"inputs": (16, 64), "targets": (16, 8)}),
    ("finetune_classifier", dict(input_length=40), {"tokens": (16, 16), "labels": (16,)}),
])  # fmt: skip
def test_a_batch_is_no_longer_than_the_longest_example(name, changes, expected, files, tmp_path, monkeypatch):
    program = PROGRAMS[name]

    def first_batch(size, batch_size, seed, build, **_):
        raise Stop({name: rows.shape for name, rows in build(np.arange(batch_size)).items()})

    monkeypatch.setattr(program.module, "training_batches", first_batch)
    with pytest.raises(Stop) as stopped:
        program.run(short(program, files, out=str(tmp_path / "run"), **changes), quiet=True)
    assert stopped.value.args[0] == expected


@pytest.mark.parametrize("name, changes, message", [
    ("finetune_spans", dict(input_length=48), "--input-length 48: this model reads at most 40 tokens"),
    ("finetune_spans", dict(questions=None), "give --questions"),
    ("finetune_spans", dict(questions="FOLDER/labelled.jsonl"), 'no field "question"'),
    ("finetune_classifier", dict(label_field="sterne"), 'no field "sterne"'),
    ("finetune_classifier", dict(texts="FOLDER/one.jsonl"), "every text has the label '2', so there is nothing"),
    ("finetune_classifier", dict(held_out="FOLDER/new.jsonl"), "labelled.jsonl has no text with the label 7"),
    ("finetune_qa", dict(context_questions=None, tasks=(), train_on=(), held_out=()), "nothing to learn from: give --c"),
    ("finetune_qa", dict(context_questions=None, held_out_context=None, tasks=(), train_on=(), held_out=()), "nothing to"),
    ("finetune_qa", dict(tasks=("sentimen",)), "there is no task 'sentimen'; known are context_qa, .*, shouts"),
    ("finetune_qa", dict(mixing="half"), "--mixing 'half': known are proportional"),
    ("finetune_qa", dict(train_on=("shouts=FOLDER/puns.jsonl",)), 'puns.jsonl, line 1: no field "loud", which task'),
    ("finetune_qa", dict(held_out=("shouts=FOLDER/twice.jsonl",)), "--held-out shouts: the id 's0' occurs twice"),
])  # fmt: skip
def test_what_cannot_work_is_refused_before_a_step_is_compiled(name, changes, message, files, tmp_path, no_compilation):
    (tmp_path / "one.jsonl").write_text('{"review": "fine", "stars": 2}\n')
    (tmp_path / "new.jsonl").write_text('{"review": "fine", "stars": 7}\n')
    (tmp_path / "twice.jsonl").write_text((files / "shouts.jsonl").read_text() * 2)
    for file in files.glob("*.jsonl"):
        (tmp_path / file.name).symlink_to(file)
    settings = PROGRAMS[name].make(files, out=str(tmp_path / "run"))
    with pytest.raises(UserError, match=message):
        PROGRAMS[name].run(replace(settings, **in_folder(changes, tmp_path)), quiet=True)
    assert not (tmp_path / "run").exists()


# Tasks


def test_a_task_of_another_record_is_another_setting(files, tmp_path, first_state):
    program = PROGRAMS["finetune_qa"]
    settings = program.make(files, out=str(tmp_path / "run"))
    first_state(program, settings)
    assert load(tmp_path / "run").usage["tasks"]["shouts"]["input"] == "shout it: {text}"
    with pytest.raises(UserError, match="tasks was {'shouts': {'input': 'shout it: {text}'}}, is .*loudly"):
        program.run(settings, task=replace(SHOUTS, input="loudly: {text}"), quiet=True)


def test_a_task_with_held_out_questions_only_is_evaluated_and_not_learned(files, tmp_path, capsys, first_state):
    program = PROGRAMS["finetune_qa"]
    settings = program.make(
        files, out=str(tmp_path / "run"), tasks=(), train_on=(), held_out=(),
        held_out_closed_book=str(files / "questions.jsonl"),
    )  # fmt: skip
    with pytest.raises(Stop):
        program.run(settings, quiet=False)
    said = capsys.readouterr().out
    assert "context_qa: 100.0% of the examples; 24 examples" in said and "held out, closed_book_qa: 24 examples" in said


def test_the_table_has_a_line_for_each_task():
    console = Console(width=80)
    with console.capture() as shown:
        console.print(score_table({"sentiment": {"loss": 0.5, "accuracy": 87.25, "accuracy_low": 80.0}}))
    assert [line.split() for line in shown.get().splitlines()] == [
        ["held", "out", "loss", "score"], ["sentiment", "0.500", "accuracy", "87.2"],
    ]  # fmt: skip


GOLD = ("km²", "line one\nline two", "two  spaces")


@pytest.mark.slow
def test_a_t5_that_generates_what_its_vocabulary_can_of_gold_scores_100(files, tmp_path, monkeypatch, capsys):
    """Whoever scores it: the run, or the command line. The vocabulary has no "²" and no line end."""

    def generate(self, params, inputs, lengths):
        asked = [int(self.tokenizer.decode(row).split()[-1]) for row in inputs]
        texts = [self.tokenizer.decode(self.tokenizer.encode(GOLD[number])) for number in asked]
        return [[Generation(text, 0.5, (), ())] for text in texts]

    monkeypatch.setattr(Generator, "__call__", generate)
    monkeypatch.setattr(cli, "quiet_libraries", lambda: None)
    rows = [{"id": f"q{n}", "question": f"{n}", "answer": gold, "text": f"{n}"} for n, gold in enumerate(GOLD)]
    gold = tmp_path / "gold.jsonl"
    gold.write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = {"name": "copy", "input": "copy: {text}", "target": "answer", "metrics": ["accuracy"], "train": str(gold)}
    (tmp_path / "copy.json").write_text(json.dumps(task))
    settings = short(
        PROGRAMS["finetune_qa"], files, out=str(tmp_path / "run"), context_questions=None,
        closed_book_questions=str(gold), held_out_closed_book=str(gold), tasks=(str(tmp_path / "copy.json"),),
        train_on=(), held_out=(f"copy={gold}",), pack=False, input_length=16, steps=1, optimizer="adamw",
        freeze=("encoder*", "embedding", "decoder_0"),
    )  # fmt: skip
    run = PROGRAMS["finetune_qa"].run(settings, quiet=True)
    last = metrics(run)[-1]
    assert [last[f"eval_{name}"] for name in ("closed_book_qa_em", "closed_book_qa_f1", "copy_accuracy")] == 3 * [100]
    assert json.loads((run / "predictions_closed_book_qa.json").read_text())["q0"] == "km2"
    for line, wanted in (
        (f"evaluate {run} --questions {gold} --predictions {tmp_path}/p.json", {"exact": 100, "F1": 100}),
        (f"evaluate {run} --task copy --texts {gold}", {"accuracy": 100}),
        (f"evaluate {tmp_path}/p.json --questions {gold}", {"exact": 200 / 3}),  # the official figure
    ):
        with pytest.raises(SystemExit) as end:
            cli.main(line.split())
        assert not end.value.code
        printed = {words[0]: words for words in map(str.split, capsys.readouterr().out.splitlines()) if words}
        for name, value in wanted.items():
            assert float(printed[name][2 if name == "exact" else 1]) == pytest.approx(value, abs=0.01)
    (tmp_path / "twice.jsonl").write_text(gold.read_text() * 2)
    with pytest.raises(SystemExit) as end:  # one of the two predictions would be lost
        cli.main(f"evaluate {run} --task copy --texts {tmp_path}/twice.jsonl --predictions {tmp_path}/t.json".split())
    assert end.value.code == 2 and not (tmp_path / "t.json").exists()
    assert "twice.jsonl: the id 'q0' occurs twice: predictions are kept by id" in capsys.readouterr().err
