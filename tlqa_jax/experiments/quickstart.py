"""The main job in minutes: a tiny T5 learns the tiny world by itself, is taught to answer, and answers.

    tlqa quickstart --out runs/quickstart --seed 0

Two things are measured, on two groups of people, each beside the same model fine-tuned as long without pretraining:

- context: a passage and a question about somebody who is in no training file. The model has to read. Every passage names
  facts of the same type about others, so that the best rule by type and position alone stays low.
- closed book: the question alone, about residents whose passages were in the pretraining text but about whom no question was asked at
  any stage. The model has to remember. Questions about other residents, and about strangers with a passage, are mixed
  into pretraining: they teach what a question is.
"""

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path

from tlqa_jax.asking import open_run
from tlqa_jax.data.sources import local_path, open_questions
from tlqa_jax.data.tiny_world import Asked, chance, type_baseline
from tlqa_jax.experiments.report import write_report
from tlqa_jax.metrics.squad import evaluate
from tlqa_jax.training.progress import read_metrics
from tlqa_jax.training.qa import QAConfig, finetune
from tlqa_jax.training.span_corruption import SpanCorruptionConfig, pretrain
from tlqa_jax.weights.checkpoints import check_run, start_run

QUESTIONS = {"context": "tiny_world:context_{}.json", "closed_book": "tiny_world:closed_book_{}.json"}


@dataclass(frozen=True)
class QuickstartConfig:
    """Settings of the quickstart. The defaults take about five minutes on two CPU cores."""

    out: str = "runs/quickstart"
    """Directory for everything: pretrained/, finetuned/, unpretrained/, report.json, report.html."""
    seed: int = 0
    """Seed of the initial weights, the order of the data and the noise."""
    pretrain_steps: int = 1500
    """Steps of pretraining."""
    finetune_steps: int = 250
    """Steps of fine-tuning, with pretraining and without."""
    overwrite: bool = False
    """Delete a quickstart that is already in --out."""


def quickstart(config: QuickstartConfig, *, quiet: bool = False) -> dict[str, float]:
    """Run it all and write the report; returns the report's figures, in percent and seconds."""
    begin = time.perf_counter()
    record = {"program": "quickstart", "main": "finetuned", "seed": config.seed}
    check_run(config.out, record, overwrite=config.overwrite)
    out = start_run(config.out, record, overwrite=config.overwrite)

    pretraining = SpanCorruptionConfig(
        out=str(out / "pretrained"), texts="tiny_world:pretraining_spans.jsonl", seed=config.seed,
        context_questions=QUESTIONS["context"].format("train"), closed_book_questions=QUESTIONS["closed_book"].format("train"),
        questions_share=0.6, salient_share=0.4, salient_rate=0.5, input_length=64,
        steps=config.pretrain_steps, batch_size=48, learning_rate=2e-3, warmup=50, relative_bias_rate=30.0,
        dropout=0.0, weight_decay=0.0, log_every=50, evaluate_every=config.pretrain_steps, save_every=config.pretrain_steps,
    )
    pretrain(pretraining, quiet=quiet)
    finetuning = QAConfig(
        out=str(out / "finetuned"), start_from=pretraining.out, seed=config.seed,
        context_questions=pretraining.context_questions, closed_book_questions=pretraining.closed_book_questions,
        held_out_context=QUESTIONS["context"].format("dev"), held_out_closed_book=QUESTIONS["closed_book"].format("dev"),
        input_length=96, target_length=6, steps=config.finetune_steps, batch_size=32, learning_rate=1e-3, warmup=20,
        relative_bias_rate=30.0, dropout=0.0, weight_decay=0.0, log_every=50, evaluate_every=config.finetune_steps,
        save_every=config.finetune_steps,
    )
    finetune(finetuning, quiet=quiet)
    finetune(replace(finetuning, out=str(out / "unpretrained"), start_from=None), quiet=quiet)

    report = {}
    for group in QUESTIONS:
        for name, run in (("", "finetuned"), ("_unpretrained", "unpretrained")):
            report[f"{group}_em{name}"] = read_metrics(out / run / "metrics.jsonl")[-1][f"eval_{group}_em"]
        report[f"{group}_em_heldout_forms"] = held_out_forms(out, group)
        train, dev = (asked(QUESTIONS[group].format(part)) for part in ("train", "dev"))
        report["chance_em" if group == "closed_book" else "context_chance_em"] = chance(train, dev)
        if group == "context":
            report["context_em_baseline"] = type_baseline(train, dev)[0]
    report["seed"] = config.seed
    report["seconds"] = round(time.perf_counter() - begin, 1)
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    write_report(out, report, examples(out))
    return report


def held_out_forms(out: Path, group: str) -> float:
    """EM of the fine-tuned model on the dev facts, asked in words that no training question used."""
    questions = open_questions(QUESTIONS[group].format("dev_heldout_forms"))
    answers = open_run(out)(questions, use_context=group == "context")
    return evaluate({question.id: answer.text for question, answer in zip(questions, answers)}, questions).exact_match


def asked(source: str) -> list[Asked]:
    """The questions of a bundled file as the baselines see them."""
    articles = json.loads(local_path(source).read_text())["data"]
    paragraphs = [paragraph for article in articles for paragraph in article["paragraphs"]]
    return [Asked(p["context"], qa["relation"], qa["answers"][0]["text"]) for p in paragraphs for qa in p["qas"]]


def examples(out: Path, number: int = 3) -> list[dict]:
    """The first few dev questions of each group with what the model answers."""
    rows = []
    for group in QUESTIONS:
        questions = open_questions(QUESTIONS[group].format("dev"))
        questions = questions[:: len(questions) // number][:number]
        for question, answer in zip(questions, open_run(out)(questions, use_context=group == "context")):
            context = question.context if group == "context" else None
            rows.append(dict(question=question.question, context=context, gold=question.answers[0], **answer._asdict()))
    return rows
