"""Fine-tuning one T5 on many tasks, over all devices with pmap: all are text in, text out, and stand in the same batch.

    tlqa finetune --start-from runs/small --tasks sentiment,context_qa,closed_book_qa --mixing temperature=2

A task is a record of `tasks.text_tasks`, a .json file of one, or a record of your own given to `finetune`. The loss is
that of question answering, and so is `train_step` (`qa.make_train_step`); what is new is the stream of examples
(`tasks.mixture`) and that each task is scored by its own metrics. As the loss is a mean over target tokens, a task with
long outputs counts for more in a batch than its rows do.

1,200 steps of 32 packed rows of real text, 2+2 layers of 128 from random weights, took 5 and a half minutes on 2 CPU
cores: sentiment 74.8% right, question type 74.4%, context QA EM 0.2.

Read it top to bottom, as `span_corruption.py`: settings, data, model, the loop.
"""

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx
from rich.table import Table

from tlqa_jax.checkpoints.runs import Checkpoints, check_run, save_vocabulary, start_run
from tlqa_jax.core.devices import check_batch, compute_dtype, on_host, replicate, unreplicate
from tlqa_jax.data.batches import ShuffledOrder, evaluation_batches, training_batches
from tlqa_jax.data.sources import Source, open_questions, open_rows
from tlqa_jax.errors import UserError
from tlqa_jax.inference.generator import Writer
from tlqa_jax.metrics.squad import write_predictions
from tlqa_jax.metrics.texts import check_metrics
from tlqa_jax.models.functional import as_function
from tlqa_jax.models.t5 import T5
from tlqa_jax.tasks.mixture import Mixture, mixing_rates
from tlqa_jax.tasks.packing import Packing
from tlqa_jax.tasks.text_tasks import TextExample, TextTask, find_tasks, records
from tlqa_jax.tasks.text_to_text import TextArrays, encode_texts, join
from tlqa_jax.training.evaluation import mean_over_examples, summed_over_devices
from tlqa_jax.training.finetune_qa import make_train_step
from tlqa_jax.training.freezing import trained_part
from tlqa_jax.training.initial_model import begin_with_t5
from tlqa_jax.training.memory import keep_freed_memory
from tlqa_jax.training.optimizers import Decay, Optimizer, check_warmup, make_optimizer, schedule
from tlqa_jax.training.progress import Progress, draw_curves
from tlqa_jax.training.sequence_loss import evaluation_sums
from tlqa_jax.training.settings import Settings, check_settings, recorded


@dataclass(frozen=True)
class FinetuneTasksSettings(Settings):
    """Settings of a run that teaches one model many tasks."""

    out: str = "runs/tasks"
    """Directory of the run: configuration, vocabulary, checkpoints, metrics, curves, predictions of each task."""
    start_from: str | None = None
    """A pretrained T5: a run, a Hugging Face directory or hub name. Without it the model starts from random weights,
    with --model and --vocabulary."""
    tasks: tuple[str, ...] = ("sentiment", "context_qa", "closed_book_qa")
    """Names of tasks, or .json files of your own: context_qa, closed_book_qa, sentiment, question_type, summarisation,
    translation, similarity, acceptability."""
    train: tuple[str, ...] = ()
    """TASK=SOURCE: what to learn a task from, such as sentiment=train.jsonl or acceptability=tfds:glue/cola:train;
    several sources of one task are read together. Of a task without any, the tiny world's."""
    held_out: tuple[str, ...] = ()
    """TASK=SOURCE: what to evaluate it on. Of a task without --train, the tiny world's."""
    mixing: str = "proportional"
    """How often each task comes: proportional (to its examples), proportional=CAP, scale=NUMBER, temperature=NUMBER,
    equal, or stages with commas between, as proportional=2000,temperature=2."""
    data_dir: str | None = None
    """Where TFDS data sets are prepared."""
    vocabulary: str = "tiny_world:vocabulary.model"
    """A SentencePiece .model file (without --start-from)."""
    model: str = "tiny"
    """tiny, small, base, or a JSON file of T5Config fields (without --start-from)."""
    input_length: int = 512
    """Longest input in tokens; one that does not fit loses its end, and how many do is reported."""
    target_length: int = 64
    """Longest output in tokens."""
    pack: bool = False
    """Put several short examples of a task into one row, each seen by itself alone."""
    steps: int = 2_000
    """Number of optimizer steps."""
    batch_size: int = 64
    """Rows a step, over all devices and accumulation slices."""
    accumulate: int = 1
    """Slices a device takes its rows in, to save memory. The gradients stay those of the whole batch."""
    optimizer: Optimizer = "adafactor"
    """Adafactor at a constant rate, as T5 was fine-tuned, or AdamW."""
    learning_rate: float = 1e-3
    """Peak learning rate."""
    warmup: int = 0
    """Steps of linear warm-up."""
    decay: Decay = "constant"
    """How the learning rate falls after the warm-up."""
    weight_decay: float = 0.0
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
    """Steps between evaluations on held-out examples; there is always one at the end."""
    save_every: int = 500
    """Steps between checkpoints; there is always one at the end."""
    keep: int = 3
    """Number of checkpoints to keep."""
    resume: bool = False
    """Go on from the newest checkpoint in --out."""
    overwrite: bool = False
    """Delete a run that is already in --out."""


