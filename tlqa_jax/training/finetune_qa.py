"""Fine-tuning of a T5 on questions, or on many tasks at once, over all devices with pmap: text in, text out.

    tlqa finetune-qa --start-from runs/pretrained --context-questions train-v1.1.json --held-out-context dev-v1.1.json
    tlqa finetune --start-from runs/pretrained --tasks sentiment,context_qa --mixing temperature=2

The text names the task (Raffel et al. 2020, section 2.4): "question: … context: …" or "question: …" in, the answer out.
So questions are two tasks among others (`tasks.text_tasks`), and examples of all tasks are in the same batch. The loss
is a mean over target tokens: a task with long outputs counts more in a batch than its rows do.

In the quickstart, seed 0: EM 100.0 with a context and 82.7 from memory after 500 steps on 2 CPU cores.
1,200 steps of 32 packed rows of real text, 2+2 layers of width 128 from random weights, took five and a half minutes on
2 CPU cores: sentiment 74.8% right, question type 74.4%, questions with a context EM 0.2. From a public T5 not yet measured.

Read it from top to bottom: settings, data, model, `train_step`, the loop. What all programs share is in `loop.py`,
`step.py` and `settings.py`.
"""

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import jax

from tlqa_jax.data.batches import training_batches
from tlqa_jax.errors import UserError
from tlqa_jax.inference.generator import GenerationConfig, Generator
from tlqa_jax.models.t5 import T5
from tlqa_jax.tasks.task_rows import TaskRows, check_unique_ids, find_sources, read_examples
from tlqa_jax.tasks.text_tasks import TextTask, find_tasks
from tlqa_jax.training.evaluation import mean_loss, save_answers, score_task, summed_over_devices
from tlqa_jax.training.initial_model import load_or_init_t5
from tlqa_jax.training.loop import TrainingRun
from tlqa_jax.training.sequence_loss import evaluation_sums, sequence_loss, target_tokens
from tlqa_jax.training.settings import (
    Decay, FinetuningSettings, Optimizer, T5Settings, input_file, number, settings_class,
)  # fmt: skip
from tlqa_jax.training.step import AXIS, initial_state, update

QUESTIONS = {  # a flag for the questions of a task -> (the task, whether they are to learn from)
    "context_questions": ("context_qa", True), "held_out_context": ("context_qa", False),
    "closed_book_questions": ("closed_book_qa", True), "held_out_closed_book": ("closed_book_qa", False),
}  # fmt: skip


@settings_class
class FinetuneQASettings(FinetuningSettings, T5Settings):
    """Settings of a fine-tuning run."""

    default_length: ClassVar[dict[str, float]] = {"steps": 2_000}

    out: str = "runs/finetuned"
    context_questions: str | None = input_file(None)
    """Questions to learn from with their contexts: SQuAD JSON, .jsonl, .csv, tfds:squad:train, tiny_world:FILE. Short
    for --tasks context_qa --train-on context_qa=SOURCE."""
    closed_book_questions: str | None = input_file(None)
    """The same without contexts: the task closed_book_qa."""
    held_out_context: str | None = input_file(None)
    """Questions to evaluate on, with their contexts."""
    held_out_closed_book: str | None = input_file(None)
    """Questions to evaluate on, without contexts."""
    tasks: tuple[str, ...] = ()
    """Names of tasks, or .json files of your own: context_qa, closed_book_qa, sentiment, question_type, summarisation,
    translation, kelbish (into the tiny world's invented language), similarity, acceptability."""
    train_on: tuple[str, ...] = input_file(())
    """TASK=SOURCE: what to learn a task from, such as sentiment=train.jsonl or acceptability=tfds:glue/cola:train.
    Several sources of one task are read together. A task without any is learned from the source in its record, which
    for built-in tasks is a file of the tiny world."""
    held_out: tuple[str, ...] = input_file(())
    """TASK=SOURCE: what to evaluate a task on. For a task without --train-on, the source in its record."""
    mixing: str = "proportional"
    """How often each task comes: proportional (to its number of examples), proportional=CAP, scale=NUMBER,
    temperature=NUMBER, equal, or several with commas between, such as proportional=2000,temperature=2."""
    input_length: int = number(512, at_least=1, at_most=2**20)
    """Longest input in tokens. A longer one loses its end, and how many do is reported."""
    target_length: int = number(32, at_least=1, at_most=2**16)
    """Longest output in tokens."""
    pack: bool = False
    """Put several short examples of a task into one row. Each attends to itself only: less padding, more examples a step."""
    optimizer: Optimizer = "adafactor"
    decay: Decay = "constant"
    weight_decay: float = 0.0

    def check(self) -> None:
        super().check()
        if self.train.startswith("lora") and self.optimizer == "adafactor":
            # the size of a matrix counts as 1e-3 at least, so with a rate of 1e-3 a step from 0 would be 1e-6
            because = "starts from matrices of 0, and Adafactor's steps are relative to the size of a matrix"
            raise UserError(f"--train {self.train} {because}: add --optimizer adamw")


