"""What all experiments share: their training runs for each seed, the claims judged, and the results as files.

An experiment is a module with `EXPERIMENT`, which says what is claimed and how it is measured, and `measure(lab)`, which
trains with one seed and returns the scores. Each training run is a directory of its own: if the experiment was stopped,
the same command again goes on.

    runs/experiments/full/seed-0/domain-transfer/   the runs of an experiment
    runs/experiments/full/seed-0/shared/            pretrained models that several experiments start from
    runs/experiments/full/domain-transfer/          result.json, figure.png, index.html
"""

import importlib
import json
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax

from tlqa_jax.data.sources import local_path
from tlqa_jax.errors import UserError
from tlqa_jax.experiments.claims import Claim, Scores, judge
from tlqa_jax.experiments.result_page import print_result, write_figure, write_page
from tlqa_jax.fields import Settings, number, settings_class
from tlqa_jax.training.finetune_classifier import FinetuneClassifierSettings, finetune_classifier
from tlqa_jax.training.finetune_features import FinetuneFeaturesSettings, finetune_features
from tlqa_jax.training.finetune_qa import FinetuneQASettings, finetune_qa
from tlqa_jax.training.finetune_spans import FinetuneSpansSettings, finetune_spans
from tlqa_jax.training.pretrain_clm import PretrainCLMSettings, pretrain_clm
from tlqa_jax.training.pretrain_mlm import PretrainMLMSettings, pretrain_mlm
from tlqa_jax.training.pretrain_spans import PretrainSpansSettings, pretrain_spans
from tlqa_jax.training.pretrain_vectors import PretrainVectorsSettings, pretrain_vectors
from tlqa_jax.training.progress import read_metrics

EXPERIMENTS = (
    "domain-transfer", "task-transfer", "bidirectional", "one-model-many-tasks", "more-data", "labeled-or-unlabeled",
    "fewer-labels", "features-or-finetuning", "pretraining-task", "quickstart-controls",
)  # fmt: skip
PROGRAMS = {
    finetune_classifier: FinetuneClassifierSettings, finetune_features: FinetuneFeaturesSettings,
    finetune_qa: FinetuneQASettings, finetune_spans: FinetuneSpansSettings, pretrain_clm: PretrainCLMSettings,
    pretrain_mlm: PretrainMLMSettings, pretrain_spans: PretrainSpansSettings, pretrain_vectors: PretrainVectorsSettings,
}  # fmt: skip
# in so narrow a model, initial weights of BERT's size, 0.02, keep all attention weights alike for a long time: 0.05
BERT_SIZES = {
    "hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 512,
    "max_position_embeddings": 96, "initializer_range": 0.05,
}  # fmt: skip
T5_SIZES = {"d_model": 128, "d_kv": 32, "d_ff": 512, "num_layers": 2, "num_heads": 4}
READING = {"input_length": 64, "stride": 16, "max_question_length": 20, "max_answer_length": 8}  # of the tiny world


@settings_class
class ExperimentSettings(Settings):
    """Settings of an experiment."""

    out: str = "runs/experiments"
    """Directory for all experiments: their runs and results."""
    seeds: int = number(3, at_least=1, at_most=100)
    """Number of seeds. With --quick: 1."""
    quick: bool = False
    """One seed and short runs: a few minutes on two CPU cores, to see what an experiment does."""
    max_steps: int | None = number(None, at_least=1)
    """Train no run for more steps than this, to try out an experiment. Its scores then say nothing."""


@dataclass(frozen=True)
class Experiment:
    """What is claimed, and how it is measured."""

    title: str
    design: str
    """What is compared, and what is the same on both sides."""
    score: str
    """What the scores are: "exact match, %". Empty: each panel's name says it."""
    column: str
    """What the columns are: "labels"."""
    claims: tuple[Claim, ...]


Panels = dict[str, Scores]
Measure = Callable[["Lab"], Panels]