def finetune_tasks(config: FinetuneTasksSettings, own: Sequence[TextTask] = (), *, quiet: bool = False) -> Path:
    """Run the program; returns the run's directory. Raises UserError for anything the settings or files have wrong.

    `own` are tasks that `config.tasks` may name besides those that everybody has.
    """
    # --- settings and data: everything that can be wrong is found here, before anything is compiled
    keep_freed_memory()
    quiet = quiet or jax.process_index() != 0  # one process speaks for all
    check_settings(config)
    check_warmup(config.warmup, config.steps)
    check_batch(config.batch_size, config.accumulate)
    dtype = compute_dtype(config.dtype)
    tasks = find_tasks(config.tasks, own)
    sources, held_out_sources = find_sources(tasks, config)
    for name in held_out_sources:
        check_metrics(tasks[name].metrics)
    model_config, pretrained, tokenizer = begin_with_t5(config)
    training = recorded(config) | {"tasks": records(tasks)}  # whoever opens the run need not have the records
    record = {"program": "text_to_text", "model": dataclasses.asdict(model_config), "training": training}
    record["extra_ids"] = len(tokenizer.sentinels)
    check_run(config.out, record, resume=config.resume, overwrite=config.overwrite)
    read = lambda sources: {name: read_examples(tasks[name], one, config.data_dir) for name, one in sources.items()}
    train, held_out = read(sources), read(held_out_sources)
    for name, examples in held_out.items():
        check_ids(examples, f"--held-out {name}")
    encode = partial(encode_texts, tokenizer, input_length=config.input_length, target_length=config.target_length)
    arrays = {name: encode(examples) for name, examples in train.items()}
    held_out_arrays = {name: encode(examples) for name, examples in held_out.items()}
    sizes = [len(examples) for examples in train.values()]
    rates = mixing_rates(sizes, config.mixing)
    joined = join(list(arrays.values()))
    if config.pack:
        packing = Packing(joined, config.seed, sizes)
        # as often as before an example of each task, and so many of them share a row
        row_rates = rates * packing.sizes / sizes
        mixture, build = mix(packing.sizes, row_rates / row_rates.sum(), config.seed), packing.build
    else:
        mixture, build = mix(sizes, rates, config.seed), partial(rows_of, joined.trimmed())
    if not quiet:
        for name, rate in zip(tasks, rates):
            print(f"{name}: {100 * rate:.1f}% of the examples; {arrays[name].report()}")
        if config.pack:
            print(packing.report())
        for name, held in held_out_arrays.items():
            print(f"held out, {name}: {held.report()}")

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
    writer = Writer(apply, tokenizer, target_length=config.target_length, batch_size=config.batch_size)

    def evaluate_all(params: Any) -> dict[str, dict[str, float]]:
        """Loss in nats per target token and the metrics of each task; predictions are written into the run."""
        scores = {}
        for name, examples in held_out.items():
            rows = held_out_arrays[name]
            batches = evaluation_batches(len(examples), config.batch_size, partial(rows_of, rows.trimmed()))
            loss = mean_over_examples(evaluate_step, params, batches)["loss"]
            outputs = [texts[0].text for texts in writer(params, rows.inputs, rows.input_lengths)]
            scores[name] = {"loss": loss, **tasks[name].score(outputs, examples, tokenizer.normalize)}
            if jax.process_index() == 0:
                predictions = {one.id: tasks[name].prediction(text) for one, text in zip(examples, outputs)}
                write_predictions(run / f"predictions_{name}.json", predictions)
        return scores

    def report(progress: Progress, step: int, scores: dict[str, dict[str, float]]) -> None:
        metrics = {f"{task}_{name}": value for task, of in scores.items() for name, value in of.items()}
        loss = float(np.mean([of["loss"] for of in scores.values()]))  # the mean over tasks, not examples
        progress.evaluated(step, table=score_table(scores, held_out), loss=loss, **metrics)

    # --- the loop
    run = start_run(config.out, record, resume=config.resume, overwrite=config.overwrite)
    save_vocabulary(run, tokenizer)
    with Checkpoints(run, config.keep) as checkpoints:
        if config.resume and checkpoints.latest():
            state = checkpoints.restore(state)
        start = int(state["step"])
        state = replicate(state)
        batches = training_batches(
            mixture.num_examples, config.batch_size, config.seed, build, order=mixture, start=start
        )
        due = lambda step: held_out and (step == config.steps or step % config.evaluate_every == 0)
        with Progress(run, "fine-tuning", config.steps, start=start, quiet=quiet) as progress:
            if start and due(start):  # the run may have been stopped in the midst of it
                report(progress, start, evaluate_all(state["params"]))
            for step in range(start + 1, config.steps + 1):
                batch = next(batches)
                state, reported = train_step(state, batch)
                last = step == config.steps
                saving = last or step % config.save_every == 0
                if saving or step % config.log_every == 0:
                    progress.train(
                        step, **{name: float(value) for name, value in reported.items()},
                        learning_rate=float(rate(step - 1)),
                        tokens_per_step=config.batch_size * batch["inputs"].shape[-1],
                        latest=checkpoints.latest,
                    )
                if saving:
                    checkpoints.save(step, unreplicate(state))
                if due(step):
                    report(progress, step, evaluate_all(state["params"]))
    if jax.process_index() == 0:
        draw_curves(run)
    return run