def finetune_qa(settings: FinetuneQASettings, custom_tasks: Sequence[TextTask] = (), *, quiet: bool = False) -> Path:
    """Run the program; returns the run's directory. Raises UserError for wrong settings or files.

    `custom_tasks` are tasks that `settings.tasks` may name besides the known ones.
    """
    # --- settings and data: everything that can be wrong is found here, before anything is compiled
    given = {flag: source for flag in QUESTIONS if (source := getattr(settings, flag))}
    learned = {QUESTIONS[flag][0] for flag in given if QUESTIONS[flag][1]} | {*settings.tasks}
    learned |= {text.partition("=")[0] for text in settings.train_on}
    if not learned:
        raise UserError("nothing to learn from: give --context-questions, --closed-book-questions or --tasks")
    names = dict.fromkeys([*(QUESTIONS[flag][0] for flag in given), *settings.tasks])
    tasks = find_tasks(tuple(names), custom_tasks)
    short = {train: [f"{QUESTIONS[flag][0]}={source}" for flag, source in given.items() if QUESTIONS[flag][1] == train]
             for train in (True, False)}  # fmt: skip
    sources = find_sources(tasks, [*short[True], *settings.train_on], [*short[False], *settings.held_out])
    for task in {task for task, _ in QUESTIONS.values()} - learned:
        sources.train.pop(task, None)  # there are held-out questions only: the task is evaluated, not learned
    task_records = {name: asdict(task) for name, task in tasks.items()}  # whoever opens the run need not have them
    read_from = [source for each in sources for of_task in each.values() for source in of_task]
    run = TrainingRun("finetune-qa", settings, quiet=quiet, sources=read_from, tasks=task_records)
    if run.is_complete:
        return run.path
    initial = load_or_init_t5(settings, continues=run.continues)
    tokenizer = initial.tokenizer
    read = lambda sources: {name: read_examples(tasks[name], one, settings.data_dir) for name, one in sources.items()}
    held_out = read(sources.held_out)
    for name, examples in held_out.items():
        check_unique_ids(examples, f"--held-out {name}")
    lengths = {"input_length": settings.input_length, "target_length": settings.target_length}
    data = TaskRows(
        tokenizer, read(sources.train), **lengths, mixing=settings.mixing, pack=settings.pack, seed=settings.seed
    )
    held_out_rows = {name: data.encode(examples) for name, examples in held_out.items()}
    run.say(*data.report(), *(f"held out, {name}: {rows.report()}" for name, rows in held_out_rows.items()))
    steps = settings.total_steps(data.size)
    optimizer, rate = run.optimizer(steps)

    # --- model
    model, apply, params = initial.build(T5, settings.train)
    freeze, waiting = run.frozen(params, steps)
    state = initial_state(params, optimizer, freeze, run.say)
    run.start(model, tokenizer, lengths | {"tasks": task_records})
    del initial, model, params  # or the first device would hold them twice
    train_step = jax.pmap(
        partial(
            update, partial(sequence_loss, apply), target_tokens, optimizer,
            seed=settings.seed, accumulate=settings.accumulate, freeze=freeze,
        ),
        axis_name=AXIS, in_axes=(None, 0, None), out_axes=None, donate_argnums=0, static_broadcasted_argnums=2,
    )  # fmt: skip
    evaluate_step = summed_over_devices(partial(evaluation_sums, apply))
    greedy = GenerationConfig(max_new_tokens=settings.target_length)
    generate = Generator(apply, tokenizer, greedy, batch_size=settings.batch_size)

    def evaluate(params: Any) -> dict[str, dict[str, float]]:
        """Loss in nats per target token and the metrics of each task; predictions are written into the run.

        Contexts are cut as in training; windows over long ones are for answering (`inference`). If some questions have
        no answer, the no-answer threshold is tuned on them. The run keeps that of the last task with such questions.
        """
        metrics = {}
        for name, examples in held_out.items():
            rows = held_out_rows[name]
            loss = mean_loss(evaluate_step, params, rows, settings.batch_size)
            generations = [texts[0] for texts in generate(params, rows.inputs, rows.input_lengths)]
            scores, predictions = score_task(tasks[name], examples, generations, tokenizer.normalize)
            save_answers(run.path, f"predictions_{name}.json", scores, predictions)
            metrics[name] = {"loss": loss, **scores}
        return metrics

    # --- the loop
    with run.training(state, steps, rate, evaluate if held_out else None, "fine-tuning") as loop:
        del state  # the loop has it on the devices; this one is on the host
        batches = training_batches(
            data.size, settings.batch_size, settings.seed, data.build, order=data.order, start=loop.start
        )
        for step in range(loop.start + 1, steps + 1):
            loop.state, metrics = train_step(loop.state, next(batches), waiting(step))
            loop.finish_step(step, metrics, tokens=settings.batch_size * data.input_length)
    return run.path
