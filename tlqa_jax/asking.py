"""Asking a trained run: `ask` for one question in words, `open_run` for many and for their scores.

    >>> tlqa_jax.ask("Where was Mira born?", "Mira, a clockmaker from Oss, plays the flute.", run="runs/quickstart")
    Answer(text='Oss', probability=0.93, context_cut=False)

(The module is called `asking` because `tlqa_jax.ask` is the function.)
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from flax import nnx

from tlqa_jax.data.batches import evaluation_batches
from tlqa_jax.data.sources import QAExample
from tlqa_jax.decoding.answers import Answer, Answerer
from tlqa_jax.errors import UserError
from tlqa_jax.models.functional import as_function
from tlqa_jax.models.t5 import T5, T5Config
from tlqa_jax.tasks.text_to_text import encode_examples
from tlqa_jax.text.sentencepiece import SentencePieceTokenizer
from tlqa_jax.training.devices import compute_dtype, replicate
from tlqa_jax.training.evaluation import mean_over_examples, summed_over_devices
from tlqa_jax.training.sequence_loss import evaluation_sums
from tlqa_jax.weights.checkpoints import CHECKPOINTS, CONFIG, load_t5, main_run, read_config


def ask(question: str, context: str | None = None, run: str | Path = "runs/quickstart") -> Answer:
    """Answer a question, from a context or, without one, from memory.

    The first question loads the run and compiles; later ones to the same run do neither, for lengths seen before. A
    run that has been trained on since is loaded again.

    Args:
        run: directory of a fine-tuned run, or of a quickstart.

    Raises UserError if there is no such run, it was not taught to answer, or the question is empty or too long.
    """
    if not question.strip():
        raise UserError("the question is empty")
    return open_run(run)([QAExample("question", question, (), context)])[0]


def open_run(run: str | Path) -> "OpenRun":
    """A fine-tuned run, ready to answer; the last two stay in memory."""
    run = main_run(run)
    record = read_config(run)
    if record.get("program") == "span_corruption" and not record.get("training", {}).get("questions_share"):
        raise UserError(
            f"{run} was pretrained but not taught to answer: `tlqa finetune-qa --start-from {run}` does that"
        )
    if record.get("program") == "extractive_qa":
        raise UserError(f"{run} points at answers in their contexts: its answers to the held-out questions are in predictions.json")
    newest = max((path.stat().st_mtime_ns for path in (run / CHECKPOINTS).glob("*")), default=0)
    return _open_run(run.resolve(), (run / CONFIG).stat().st_mtime_ns, newest)


@dataclass(frozen=True)
class OpenRun:
    """A trained model with its parameters on all of this process's devices. Called with examples, it answers them."""

    path: Path
    config: T5Config
    tokenizer: SentencePieceTokenizer
    apply: Callable
    params: Any  # replicated: a leading axis of local devices
    answerer: Answerer

    def __call__(self, examples: Sequence[QAExample], *, use_context: bool = True) -> list[Answer]:
        """The answers, in the order of the examples; their gold answers are not looked at."""
        return self.answerer(
            self.params,
            [replace(example, answers=(), answer_starts=()) for example in examples],
            use_context=use_context,
        )

    def loss(self, examples: Sequence[QAExample], *, use_context: bool = True, batch_size: int = 32) -> float:
        """-log p(first gold answer) in nats per token of it, the end token among them."""
        answerer = self.answerer
        rows = encode_examples(
            self.tokenizer,
            examples,
            input_length=answerer.input_length,
            target_length=answerer.target_length,
            use_context=use_context,
        )
        batch_size = -(-batch_size // answerer.devices) * answerer.devices
        build = lambda indices, *_: {"inputs": rows.inputs[indices], "targets": rows.targets[indices]}
        step = summed_over_devices(partial(evaluation_sums, self.apply))
        return mean_over_examples(step, self.params, evaluation_batches(len(examples), batch_size, build))["loss"]


@functools.lru_cache(maxsize=2)
def _open_run(run: Path, *_changed: int) -> OpenRun:
    """`_changed`: numbers that differ when the run has been trained on."""
    training = read_config(run).get("training", {})
    config, params, tokenizer = load_t5(run)
    model = nnx.eval_shape(lambda: T5(config, rngs=nnx.Rngs(0), dtype=compute_dtype(training.get("dtype", "auto"))))
    apply, _ = as_function(model)
    answerer = Answerer(
        apply,
        tokenizer,
        input_length=training.get("input_length", 512),
        target_length=training.get("target_length", 32),
    )
    return OpenRun(run, config, tokenizer, apply, replicate(params), answerer)