def find_sources(
    tasks: Mapping[str, TextTask], config: FinetuneTasksSettings
) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    """The sources to learn each task from, and of those that have any, to evaluate it on."""
    given: dict[str, dict[str, list[str]]] = {"train": {}, "held_out": {}}
    for flag, sources in given.items():
        for text in getattr(config, flag):
            name, equals, source = text.partition("=")
            shown = f"--{flag.replace('_', '-')} {text}"
            if not (equals and source):
                raise UserError(f"{shown}: it has to be TASK=SOURCE, such as {next(iter(tasks))}=examples.jsonl")
            if name not in tasks:
                raise UserError(f"{shown}: there is no task {name!r} in this run; its tasks are {', '.join(tasks)}")
            sources.setdefault(name, []).append(source)
    train, held_out = given.values()
    for name, task in tasks.items():
        if name not in train:
            if task.train is None:
                raise UserError(f"nothing to learn the task {name} from: give --train {name}=SOURCE")
            train[name] = [task.train]
            if task.held_out is not None:
                held_out.setdefault(name, [task.held_out])
    return {name: train[name] for name in tasks}, {name: held_out[name] for name in tasks if name in held_out}


def read_examples(task: TextTask, source: Source, data_dir: str | None = None) -> list[TextExample]:
    """All examples of a task in a source. Raises UserError, naming the record, where one cannot be read."""
    if task.questions:
        examples = [
            task.example({k: v for k, v in vars(e).items() if v not in (None, "")}, f"question {e.id!r}", e.id)
            for e in open_questions(source, data_dir=data_dir)
        ]
    else:
        examples = [task.example(row, where, id) for where, id, row in open_rows(source, data_dir=data_dir)]
    if not examples:
        raise UserError(f"{source if isinstance(source, str) else ', '.join(map(str, source))} holds no {task.name}")
    return examples


def check_ids(examples: Sequence[TextExample], where: str) -> None:
    """Raise UserError where an id occurs twice: predictions are kept by id, and one of two would be lost."""
    id, count = Counter(example.id for example in examples).most_common(1)[0]
    if count > 1:
        raise UserError(f"{where}: the id {id!r} occurs twice: predictions are kept by id, so ids must be unique")


def mix(sizes: Sequence[int], rates: np.ndarray, seed: int) -> Mixture:
    """The stream of all tasks' examples; each task is shuffled by a seed of its own."""
    seeds = np.random.SeedSequence(seed).generate_state(len(sizes)).tolist()
    return Mixture([ShuffledOrder(size, own) for size, own in zip(sizes, seeds)], rates, seed)


def rows_of(arrays: TextArrays, indices: np.ndarray, *_) -> dict[str, np.ndarray]:
    return {"inputs": arrays.inputs[indices], "targets": arrays.targets[indices]}


def score_table(scores: Mapping[str, Mapping[str, float]], held_out: Mapping[str, Sequence[TextExample]]) -> Table:
    """One line for each task: held-out examples, loss, metrics."""
    table = Table("held out", "examples", "loss", "score", box=None, pad_edge=False)
    for name, values in scores.items():
        written = [f"{metric.replace('_', ' ')} {value:.1f}" for metric, value in values.items() if metric != "loss"]
        table.add_row(name, f"{len(held_out[name]):,}", f"{values['loss']:.3f}", "  ".join(written))
    return table