class Lab:
    """Trains the runs of an experiment with one seed."""

    def __init__(self, name: str, settings: ExperimentSettings, seed: int):
        self.name, self.settings, self.seed = name, settings, seed
        self.root = results_folder(settings)
        self.folder = self.root / f"seed-{seed}"
        self.folder.mkdir(parents=True, exist_ok=True)
        for model, sizes in (("bert", BERT_SIZES), ("t5", T5_SIZES)):
            (self.root / f"{model}.json").write_text(json.dumps(sizes))

    def pick(self, quick: Any, full: Any) -> Any:
        """One for --quick, one for the whole experiment."""
        return quick if self.settings.quick else full

    def train(self, program: Callable[..., Path], run: str, *, steps: int, shared: bool = False, **settings: Any) -> Path:
        """Train a run, or go on with it, or find it complete; returns its directory.

        Args:
            program: a training program; its `settings` are those of the tiny world unless they say otherwise.
            shared: whether other experiments use the same run.
        """
        out = self.folder / ("shared" if shared else self.name) / run
        steps, devices = min(steps, self.settings.max_steps or steps), jax.device_count()
        rows = -(-settings.pop("batch_size", 32) // devices) * devices
        if settings.get("start_from") is None and program is not pretrain_vectors:
            model = "t5" if program in (finetune_qa, pretrain_spans) else "bert"
            settings = {"model": str(self.root / f"{model}.json")} | settings
        evaluate_every = min(settings.pop("evaluate_every", steps), steps)
        given = {
            "out": str(out), "seed": self.seed, "steps": steps, "batch_size": rows, "learning_rate": 1e-3, "dropout": 0.0,
            "weight_decay": 0.0, "warmup": 0.1, "decay": "linear", "optimizer": "adamw", "keep": 1,
            "log_every": max(1, steps // 10), "save_every": 500, "evaluate_every": evaluate_every,
        }  # fmt: skip
        begin = time.perf_counter()
        program(PROGRAMS[program](**given | settings), quiet=True)
        print(f"  {out.relative_to(self.root)}  {steps} steps  {time.perf_counter() - begin:.0f} s", flush=True)
        return out

    @property
    def masked_lm_steps(self) -> int:
        """The steps of `masked_lm`."""
        return self.pick(800, 3000)

    def masked_lm(self, **settings: Any) -> Path:
        """A BERT pretrained on the tiny world's passages by masked LM alone, which several experiments start from."""
        return self.train(
            pretrain_mlm, "masked-lm", shared=True, steps=self.masked_lm_steps, next_sentence=False, input_length=64,
            learning_rate=2e-3, held_out=None, **settings,
        )  # fmt: skip

    def spans(self) -> Path:
        """A T5 pretrained on the same passages by span corruption, salient spans mostly."""
        return self.train(
            pretrain_spans, "spans", shared=True, steps=self.pick(600, 3000), input_length=48, relative_bias_rate=30.0,
            texts="tiny_world:pretraining_spans.jsonl", held_out=None, salient_share=0.8,
        )  # fmt: skip

    def point(self, run: str, start_from: Path | None, *, labels: int | None = None, steps: int, **settings: Any) -> Path:
        """A BERT that learns to point at answers, from `labels` of the questions with a passage (None: all)."""
        return self.train(
            finetune_spans, run, start_from=start_from and str(start_from), steps=steps, **READING,
            questions=self.take("context_train.json", labels), held_out="tiny_world:context_dev.json", **settings,
        )  # fmt: skip

    def take(self, file: str, number: int | None) -> str:
        """A source with `number` of the rows of a bundled file (None: all of them), and with about as many of each label.

        Which rows, the seed decides; a smaller number takes some of those of a larger one.
        """
        if number is None:
            return f"tiny_world:{file}"
        rows, of_label = bundled_rows(file), {}
        random.Random(self.seed).shuffle(rows)
        for row in rows:
            of_label.setdefault(row.get("label"), []).append(row)
        place = {id(row): place for group in of_label.values() for place, row in enumerate(group)}
        rows.sort(key=lambda row: place[id(row)])
        path = self.folder / "data" / f"{Path(file).stem}-{number}.jsonl"
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(json.dumps(row) + "\n" for row in rows[:number]))
        return str(path)


def score(run: Path, name: str, step: int | None = None) -> float:
    """A score of a run's held-out examples, by its name in metrics.jsonl without "eval_": the last one up to a step."""
    scores = curve(run, name)
    return scores[max((one for one in scores if step is None or one <= step), default=min(scores))]


def curve(run: Path, name: str) -> dict[int, float]:
    """step -> score of a run that was evaluated several times."""
    rows = read_metrics(run / "metrics.jsonl")
    return {row["step"]: row[f"eval_{name}"] for row in rows if f"eval_{name}" in row}


def bundled_rows(file: str) -> list[dict]:
    """The rows of a bundled .jsonl, or the questions of a bundled SQuAD file with their passages."""
    text = local_path(f"tiny_world:{file}").read_text(encoding="utf-8")
    if file.endswith(".jsonl"):
        return [json.loads(line) for line in text.splitlines()]
    return [
        {"question": qa["question"], "relation": qa["relation"], "context": paragraph["context"],
         "answer": qa["answers"][0]["text"], "answer_start": qa["answers"][0]["answer_start"]}
        for article in json.loads(text)["data"] for paragraph in article["paragraphs"] for qa in paragraph["qas"]
    ]  # fmt: skip


def results_folder(settings: ExperimentSettings) -> Path:
    return Path(settings.out) / ("trial" if settings.max_steps else "quick" if settings.quick else "full")


def run_experiment(name: str, settings: ExperimentSettings) -> dict[str, Any]:
    """Run an experiment and write its result.json, figure.png and index.html; returns the result.

    Raises UserError for a name that is none of `EXPERIMENTS`.
    """
    if name not in EXPERIMENTS:
        raise UserError(f"there is no experiment {name!r}; known are {', '.join(EXPERIMENTS)}, and all")
    module = importlib.import_module(f"tlqa_jax.experiments.{name.replace('-', '_')}")
    return measure_and_judge(name, module.EXPERIMENT, module.measure, settings)


def measure_and_judge(name: str, experiment: Experiment, measure: Measure, settings: ExperimentSettings) -> dict[str, Any]:
    """Measure with each seed, judge the claims, write and show the result."""
    root = results_folder(settings)
    panels = []
    for seed in range(1 if settings.quick else settings.seeds):
        print(f"{name}, seed {seed}", flush=True)
        panels.append(measure(Lab(name, settings, seed)))
    verdicts = {
        claim.text: vars(judge(claim, [panel[claim.panel] for panel in panels])) for claim in experiment.claims
    }
    result = {
        "experiment": name, "title": experiment.title, "design": experiment.design, "score": experiment.score,
        "column": experiment.column, "seeds": len(panels), "quick": settings.quick, "max_steps": settings.max_steps,
        "panels": {
            panel: {way: {str(column): [one[panel][way][column] for one in panels] for column in columns}
                    for way, columns in scores.items()}
            for panel, scores in panels[0].items()
        },
        "claims": verdicts,
    }  # fmt: skip
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "result.json").write_text(json.dumps(result, indent=2) + "\n")
    write_page(result, write_figure(result, folder), folder)
    print_result(result, folder)
    return result
