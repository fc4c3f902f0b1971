"""The command line: every command once, every error a user can cause in one line, nothing touched that was there."""

import dataclasses
import importlib
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax
import pytest

from tlqa_jax import cli
from tlqa_jax.commands import answering, evaluating, generating
from tlqa_jax.checkpoints.load import load
from tlqa_jax.fields import help_texts
from tlqa_jax.inference import predictors
from tlqa_jax.inference.generation_config import GenerationConfig
from tlqa_jax.text.wordpiece import SPECIALS

MODEL = {"d_model": 12, "d_kv": 4, "d_ff": 20, "num_layers": 1, "num_heads": 3}
BERT = {"hidden_size": 12, "num_hidden_layers": 1, "num_attention_heads": 3, "intermediate_size": 20}
BERT["max_position_embeddings"] = 24
PRETRAIN = "pretrain-spans --model model.json --texts tiny_world:pretraining_dev.txt --held-out None --input-length 32"
PRETRAIN += " --batch-size 8 --steps 2 --log-every 1 --save-every 1 --warmup 0 --dropout 0"
FINETUNE = "finetune-qa --context-questions questions.json --held-out-context questions.json --input-length 32"
FINETUNE += " --target-length 5 --batch-size 8 --steps 1 --warmup 0 --dropout 0"
SPANS = "finetune-qa --model bert.json --vocabulary wordpiece.txt --questions questions.json --held-out questions.json"
SPANS += " --input-length 24 --stride 4 --max-question-length 8 --batch-size 8 --steps 1 --dropout 0"
CLASSES = "finetune-classifier --start-from pointing --texts classes.jsonl --held-out classes.jsonl"
CLASSES += " --input-length 12 --batch-size 8 --steps 1 --dropout 0"
TASKS = "finetune --start-from pretrained --tasks context_qa,classes.json --train-on context_qa=questions.json"
TASKS += " --held-out context_qa=questions.json --mixing equal --input-length 24 --target-length 5 --batch-size 8"
TASKS += " --steps 1 --dropout 0"
QUESTIONS = [
    {"id": f"q{i}", "question": "Where is Mira from?", "answers": [{"text": "Oss", "answer_start": 13}]}
    for i in range(3)
]


def squad(qas: list[dict]) -> str:
    return json.dumps({"data": [{"title": "t", "paragraphs": [{"context": "Mira is from Oss.", "qas": qas}]}]})


