"""What packing gains: the share of padding before and after, and the tokens a second of a training step.

    python benchmarks/packing.py --questions train-v1.1.json --vocabulary spiece.model

Padding does not count as tokens. Both steps are that of `tlqa finetune-qa`, on rows of the same length. They take
turns, and the figures are medians with the smallest and the largest.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial

import jax
import numpy as np
import optax
from flax import nnx

from tlqa_jax.core.devices import AXIS, compute_dtype, replicate
from tlqa_jax.data.sources import local_path, open_questions
from tlqa_jax.models.functional import as_function
from tlqa_jax.models.t5 import T5
from tlqa_jax.tasks.packing import Packing
from tlqa_jax.tasks.text_to_text import encode_examples
from tlqa_jax.text.sentencepiece import SentencePieceTokenizer
from tlqa_jax.training.initial_model import t5_config
from tlqa_jax.training.memory import keep_freed_memory
from tlqa_jax.training.optimizers import make_optimizer
from tlqa_jax.training.sequence_loss import sequence_loss, target_tokens
from tlqa_jax.training.step import initial_state, update


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--questions", default="tiny_world:context_train.json", help="as for tlqa finetune-qa")
    parser.add_argument("--vocabulary", default="tiny_world:vocabulary.model")
    parser.add_argument("--model", default="small")
    parser.add_argument("--input-length", type=int, default=512)
    parser.add_argument("--target-length", type=int, default=32)
    parser.add_argument("--batch-size", type=int, default=4, help="rows on each device")
    parser.add_argument("--optimizer", default="adamw")
    parser.add_argument("--rounds", type=int, default=5)
    flags = parser.parse_args()

    keep_freed_memory()
    tokenizer = SentencePieceTokenizer(local_path(flags.vocabulary))
    examples = encode_examples(
        tokenizer, open_questions(flags.questions), input_length=flags.input_length, target_length=flags.target_length
    )
    packing = Packing(examples, 0)
    print(packing.report(), flush=True)

    unpacked = lambda rows: {"inputs": examples.inputs[rows], "targets": examples.targets[rows]}
    ways = {"one example a row": (len(examples.inputs), unpacked), "packed": (packing.size, packing.build)}
    steps = {name: step_of(flags, tokenizer, *way) for name, way in ways.items()}
    measured = {name: [] for name in ways}
    for turn in range(flags.rounds + 2):  # the first compiles, the second is not counted either
        for name, step in steps.items():
            figures = step(turn)
            if turn > 1:
                measured[name].append(figures)
    for name, figures in measured.items():
        seconds, tokens, rows = np.array(figures).T
        print(f"{name:18} {np.median(seconds):6.2f} s a step, {spread(tokens / seconds)} tokens/s, "
              f"{spread(rows / seconds, ',.1f')} examples/s")  # fmt: skip
    before, after = (np.array(figures).T for figures in measured.values())
    ratio = spread((after[1] / after[0]) / (before[1] / before[0]), ".2f")
    print(f"packed / one example a row: {ratio} times the tokens/s")


def step_of(
    flags: argparse.Namespace, tokenizer: SentencePieceTokenizer, size: int, build: Callable
) -> Callable[[int], tuple[float, int, int]]:
    """`step(turn) -> (seconds, tokens, examples)` of a model of its own."""
    config = t5_config(flags.model, tokenizer, 0.1)
    apply, params = as_function(T5(config, rngs=nnx.Rngs(0), dtype=compute_dtype()))
    optimizer = make_optimizer(flags.optimizer, optax.constant_schedule(1e-3))
    train_step = jax.pmap(
        partial(update, partial(sequence_loss, apply), target_tokens, optimizer),
        axis_name=AXIS, in_axes=(None, 0), out_axes=None, donate_argnums=0,
    )  # fmt: skip
    state = replicate(initial_state(params, optimizer))
    devices, order = jax.local_device_count(), np.random.default_rng(0).permutation(size)

    def step(turn: int) -> tuple[float, int, int]:
        nonlocal state
        rows = flags.batch_size * devices
        batch = build(order[turn * rows : (turn + 1) * rows])
        tokens = sum(int((batch[name] != 0).sum()) for name in ("inputs", "targets"))
        examples = int(batch["input_segments"].max(axis=1).sum()) if "input_segments" in batch else rows
        batch = {name: x.reshape(devices, -1, x.shape[1]) for name, x in batch.items()}
        start = time.perf_counter()
        state, _ = jax.block_until_ready(train_step(state, batch))
        return time.perf_counter() - start, tokens, examples

    return step


def spread(figures: np.ndarray, form: str = ",.0f") -> str:
    low, middle, high = np.quantile(figures, [0, 0.5, 1])
    return f"{middle:{form}} ({low:{form}} to {high:{form}})"


if __name__ == "__main__":
    main()
