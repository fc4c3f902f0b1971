"""Masked-LM and next-sentence pretraining of a BERT (Devlin et al. 2019, section 3.1), over all devices with pmap.

    tlqa pretrain-mlm --texts corpus.txt --vocabulary vocab.txt --model small --out runs/bert

The loss is that of both tasks together: the mean over the masked tokens plus the mean over the pairs of segments. With
--no-next-sentence there are no pairs (Liu et al. 2019), every row is packed full, and the first is all of it.

On the tiny world, 1,500 steps of 32 rows of 64 tokens at a rate of 2e-3 without dropout take 5 to 10 minutes on 2 busy
CPU cores. Of the masked tokens of the held-out text the tiny model then names 59%, and 72% where its initial weights
are larger (a --model file with "initializer_range": 0.05): small models in short runs want that.

Read it top to bottom, as `span_corruption.py`: settings, data, model, `train_step`, the loop.
"""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import nnx
from jaxtyping import Array, Float

from tlqa_jax.checkpoints.bert_runs import save_wordpiece
from tlqa_jax.checkpoints.runs import Checkpoints, check_run, start_run
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
from tlqa_jax.core.losses import correct_predictions, cross_entropy
from tlqa_jax.data.batches import evaluation_batches, training_batches
from tlqa_jax.data.corpus import check_tokens_file, token_report, tokenize_sentences
from tlqa_jax.data.sources import open_texts
from tlqa_jax.errors import UserError
from tlqa_jax.models.bert_heads import BertForMaskedLM, BertForPreTraining, PretrainingLogits
from tlqa_jax.models.functional import as_function
from tlqa_jax.tasks.masked_lm import mask_tokens, most_predictions
from tlqa_jax.tasks.next_sentence import SentencePairs, assemble, full_rows
from tlqa_jax.text.wordpiece import WordPieceTokenizer
from tlqa_jax.training.evaluation import held_out_source, mean_over_examples, summed_over_devices
from tlqa_jax.training.initial_bert import begin_with, taken_over
from tlqa_jax.training.memory import keep_freed_memory
from tlqa_jax.training.optimizers import Decay, adamw, check_warmup, schedule
from tlqa_jax.training.progress import Progress, draw_curves
from tlqa_jax.training.settings import Settings, check_settings, recorded

MaskedLMAttention = Literal["plain", "causal"]


@dataclass(frozen=True)
class PretrainMLMSettings(Settings):
    """Settings of a pretraining run."""

    out: str = "runs/bert"
    """Directory of the run: configuration, vocabulary, checkpoints, metrics, curves."""
    start_from: str | None = None
    """A pretrained BERT to go on with; else the model starts from random weights, with --model and --vocabulary."""
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
    vocabulary: str = "tiny_world:wordpiece.txt"
    """A WordPiece vocab.txt (without --start-from)."""
    lowercase: bool = True
    """Whether that vocabulary is of lower-cased text (without --start-from)."""
    model: str = "tiny"
    """tiny, mini, small, base, large, or a JSON file of BertConfig fields (without --start-from)."""
    attention: MaskedLMAttention | None = None
    """plain: each token sees all others. causal: only those before it, to see what that costs (--no-next-sentence).
    If not given, as in --start-from, and plain without it."""
    next_sentence: bool = True
    """Whether rows are pairs of segments, and the model tells if the second follows the first."""
    whole_words: bool = False
    """Whether all pieces of a word are masked together or not at all."""
    mask_rate: float = 0.15
    """Share of the tokens to predict."""
    input_length: int = 128
    """Length of a row in tokens."""
    steps: int = 10_000
    """Number of optimizer steps."""
    batch_size: int = 64
    """Rows a step, over all devices and accumulation slices."""
    accumulate: int = 1
    """Slices a device takes its rows in, to save memory. The gradients stay those of the whole batch."""
    learning_rate: float = 1e-3
    """Peak learning rate; large models want less (1e-4 for base)."""
    warmup: int = 100
    """Steps of linear warm-up."""
    decay: Decay = "linear"
    """How the learning rate falls after the warm-up."""
    weight_decay: float = 0.01
    """AdamW's weight decay, on matrices only."""
    clip: float = 1.0
    """Largest global norm of the gradients."""
    dropout: float = 0.1
    """Dropout rate."""
    seed: int = 0
    """Seed of the initial weights, the order of the data, the pairs, the masks and the dropout."""
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