def tlqa(line: str | list[str], capsys) -> tuple[int, str, str]:
    """(exit status, stdout, stderr) of a command, run in this process."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as end:
        cli.main(line.split() if isinstance(line, str) else line)
    return end.value.code, *capsys.readouterr()


@pytest.fixture(autouse=True)
def as_in_the_tests(monkeypatch):
    monkeypatch.setattr(cli, "quiet_libraries", lambda: None)  # warnings stay errors
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.delenv("TLQA_DEBUG", raising=False)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A directory with files, a pretrained and a fine-tuned run, all made by the commands."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "model.json").write_text(json.dumps(MODEL))
    (folder / "questions.json").write_text(squad(QUESTIONS))
    (folder / "bert.json").write_text(json.dumps(BERT))
    (folder / "wordpiece.txt").write_text("\n".join([*SPECIALS, "where", "is", "mira", "from", "?", "oss", "."]) + "\n")
    (folder / "classes.jsonl").write_text(
        '{"text": "Where is Mira?", "label": "a place"}\n{"text": "Is Mira from Oss?", "label": 1}\n'
    )
    (folder / "classes.json").write_text(
        '{"name": "classes", "input": "class of: {text}", "target": "label", "train": "classes.jsonl", '
        '"metrics": ["accuracy"]}'
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(cli, "quiet_libraries", lambda: None)
        lines = (f"{PRETRAIN} --out pretrained", f"{FINETUNE} --start-from pretrained --out finetuned")
        lines += (f"{SPANS} --out pointing", f"{CLASSES} --out classifier", f"{TASKS} --out tasks")
        for line in lines:
            with pytest.raises(SystemExit) as end:
                cli.main(line.split())
            assert end.value.code == 0
        for run in ("finetuned", "pointing", "classifier", "tasks"):
            predictors.open_model(run)  # which compiles a little the first time: no error is to compile anything
    return folder


@pytest.fixture
def here(trained, monkeypatch):
    monkeypatch.chdir(trained)
    return trained


# --- what works


def test_training_leaves_a_whole_run(here):
    t5 = "spiece.model"
    for run, program, vocabulary in (
        ("pretrained", "pretrain-spans", t5), ("finetuned", "finetune-qa", t5), ("tasks", "finetune-qa", t5),
        ("pointing", "finetune-spans", "vocab.txt"), ("classifier", "finetune-classifier", "vocab.txt"),
    ):  # fmt: skip
        record = json.loads((here / run / "run.json").read_text())
        assert record["program"] == program and record["finished"]
        files = {path.name for path in (here / run).iterdir()}
        assert {"config.json", "model.safetensors", vocabulary, "checkpoints", "metrics.jsonl", "curves.png"} <= files
        assert load(here / run).model() is not None
    assert (here / "finetuned" / "predictions_context_qa.json").exists()
    assert (here / "pointing" / "predictions.json").exists()


def test_answer_one(here, capsys):
    line = ["answer", "finetuned", "--question", "Where is Mira from?", "--context", "Mira is from Oss."]
    status, out, err = tlqa(line, capsys)
    assert (status, err) == (0, "")
    assert re.fullmatch(r".+   \[probability [01]\.\d\d\]\n", out)
    status, out, err = tlqa([*line, "--context", "Mira is from Oss. " * 20], capsys)
    assert status == 0 and re.fullmatch(
        r"note: 1 of 1 contexts were longer than the model's input: \d+ windows\n", err
    )
    status, out, err = tlqa([*line, "--num-beams", "2", "--probabilities"], capsys)
    assert (status, err) == (0, "")
    assert re.fullmatch(r".+   \[probability [01]\.\d\d\]\n(  [01]\.\d{3}  .+\n){1,5}", out)
    assert tlqa([*line, "--threshold", "0"], capsys)[1].startswith("(no answer)")


def test_a_question_reads_config_json_once(here, capsys, monkeypatch):
    predictors._OPENED.clear()
    opened, read_text = [], Path.read_text
    monkeypatch.setattr(Path, "read_text", lambda path, *a, **k: opened.append(path.name) or read_text(path, *a, **k))
    for run in ("finetuned", "pointing"):
        line = ["answer", run, "--question", "Where is Mira from?", "--context", "Mira is from Oss."]
        assert tlqa(line, capsys)[0] == 0
    assert opened.count("config.json") == 2


def test_generate(here, capsys, tmp_path):
    text = "Mira <extra_id_0> in Oss."
    status, out, err = tlqa(["generate", "pretrained", text, "--max-new-tokens", "6"], capsys)
    assert (status, err) == (0, "") and out.count("\n") == 1
    status, drawn, _ = tlqa(["generate", "pretrained", text, "--temperature", "2", "-n", "3"], capsys)
    assert status == 0 and len(set(drawn.splitlines())) == 3
    assert tlqa(["generate", "pretrained", text, "--temperature", "2", "-n", "3", "--seed", "0"], capsys)[1] == drawn
    assert tlqa(["generate", "pretrained", text, "--temperature", "2", "-n", "3", "--seed", "1"], capsys)[1] != drawn
    (tmp_path / "texts.txt").write_text(f"{text}\n\nTom is 40.\n")
    line = f"generate finetuned --file {tmp_path}/texts.txt --num-beams 3 -n 2 --probabilities"
    status, out, _ = tlqa(line, capsys)
    rows = [json.loads(row) for row in out.splitlines()]
    assert status == 0 and [row["input"] for row in rows] == [text, "Tom is 40."]
    assert all(len(row["generated"]) == 2 and row["generated"][0]["pieces"] for row in rows)


def test_generate_in_a_terminal_writes_piece_by_piece(here, capsys, monkeypatch):
    line = ["generate", "pretrained", "Mira <extra_id_0> in Oss.", "--temperature", "1", "--max-new-tokens", "5"]
    at_once = tlqa(line, capsys)[1]
    flushed = []
    write = sys.stdout.write
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    monkeypatch.setattr(sys.stdout, "write", lambda text: flushed.append(text) or write(text))
    assert tlqa(line, capsys)[1] == at_once
    assert len([text for text in flushed if text.strip()]) > 1 and "".join(flushed) == at_once


def test_a_bert_answers_and_is_scored(here, capsys, tmp_path):
    line = ["answer", "pointing", "--question", "Where is Mira from? " * 3, "--context", "Mira is from Oss."]
    status, out, err = tlqa(line, capsys)
    assert (status, err) == (0, "note: 1 of 1 questions were too long for the model and lost their ends\n")
    assert out.split("   [")[0] in "Mira is from Oss."
    status, out, _ = tlqa(f"answer pointing --file questions.json --out {tmp_path}/p.json", capsys)
    assert status == 0 and len(json.loads((tmp_path / "p.json").read_text())) == 3
    status, out, err = tlqa("evaluate pointing --questions questions.json", capsys)
    assert (status, err) == (0, "") and "nats for the first and the last token" in out.splitlines()[3]


def test_answers_that_are_in_no_context_are_scored_without_a_loss(here, capsys, tmp_path):
    (tmp_path / "q.jsonl").write_text('{"question": "Where?", "context": "Mira is from Oss.", "answer": "Wick"}\n')
    line = f"evaluate pointing --questions {tmp_path}/q.jsonl --predictions {tmp_path}/p.json"
    status, out, err = tlqa(line, capsys)
    assert (status, err) == (0, "") and out.splitlines()[3].split(maxsplit=2) == [
        "loss", "nan", "no answer is in its context"
    ]
    assert json.loads((tmp_path / "p.json").read_text()).keys() == {"q.jsonl:1"}


@pytest.mark.parametrize("run", ["finetuned", "pointing"])
def test_an_exported_model_answers_as_the_run_does(here, capsys, tmp_path, run):
    assert tlqa(f"export {run} --out {tmp_path}/hf", capsys)[0] == 0
    copied, of_run = contents(tmp_path / "hf"), contents(here / run)
    assert copied.items() <= of_run.items() and {"config.json", "model.safetensors"} <= copied.keys()
    assert not any(name.startswith(("checkpoints", "run.json", "metrics")) for name in copied)
    status, _, err = tlqa(f"export {run} --out {tmp_path}/hf", capsys)
    assert status == 2 and "already in use" in err
    assert tlqa(f"export {run} --out {tmp_path}/hf --overwrite", capsys)[0] == 0
    line = ["--question", "Where is Mira from?", "--context", "Mira is from Oss."]
    assert tlqa(["answer", run, *line], capsys)[:2] == tlqa(["answer", f"{tmp_path}/hf", *line], capsys)[:2]


def test_classify(here, capsys, tmp_path):
    status, out, err = tlqa(["classify", "classifier", "Where is Oss?", "Oss " * 12], capsys)
    assert (status, err) == (0, "note: 1 of 2 texts were too long for the model and lost their ends\n")
    row = json.loads(out.splitlines()[0])
    assert row["text"] == "Where is Oss?" and row["label"] in ("1", "a place") and 0.5 <= row["probability"] <= 1
    status, out, _ = tlqa("classify classifier --file classes.jsonl", capsys)
    found = [json.loads(line)["text"] for line in out.splitlines()]
    assert status == 0 and found == ["Where is Mira?", "Is Mira from Oss?"]
    (tmp_path / "t.csv").write_text('said\nWhere is Oss?\n" "\n')
    status, out, err = tlqa(f"classify classifier --file {tmp_path}/t.csv --text-field said", capsys)
    assert status == 0 and out.count("\n") == 1
    assert err == f'note: 1 rows of {tmp_path}/t.csv were left out: their "said" is empty\n'
    assert "a blank line between texts" in " ".join(tlqa("classify --help", capsys)[1].split())


def test_answer_many(here, capsys, tmp_path):
    (tmp_path / "q.jsonl").write_text(
        '{"question": "Who is Mira?"}\n{"id": "b", "question": "Where?", "context": "Oss"}\n'
    )
    status, out, _ = tlqa(f"answer finetuned --file {tmp_path}/q.jsonl", capsys)
    rows = [json.loads(line) for line in out.splitlines()]
    assert status == 0 and [row["id"] for row in rows] == ["q.jsonl:1", "b"]
    status, out, _ = tlqa(f"answer finetuned --file {tmp_path}/q.jsonl --out {tmp_path}/p.json", capsys)
    assert status == 0 and "2 answers written" in out
    assert json.loads((tmp_path / "p.json").read_text()) == {row["id"]: row["answer"] for row in rows}


def test_answers_are_printed_as_they_come(here, capsys, tmp_path, monkeypatch):
    (tmp_path / "q.jsonl").write_text("".join(f'{{"question": "Who is {name}?"}}\n' for name in "ABCDE"))
    line = f"answer finetuned --file {tmp_path}/q.jsonl"
    at_once, run, seen = tlqa(line, capsys)[1], predictors.open_model("finetuned"), []

    def answered(examples, **how):
        seen.append(capsys.readouterr().out)
        return run(examples, **how)

    monkeypatch.setattr(predictors, "open_model", lambda name, to: answered)
    monkeypatch.setattr(answering, "QUESTIONS_AT_ONCE", 2)
    seen.append(tlqa(line, capsys)[1])
    assert [text.count("\n") for text in seen] == [0, 2, 3] and "".join(seen) == at_once


def test_evaluate_a_run_then_its_predictions(here, capsys, tmp_path):
    status, out, err = tlqa(f"evaluate finetuned --questions questions.json --predictions {tmp_path}/p.json", capsys)
    assert (status, err) == (0, "") and "loss" in out
    status, again, _ = tlqa(f"evaluate {tmp_path}/p.json --questions questions.json", capsys)
    assert status == 0 and again.splitlines()[1:] == out.splitlines()[1:3]  # the same exact match and F1
    (tmp_path / "p.json").write_text('{"q0": "the Oss!", "q1": "Oss and Wick"}')
    status, out, err = tlqa(f"evaluate {tmp_path}/p.json --questions questions.json", capsys)
    assert out.splitlines()[1].split()[:3] == ["exact", "match", "33.33"]
    assert out.splitlines()[2].split()[:2] == ["F1", "50.00"]  # (1 + 1/2 + 0) / 3
    assert err == "note: 1 questions had no prediction and count as wrong\n"


def test_a_task_of_a_run_is_scored_by_its_own_metric(here, capsys, tmp_path):
    line = f"evaluate tasks --task classes --texts classes.jsonl --predictions {tmp_path}/p.json"
    status, out, err = tlqa(line, capsys)
    assert (status, err) == (0, "") and [row.split()[0] for row in out.splitlines()[1:3]] == ["loss", "accuracy"]
    assert json.loads((tmp_path / "p.json").read_text()).keys() == {"classes.jsonl:1", "classes.jsonl:2"}
    assert tlqa("answer tasks --question Where? --context Oss", capsys)[0] == 0
    status, _, err = tlqa("evaluate tasks --task reviews --texts classes.jsonl", capsys)
    assert status == 2 and err.endswith("tasks has no task 'reviews': its tasks are context_qa, classes\n")
    status, _, err = tlqa("evaluate finetuned --task classes --texts classes.jsonl", capsys)
    assert status == 2 and err.endswith("finetuned has no task 'classes': its tasks are context_qa\n")
    status, _, err = tlqa("evaluate pointing --task classes --texts classes.jsonl", capsys)
    assert status == 2 and "--task is for a run of `tlqa finetune`" in err
    status, _, err = tlqa(f"{TASKS} --train-on classes=questions.json --out {tmp_path}/run", capsys)
    assert status == 2 and err.startswith('tlqa: questions.json, question \'q0\': no field "text", which task classes')


def test_a_run_is_scored_as_it_is_asked(here, capsys, tmp_path):
    beams = "--num-beams 2 --length-penalty 0.5 --early-stopping never"
    status, out, err = tlqa(f"evaluate finetuned --questions questions.json {beams} --predictions {tmp_path}/p", capsys)
    assert (status, err) == (0, "") and "loss" in out
    assert tlqa(f"answer finetuned --file questions.json {beams} --out {tmp_path}/q", capsys)[0] == 0
    assert (tmp_path / "p").read_text() == (tmp_path / "q").read_text()
    line = f"evaluate finetuned --questions questions.json --threshold 0 --predictions {tmp_path}/none"
    status, out, _ = tlqa(line, capsys)
    assert status == 0 and out.splitlines()[1].split()[2] == "0.00"
    assert set(json.loads((tmp_path / "none").read_text()).values()) == {""}
    status, out, _ = tlqa("evaluate pointing --questions questions.json --threshold -99999", capsys)
    assert status == 0 and out.splitlines()[1].split()[2] == "0.00"


def test_how_a_beam_search_stops_reaches_the_configuration():
    for word, meant in (("true", True), ("false", False), ("never", "never")):
        _, arguments = cli.parse("generate", ["run", "text", "--num-beams", "2", "--early-stopping", word])
        assert generating.generation_config(arguments) == GenerationConfig(num_beams=2, early_stopping=meant)


def test_questions_with_and_without_an_answer_are_also_scored_apart(here, capsys, tmp_path):
    (tmp_path / "q.jsonl").write_text(
        '{"id": "a", "question": "Where?", "answers": ["Oss"]}\n{"id": "b", "question": "Who?", "answers": []}\n'
        '{"id": "c", "question": "Who?", "answers": ["Mira Oss"]}\n'
    )
    (tmp_path / "p.json").write_text('{"a": "Oss", "b": "Mira", "c": "Mira"}')
    status, out, _ = tlqa(f"evaluate {tmp_path}/p.json --questions {tmp_path}/q.jsonl", capsys)
    assert status == 0 and [line.split() for line in out.splitlines()[3:]] == [
        "HasAns 50.00 exact match, 83.33 F1: 2 questions with an answer".split(),
        "NoAns 0.00 exact match, 0.00 F1: 1 questions without one".split(),
    ]
    assert "HasAns" not in tlqa(f"evaluate {tmp_path}/p.json --questions questions.json", capsys)[1]


def test_a_classifier_is_scored(here, capsys, tmp_path):
    line = f"evaluate classifier --texts classes.jsonl --predictions {tmp_path}/p.json"
    status, out, err = tlqa(line, capsys)
    rows = tlqa("classify classifier --file classes.jsonl", capsys)[1].splitlines()
    said = [json.loads(row)["label"] for row in rows]
    accuracy = 50 * sum(label == gold for label, gold in zip(said, ("a place", "1")))
    title, first, loss, *table = out.splitlines()
    assert (status, err, title) == (0, "", "classifier: 2 texts of classes.jsonl")
    assert first.split()[:2] == ["accuracy", f"{accuracy:.2f}"]
    assert float(loss.split()[1]) == pytest.approx(0.7, abs=0.3) and loss.endswith("nats per text")
    assert [row.split()[0] for row in table[:2]] == ["class", "1"] and table[2].startswith("  a place      1  ")
    assert json.loads((tmp_path / "p.json").read_text()) == {"1": said[0], "2": said[1]}
    (tmp_path / "c.jsonl").write_text('{"said": "Where is Mira?", "is": "a place"}\n{"said": "Hm?", "is": "a sigh"}\n')
    status, _, err = tlqa(f"evaluate classifier --texts {tmp_path}/c.jsonl --text-field said --label-field is", capsys)
    assert status == 2 and err.endswith("a text is of the class 'a sigh', but classifier has the classes 1, a place\n")


def test_the_figures_of_each_class():
    assert evaluating.class_table(("no", "yes", "perhaps"), ["no", "no", "yes"], ["no", "yes", "yes"]) == [
        "  class    texts  precision  recall      F1",
        "  no           2     100.00   50.00   66.67",
        "  yes          1      50.00  100.00   66.67",
        "  perhaps      0          -       -       -",
    ]


def test_the_n_best_answers_of_a_bert(here, capsys):
    status, out, err = tlqa("answer pointing --file questions.json --n-best 3", capsys)
    rows = [json.loads(line) for line in out.splitlines()]
    assert (status, err, len(rows)) == (0, "", 3)
    for row in rows:
        assert len(row["n_best"]) == 3 and row["n_best"][0]["answer"] == row["answer"]
        assert row["n_best"][0]["probability"] == row["probability"] >= row["n_best"][1]["probability"]
        for one in row["n_best"]:
            assert "Mira is from Oss."[one["start"] :].startswith(one["answer"]) and one["answer"]


def test_vocab_train(here, capsys, tmp_path):
    line = f"vocab train --texts tiny_world:pretraining_dev.txt --size 300 --out {tmp_path}/v.model"
    status, out, err = tlqa(line, capsys)
    assert (status, err) == (0, "") and "300 pieces, and 100 sentinels" in out
    status, _, err = tlqa(line, capsys)
    assert status == 2 and "v.model is already there" in err
    assert tlqa(f"{line} --overwrite", capsys)[0] == 0
    line = f"vocab train --kind wordpiece --texts tiny_world:pretraining_dev.txt --size 300 --out {tmp_path}/v.txt"
    status, out, err = tlqa(line, capsys)
    assert (status, err) == (0, "") and "v.txt: 300 pieces, uncased" in out
    assert len((tmp_path / "v.txt").read_text().splitlines()) == 300
    assert "cased: use it with --no-lowercase" in tlqa(f"{line} --overwrite --cased", capsys)[1]


def test_devices(capsys):
    status, out, _ = tlqa("devices", capsys)
    assert status == 0 and out.count("\n  ") == jax.device_count() == 8
    assert "sum of ones over all devices is 8\nmodels compute in float32" in out


def test_the_same_command_again_changes_nothing_in_a_complete_run(here, capsys, tmp_path):
    before = contents(here / "pretrained")
    status, out, err = tlqa(f"{PRETRAIN} --out pretrained", capsys)
    assert (status, err) == (0, "") and contents(here / "pretrained") == before
    assert out.startswith("pretrained is complete. To train it again: --overwrite, or another --out\n")


def test_overwrite_starts_afresh(here, capsys, tmp_path):
    run = shutil.copytree(here / "finetuned", tmp_path / "run")
    assert tlqa(f"{PRETRAIN} --steps 1 --out {run} --overwrite", capsys)[0] == 0
    assert [path.name for path in (run / "checkpoints").iterdir()] == ["1"]
    assert not (run / "predictions_context_qa.json").exists()


# --- help


def test_help_is_quick_and_imports_no_jax():
    code = "import sys, tlqa_jax\nfrom tlqa_jax import cli\n"
    code += "try: cli.main([{}])\nexcept SystemExit: sys.exit('jax' in sys.modules)"
    for arguments in ("'--help'", "'answer', '--help'", "'vocab', 'train', '--help'", "'evaluate', '--help'"):
        done = subprocess.run([sys.executable, "-c", code.format(arguments)], capture_output=True, text=True, cwd=ROOT)
        assert done.returncode == 0 and done.stdout.startswith("usage: tlqa"), done.stderr


ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("name", cli.COMMANDS)
@pytest.mark.parametrize("width", ["60", "140"])
def test_every_command_explains_itself(name, width, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", width)
    status, out, _ = tlqa([*name.split(), "--help"], capsys)
    assert status == 0 and f"tlqa {name}" in out.partition("examples:")[2]
    assert max(map(len, out.splitlines())) <= min(int(width), 120)
    overview = tlqa("--help", capsys)[1]
    assert f"  {name} " in overview and max(map(len, overview.splitlines())) <= min(int(width), 120)


@pytest.mark.parametrize(
    "module, config",
    [
        ("training.pretrain_spans", "PretrainSpansSettings"),
        ("training.pretrain_mlm", "PretrainMLMSettings"),
        ("training.pretrain_clm", "PretrainCLMSettings"),
        ("training.pretrain_vectors", "PretrainVectorsSettings"),
        ("training.finetune_qa", "FinetuneQASettings"),
        ("training.finetune_spans", "FinetuneSpansSettings"),
        ("training.finetune_classifier", "FinetuneClassifierSettings"),
        ("training.finetune_features", "FinetuneFeaturesSettings"),
        ("experiments.quickstart", "QuickstartSettings"),
    ],
)
def test_every_setting_has_a_text(module, config):
    config = getattr(importlib.import_module(f"tlqa_jax.{module}"), config)
    assert help_texts(config).keys() == {field.name for field in dataclasses.fields(config)}


# --- what does not: one line, exit status 2, nothing compiled, nothing changed


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


FILES = {
    "latin.txt": "Das M\xe4dchen".encode("latin-1"),
    "one.txt": b"One document. It has two sentences.",
    "broken.json": b'{"data": [{"paragraphs": [{"context": "A b c"',
    "broken.jsonl": b'{"question": "q", "answer": "a"}\n{"question": oops}\n',
    "elsewhere.json": squad(
        [QUESTIONS[0], {**QUESTIONS[1], "answers": [{"text": "Wick", "answer_start": 13}]}]
    ).encode(),
    "no_answers.jsonl": b'{"question": "Where?"}\n',
    "no_context.jsonl": b'{"id": "n", "question": "Where?", "answer": "Oss"}\n',
    "small.json": json.dumps(MODEL | {"vocab_size": 100}).encode(),
    "typo.json": b'{"d_modell": 12}',
    "text.json": b'{"d_model": "12"}',
    "list.json": b"[12]",
    "bert_half.json": b'{"intermediate_size": 24.5}',
    "sizes.json": json.dumps(BERT).encode(),
    "bert_t5.json": json.dumps(MODEL).encode(),
    "fake.model": b"no vocabulary",
    "numbers.json": b'{"q0": 5}',
    "others.json": b'{"z": "Oss"}',
}

ERRORS = [
    # line, what the message says
    (f"{PRETRAIN} --out new --texts nowhere.txt", "nowhere.txt does not exist"),
    (f"{PRETRAIN} --out new --held-out nowhere.txt", "nowhere.txt does not exist"),
    (f"{PRETRAIN} --out new --texts latin.txt", r"latin.txt is not UTF-8: byte 0xe4 at offset 5 \(line 1\)"),
    (f"{PRETRAIN} --out new --vocabulary fake.model", "fake.model is not a SentencePiece model"),
    (f"{PRETRAIN} --out new --vocabulary nowhere.model", "nowhere.model does not exist"),
    (f"{PRETRAIN} --out new --model small.json", "--model small.json: the vocabulary has 1100 ids, the model only 100"),
    (f"{PRETRAIN} --out new --model typo.json", r"typo.json: unknown model field\(s\) d_modell"),
    (f"{PRETRAIN} --out new --model text.json", 'text.json: d_model is "12", not of type int'),
    (f"{PRETRAIN} --out new --model list.json", "list.json is not a JSON object"),
    (f"{PRETRAIN} --out new --model huge", "huge: neither one of tiny, small, base nor"),
    (f"{PRETRAIN} --out new --batch-size 12", r"12 cannot be split over 8 device\(s\) x --accumulate 1: use 8 or 16"),
    (f"{PRETRAIN} --out new --accumulate 2", r"8 cannot be split over 8 device\(s\) x --accumulate 2: use 16"),
    (f"{PRETRAIN} --out new --dtype float16", r'--dtype is "float16" \(T5 overflows in it\)'),
    (f"{PRETRAIN} --out new --steps 0", "--steps is 0: it has to be at least 1"),
    (f"{PRETRAIN} --out new --warmup 2", "--warmup 2 is not shorter than the run of 2 steps: give a smaller --warmup"),
    (f"{PRETRAIN} --out new --warmup 1.5", "--warmup is 1.5: it has to be a whole number of steps, or a share below 1"),
    (f"{FINETUNE} --out new --warmup 1", "--warmup 1 is not shorter than the run of 1 steps"),
    (f"{CLASSES} --out new --warmup 3", "--warmup 3 is not shorter than the run of 1 steps"),
    (f"{PRETRAIN} --out new --log-every 0", "--log-every is 0"),
    (f"{PRETRAIN} --out new --processes 2", "--coordinator, --processes and --process-id belong together"),
    (f"{PRETRAIN} --out gs://bucket/run", "gs://bucket/run: paths in buckets cannot be opened"),
    ("answer gs://bucket/run --question x", "gs://bucket/run: paths in buckets cannot be opened"),
    ("export pretrained --out gs://bucket/model", "gs:/+bucket/model: paths in buckets cannot be opened"),
    ("answer finetuned --file gs://bucket/a.json", "gs://bucket/a.json: paths in buckets cannot be opened"),
    (f"{PRETRAIN} --out new --dropout 1.0", "--dropout is 1.0: it has to be at least 0 and below 1"),
    (f"{PRETRAIN} --out new --learning-rate nan", "--learning-rate is nan"),
    (f"{PRETRAIN} --out new --seed -1", "--seed is -1"),
    (f"{PRETRAIN} --out new --questions-share 0.5", "--questions-share needs --questions"),
    (f"{PRETRAIN} --out new --questions questions.json", "--questions needs a --questions-share"),
    (f"{PRETRAIN} --out new --salient-share 0.5", "spans are marked in rows, .* --salient-spans rule finds"),
    (f"{PRETRAIN} --out new --input-length 9999", "fewer than one window|sentinels"),
    (f"{PRETRAIN} --out pretrained --steps 5", "other settings or inputs: steps was 2, is 5: give another --out, or --overwrite"),
    (f"{PRETRAIN} --out pretrained --model tiny", "other settings or inputs: model was 'model.json', is 'tiny'"),
    (f"{PRETRAIN} --out finetuned", "program was 'finetune-qa', is 'pretrain-spans'"),
    (f"{PRETRAIN} --out changed", "--model model.json has changed since the run began"),
    (f"{PRETRAIN} --out . --overwrite", "does not look like a run"),
    (f"{PRETRAIN} --out model.json --overwrite", "model.json is a file"),
    (f"{PRETRAIN} --out new --stepz 5", r"unrecognized arguments: --stepz 5 \(see tlqa pretrain-spans --help\)"),
    (f"{PRETRAIN} --out new --steps many", "--steps: invalid int value: 'many'"),
    (f"{PRETRAIN} --out new --decay line", "--decay: invalid choice: 'line'"),
    (f"{FINETUNE} --out new --start-from nowhere", "nowhere: there is no such directory"),
    (f"{FINETUNE} --out new --start-from .", "has no config.json"),
    (
        f"{FINETUNE} --out new --start-from reshaped",
        r"wi.weight is float32\[20, 12\], the model wants",
    ),
    (f"{FINETUNE} --out new --start-from damaged", "damaged/model.safetensors"),
    (f"{FINETUNE} --out new --context-questions broken.json", "broken.json: malformed JSON at column 46"),
    (f"{FINETUNE} --out new --context-questions broken.jsonl", "broken.jsonl, line 2: malformed JSON at column 14"),
    (
        f"{FINETUNE} --out new --context-questions elsewhere.json",
        "elsewhere.json, question 'q1': the answer 'Wick' is not",
    ),
    (f"{FINETUNE} --out new --context-questions no_answers.jsonl", 'line 1: no field "answers"'),
    (f"{FINETUNE} --out new --context-questions no_context.jsonl", "question 'n': no field \"context\""),
    (f"{FINETUNE} --out new --context-questions tfds:squad", "is not of the form tfds:NAME:SPLIT"),
    (f"{FINETUNE} --out new --input-length 4", "example 'q0' alone takes .* tokens: set --input-length"),
    ("finetune-qa --model model.json --out new", "nothing to learn from"),
    # whose sizes they are, the file says, not its name
    ("finetune-qa --model ./bert.json --out new", "nothing to learn from: give --questions"),
    ("finetune-qa --model sizes.json --out new", "nothing to learn from: give --questions"),
    ("finetune-qa --model sizes.json --out new --questions questions.json", "384: this model reads at most 24 tokens"),
    ("finetune-qa --model bert_t5.json --out new", "give --context-questions"),
    ("finetune-qa --model list.json --out new", "list.json is not a JSON object"),
    ("quickstart --out pretrained --overwrite --pretrain-steps 0", "--pretrain-steps is 0: it has to be at least 1"),
    ("quickstart --out pretrained --overwrite --finetune-steps -1", "--finetune-steps is -1"),
    ("quickstart --out pretrained --overwrite --seed -1", "--seed is -1"),
    ("quickstart --out pretrained --overwrite --salient-share 0.6", "--salient-share is 0.6: .* at most 0.5"),
    ("quickstart --out pretrained --overwrite --salient-share 0.001", "--salient-share is 0.001: it has to be 0, or"),
    (f"{PRETRAIN} --out pretrained --overwrite --start-from pretrained", "would delete pretrained, .* starts from"),
    (f"{PRETRAIN} --out new --salient-share 0.01 --salient-spans rule", "--salient-share 0.01 of --batch-size 8 is "),
    (
        f"{SPANS} --out new --closed-book-questions x",
        "--closed-book-questions: for a T5, but --model bert.json is a BERT .*tlqa finetune-spans --help",
    ),
    (f"{FINETUNE} --out new --start-from pointing", "--context-questions, .*: for a T5, but pointing is a BERT"),
    (
        "finetune-qa --out new --start-from pretrained --questions x",
        "--questions: for a BERT, but pretrained is a T5 .*tlqa finetune-qa --help",
    ),
    (
        "finetune-qa --out new --start-from classifier --input-length 24 --stride 4 --max-question-length 8",
        "nothing to learn from: give --questions",
    ),
    (f"{SPANS.replace('qa', 'spans', 1)} --out new --start-from pretrained", "pretrained holds a T5ForConditionalGeneration, and this program trains a BERT"),
    (f"{SPANS} --out new --vocabulary nowhere.txt", "nowhere.txt does not exist"),
    (f"{SPANS} --out new --model bert-huge", "bert-huge: neither one of tiny, mini"),
    (f"{SPANS} --out new --model bert_half.json", "--model bert_half.json: intermediate_size is 24.5, not of type int"),
    (f"{SPANS} --out new --epochs 2", "--steps 1 and --epochs 2 both say how long to train: give one"),
    (f"{CLASSES} --out new --epochs 3", "--steps 1 and --epochs 3 both say how long to train: give one"),
    (f"{CLASSES} --out new --label-field no", 'no field "no"'),
    (f"{CLASSES} --out new --start-from nowhere/at/all", "there is no such directory"),
    (f"{CLASSES} --out new --start-from finetuned", "finetuned holds a T5ForCond.*, and this program trains a BERT"),
    ("pretrain-mlm --out new --attention causal", "add --no-next-sentence"),
    ("pretrain-mlm --out new --input-length 600", "this model reads at most 512 tokens"),
    ("pretrain-mlm --out new --texts one.txt", "one.txt: .* train without pairs"),
    ("pretrain-mlm --out new --start-from finetuned", "finetuned holds a T5ForCond.*, and this program trains a BERT"),
    ("fill-mask finetuned [MASK]", "finetuned holds a T5ForConditionalGeneration, and only a BERT fills masks"),
    ("answer nowhere --question x", "nowhere: there is no such directory"),
    ("answer pretrained --question x", "pretrained was pretrained but not trained to answer"),
    ("answer pointing --question x", "finds answers in a context: give .* --context"),
    ("answer pointing --file no_context.jsonl", "give question 'n' one .* in rows: the field .context"),
    ("evaluate pointing --questions questions.json --closed-book", "--closed-book is for a T5"),
    ("answer classifier --question x", "classifier classifies texts: `tlqa classify"),
    ("classify pointing x", "pointing answers questions: `tlqa answer"),
    ("classify classifier", "give either texts or --file"),
    ("classify classifier x --file y.jsonl", "give either texts or --file"),
    ("export nowhere --out new", "nowhere: there is no such directory"),
    ("export no/such/model --out new", "there is no such directory"),
    ("generate finetuned", "give either texts or --file"),
    ("generate pointing x", "pointing is a BertForQuestionAnswering, and only a T5 or a causal BERT .* generates text"),
    ("generate finetuned x --num-beams 0", "--num-beams is 0: it has to be at least 1"),
    ("generate finetuned x --num-beams 4 --top-k 3", "give one or the other"),
    ("generate finetuned x --early-stopping never", "--early-stopping is for beam search: give --num-beams with it"),
    ("generate finetuned x --num-beams 2 --early-stopping nevr", "--early-stopping: invalid choice: 'nevr'"),
    ("generate finetuned x --length-penalty 2", "--length-penalty is for beam search"),
    ("generate finetuned x --seed 2", "--seed is for sampling"),
    ("generate finetuned x -n 3", "--num-return-sequences 3 needs at least 3 beams"),
    ("generate finetuned x --max-new-tokens 0", "--max-new-tokens is 0"),
    ("answer finetuned", "one of the arguments --question --file is required"),
    ("answer finetuned --question x --file q.jsonl", "not allowed with argument"),
    ("answer finetuned --question x --out p.json", "--out goes with --file"),
    ("answer pointing --question x --context x --n-best 0", "--n-best goes with --file"),
    ("answer finetuned --file no_answers.jsonl --n-best 2", "--n-best is for a BERT: a T5"),
    ("answer pointing --file questions.json --n-best 0", "--n-best is 0: it has to be from 1 to 20"),
    ("answer pointing --file questions.json --n-best 2 --out new.json", "--n-best is for the lines .* without --out"),
    ("answer finetuned --file no_answers.jsonl --context x", "--context goes with --question"),
    ("answer finetuned --file nowhere.jsonl", "nowhere.jsonl does not exist"),
    ("answer finetuned --file no_answers.jsonl --out questions.json", "questions.json is already there"),
    ("answer finetuned --file no_answers.jsonl --out no/where.json", "there is no directory no"),
    ("evaluate finetuned --questions no_answers.jsonl", 'no field "answers"'),
    ("evaluate finetuned --questions questions.json --predictions .", "is a directory"),
    ("evaluate latin.txt --questions questions.json", "latin.txt is not UTF-8: byte 0xe4"),
    ("evaluate broken.json --questions questions.json", "broken.json: malformed JSON at column 46"),
    ("evaluate list.json --questions questions.json", "not a file of predictions"),
    ("evaluate numbers.json --questions questions.json", "the prediction for 'q0' is 5, not text"),
    ("evaluate others.json --questions questions.json", "has no prediction for any question"),
    ("evaluate others.json --questions questions.json --closed-book", "need a run"),
    ("evaluate others.json --questions questions.json --threshold 0", r"need a run \(--threshold\)"),
    ("evaluate classifier --texts classes.jsonl --num-beams 2 --task x", "classifies texts: leave --task, --num-beams out"),
    ("evaluate pointing --questions questions.json --num-beams 2", "finds answers and generates none"),
    ("evaluate pointing --questions questions.json --label-field x", "pointing is no classifier: --label-field go"),
    ("evaluate tasks --task classes --texts classes.jsonl --threshold 1", "--threshold go with questions, without"),
    ("evaluate finetuned --questions questions.json --seed 2", "--seed is for sampling"),
    ("vocab train --texts latin.txt --out v.model", "latin.txt is not UTF-8"),
    (
        "vocab train --texts tiny_world:pretraining_dev.txt --size 90000 --out v.model",
        "too small for a vocabulary of 90000",
    ),
    ("vocab train --texts tiny_world:pretraining_dev.txt --size 2 --out v.model", "--size 2"),
    ("vocab train --texts tiny_world:pretraining_dev.txt --cased --out v.model", "--cased is of --kind wordpiece"),
    (
        "vocab train --kind wordpiece --texts tiny_world:pretraining_dev.txt --size 9 --out v.txt",
        "a vocabulary of 9 pieces is too small",
    ),
    ("vocab train --kind wordpiece --texts latin.txt --out v.txt", "latin.txt is not UTF-8"),
    (
        "vocab train --kind wordpiece --texts x.txt --out v.txt --character-coverage 1",
        "--character-coverage is of --kind sentencepiece",
    ),
    ("vocab", "tlqa vocab train"),
    ("finetun", r"no command 'finetun': did you mean finetune\?"),
]


@pytest.fixture(scope="module")
def wrong(trained):
    """All the files and runs that cannot be used."""
    for name, content in FILES.items():
        (trained / name).write_bytes(content)
    config = json.loads((trained / "pretrained" / "config.json").read_text())
    config["d_ff"] = 24
    (shutil.copytree(trained / "pretrained", trained / "reshaped") / "config.json").write_text(json.dumps(config))
    (shutil.copytree(trained / "pretrained", trained / "damaged") / "model.safetensors").write_bytes(b"")
    record = json.loads((shutil.copytree(trained / "pretrained", trained / "changed") / "run.json").read_text())
    record["inputs"]["model"]["model.json"] = "sha256:0 1 bytes"
    (trained / "changed" / "run.json").write_text(json.dumps(record))
    return trained


@pytest.mark.parametrize("line, message", ERRORS, ids=[line[-60:] for line, _ in ERRORS])
def test_errors(line, message, wrong, here, capsys, monkeypatch):
    before = contents(here)
    compiled = []
    listen = lambda event, *_, **__: compiled.append(event) if "backend_compile" in event else None
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        status, out, err = tlqa(line, capsys)
    finally:
        jax.monitoring.clear_event_listeners()
    assert re.search(message, err), err
    assert status == 2 and err.startswith("tlqa: ") and err.count("\n") == 1, err
    assert compiled == [] and contents(here) == before


def test_debug_shows_the_traceback(here, capsys, monkeypatch):
    assert "Traceback" not in tlqa("answer nowhere --question x", capsys)[2]
    assert "Traceback" in tlqa("answer nowhere --question x --debug", capsys)[2]
    monkeypatch.setenv("TLQA_DEBUG", "1")
    assert "Traceback" in tlqa("answer nowhere --question x", capsys)[2]


def test_a_loss_that_is_no_number_leaves_the_last_good_model(here, capsys, tmp_path):
    line = f"{PRETRAIN} --out {tmp_path}/run --steps 9 --learning-rate 1e30 --warmup 8"  # the first step does nothing
    status, _, err = tlqa(line, capsys)
    named = re.search(rf"at step (\d+); {tmp_path}/run holds the model of step (\d+), the last good checkpoint: ", err)
    assert status == 2 and err.count("\n") == 1 and named
    # it diverges in an update: its own checkpoint is no good, that of the parameters before it is
    diverged, good = map(int, named.groups())
    saved = sorted(int(path.name) for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert good == diverged - 2 and good in saved and saved[-1] == diverged - 1
    status, _, err = tlqa(f"{PRETRAIN} --start-from {tmp_path}/run --out {tmp_path}/afresh", capsys)
    assert (status, err) == (0, "")


def test_out_of_memory_and_full_disks_are_one_line(capsys, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device", "runs/x")

    monkeypatch.setattr(cli, "run", full)
    assert tlqa("x", capsys)[::2] == (2, "tlqa: runs/x: No space left on device\n")

    def large(*_):
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes")

    monkeypatch.setattr(cli, "run", large)
    assert tlqa("x", capsys)[2].startswith("tlqa: out of memory: try a smaller --batch-size")


def test_a_defect_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr(cli, "run", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cli.main([])


@pytest.mark.slow
def test_ctrl_c_names_how_to_continue(here, tmp_path):
    """In a process of its own, as a user would; nothing but our own lines may reach the terminal."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    line = [*PRETRAIN.split(), "--out", str(tmp_path / "a run"), "--steps", "100000", "--log-every", "50"]
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs ignore it, and so would ours
    process = subprocess.Popen(
        [sys.executable, "-m", "tlqa_jax.cli", *line],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    signal.signal(signal.SIGINT, before)
    assert re.fullmatch(r"training: [\d,]+ tokens, none unknown .* rows of \d+\n", process.stdout.readline())
    assert re.fullmatch(r"training ([\d,]+) of \1 parameters \(100.0%\)\n", process.stdout.readline())
    shown = [process.stdout.readline(), process.stdout.readline()]
    process.send_signal(signal.SIGINT)
    rest, err = process.communicate(timeout=60)
    assert all(re.match(r"pretraining \d+/100000  loss ", text) for text in (shown + rest.splitlines())), shown
    assert process.returncode == 130 and err.count("\n") == 1, err
    assert re.fullmatch(
        rf"tlqa: stopped after step \d+, which is saved; to continue: tlqa {re.escape(shlex.join(line))}\n", err
    )


def test_what_ctrl_c_says():
    """That the same command continues, if it is one that trains."""
    line = ["quickstart", "--overwrite", "--out", "a b"]
    assert cli.interrupted(line).endswith(": tlqa quickstart --out 'a b'")
    assert cli.interrupted(["devices"]) == cli.interrupted(["nonsense"]) == cli.interrupted([]) == "stopped"
