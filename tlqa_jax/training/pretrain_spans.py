"""Span-corruption pretraining of a T5 (Raffel et al. 2020, section 3.1.4), over all devices with pmap.

    tlqa pretrain-spans --texts corpus.txt --vocabulary spiece.model --model small --out runs/pretrained

1,400 steps of 32 rows of 128 tokens, of 2.3 million words of real text, took 3+3 layers of 256 19 minutes on 2 busy CPU
cores. Fine-tuned on questions (`qa.py`), the loss was then 5.86 nats a token, and 6.42 without; neither could answer.

Read it top to bottom: settings, data, model, `train_step`, the loop. Nothing is hidden in a base class.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from flax import nnx

from tlqa_jax.checkpoints.runs import Checkpoints, check_run, save_vocabulary, start_run
from tlqa_jax.core.devices import (
    AXIS,
    accumulate,
    check_batch,
    compute_dtype,
    dropout_key,
    on_host,
    replicate,
    unreplicate,
)
from tlqa_jax.core.losses import cross_entropy
from tlqa_jax.data.batches import evaluation_batches, training_batches
from tlqa_jax.data.corpus import SpansFrom, check_tokens_file, read_corpus, token_report
from tlqa_jax.data.sources import open_questions
from tlqa_jax.errors import UserError
from tlqa_jax.models.functional import as_function
from tlqa_jax.models.t5 import T5
from tlqa_jax.tasks import span_corruption, text_to_text
from tlqa_jax.text.sentencepiece import SentencePieceTokenizer
from tlqa_jax.training.evaluation import held_out_source, mean_over_examples, summed_over_devices
from tlqa_jax.training.initial_model import begin_with_t5
from tlqa_jax.training.memory import keep_freed_memory
from tlqa_jax.training.optimizers import Decay, Optimizer, check_warmup, make_optimizer, schedule
from tlqa_jax.training.progress import Progress, draw_curves
from tlqa_jax.training.sequence_loss import evaluation_sums, predict
from tlqa_jax.training.settings import Settings, check_settings, recorded


@dataclass(frozen=True)
class PretrainSpansSettings(Settings):
    """Settings of a pretraining run."""

    out: str = "runs/pretrained"
    """Directory of the run: configuration, vocabulary, checkpoints, metrics, curves."""
    texts: str = "tiny_world:pretraining.txt"
    """What to learn from: .txt, .jsonl or .csv (also .gz), tfds:NAME:SPLIT, or tiny_world:FILE."""
    held_out: str | None = "auto"
    """Text to evaluate on, of the same kinds; "auto": the tiny world's for the tiny world's texts, none for others;
    "None" for no evaluation."""
    text_field: str = "text"
    """Name of the field of .jsonl, .csv and TFDS rows that holds the text."""
    max_tokens: int | None = None
    """Learn from the first so many tokens of the texts alone."""
    tokens_file: str | None = None
    """Keep the tokens in this file, named .tokens, and map it, for texts larger than memory; made anew at each
    start."""
    data_dir: str | None = None
    """Where TFDS data sets are prepared."""
    start_from: str | None = None
    """A T5 to train further: a run, a Hugging Face directory or hub name. Without it: --model and --vocabulary."""
    vocabulary: str = "tiny_world:vocabulary.model"
    """A SentencePiece .model file (without --start-from)."""
    model: str = "tiny"
    """tiny, small, base, or a JSON file of T5Config fields (without --start-from)."""
    input_length: int = 512
    """Encoder length; how many tokens it holds, and the target length, follow from the noise."""
    noise_density: float = 0.15
    """Share of the tokens to corrupt."""
    mean_span_length: float = 3.0
    """Mean number of tokens in a corrupted span."""
    salient_share: float = 0.0
    """Share of the rows that mask salient spans (names, dates) instead of random ones."""
    salient_spans: SpansFrom = "marked"
    """Where they are: marked in a .jsonl, as "spans": [[start, end], …] in characters of its text, or found by a rule
    in any text: numbers, dates, capitalised words within a sentence."""
    salient_rate: float = 0.5
    """Share of the salient spans that are masked in such a row."""
    questions: str | None = None
    """Questions to mix into pretraining as text to text; a row without "context" is asked closed-book."""
    questions_share: float = 0.0
    """Share of the rows that are such questions."""
    steps: int = 10_000
    """Number of optimizer steps."""
    batch_size: int = 64
    """Rows a step, over all devices and accumulation slices."""
    accumulate: int = 1
    """Slices a device takes its rows in, to save memory. The gradients stay those of the whole batch."""
    optimizer: Optimizer = "adamw"
    """adamw, or adafactor: T5's own, with hardly any memory of its own."""
    learning_rate: float = 1e-3
    """Peak learning rate; of Adafactor, in units of the size of a matrix's entries."""
    warmup: int = 500
    """Steps of linear warm-up."""
    decay: Decay = "linear"
    """How the learning rate falls after the warm-up."""
    weight_decay: float = 0.01
    """AdamW's weight decay, on matrices only."""
    clip: float = 1.0
    """Largest global norm of the gradients (AdamW; Adafactor clips its updates)."""
    relative_bias_rate: float = 1.0
    """Multiplies the learning rate of the relative position biases; short runs from nothing want about 30."""
    dropout: float = 0.1
    """Dropout rate."""
    seed: int = 0
    """Seed of the initial weights, the order of the data, the noise and the dropout."""
    dtype: str = "auto"
    """What to compute in: auto, float32 or bfloat16. Parameters are float32."""
    log_every: int = 20
    """Steps between reports."""
    evaluate_every: int = 500
    """Steps between evaluations on held-out text; there is always one at the end."""
    save_every: int = 500
    """Steps between checkpoints; there is always one at the end."""
    keep: int = 3
    """Number of checkpoints to keep."""
    resume: bool = False
    """Go on from the newest checkpoint in --out."""
    overwrite: bool = False
    """Delete a run that is already in --out."""


