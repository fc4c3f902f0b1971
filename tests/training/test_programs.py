"""What all programs share: they learn, leave a Hugging Face directory, continue exactly, refuse what differs."""

import json
import re
import shutil
from dataclasses import dataclass, fields, replace
from pathlib import Path

import jax
import numpy as np
import pytest

from tlqa_jax import cli
from tlqa_jax.checkpoints.load import load
from tlqa_jax.checkpoints.named_arrays import flatten
from tlqa_jax.commands import evaluating
from tlqa_jax.errors import UserError
from tlqa_jax.inference.generation_config import GenerationConfig
from tlqa_jax.inference.predictors import open_model
from tlqa_jax.models.functional import as_function
from tlqa_jax.training.loop import TrainingRun
from tlqa_jax.training.progress import Progress
from tlqa_jax.training.settings import TrainingSettings, fingerprints

from .comparing import assert_same_arrays, metrics, saved_state
from .programs import PROGRAMS, SHOUTS, Program, Stop, labelled, stop, write_files

LEFT_BY_ALL = {
    "config.json", "model.safetensors", "tokenizer_config.json", "special_tokens_map.json",
    "run.json", "checkpoints", "metrics.jsonl", "curves.png",
}  # fmt: skip
VOCABULARY = {"t5": "spiece.model", "bert": "vocab.txt"}


@dataclass(frozen=True)
class Finished:
    """A small run that has ended, in a folder of its own with all that it read."""

    program: Program
    folder: Path
    settings: TrainingSettings

    @property
    def run(self) -> Path:
        return self.folder / "run"

    def again(self, quiet: bool = True, **changes) -> Path:
        """The same command, changed."""
        return self.program.run(replace(self.settings, **changes), quiet=quiet)


QUICK = ("pretrain_spans", "pretrain_mlm", "finetune_spans")
RUNS = [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in PROGRAMS]


@pytest.fixture(scope="module", params=RUNS)
def finished(request, tmp_path_factory):
    program, folder = PROGRAMS[request.param], write_files(tmp_path_factory.mktemp(request.param))
    settings = program.make(folder)
    program.run(settings, quiet=True)
    return Finished(program, folder, settings)


