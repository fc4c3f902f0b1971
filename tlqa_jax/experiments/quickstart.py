"""The main job in minutes: a tiny T5 learns the tiny world by itself, is taught to answer, and answers.

    tlqa quickstart --out runs/quickstart --seed 0      # context EM 99.7, closed-book EM 88.0

Two things are measured, on two groups of people:

- context: a passage and a question about somebody who is in no training file. The model has to read. Every passage
  names facts of the same type about others, so that the best rule by type and position alone stays low.
- closed book: the question alone, about residents whose passages were in the pretraining text but about whom no
  question was asked at any stage. The model has to remember. Questions about other residents, and about strangers with
  a passage, are mixed into pretraining: they teach what a question is.

Since pretraining has seen questions, a fair control has seen as many. Two models stand beside it, which learn from as many
rows of questions in all: one without any pretraining, and one after pretraining on as much text, without a question.
"""

import json
import random
import time
from dataclasses import asdict, replace
from pathlib import Path

import jax

from tlqa_jax import __version__
from tlqa_jax.checkpoints.run_lock import lock_run, unlock_run
from tlqa_jax.checkpoints.run_record import check_run, finish_run, start_run
from tlqa_jax.data.sources import open_questions
from tlqa_jax.data.tiny_world import (
    Asked, ContextQuestions, World, chance, closed_book_questions, context_questions, make_people, marked_lines, tell,
    type_baseline,
)
from tlqa_jax.errors import UserError
from tlqa_jax.experiments.report import write_report
from tlqa_jax.fields import Settings, number, settings_class
from tlqa_jax.inference.predictors import open_model
from tlqa_jax.metrics.squad import score_answers
from tlqa_jax.training.finetune_qa import FinetuneQASettings, finetune_qa
from tlqa_jax.training.pretrain_spans import PretrainSpansSettings, pretrain_spans
from tlqa_jax.training.progress import read_metrics

RELATIONS = ("birthplace", "birth_year", "profession", "employer", "instrument")
PASSAGES_PER_RESIDENT = 80
READING_ROUNDS = 25
PRETRAINING = {
    "input_length": 48, "salient_rate": 0.9, "learning_rate": 1e-3, "decay": "constant", "relative_bias_rate": 30.0,
    "dropout": 0.0, "weight_decay": 0.0,
}  # fmt: skip
FINETUNING = {
    "input_length": 56, "target_length": 6, "learning_rate": 5e-4, "optimizer": "adamw", "relative_bias_rate": 30.0,
    "dropout": 0.0,
}  # fmt: skip
GROUPS = {"context": "reading", "closed_book": "remembering"}  # name in the report -> name of the files in world/


@settings_class
class QuickstartSettings(Settings):
    """Settings of the quickstart."""

    out: str = "runs/quickstart"
    """Directory for everything: pretrained/, finetuned/, the controls' runs, report.json, report.html."""
    seed: int = number(0, at_least=0, at_most=2**32 - 1)
    """Seed of the initial weights, the order of the data and the noise."""
    pretrain_steps: int = number(1500, at_least=1)
    """Steps of pretraining. Half of its rows are questions."""
    finetune_steps: int = number(500, at_least=1)
    """Steps of fine-tuning."""
    salient_share: float = number(0.4, at_least=0, at_most=0.5)
    """Share of the pretraining rows that mask salient spans, names and years; half of the rows are questions. 0: random
    spans instead."""
    overwrite: bool = False
    """Delete the quickstart that is in --out and start afresh."""