def pretrain_spans(config: PretrainSpansSettings, *, quiet: bool = False) -> Path:
    """Run the program; returns the run's directory. Raises UserError for anything the settings or files have wrong."""
    # --- settings and data: everything that can be wrong is found here, before anything is compiled
    keep_freed_memory()
    quiet = quiet or jax.process_index() != 0  # one process speaks for all
    check_settings(config)
    check_warmup(config.warmup, config.steps)
    check_batch(config.batch_size, config.accumulate)
    check_tokens_file(config.tokens_file, config.out)
    if config.tokens_file and config.salient_share:
        raise UserError("--tokens-file holds no salient spans: leave it out, or --salient-share, to keep all in memory")
    if config.questions and not config.questions_share:
        raise UserError("--questions wants a --questions-share, the share of the rows that are questions")
    dtype = compute_dtype(config.dtype)
    model_config, begun, tokenizer = begin_with_t5(config)
    record = {"program": "span_corruption", "model": dataclasses.asdict(model_config), "training": recorded(config)}
    record["extra_ids"] = len(tokenizer.sentinels)
    check_run(config.out, record, resume=config.resume, overwrite=config.overwrite)
    plain = dataclasses.replace(config, salient_share=0.0, questions_share=0.0, max_tokens=None, tokens_file=None)
    held_out = held_out_source(config, "tiny_world:pretraining_dev.txt")
    held_out = SpanCorruptionData(plain, tokenizer, held_out) if held_out else None
    data = SpanCorruptionData(config, tokenizer, config.texts)  # last: it may be large
    if not quiet:
        print("training:", data.report)
        if config.questions_share:
            print("questions:", data.questions.report())
    run = start_run(config.out, record, resume=config.resume, overwrite=config.overwrite)
    save_vocabulary(run, tokenizer)

    # --- model and optimizer
    apply, params = as_function(T5(model_config, rngs=nnx.Rngs(config.seed), dtype=dtype))
    params = params if begun is None else begun
    rate = schedule(config.learning_rate, config.steps, warmup=config.warmup, decay=config.decay)
    optimizer = make_optimizer(
        config.optimizer, rate,
        weight_decay=config.weight_decay, clip=config.clip, relative_bias_rate=config.relative_bias_rate,
    )
    state = on_host({"params": params, "opt_state": optimizer.init(params), "step": np.int32(0)})
    del params, begun  # or the first device would hold them twice
    train_step = make_train_step(apply, optimizer, config.seed, config.accumulate)
    evaluate_step = summed_over_devices(partial(evaluation_sums, apply))

    def evaluate_all(params: Any) -> dict[str, float]:
        rows = evaluation_batches(held_out.size, config.batch_size, held_out.build_evaluation)
        return mean_over_examples(evaluate_step, params, rows)

    # --- the loop
    with Checkpoints(run, config.keep) as checkpoints:
        if config.resume and checkpoints.latest():
            state = checkpoints.restore(state)
        start = int(state["step"])
        state = replicate(state)
        batches = training_batches(data.size, config.batch_size, config.seed, data.build, start=start)
        due = lambda step: held_out and (step == config.steps or step % config.evaluate_every == 0)
        with Progress(run, "pretraining", config.steps, start=start, quiet=quiet) as progress:
            if start and due(start):  # the run may have been stopped in the midst of it
                progress.evaluated(start, **evaluate_all(state["params"]))
            for step in range(start + 1, config.steps + 1):
                state, metrics = train_step(state, next(batches))
                last = step == config.steps
                saving = last or step % config.save_every == 0
                if saving or step % config.log_every == 0:
                    progress.train(
                        step, **{name: float(value) for name, value in metrics.items()},
                        learning_rate=float(rate(step - 1)), tokens_per_step=config.batch_size * data.tokens_length,
                        latest=checkpoints.latest,
                    )
                if saving:
                    checkpoints.save(step, unreplicate(state))
                if due(step):
                    progress.evaluated(step, **evaluate_all(state["params"]))
    if jax.process_index() == 0:
        draw_curves(run)
    return run


