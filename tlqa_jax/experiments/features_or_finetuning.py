"""How much of a pretrained model to train: score, trained parameters, and time of a step.

    tlqa experiment features-or-finetuning --quick

`head` is feature-based transfer: the encoder stays as it is, and its [CLS] vector feeds a small head. So are the mean vectors of
its last four layers, computed once (Devlin et al. 2019, 5.3), and CBOW's vectors, which know no context.
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
from tlqa_jax.training.finetune_features import finetune_features
from tlqa_jax.training.freezing import frozen_names, partition, read_train
from tlqa_jax.training.initial_model import ADDERS
from tlqa_jax.training.pretrain_vectors import pretrain_vectors
from tlqa_jax.training.progress import read_metrics

RATES = {  # train -> learning rate: small parts of a model bear, and need, larger ones
    "head": 3e-3, "last:1": 1e-3, "gradual": 1e-3, "bias": 3e-3, "adapters:16": 3e-3, "lora:8": 3e-3, "all": 1e-3,
}  # fmt: skip
VECTORS, TUNED_VECTORS, FEATURES = "CBOW, frozen", "CBOW, tuned", "cached features"
TRAIN = {VECTORS: "head", TUNED_VECTORS: "all", FEATURES: "all"}
LENGTH = 64
SCORE, SIZE, TIME = "reviews never seen (accuracy, %)", "trained parameters, thousands", "milliseconds a step"
EXPERIMENT = Experiment(
    title="Features or fine-tuning?",
    design="The same small BERT, pretrained by masked LM, learns the sentiment of reviews with more or less of it trained: the "
    "same reviews, steps and seeds. Beside it a bag of CBOW's vectors, learned from the same text, and a head on the mean vectors "
    "of all the BERT's layers, which are computed once. Where whole layers are trained the learning rate is 0.001, elsewhere 0.003, "
    "of a head on vectors 0.01; none was tuned. A step's time is the median of the run.",
    score="", column="",
    claims=(
        Claim("Fine-tuning everything is better than frozen features", "all", "head", SCORE),
        Claim("Fine-tuning everything is better than features of all layers", "all", FEATURES, SCORE),
        Claim("Features that know their context are better than word vectors", FEATURES, VECTORS, SCORE),
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
    vectors = lab.train(
        pretrain_vectors, "vectors", steps=lab.pick(1500, 6000), batch_size=1024, learning_rate=3e-3, held_out=None
    )
    common = {"steps": steps, "batch_size": batch_size, "input_length": LENGTH, "learning_rate": 1e-2}
    for way, run in ((VECTORS, "frozen-vectors"), (TUNED_VECTORS, "tuned-vectors")):
        runs[way] = lab.train(finetune_classifier, run, start_from=str(vectors), train=TRAIN[way], **common)
    runs[FEATURES] = lab.train(
        finetune_features, "features", start_from=pretrained, layers=("last:2",), cache=str(lab.folder / "features"), **common
    )
    rows = -(-batch_size // jax.device_count()) * jax.device_count()
    units = {way: rows if way == FEATURES else rows * LENGTH for way in runs}  # of a step, as its run counts speed
    return {
        SCORE: {train: {"": 100 * score(run, "accuracy")} for train, run in runs.items()},
        SIZE: {way: {"": trained_parameters(run if way in TRAIN else runs["all"], TRAIN.get(way, way)) / 1000}
               for way, run in runs.items()},
        TIME: {way: {"": 1000 * units[way] / speed(run)} for way, run in runs.items()},
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
