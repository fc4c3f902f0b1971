"""Fine-tuning a T5 on questions, over all devices with pmap: with a context to read, from memory, or both.

    tlqa finetune-qa --start-from runs/pretrained --context-questions train-v1.1.json --held-out-context dev-v1.1.json

The text is the task (Raffel et al. 2020, section 2.4): "question: … context: …" or "question: …" in, the answer out.

On the tiny world, in the quickstart, EM 100.0 with a context and 80.0 from memory: 443 s on 2 CPU cores, pretraining
and all. 420 steps of 16 rows of 6,710 real questions took 6 minutes there: EM 0.0, after too little pretraining. From a
public T5 not yet measured.

Read it top to bottom, as `span_corruption.py`: settings, data, model, `train_step`, the loop.
"""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
from flax import nnx

from tlqa_jax.checkpoints.runs import Checkpoints, check_run, save_threshold, save_vocabulary, start_run
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
from tlqa_jax.data.sources import open_questions
from tlqa_jax.errors import UserError
from tlqa_jax.examples import QAExample
from tlqa_jax.inference.answers import Answerer
from tlqa_jax.metrics.squad import write_predictions
from tlqa_jax.models.functional import as_function
from tlqa_jax.models.t5 import T5
from tlqa_jax.tasks.packing import Packing
from tlqa_jax.tasks.text_to_text import TextArrays, encode_examples, join
from tlqa_jax.training.evaluation import mean_over_examples, score_answers, summed_over_devices
from tlqa_jax.training.freezing import merged, split, trained_part
from tlqa_jax.training.initial_model import begin_with_t5
from tlqa_jax.training.memory import keep_freed_memory
from tlqa_jax.training.optimizers import Decay, Optimizer, check_warmup, make_optimizer, schedule
from tlqa_jax.training.progress import Progress, draw_curves
from tlqa_jax.training.sequence_loss import evaluation_sums, predict
from tlqa_jax.training.settings import Settings, check_settings, recorded


@dataclass(frozen=True)
class FinetuneQASettings(Settings):
    """Settings of a fine-tuning run."""

    out: str = "runs/finetuned"
    """Directory of the run: configuration, vocabulary, checkpoints, metrics, curves, predictions."""
    start_from: str | None = None
    """A pretrained T5: a run, a Hugging Face directory or hub name. Without it the model starts from random weights,
    with --model and --vocabulary."""
    context_questions: str | None = None
    """Questions to learn from, asked with their context:
    SQuAD JSON, .jsonl, .csv, tfds:squad:train, tiny_world:FILE."""
    closed_book_questions: str | None = None
    """The same, asked without context."""
    held_out_context: str | None = None
    """Questions to evaluate on, with their context."""
    held_out_closed_book: str | None = None
    """The same, without context."""
    data_dir: str | None = None
    """Where TFDS data sets are prepared."""
    vocabulary: str = "tiny_world:vocabulary.model"
    """A SentencePiece .model file (without --start-from)."""
    model: str = "tiny"
    """tiny, small, base, or a JSON file of T5Config fields (without --start-from)."""
    input_length: int = 512
    """Longest input in tokens; a context that does not fit loses its end, and how many do is reported."""
    target_length: int = 32
    """Longest answer in tokens."""
    pack: bool = False
    """Put several short examples into one row, each seen by itself alone: less padding, more examples a step."""
    steps: int = 2_000
    """Number of optimizer steps."""
    batch_size: int = 64
    """Rows a step, over all devices and accumulation slices."""
    accumulate: int = 1
    """Slices a device takes its rows in, to save memory. The gradients stay those of the whole batch."""
    optimizer: Optimizer = "adamw"
    """adamw, or adafactor: T5's own, with hardly any memory of its own."""
    learning_rate: float = 1e-3
    """Peak learning rate; of Adafactor, in units of the size of a matrix's entries."""
    warmup: int = 100
    """Steps of linear warm-up."""
    decay: Decay = "linear"
    """How the learning rate falls after the warm-up."""
    weight_decay: float = 0.01
    """AdamW's weight decay, on matrices only."""
    clip: float = 1.0
    """Largest global norm of the gradients (AdamW; Adafactor clips its updates)."""
    relative_bias_rate: float = 1.0
    """Multiplies the learning rate of the relative position biases; short runs from nothing want about 30."""
    freeze: tuple[str, ...] = ()
    """What is not trained: names of parameters, * for any; "encoder_*" is all of the encoder but the embedding."""
    dropout: float = 0.1
    """Dropout rate."""
    seed: int = 0
    """Seed of the initial weights, the order of the data and the dropout."""
    dtype: str = "auto"
    """What to compute in: auto, float32 or bfloat16. Parameters are float32."""
    log_every: int = 20
    """Steps between reports."""
    evaluate_every: int = 500
    """Steps between evaluations on held-out questions; there is always one at the end."""
    save_every: int = 500
    """Steps between checkpoints; there is always one at the end."""
    keep: int = 3
    """Number of checkpoints to keep."""
    resume: bool = False
    """Go on from the newest checkpoint in --out."""
    overwrite: bool = False
    """Delete a run that is already in --out."""