def make_train_step(
    apply: Callable, optimizer: optax.GradientTransformation, seed: int, accumulation: int = 1
) -> Callable:
    """The pmap-ed step: `train_step(state, batch) -> (state, metrics)`, the old state's memory reused for the new.

    The batch holds "inputs" [devices, B, S] and "targets" [devices, B, L], padded with 0.
    """

    def train_step(state: dict[str, Any], batch: dict[str, Any]):
        key = dropout_key(seed, state["step"])
        # the number of target tokens on all devices together: the loss is a mean over these, not a mean of means
        weight = jax.lax.psum((batch["targets"] != 0).sum().astype("float32"), AXIS)

        def loss_share(params, rows, key):
            loss, _ = cross_entropy(*predict(apply, params, rows, key))
            return loss / weight

        share = accumulate(jax.value_and_grad(loss_share), state["params"], batch, key, accumulation)
        loss, gradients = jax.lax.psum(share, AXIS)
        updates, opt_state = optimizer.update(gradients, state["opt_state"], state["params"])
        params = optax.apply_updates(state["params"], updates)
        metrics = {"loss": loss, "gradient_norm": optax.tree.norm(gradients)}
        return {"params": params, "opt_state": opt_state, "step": state["step"] + 1}, metrics

    return jax.pmap(train_step, axis_name=AXIS, in_axes=(None, 0), out_axes=None, donate_argnums=0)


