"""The time of a training step, by how much is trained (`--train` of the fine-tuning programs): BERT, classification.

    python benchmarks/step_times.py                                     # BERT base; 10 to 20 minutes on two quiet cores
    python benchmarks/step_times.py --size tiny --rounds 2 --length 16  # a trial

All ways are compiled first, in one process. Then they take turns, A B C A B C …, each of a few steps; a turn's figure is
their median. The table has the median of the turns, and of the ratios to `all` of the same round, each with the smallest
and the largest. All ways see the same rows and use the same optimizer (AdamW), without dropout.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import jax
import numpy as np
import optax
from flax import nnx

from tlqa_jax.core.devices import AXIS, replicate
from tlqa_jax.inference.classifier import class_logits
from tlqa_jax.models.adapters import add_adapters, add_lora
from tlqa_jax.models.bert import BertConfig
from tlqa_jax.models.bert_heads import BertForSequenceClassification
from tlqa_jax.models.functional import as_function
from tlqa_jax.training.finetune_classifier import class_loss, number_of_texts
from tlqa_jax.training.freezing import frozen_names, read_train
from tlqa_jax.training.memory import keep_freed_memory
from tlqa_jax.training.optimizers import adamw
from tlqa_jax.training.step import initial_state, update

WAYS = ("head", "last:1", "bias", "adapters:64", "lora:8", "all")


def training_step(how: str, config: BertConfig, batch: dict[str, np.ndarray]) -> tuple[Callable[[], float], str]:
    """(a step, what it says about the number of parameters) of one way; the step is compiled already."""
    model, (kind, size), said = BertForSequenceClassification(config, rngs=nnx.Rngs(0)), read_train(how), []
    if kind in ("adapters", "lora"):
        {"adapters": add_adapters, "lora": add_lora}[kind](model, size, nnx.Rngs(0))
    apply, params = as_function(model)
    freeze, optimizer = frozen_names(params, how), adamw(optax.constant_schedule(1e-4), weight_decay=0.01)
    train_step = jax.pmap(
        partial(update, partial(class_loss, partial(class_logits, apply, 0)), number_of_texts, optimizer, freeze=freeze),
        axis_name=AXIS, in_axes=(None, 0), out_axes=None, donate_argnums=0,
    )  # fmt: skip
    state = replicate(initial_state(params, optimizer, freeze, said.append))

    def step() -> float:
        nonlocal state
        start = time.perf_counter()
        state, _ = jax.block_until_ready(train_step(state, batch))
        return time.perf_counter() - start

    step()  # compiles
    step()
    return step, said[0]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--size", default="base", choices=("tiny", "mini", "small", "base"), help="of the BERT")
    parser.add_argument("--ways", nargs="+", default=WAYS, help="values of --train; the last one is compared with")
    parser.add_argument("--batch-size", type=int, default=8, help="rows on each device")
    parser.add_argument("--length", type=int, default=128, help="tokens in a row")
    parser.add_argument("--rounds", type=int, default=7, help="turns of each way")
    parser.add_argument("--steps", type=int, default=3, help="steps in a turn")
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks/step_times.json"), help="file for all figures")
    flags = parser.parse_args()

    keep_freed_memory()
    config = getattr(BertConfig, flags.size)(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    random, shape = np.random.default_rng(0), (jax.local_device_count(), flags.batch_size)
    tokens = random.integers(1000, config.vocab_size, (*shape, flags.length)).astype(np.int32)
    batch = {"tokens": tokens, "labels": random.integers(0, 2, shape).astype(np.int32)}
    started = {how: training_step(how, config, batch) for how in flags.ways}
    turns = {how: [] for how in flags.ways}
    for _ in range(flags.rounds):
        for how, (step, _) in started.items():
            turns[how].append(statistics.median(step() for _ in range(flags.steps)))

    spread = lambda values, form: f"{statistics.median(values):{form}} ({min(values):{form}}–{max(values):{form}})"
    whole = turns[flags.ways[-1]]
    device = f"{jax.device_count()} {jax.devices()[0].device_kind} device(s), jax {jax.__version__}"
    print(f"BERT {flags.size}, {flags.batch_size} rows of {flags.length} tokens, {device}\n")
    print(f"| --train | trained | ms (smallest–largest) | times {flags.ways[-1]} |\n|---|---|---|---|")
    for how, seconds in turns.items():
        trained = started[how][1].removeprefix("training ")
        ratios = [one / other for one, other in zip(seconds, whole)]
        print(f"| {how} | {trained} | {spread([1000 * s for s in seconds], '.0f')} | {spread(ratios, '.2f')} |")
    flags.out.parent.mkdir(parents=True, exist_ok=True)
    settings = vars(flags) | {"out": str(flags.out)}
    flags.out.write_text(json.dumps({"settings": settings, "seconds": turns}, indent=1) + "\n")


if __name__ == "__main__":
    main()