def contents(directory: Path) -> dict[str, tuple[int, bytes]]:
    """When each file was written, and what is in it."""
    files = (path for path in directory.rglob("*") if path.is_file())
    return {str(path): (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def parameters(directory: Path) -> dict[str, np.ndarray]:
    """Of the model in `model.safetensors`, by the names that they have in a checkpoint."""
    return {f"params/{name}": array for name, array in flatten(as_function(load(directory).model())[1]).items()}


def test_it_learns_and_leaves_a_hugging_face_directory_behind(finished):
    program, run = finished.program, finished.run
    rows = metrics(run)
    losses = [row["loss"] for row in rows if "loss" in row]
    assert len(losses) == finished.settings.total_steps(program.rows)
    assert np.mean(losses[-3:]) < losses[0] - 0.2
    evaluations = [row for row in rows if "eval_loss" in row]
    assert [row["step"] for row in evaluations] == [finished.settings.evaluate_every, len(losses)]
    assert evaluations[-1].keys() == {"step"} | {f"eval_{name}" for name in program.evaluation}
    assert {path.name for path in run.iterdir()} == LEFT_BY_ALL | {VOCABULARY[program.family]} | program.written
    steps = {path.name for path in (run / "checkpoints").iterdir() if path.name.isdigit()}
    assert steps == {str(finished.settings.save_every), str(len(losses))}
    pretrained = load(run)
    assert (pretrained.family, pretrained.architecture) == (program.family, program.architecture)
    expected = {name: pretrained.usage[name] if value is ... else value for name, value in program.usage.items()}
    assert pretrained.usage == expected | {"dtype": "auto"}
    assert pretrained.tokenizer.vocab_size <= pretrained.config.vocab_size
    saved = {name: array for name, array in saved_state(run).items() if name.startswith("params/")}
    assert_same_arrays(parameters(run), saved)


def test_what_its_evaluation_says(finished, capsys):
    read = lambda name: json.loads((finished.run / f"{name}.json").read_text())
    last, name, usage = metrics(finished.run)[-1], finished.program.settings.__name__, load(finished.run).usage
    if name == "PretrainSpansSettings":
        assert 0 <= last["eval_accuracy"] <= 1
    if name == "PretrainMLMSettings":
        assert last["eval_loss"] == pytest.approx(last["eval_mlm_loss"] + last["eval_nsp_loss"])
        assert 0 < last["eval_mlm_accuracy"] < 1 and 0 < last["eval_nsp_accuracy"] < 1
        assert last["eval_mlm_loss"] < next(row for row in metrics(finished.run) if "eval_loss" in row)["eval_mlm_loss"]
    if name == "PretrainCLMSettings":
        assert last["eval_perplexity"] == pytest.approx(np.exp(last["eval_loss"])) and 0 < last["eval_accuracy"] < 1
        [texts] = open_model(finished.run).generate(["the clock in"], GenerationConfig(max_new_tokens=4))
        assert len(texts[0].pieces) <= 4
        _, arguments = cli.parse("evaluate", [str(finished.run), "--texts", finished.settings.held_out])
        evaluating.run_evaluation(arguments)
        assert f"perplexity  {last['eval_perplexity']:9.2f}   {last['eval_loss']:.3f} nats" in capsys.readouterr().out
    if name == "FinetuneQASettings":
        assert last["eval_loss"] == pytest.approx((last["eval_context_qa_loss"] + last["eval_shouts_loss"]) / 2)
        assert read("predictions_context_qa").keys() == {f"q{number}" for number in range(24)}
        assert read("predictions_shouts").keys() == {f"s{number}" for number in range(12)}
        assert usage["no_answer_threshold"] == last["eval_context_qa_no_answer_threshold"]
        assert open_model(finished.run).tasks["shouts"] == SHOUTS
    if name == "FinetuneSpansSettings":
        predictions, n_best = read("predictions"), read("nbest_predictions")
        assert usage["no_answer_threshold"] == last["eval_no_answer_threshold"]
        assert predictions.keys() == n_best.keys() == {f"q{number}" for number in range(24)}
        assert all(text in [candidate["text"] for candidate in n_best[id]] for id, text in predictions.items())
        assert all("" in [candidate["text"] for candidate in candidates] for candidates in n_best.values())
    if name == "FinetuneClassifierSettings":
        assert load(finished.run).config.id2label == ("0", "2", "10") and last["eval_accuracy"] > 0.6
        right = [read("predictions")[str(n)] == str(row["stars"]) for n, row in enumerate(labelled(), 1)]
        assert len(right) == 40 and np.mean(right) == pytest.approx(last["eval_accuracy"])


def test_a_run_that_stopped_equals_after_the_same_command_the_one_that_did_not(finished, monkeypatch):
    """Killed some steps after a checkpoint, and again in the evaluation that it makes up for; its start is gone."""
    stopped = finished.folder / "stopped"
    shutil.copytree(finished.run, stopped)
    record = json.loads((stopped / "run.json").read_text())
    assert record.pop("finished") is True
    (stopped / "run.json").write_text(json.dumps(record))
    saved = finished.settings.save_every
    shutil.rmtree(stopped / "checkpoints" / str(2 * saved))
    for name in finished.program.written | {"curves.png"}:
        (stopped / name).unlink()
    lines = (stopped / "metrics.jsonl").read_text().splitlines(keepends=True)
    (stopped / "metrics.jsonl").write_text("".join(lines[:saved]) + lines[saved + 1] + lines[saved + 2][:20])
    if finished.settings.start_from:
        Path(finished.settings.start_from).rename(finished.folder / "gone")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Progress, "evaluated", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        finished.again(out=str(stopped))
    assert [row["step"] for row in metrics(stopped)] == [*range(1, saved + 1)]
    assert "finished" not in json.loads((stopped / "run.json").read_text())
    finished.again(out=str(stopped))
    if finished.settings.start_from:
        (finished.folder / "gone").rename(finished.settings.start_from)
    assert_same_arrays(saved_state(stopped), saved_state(finished.run))
    assert metrics(stopped) == metrics(finished.run)
    for name in finished.program.written | {"model.safetensors", "config.json", "run.json"}:
        assert (stopped / name).read_bytes() == (finished.run / name).read_bytes(), name


def test_the_same_command_again_says_that_the_run_is_complete(finished, no_compilation, capsys):
    before = contents(finished.run)
    assert finished.again(quiet=False) == finished.run
    assert f"{finished.run} is complete. To train it again: --overwrite, or another --out" in capsys.readouterr().out
    assert contents(finished.run) == before
    assert finished.again(log_every=7, save_every=1, keep=1, evaluate_every=1) == finished.run  # these may change


def test_other_settings_and_inputs_are_refused_by_name(finished, no_compilation):
    before, rate = contents(finished.run), finished.settings.learning_rate
    with pytest.raises(UserError, match=f"learning_rate was {rate}, is 0.5: give another --out, or --overwrite to del"):
        finished.again(learning_rate=0.5)
    inputs = fingerprints(finished.settings)
    assert inputs.keys() == {
        field.name for field in fields(finished.settings) if field.metadata.get("input")
        and any(word in str(getattr(finished.settings, field.name)) for word in (str(finished.folder), "tiny_world:"))
    }  # fmt: skip
    for name, paths in inputs.items():
        if "tiny_world:" in str(getattr(finished.settings, name)):
            continue
        path = Path(next(iter(paths)))
        file = path / "config.json" if path.is_dir() else path
        content = file.read_bytes()
        file.write_bytes(content + b"\n")
        with pytest.raises(UserError, match=f"--{name.replace('_', '-')} {path} has changed since the run began"):
            finished.again()
        file.write_bytes(content)
    assert contents(finished.run) == before


def test_an_overwrite_deletes_no_other_things(finished, no_compilation):
    (finished.folder / "kept").mkdir(exist_ok=True)
    (finished.folder / "kept" / "thesis.txt").write_text("all of it")
    with pytest.raises(UserError, match="is not empty and does not look like a run"):
        finished.again(out=str(finished.folder / "kept"), overwrite=True)
    source = shutil.copytree(finished.folder / finished.program.family, finished.run / "inside", dirs_exist_ok=True)
    with pytest.raises(UserError, match="--overwrite would delete .*inside, which the run starts from"):
        finished.again(start_from=str(source), overwrite=True)
    shutil.rmtree(source)
    file = Path(shutil.copy(finished.folder / "texts.txt", finished.run / "texts.txt"))
    data = next(name for name in ("texts", "questions", "context_questions") if getattr(finished.settings, name, None))
    with pytest.raises(UserError, match="--overwrite would delete .*texts.txt, which the run reads"):
        finished.again(**{data: str(file)}, overwrite=True)
    file.unlink()
    assert (finished.folder / "kept" / "thesis.txt").exists() and (finished.run / "checkpoints").exists()


def test_as_long_as_the_steps_or_epochs_say(finished, monkeypatch, no_compilation):
    monkeypatch.setattr(TrainingRun, "optimizer", lambda self, steps: stop(steps, self.settings.warmup_steps(steps)))

    def length(**changes) -> tuple[int, int]:
        with pytest.raises(Stop) as stopped:
            finished.again(out=str(finished.folder / "other"), **{"steps": None, "epochs": None, **changes})
        return stopped.value.args

    rows, default = finished.program.rows, finished.program.settings.default_length
    epochs = lambda number: -int(-number * rows // 16)
    assert length(steps=30, warmup=3.0) == (30, 3) and length(steps=30, warmup=0.1) == (30, 3)
    assert length(epochs=2.5, warmup=0.5) == (epochs(2.5), round(epochs(2.5) / 2))
    assert length(warmup=0.0) == (default["steps"] if "steps" in default else epochs(default["epochs"]), 0)
    with pytest.raises(UserError, match="--steps 30 and --epochs 2 both say how long to train: give one"):
        length(steps=30, epochs=2.0)


@pytest.mark.parametrize("changes, message", [
    (dict(batch_size=12), "--batch-size 12 cannot be split over 8 .* use 16"),
    (dict(steps=5, epochs=None, warmup=5.0), "--warmup 5 is not shorter than the run of 5 steps"),
    (dict(dtype="float16"), r'--dtype is "float16" \(T5 overflows in it\)'),
    (dict(freeze=("nothing",)), "--freeze nothing matches no parameters; there are "),
    (dict(freeze=("*",)), r"--freeze \* leaves nothing to train"),
    (dict(start_from="nowhere/at/all"), "nowhere/at/all: there is no such directory"),
    (dict(start_from="OTHER"), "OTHER holds a .*, and this program trains a"),
    (dict(start_from=None, model="huge"), "--model huge: neither one of tiny"),
    (dict(start_from=None, vocabulary="nowhere"), "nowhere"),
])  # fmt: skip
def test_what_cannot_work_is_refused_before_a_step_is_compiled(changes, message, finished, no_compilation):
    other = str(finished.folder / {"t5": "bert", "bert": "t5"}[finished.program.family])
    given = {name: other if value == "OTHER" else value for name, value in changes.items()}
    before = contents(finished.run)
    for out in ("refused", "run"):  # what is there stays
        with pytest.raises(UserError, match=message.replace("OTHER", other)):
            finished.again(**given, out=str(finished.folder / out), overwrite=True)
    assert not (finished.folder / "refused").exists() and contents(finished.run) == before


def test_of_several_processes_the_first_one_speaks(finished, monkeypatch, capsys):
    monkeypatch.setattr("tlqa_jax.training.loop.start_run", stop)
    said = []
    for index in (0, 1):
        monkeypatch.setattr(jax, "process_index", lambda index=index: index)
        with pytest.raises(Stop):
            finished.again(quiet=False, out=str(finished.folder / "other"), freeze=finished.program.freeze)
        said.append(capsys.readouterr().out)
    assert "training: " in said[0] or "of the examples" in said[0]
    assert re.search(r"training [\d,]+ of [\d,]+ parameters \(\d+\.\d%\)", said[0]) and not said[1]