def pretrain_mlm(config: PretrainMLMSettings, *, quiet: bool = False) -> Path:
    """Run the program; returns the run's directory. Raises UserError for anything the settings or files have wrong."""
    # --- settings and data: everything that can be wrong is found here, before anything is compiled
    keep_freed_memory()
    quiet = quiet or jax.process_index() != 0  # one process speaks for all
    check_settings(config)
    check_warmup(config.warmup, config.steps)
    check_batch(config.batch_size, config.accumulate)
    check_tokens_file(config.tokens_file, config.out)
    dtype = compute_dtype(config.dtype)
    model_config, pretrained, tokenizer, attention = begin_with(config)
    attention = config.attention or attention
    check_tasks(config, attention)
    config = dataclasses.replace(config, attention=attention)
    if config.next_sentence and model_config.type_vocab_size < 2:
        raise UserError("this model has one token type, and pairs need two: add --no-next-sentence")
    architecture = BertForPreTraining if config.next_sentence else BertForMaskedLM
    training = recorded(config) | {"lowercase": tokenizer.lowercase}
    record = {"program": "mlm", "architecture": architecture.__name__}
    record |= {"model": dataclasses.asdict(model_config), "training": training}
    check_run(config.out, record, resume=config.resume, overwrite=config.overwrite)
    held_out = held_out_source(config, "tiny_world:pretraining_dev.txt")
    whole = dataclasses.replace(config, max_tokens=None, tokens_file=None)
    held_out = MaskedLMData(whole, tokenizer, held_out) if held_out else None
    data = MaskedLMData(config, tokenizer, config.texts)  # last: it may be large
    if not quiet:
        print("training:", data.report)
    run = start_run(config.out, record, resume=config.resume, overwrite=config.overwrite)
    save_wordpiece(run, tokenizer)

    # --- model and optimizer
    model = architecture(model_config, rngs=nnx.Rngs(config.seed), dtype=dtype, attention=config.attention)
    apply, params = as_function(model)
    params = taken_over(params, pretrained)
    rate = schedule(config.learning_rate, config.steps, warmup=config.warmup, decay=config.decay)
    optimizer = adamw(rate, weight_decay=config.weight_decay, clip=config.clip)
    state = on_host({"params": params, "opt_state": optimizer.init(params), "step": np.int32(0)})
    del model, params, pretrained  # or the first device would hold them twice
    predict = partial(pretraining_logits, apply, tokenizer.pad_id)
    train_step = make_train_step(predict, optimizer, config.seed, config.accumulate)
    evaluate_step = summed_over_devices(partial(evaluation_sums, predict))

    def evaluate_all(params: Any) -> dict[str, float]:
        rows = evaluation_batches(held_out.size, config.batch_size, held_out.build_evaluation)
        return per_prediction(mean_over_examples(evaluate_step, params, rows))

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
                        learning_rate=float(rate(step - 1)), tokens_per_step=config.batch_size * config.input_length,
                        latest=checkpoints.latest,
                    )
                if saving:
                    checkpoints.save(step, unreplicate(state))
                if due(step):
                    progress.evaluated(step, **evaluate_all(state["params"]))
    if jax.process_index() == 0:
        draw_curves(run)
    return run


