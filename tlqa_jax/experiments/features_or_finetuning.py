"""How much of a pretrained model to train: score, trained parameters, and time of a step.

    tlqa experiment features-or-finetuning --quick

`head` is feature-based transfer: the encoder stays as it is, and its vectors feed a small head (Devlin et al. 2019, 5.3).
"""

import statistics
from pathlib import Path

import jax
from flax import nnx

from tlqa_jax.checkpoints.load import load
from tlqa_jax.experiments.claims import Claim
from tlqa_jax.experiments.lab import Experiment, Lab, Panels, score
from tlqa_jax.models.functional import as_function
from tlqa_jax.training.finetune_classifier import finetune_classifier
from tlqa_jax.training.freezing import frozen_names, partition, read_train
from tlqa_jax.training.initial_model import ADDERS
from tlqa_jax.training.progress import read_metrics

RATES = {  # train -> learning rate: small parts of a model bear, and need, larger ones
    "head": 3e-3, "last:1": 1e-3, "gradual": 1e-3, "bias": 3e-3, "adapters:16": 3e-3, "lora:8": 3e-3, "all": 1e-3,
}  # fmt: skip
LENGTH = 64
SCORE, SIZE, TIME = "reviews never seen (accuracy, %)", "trained parameters, thousands", "milliseconds a step"
EXPERIMENT = Experiment(
    title="Features or fine-tuning?",
    design="The same small BERT, pretrained by masked LM, learns the sentiment of reviews with more or less of it trained: the "
    "same reviews, steps and seeds. Where whole layers are trained the learning rate is 0.001, elsewhere 0.003; neither was "
    "tuned. A step's time is the median of the run.",
    score="see title", column="",
    claims=(
        Claim("Fine-tuning everything is better than frozen features", "all", "head", SCORE),
        Claim("The last layer is nearly enough (at most 3 points lower)", "last:1", "all", SCORE, margin=-3.0),
        Claim("Biases are nearly enough (at most 3 points lower)", "bias", "all", SCORE, margin=-3.0),
        Claim("Adapters are nearly enough (at most 3 points lower)", "adapters:16", "all", SCORE, margin=-3.0),
        Claim("LoRA is nearly enough (at most 3 points lower)", "lora:8", "all", SCORE, margin=-3.0),
        Claim("Unfreezing from the top is no worse than everything at once (at most 3 points lower)", "gradual", "all", SCORE,
              margin=-3.0),
    ),
)  # fmt: skip


def measure(lab: Lab) -> Panels:
    pretrained, batch_size, steps = str(lab.masked_lm()), 32, lab.pick(400, 600)
    runs = {
        train: lab.train(
            finetune_classifier, train.replace(":", "-"), start_from=pretrained, steps=steps, train=train,
            learning_rate=rate, input_length=LENGTH, batch_size=batch_size,
        )
        for train, rate in RATES.items()
    }  # fmt: skip
    rows = -(-batch_size // jax.device_count()) * jax.device_count()
    return {
        SCORE: {train: {"": 100 * score(run, "accuracy")} for train, run in runs.items()},
        SIZE: {train: {"": trained_parameters(runs["all"], train) / 1000} for train in runs},
        TIME: {train: {"": 1000 * rows * LENGTH / speed(run)} for train, run in runs.items()},
    }


def trained_parameters(run: Path, train: str) -> int:
    """The number of parameters that `train` trains of the model in a run."""
    model, (kind, size) = load(str(run)).model(), read_train(train)
    if kind in ADDERS:
        ADDERS[kind](model, size, nnx.Rngs(0))
    params = as_function(model)[1]
    return sum(x.size for x in jax.tree.leaves(partition(params, frozen_names(params, train))[0]))


def speed(run: Path) -> float:
    """Tokens a second: the median of a run's reports after the first one, in which the program is compiled."""
    reports = [row["tokens_per_second"] for row in read_metrics(run / "metrics.jsonl") if "tokens_per_second" in row]
    return float(statistics.median(reports[1:]))