def quickstart(config: QuickstartSettings, *, quiet: bool = False) -> dict[str, float]:
    """Run it all and write the report; returns the report's figures, in percent and seconds.

    The same command again continues where it was stopped.
    """
    begin, out = time.perf_counter(), Path(config.out)
    batch_size = -(-64 // jax.device_count()) * jax.device_count()  # 64 rows, or the next number the devices divide
    if (share := config.salient_share) and round(share * batch_size) == 0:
        raise UserError(f"--salient-share is {share}: it has to be 0, or from {1 / batch_size:.2f} to 0.5")
    settings = {name: value for name, value in asdict(config).items() if name not in ("out", "overwrite")}
    record = {"version": __version__, "program": "quickstart", "main": "finetuned", "settings": settings, "inputs": {}}
    if check_run(out, record, overwrite=config.overwrite) == "complete":
        if not quiet:
            print(f"{out} is complete: see {out}/report.html. To run it again: --overwrite, or another --out")
        return json.loads((out / "report.json").read_text())
    lock_run(out)  # until it is complete, or the program ends
    start_run(out, record, overwrite=config.overwrite)

    build_world(out / "world", config.seed)

    world = {path.stem: str(path) for path in (out / "world").iterdir()}
    text_steps = -(-config.pretrain_steps // 2)  # the other rows of pretraining are questions
    pretraining = PretrainSpansSettings(
        out=str(out / "pretrained"), texts=world["pretraining"], held_out=None, seed=config.seed,
        questions=world["mixed_in"], questions_share=0.5, salient_share=config.salient_share,
        steps=config.pretrain_steps, batch_size=batch_size, warmup=min(50, config.pretrain_steps // 10), log_every=50,
        save_every=config.pretrain_steps, **PRETRAINING,
    )
    text_alone = replace(
        pretraining, out=str(out / "text_alone"), questions=None, questions_share=0.0, steps=text_steps,
        salient_share=2 * config.salient_share, warmup=min(50, text_steps // 10),
    )
    pretrain_spans(pretraining, quiet=quiet)
    finetuning = FinetuneQASettings(
        out=str(out / "finetuned"), start_from=pretraining.out, seed=config.seed,
        context_questions=world["reading"], closed_book_questions=world["remembering"],
        held_out_context=world["reading_dev"], held_out_closed_book=world["remembering_dev"],
        steps=config.finetune_steps, batch_size=batch_size, decay="linear", warmup=min(20, config.finetune_steps // 10),
        log_every=50, evaluate_every=-(-config.finetune_steps // 2), save_every=config.finetune_steps, **FINETUNING,
    )
    finetune_qa(finetuning, quiet=quiet)
    questions_alone = replace(
        finetuning, out=str(out / "questions_alone"), start_from=None,
        steps=config.finetune_steps + config.pretrain_steps - text_steps,
    )
    finetune_qa(questions_alone, quiet=quiet)
    pretrain_spans(text_alone, quiet=quiet)
    finetune_qa(replace(questions_alone, out=str(out / "text_then_questions"), start_from=text_alone.out), quiet=quiet)

    report = {}
    for group, name in GROUPS.items():
        report[f"{group}_em"] = last_score(out / "finetuned", group)
        report[f"{group}_em_heldout_forms"] = held_out_forms(out, group, world[f"{name}_dev_heldout_forms"])
        for control in ("questions_alone", "text_then_questions"):
            report[f"{group}_em_{control}"] = last_score(out / control, group)
        train, dev = asked(world[name]), asked(world[f"{name}_dev"])
        report[f"{group}_questions"] = len(dev)
        report["chance_em" if group == "closed_book" else "context_chance_em"] = chance(train, dev)
        if group == "context":
            report["context_em_baseline"] = type_baseline(train, dev)[0]
    report["question_rows"] = batch_size * questions_alone.steps
    report["question_rows_of_pretraining"] = batch_size * (questions_alone.steps - config.finetune_steps)
    report["seed"] = config.seed
    report["seconds"] = round(time.perf_counter() - begin, 1)
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    write_report(out, report, examples(out, world))
    finish_run(out)
    unlock_run(out)
    return report


def build_world(folder: Path, seed: int) -> None:
    """The bundled world, told more amply than in its bundled files, five relations of it.

    Whoever reads the same few passages again and again learns them by heart instead of learning to read; here
    hardly a passage occurs twice. No dev stranger is among the strangers of training, and no question there is
    about an unasked resident.
    """
    folder.mkdir(exist_ok=True)
    world, rng = World(), random.Random(seed)

    def write(name: str, examples: list[ContextQuestions], use_context: bool) -> list[dict]:
        rows = [
            {"question": q.text, "answer": q.answer, "relation": q.relation}
            | ({"context": example.passage.text} if use_context else {})
            for example in examples for _, q in example.asked if q.relation in RELATIONS
        ]
        write_rows(name, rows)
        return rows

    def write_rows(name: str, rows: list[dict]) -> None:
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    told = [
        tell(rng, [resident], relations=RELATIONS)
        for _ in range(PASSAGES_PER_RESIDENT)
        for resident in world.residents
    ]
    rng.shuffle(told)
    (folder / "pretraining.jsonl").write_text(marked_lines(told))
    names = make_people(rng, 1200, exclude=world.residents + world.strangers_dev)
    reading = write("reading", context_questions(rng, names, rounds=READING_ROUNDS, relations=RELATIONS), True)
    remembering = write("remembering", closed_book_questions(rng, world, world.asked, forms_per_fact=8), False)
    remembering *= round(len(reading) / len(remembering) / 4)  # four questions in five come with a passage
    write_rows("remembering", remembering)
    write_rows("mixed_in", reading + remembering)
    for name, held_out in (("dev", False), ("dev_heldout_forms", True)):
        facts = random.Random(0)  # the same facts are asked in both
        strangers = context_questions(facts, world.strangers_dev, held_out=held_out, relations=RELATIONS)
        write(f"reading_{name}", strangers, True)
        write(f"remembering_{name}", closed_book_questions(facts, world, world.unasked, held_out=held_out), False)


def last_score(run: Path, group: str) -> float:
    """The run's last exact match on its held-out questions."""
    return read_metrics(run / "metrics.jsonl")[-1][f"eval_{group}_qa_em"]


def held_out_forms(out: Path, group: str, source: str) -> float:
    """EM of the fine-tuned model on the dev facts, asked in words that no training question used."""
    questions = open_questions(source)
    answers = open_model(out)(questions, use_context=group == "context")
    return score_answers({question.id: answer.text for question, answer in zip(questions, answers)}, questions).exact_match


def asked(path: str) -> list[Asked]:
    """The questions of a file as the baselines see them."""
    rows = [json.loads(line) for line in Path(path).read_text().splitlines()]
    return [Asked(row.get("context", ""), row["relation"], row["answer"]) for row in rows]


def examples(out: Path, world: dict[str, str], number: int = 3) -> list[dict]:
    """The first few dev questions of each group with what the model answers."""
    rows = []
    for group, name in GROUPS.items():
        questions = open_questions(world[f"{name}_dev"])
        questions = questions[:: len(questions) // number][:number]
        for question, answer in zip(questions, open_model(out)(questions, use_context=group == "context")):
            rows.append(
                dict(question=question.question, context=question.context, gold=question.answers[0], **answer._asdict())
            )
    return rows