def finetune_qa(config: FinetuneQASettings, *, quiet: bool = False) -> Path:
    """Run the program; returns the run's directory. Raises UserError for anything the settings or files have wrong."""
    # --- settings and data: everything that can be wrong is found here, before anything is compiled
    keep_freed_memory()
    quiet = quiet or jax.process_index() != 0  # one process speaks for all
    check_settings(config)
    check_warmup(config.warmup, config.steps)
    check_batch(config.batch_size, config.accumulate)
    dtype = compute_dtype(config.dtype)
    model_config, pretrained, tokenizer = begin_with_t5(config)
    record = {"program": "qa", "model": dataclasses.asdict(model_config), "training": recorded(config)}
    record["extra_ids"] = len(tokenizer.sentinels)
    check_run(config.out, record, resume=config.resume, overwrite=config.overwrite)
    train = read_questions(config, config.context_questions, config.closed_book_questions)
    if not train:
        raise UserError("nothing to learn from: give --context-questions, --closed-book-questions or both")
    held_out = read_questions(config, config.held_out_context, config.held_out_closed_book)
    encode = partial(encode_examples, tokenizer, input_length=config.input_length, target_length=config.target_length)
    arrays = join([encode(examples, use_context=name == "context") for name, examples in train.items()])
    held_out_arrays = {name: encode(examples, use_context=name == "context") for name, examples in held_out.items()}
    packing = Packing(arrays, config.seed) if config.pack else None
    if not quiet:
        print("training:", arrays.report())
        if packing:
            print("training:", packing.report())
        for name, rows in held_out_arrays.items():
            print(f"held out, {name.replace('_', ' ')}:", rows.report())
    arrays = arrays.trimmed()

    # --- model and optimizer
    apply, params = as_function(T5(model_config, rngs=nnx.Rngs(config.seed), dtype=dtype))
    params = params if pretrained is None else pretrained
    rate = schedule(config.learning_rate, config.steps, warmup=config.warmup, decay=config.decay)
    optimizer = make_optimizer(
        config.optimizer, rate,
        weight_decay=config.weight_decay, clip=config.clip, relative_bias_rate=config.relative_bias_rate,
    )
    trained = trained_part(params, config.freeze, quiet=quiet)
    state = on_host({"params": params, "opt_state": optimizer.init(trained), "step": np.int32(0)})
    del params, trained, pretrained  # or the first device would hold them twice
    train_step = make_train_step(apply, optimizer, config.seed, config.accumulate, config.freeze)
    evaluate_step = summed_over_devices(partial(evaluation_sums, apply))
    answerer = Answerer(
        apply, tokenizer,
        input_length=config.input_length, target_length=config.target_length, batch_size=config.batch_size,
    )

    def build(rows: TextArrays, indices: np.ndarray, *_) -> dict[str, np.ndarray]:
        return {"inputs": rows.inputs[indices], "targets": rows.targets[indices]}

    size, build_training = (packing.size, packing.build) if packing else (len(arrays.inputs), partial(build, arrays))
    row_length = packing.input_length if packing else arrays.inputs.shape[1]

    def evaluate_all(params: Any) -> dict[str, float]:
        """Loss in nats per answer token, EM and F1 of each group; predictions are written beside the checkpoints.

        "loss" is the mean of the groups' losses, whatever their sizes.

        Contexts are cut here, as in training: windows over the long ones are for answering (`asking`). Where some of
        the questions have no answer, the no-answer threshold is tuned on them; the run keeps that of the first group.
        """
        metrics, losses = {}, []
        for name, examples in held_out.items():
            rows = held_out_arrays[name].trimmed()
            batches = evaluation_batches(len(examples), config.batch_size, partial(build, rows))
            loss = mean_over_examples(evaluate_step, params, batches)["loss"]
            answers = answerer(params, examples, use_context=name == "context")
            scores, predictions = score_answers(examples, answers, tokenizer.normalize)
            metrics |= {f"{name}_{key}": value for key, value in {"loss": loss, **scores}.items()}
            losses.append(loss)
            if "no_answer_threshold" in scores and name == next(iter(held_out)):
                save_threshold(run, scores["no_answer_threshold"])
            if jax.process_index() == 0:
                write_predictions(run / f"predictions_{name}.json", predictions)
        return {"loss": float(np.mean(losses)), **metrics}

    # --- the loop
    run = start_run(config.out, record, resume=config.resume, overwrite=config.overwrite)
    save_vocabulary(run, tokenizer)
    with Checkpoints(run, config.keep) as checkpoints:
        if config.resume and checkpoints.latest():
            state = checkpoints.restore(state)
        start = int(state["step"])
        state = replicate(state)
        batches = training_batches(size, config.batch_size, config.seed, build_training, start=start)
        due = lambda step: held_out and (step == config.steps or step % config.evaluate_every == 0)
        with Progress(run, "fine-tuning", config.steps, start=start, quiet=quiet) as progress:
            if start and due(start):  # the run may have been stopped in the midst of it
                progress.evaluated(start, **evaluate_all(state["params"]))
            for step in range(start + 1, config.steps + 1):
                state, reported = train_step(state, next(batches))
                last = step == config.steps
                saving = last or step % config.save_every == 0
                if saving or step % config.log_every == 0:
                    progress.train(
                        step, **{name: float(value) for name, value in reported.items()},
                        learning_rate=float(rate(step - 1)), tokens_per_step=config.batch_size * row_length,
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
    apply: Callable, optimizer: optax.GradientTransformation, seed: int, accumulation: int = 1,
    freeze: Sequence[str] = (),
) -> Callable:  # fmt: skip
    """The pmap-ed step: `train_step(state, batch) -> (state, metrics)`, the old state's memory reused for the new.

    The batch holds "inputs" [devices, B, S] and "targets" [devices, B, L], padded with 0; where several examples share
    a row, also "input_segments" and "target_segments" of the same shapes. `freeze` names what is not trained
    (`freezing.split`).
    """

    def train_step(state: dict[str, Any], batch: dict[str, Any]):
        key = dropout_key(seed, state["step"])
        trained, frozen = split(state["params"], freeze)
        # the number of target tokens on all devices together: the loss is a mean over these, not a mean of means
        weight = jax.lax.psum((batch["targets"] != 0).sum().astype("float32"), AXIS)

        def loss_share(trained, rows, key):
            loss, _ = cross_entropy(*predict(apply, merged(trained, frozen), rows, key))
            return loss / weight

        share = accumulate(jax.value_and_grad(loss_share), trained, batch, key, accumulation)
        loss, gradients = jax.lax.psum(share, AXIS)
        updates, opt_state = optimizer.update(gradients, state["opt_state"], trained)
        params = merged(optax.apply_updates(trained, updates), frozen)
        metrics = {"loss": loss, "gradient_norm": optax.tree.norm(gradients)}
        return {"params": params, "opt_state": opt_state, "step": state["step"] + 1}, metrics

    return jax.pmap(train_step, axis_name=AXIS, in_axes=(None, 0), out_axes=None, donate_argnums=0)


def read_questions(config: FinetuneQASettings, with_context: str | None, closed_book: str | None) -> dict[str, list[QAExample]]:
    """The questions of the sources that are given: {"context": …, "closed_book": …}."""
    sources = {"context": with_context, "closed_book": closed_book}
    questions = {name: open_questions(source, data_dir=config.data_dir) for name, source in sources.items() if source}
    without = next((example.id for example in questions.get("context", ()) if not example.context), None)
    if without is not None:
        raise UserError(
            f"{with_context}: question {without} has no context; such questions go to the closed-book flags"
        )
    return questions