def check_tasks(config: PretrainMLMSettings, attention: str) -> None:
    """Refuse tasks that cannot be learned."""
    if attention not in get_args(MaskedLMAttention):
        raise UserError(f'--attention is "{attention}": known are {", ".join(get_args(MaskedLMAttention))}')
    if attention == "causal" and config.next_sentence:
        raise UserError(
            "--attention causal: [CLS], the first token, sees only itself and cannot tell what follows: "
            "add --no-next-sentence"
        )
    shortest = 5 if config.next_sentence else 3  # special tokens, and one token of text in each segment
    if config.input_length < shortest:
        raise UserError(f"--input-length is {config.input_length}: a row has at least {shortest} tokens")


# The losses


class TaskSums(NamedTuple):
    """One task over a batch: -log p in nats and the number of right answers, both summed, and of how many."""

    loss: Float[Array, ""]
    correct: Float[Array, ""]
    weight: Float[Array, ""]


def pretraining_logits(
    apply: Callable, pad_id: int, params: Any, rows: dict[str, Array], key=None
) -> PretrainingLogits:
    """The model's logits, at the masked positions only; `next_sentence` is None from a model without that task.

    `key` seeds dropout; None for none.
    """
    tokens = rows["tokens"]
    logits = apply(
        params, tokens, positions=rows["positions"], token_types=rows["token_types"], mask=tokens != pad_id, key=key
    )
    return logits if isinstance(logits, PretrainingLogits) else PretrainingLogits(logits, None)


def task_sums(predict: Callable, params: Any, rows: dict[str, Array], key=None) -> dict[str, TaskSums]:
    """Both tasks: "mlm", and "nsp" where the rows are pairs. Rows count by their "weight", where they have one."""
    logits = predict(params, rows, key=key)
    each = rows.get("weight", jnp.ones(len(rows["tokens"])))
    tasks = {"mlm": (logits.masked_lm, rows["targets"], rows["weights"] * each[:, None])}
    if "next_sentence" in rows:
        tasks["nsp"] = (logits.next_sentence, rows["next_sentence"], each)
    sums = {}
    for name, task in tasks.items():
        loss, weight = cross_entropy(*task)
        sums[name] = TaskSums(loss, correct_predictions(*task), weight)
    return sums


def make_train_step(
    predict: Callable, optimizer: optax.GradientTransformation, seed: int, accumulation: int = 1
) -> Callable:
    """The pmap-ed step: `train_step(state, batch) -> (state, metrics)`, the old state's memory reused for the new.

    `predict(params, rows, key=…)` is `pretraining_logits`. The batch is that of `MaskedLMData`, with a leading axis of
    devices.
    """

    def train_step(state: dict[str, Any], batch: dict[str, Any]):
        key = dropout_key(seed, state["step"])
        # the masked tokens and the rows on all devices together: both losses are means over these, not means of means
        weights = {"mlm": batch["weights"].sum(), "nsp": jnp.float32(len(batch["tokens"]))}
        weights = jax.tree.map(lambda weight: jnp.maximum(weight, 1), jax.lax.psum(weights, AXIS))

        def loss_share(params, rows, key):
            return sum(sums.loss / weights[name] for name, sums in task_sums(predict, params, rows, key).items())

        share = accumulate(jax.value_and_grad(loss_share), state["params"], batch, key, accumulation)
        loss, gradients = jax.lax.psum(share, AXIS)
        updates, opt_state = optimizer.update(gradients, state["opt_state"], state["params"])
        params = optax.apply_updates(state["params"], updates)
        metrics = {"loss": loss, "gradient_norm": optax.tree.norm(gradients)}
        return {"params": params, "opt_state": opt_state, "step": state["step"] + 1}, metrics

    return jax.pmap(train_step, axis_name=AXIS, in_axes=(None, 0), out_axes=None, donate_argnums=0)


def evaluation_sums(predict: Callable, params: Any, rows: dict[str, Array]) -> dict[str, Array]:
    """Sums over a batch, without dropout: losses in nats, right answers, masked tokens ("predictions") and "weight".

    Rows of "weight" 0 only fill up the last batch.
    """
    sums = {"weight": rows["weight"].sum()}
    for name, task in task_sums(predict, params, rows).items():
        sums |= {f"{name}_loss": task.loss, f"{name}_accuracy": task.correct}
        if name == "mlm":
            sums["predictions"] = task.weight
    return sums


