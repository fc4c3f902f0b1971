"""One model, many tasks: the loop as a whole, the mixture it learns from, and what is refused."""

import json
import shutil
from dataclasses import replace
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from rich.console import Console

from tlqa_jax.data.batches import Devices, training_batches
from tlqa_jax.errors import UserError
from tlqa_jax.examples import QAExample
from tlqa_jax.inference.predictors import open_model
from tlqa_jax.tasks.mixture import mixing_rates
from tlqa_jax.tasks.text_tasks import TASKS, TextTask
from tlqa_jax.training import finetune_tasks as text_to_text
from tlqa_jax.training.finetune_tasks import (
    FinetuneTasksSettings,
    find_sources,
    finetune_tasks,
    mix,
    read_examples,
    score_table,
)  # fmt: skip
from tlqa_jax.training.optimizers import adafactor
from tlqa_jax.training.settings import check_settings

from .comparing import assert_same_arrays, final_state, rows

SIZES = {"d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 1, "num_heads": 2}
SHOUTS = TextTask("shouts", "shout: {text}", "loud", metrics=("accuracy",))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tasks")
    (folder / "model.json").write_text(json.dumps(SIZES))
    shouts = [{"id": f"s{n}", "text": word, "loud": word.upper()} for n, word in enumerate(["ab", "ba", "abba"] * 4)]
    asked = [{"question": f"Where is {name}?", "answer": name} for name in ("Oss", "Ull")]
    puns = [{"text": f"{n} or so", "pun": n % 2} for n in range(20)]
    for name, lines in (("shouts", shouts), ("puns", puns), ("asked", asked)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "puns.json").write_text(json.dumps({
        "name": "puns", "input": "is it a pun: {text}", "target": "pun", "labels": {"0": "no", "1": "yes"},
        "metrics": ["matthews"], "train": str(folder / "puns.jsonl"), "held_out": str(folder / "puns.jsonl"),
    }))  # fmt: skip
    return folder


@pytest.fixture(scope="module")
def finetuning(folder):
    """A short run with everything in it: a bundled task, one in a file, one in Python; a checkpoint on the way."""
    sources = (f"shouts={folder / 'shouts.jsonl'}", f"closed_book_qa={folder / 'asked.jsonl'}")
    config = FinetuneTasksSettings(
        out=str(folder / "run"), tasks=("closed_book_qa", str(folder / "puns.json"), "shouts"), train=sources,
        held_out=sources, mixing="temperature=2", model=str(folder / "model.json"), input_length=32, target_length=4,
        batch_size=16, learning_rate=0.03, steps=12, log_every=1, evaluate_every=12, save_every=8,
    )  # fmt: skip
    finetune_tasks(config, [SHOUTS], quiet=True)
    return config


def test_it_learns_and_leaves_a_whole_run_behind(folder, finetuning):
    run = folder / "run"
    losses = [row["loss"] for row in rows(run) if "loss" in row]
    assert len(losses) == 12 and np.mean(losses[-3:]) < losses[0] - 0.5
    last = rows(run)[-1]
    assert last.keys() == {"step", "eval_loss"} | {
        f"eval_{name}" for name in (
            "closed_book_qa_loss", "closed_book_qa_exact_match", "closed_book_qa_f1", "puns_loss", "puns_matthews",
            "shouts_loss", "shouts_accuracy",
        )
    }  # fmt: skip
    losses = [last[f"eval_{name}_loss"] for name in ("closed_book_qa", "puns", "shouts")]
    assert last["eval_loss"] == pytest.approx(np.mean(losses))
    assert len(json.loads((run / "predictions_puns.json").read_text())) == 20
    assert json.loads((run / "predictions_shouts.json").read_text()).keys() == {f"s{n}" for n in range(12)}


def test_a_run_that_stopped_and_resumed_equals_the_one_that_did_not(folder, finetuning):
    shutil.copytree(folder / "run", folder / "stopped")
    shutil.rmtree(folder / "stopped" / "checkpoints" / "12")  # as if killed between the two checkpoints
    finetune_tasks(replace(finetuning, out=str(folder / "stopped"), resume=True), [SHOUTS], quiet=True)
    assert_same_arrays(final_state(folder / "stopped"), final_state(folder / "run"))
    assert rows(folder / "run")[-1] == rows(folder / "stopped")[-1]
    other = replace(SHOUTS, input="loudly: {text}")
    with pytest.raises(UserError, match="made with other settings: training.tasks was"):
        finetune_tasks(replace(finetuning, out=str(folder / "stopped"), resume=True), [other], quiet=True)


def test_packed_rows_hold_one_task_each_at_the_rates_of_examples(folder, finetuning, monkeypatch, capsys):
    batches = []

    def noted(*arguments, **settings):
        for batch in training_batches(*arguments, **settings):
            batches.append(jax.tree.map(np.asarray, batch))
            yield batch

    monkeypatch.setattr(text_to_text, "training_batches", noted)
    sources = (f"shouts={folder / 'shouts.jsonl'}",)
    tasks = ("shouts", str(folder / "puns.json"))
    finetune_tasks(
        replace(finetuning, out=str(folder / "packed"), pack=True, tasks=tasks, train=sources, held_out=sources,
                mixing="equal", steps=6, save_every=6), [SHOUTS],
    )  # fmt: skip
    assert "packed 32 examples into" in capsys.readouterr().out
    tokenizer = open_model(folder / "packed").tokenizer
    counts = {"shout": 0, "is it a pun": 0}
    for batch in batches[:6]:
        inputs, segments = (batch[name].reshape(-1, 32) for name in ("inputs", "input_segments"))
        assert segments.max() > 1
        for row, numbers in zip(inputs, segments):
            text = tokenizer.decode(row[row > 1].tolist())
            begins = [prefix for prefix in counts if prefix + ":" in text]
            assert len(begins) == 1
            counts[begins[0]] += numbers.max()
    assert counts["shout"] == pytest.approx(counts["is it a pun"], rel=0.3)
    losses = [row["loss"] for row in rows(folder / "packed") if "loss" in row]
    assert losses[-1] < losses[0]


def test_the_run_knows_its_tasks(folder, finetuning):
    run = open_model(folder / "run")
    assert run.tasks["shouts"] == SHOUTS
    examples = read_examples(SHOUTS, str(folder / "shouts.jsonl"))
    scores, written = run.score("shouts", examples)
    last = rows(folder / "run")[-1]
    assert scores["loss"] == pytest.approx(last["eval_shouts_loss"], rel=1e-5)
    assert scores["accuracy"] == last["eval_shouts_accuracy"] and len(written) == 12
    [answer] = run([QAExample("1", "Where was Mira born?", ())])
    assert 0 <= answer.probability <= 1
    with pytest.raises(UserError, match="has no task 'sentiment': its tasks are closed_book_qa, puns, shouts"):
        run.task("sentiment")
    with pytest.raises(UserError, match="was not taught to answer questions; its tasks are shouts"):
        replace(run, tasks={"shouts": SHOUTS})([QAExample("1", "Who?", ())])


def test_eight_devices_are_given_what_one_would_be():
    """That the step then gives the same loss and gradients is shown for `make_train_step` (test_equal_gradients)."""
    sizes = [7, 4]
    mixture = lambda: mix(sizes, mixing_rates(sizes, "temperature=3"), seed=1)
    place = {"devices": Devices(0, 1, 8), "prefetch": 0}
    batches = training_batches(11, 32, 1, lambda indices, *_: {"row": indices}, order=mixture(), **place)
    given = [next(batches)["row"] for _ in range(5)]
    assert all(rows.shape == (8, 4) for rows in given)
    stream = mixture()[np.arange(160)]  # the examples in their order, whoever reads them
    assert np.array_equal(np.stack(given).ravel(), stream) and len(np.unique(stream)) == 11


def test_a_task_sees_all_its_examples_in_an_epoch_and_each_process_its_share():
    sizes = [7, 4]
    shares = []
    build = lambda indices, *_: {"row": indices}
    for processes in (1, 2):
        mixture = mix(sizes, mixing_rates(sizes, "equal"), seed=0)
        for process in range(processes):
            place = {"devices": Devices(process, processes, 1), "prefetch": 0}
            batches = training_batches(11, 4, 0, build, order=mixture, **place)
            shares.append(np.stack([next(batches)["row"].ravel() for _ in range(100)]))
    whole, first, second = shares
    assert np.array_equal(whole, np.concatenate([first, second], axis=1))
    for begin, end in ((0, 7), (7, 11)):
        own = [row for row in whole.ravel().tolist() if begin <= row < end]
        size = end - begin
        epochs = [own[i : i + size] for i in range(0, len(own) - size + 1, size)]
        assert all(sorted(epoch) == list(range(begin, end)) for epoch in epochs) and len(epochs) > 20
        assert len({tuple(epoch) for epoch in epochs}) > 10  # every epoch is shuffled anew


def test_sources_are_those_given_else_the_tiny_worlds():
    tasks = {name: TASKS[name] for name in ("sentiment", "context_qa", "similarity")}
    given = ("similarity=a.csv", "similarity=b.csv", "context_qa=t.json")
    config = FinetuneTasksSettings(train=given, held_out=("context_qa=d.json",))
    train, held_out = find_sources(tasks, config)
    bundled = ["tiny_world:reviews_train.jsonl"]
    assert train == {"sentiment": bundled, "context_qa": ["t.json"], "similarity": ["a.csv", "b.csv"]}
    assert held_out == {"sentiment": ["tiny_world:reviews_dev.jsonl"], "context_qa": ["d.json"]}


def test_what_cannot_work_is_refused_before_anything_is_compiled(folder, finetuning):
    without = dict(tasks=("shouts", "similarity"), train=finetuning.train[:1], held_out=())
    for changes, message in (
        (dict(tasks=("sentimen",)), "there is no task 'sentimen'; known are context_qa, .*, shouts"),
        (without, "nothing to learn the task similarity from: give --train similarity=SOURCE"),
        (dict(train=("shouts",)), r"--train shouts: it has to be TASK=SOURCE, such as closed_book_qa=examples.jsonl"),
        (dict(held_out=("shout=x",)), "--held-out shout=x: there is no task 'shout' in this run; its tasks are closed"),
        (dict(mixing="half"), "--mixing 'half': known are proportional"),
        (dict(train=(f"shouts={folder / 'puns.jsonl'}",)), 'puns.jsonl, line 1: no field "loud", which task shouts'),
        (dict(out=finetuning.out), "is already in use"),
    ):
        with pytest.raises(UserError, match=message):
            finetune_tasks(replace(finetuning, **{"out": str(folder / "refused"), **changes}), [SHOUTS], quiet=True)
    assert not (folder / "refused").exists()
    with pytest.raises(UserError, match="--optimizer is 'sgd': known are adamw, adafactor"):
        check_settings(SimpleNamespace(decay="linear", optimizer="sgd"))


def test_the_table_has_a_line_for_each_task():
    examples = read_examples(TASKS["sentiment"], "tiny_world:reviews_dev.jsonl")
    table = score_table({"sentiment": {"loss": 0.5, "accuracy": 87.25}}, {"sentiment": examples})
    console = Console(width=80)
    with console.capture() as written:
        console.print(table)
    assert [line.split() for line in written.get().splitlines()] == [
        ["held", "out", "examples", "loss", "score"], ["sentiment", "300", "0.500", "accuracy", "87.2"],
    ]  # fmt: skip


def test_adafactor_lowers_a_loss_and_scales_its_steps_with_the_parameters():
    optimizer = adafactor(lambda step: 0.1, relative_bias_rate=2.0)
    params = {"small": jnp.full((3, 4), 0.01), "large": jnp.full((3, 4), 10.0), "encoder_bias": jnp.full((3, 4), 10.0)}
    updates, _ = optimizer.update(jax.tree.map(jnp.ones_like, params), optimizer.init(params), params)
    steps = {name: float(jnp.abs(update).max()) for name, update in updates.items()}
    assert steps["large"] == pytest.approx(1000 * steps["small"], rel=1e-3)
    assert steps["encoder_bias"] == pytest.approx(2 * steps["large"]) and (updates["large"] < 0).all()