class SpanCorruptionData:
    """The rows of a run: windows of the concatenated documents, with fresh noise each time, and perhaps questions.

    A window has `tokens_length` tokens, the number that random noise turns into exactly `input_length` inputs. Which
    window, noise and question stand in a row is a function of (seed, step, row), whatever the number of devices.
    """

    def __init__(self, config: PretrainSpansSettings, tokenizer: SentencePieceTokenizer, texts: str):
        self.config, self.sentinels = config, tokenizer.sentinels
        self.input_length = config.input_length
        self.tokens_length, self.target_length = span_corruption.tokens_length_for(
            config.input_length, config.noise_density, config.mean_span_length
        )
        spans = span_corruption.noise_counts(self.tokens_length, config.noise_density, config.mean_span_length)[1]
        if spans > len(self.sentinels):
            raise UserError(
                f"--input-length {config.input_length} needs {spans} sentinels, "
                f"the vocabulary has {len(self.sentinels)}"
            )
        if config.questions_share and not config.questions:
            raise UserError("--questions-share wants --questions")
        examples = open_questions(config.questions, data_dir=config.data_dir) if config.questions_share else []
        spans_from = config.salient_spans if config.salient_share else None
        corpus = read_corpus(
            texts, tokenizer, spans=spans_from, data_dir=config.data_dir, field=config.text_field,
            limit=config.max_tokens, file=config.tokens_file,
        )
        self.size = len(corpus.tokens) // self.tokens_length
        if self.size == 0:
            raise UserError(
                f"{texts} has {len(corpus.tokens):,} tokens, fewer than one window of {self.tokens_length}: "
                "give more text or a smaller --input-length"
            )
        windows = lambda tokens: tokens[: self.size * self.tokens_length].reshape(self.size, self.tokens_length)
        self.tokens = windows(corpus.tokens)
        self.report = f"{token_report(corpus.tokens, tokenizer.unk_id)}, in {self.size:,} rows of {self.tokens_length}"
        if config.salient_share:
            self.spans = span_corruption.number_spans(windows(corpus.spans))
            # spans of one token make a window no shorter, and its end comes on top
            self.input_length = max(self.input_length, self.tokens_length + 1)
            longest = span_corruption.longest_salient_targets(self.spans, config.salient_rate, len(self.sentinels))
            self.target_length = max(self.target_length, longest)
        self.target_length = max(self.target_length, text_to_text.longest_target(tokenizer, examples))
        self.questions = text_to_text.encode_examples(
            tokenizer, examples, input_length=self.input_length, target_length=self.target_length
        )

    def build(self, indices: np.ndarray, rows: slice, step: int) -> dict[str, np.ndarray]:
        """Rows `rows` of the batch of `step`; `indices` are their windows.

        The first rows of a batch are questions, then come those with salient noise, then those with random noise.
        """
        config = self.config
        mask = self._random_mask(np.random.default_rng((config.seed, step)), config.batch_size)[rows]
        asked = round(config.questions_share * config.batch_size)
        marked = asked + round(config.salient_share * config.batch_size)
        row_rngs = {
            row: np.random.default_rng((config.seed, step, row)) for row in range(rows.start, min(rows.stop, marked))
        }
        for row, rng in row_rngs.items():
            if row >= asked:
                own = row - rows.start
                spans = self.spans[indices[own]][None]
                mask[own] = span_corruption.salient_spans_mask(rng, spans, config.salient_rate, len(self.sentinels))[0]
        batch = self._corrupted(indices, mask)
        for row, rng in row_rngs.items():
            if row < asked:
                chosen = rng.integers(len(self.questions.inputs))
                batch["inputs"][row - rows.start] = self.questions.inputs[chosen]
                batch["targets"][row - rows.start] = self.questions.targets[chosen]
        return batch

    def build_evaluation(self, indices: np.ndarray, rows: slice, step: int) -> dict[str, np.ndarray]:
        """Random noise only, and the same for a window at every evaluation, in whatever batch it stands."""
        rngs = [np.random.default_rng((self.config.seed, index)) for index in indices]
        return self._corrupted(indices, np.concatenate([self._random_mask(rng, 1) for rng in rngs]))

    def _random_mask(self, rng: np.random.Generator, batch: int) -> np.ndarray:
        return span_corruption.random_spans_mask(
            rng, batch, self.tokens_length, self.config.noise_density, self.config.mean_span_length
        )

    def _corrupted(self, windows: np.ndarray, mask: np.ndarray) -> dict[str, np.ndarray]:
        inputs, targets = span_corruption.corrupt(
            self.tokens[windows], mask,
            sentinels=self.sentinels, inputs_length=self.input_length, targets_length=self.target_length,
        )
        return {"inputs": inputs, "targets": targets}