def per_prediction(means: dict[str, float]) -> dict[str, float]:
    """What `evaluation_sums` come to, from their means over the rows: the masked LM's are over its predictions."""
    means = dict(means)
    predictions = means.pop("predictions") or float("nan")
    means |= {name: means[name] / predictions for name in ("mlm_loss", "mlm_accuracy")}
    return {"loss": means["mlm_loss"] + means.get("nsp_loss", 0.0)} | means


# The data


class MaskedLMData:
    """The rows of a run: pairs of segments, or text packed full, with fresh masks (and pairs) in every epoch.

    Row i of epoch e is drawn from a generator of its own, seeded (seed, e, i): whatever batch it stands in, on however
    many devices, it is the same, and another in the next epoch.
    """

    def __init__(self, config: PretrainMLMSettings, tokenizer: WordPieceTokenizer, texts: str):
        self.config, self.tokenizer = config, tokenizer
        self.max_predictions = most_predictions(config.input_length, config.mask_rate)
        corpus = tokenize_sentences(
            open_texts(texts, data_dir=config.data_dir, field=config.text_field), tokenizer,
            limit=config.max_tokens, file=config.tokens_file,
        )  # fmt: skip
        if not len(corpus.tokens):
            raise UserError(f"{texts} has no text to learn from")
        self.tokens = corpus.tokens
        if config.next_sentence:
            try:
                self.pairs = SentencePairs(corpus.sentences, corpus.documents, config.input_length, seed=config.seed)
            except UserError as error:
                raise UserError(f"{texts}: {error}; or go without pairs: --no-next-sentence") from None
            self.size = self.pairs.size
        else:
            self.spans = full_rows(len(corpus.tokens), config.input_length)
            self.size = len(self.spans)
        self.report = f"{token_report(corpus.tokens, tokenizer.unk_id)}, in {self.size:,} rows of {config.input_length}"

    def build(self, indices: np.ndarray, rows: slice, step: int) -> dict[str, np.ndarray]:
        """Rows `rows` of the batch of `step`; `indices` are what stands in them."""
        # the stream of batches runs through all rows, then through all again: their place in it tells the epoch
        epochs = (step * self.config.batch_size + np.arange(rows.start, rows.stop)) // self.size
        return self._rows(indices, epochs)

    def build_evaluation(self, indices: np.ndarray, rows: slice, step: int) -> dict[str, np.ndarray]:
        """The rows of the first epoch, at every evaluation the same."""
        return self._rows(indices, np.zeros(len(indices), int))

    def _rows(self, indices: np.ndarray, epochs: np.ndarray) -> dict[str, np.ndarray]:
        tokenizer = self.tokenizer
        rngs = [np.random.default_rng((self.config.seed, *row)) for row in zip(epochs.tolist(), indices.tolist())]
        pairs = self.pairs.draw(rngs, indices) if self.config.next_sentence else None
        first, second = (self.spans[indices], None) if pairs is None else (pairs.first, pairs.second)
        rows = assemble(
            self.tokens, first, second, length=self.config.input_length,
            cls_id=tokenizer.cls_id, sep_id=tokenizer.sep_id, pad_id=tokenizer.pad_id,
        )  # fmt: skip
        masked = mask_tokens(
            rngs, rows.tokens, maskable=rows.is_text, mask_id=tokenizer.mask_id, vocab_size=tokenizer.vocab_size,
            special_ids=tokenizer.special_ids, max_predictions=self.max_predictions, rate=self.config.mask_rate,
            word_starts=~tokenizer.continuation[rows.tokens] if self.config.whole_words else None,
        )  # fmt: skip
        batch = {**masked._asdict(), "token_types": rows.token_types}
        # 0: it follows (see `PretrainingLogits`)
        return batch if pairs is None else batch | {"next_sentence": (~pairs.is_next).astype(np.int32)}
