"""A run of a training program: what it does before, between and after the steps, whatever it trains.

    run = TrainingRun("pretrain-spans", settings, quiet=quiet)      # settings checked; is it new, or does it continue?
    if run.is_complete:
        return run.path
    ...                                                             # the program's data and model
    run.start(model, tokenizer, usage)                              # the directory, config.json, the vocabulary
    with run.training(state, steps, rate, evaluate) as loop:
        batches = training_batches(..., start=loop.start)
        for step in range(loop.start + 1, steps + 1):
            loop.state, metrics = train_step(loop.state, next(batches))
            loop.finish_step(step, metrics, tokens)

The directory is a Hugging Face directory from the first checkpoint on. It also holds `run.json` (the settings),
`checkpoints/` (Orbax: what continuing needs), `metrics.jsonl` and `curves.png`.
"""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx

from tlqa_jax import __version__
from tlqa_jax.checkpoints.directories import RUN, main_directory
from tlqa_jax.checkpoints.resume import CHECKPOINTS, Checkpoints
from tlqa_jax.checkpoints.run_lock import lock_run, unlock_run
from tlqa_jax.checkpoints.run_record import agreed, check_run, finish_run, start_run
from tlqa_jax.checkpoints.save import write_config, write_tokenizer, write_weights
from tlqa_jax.core.devices import replicate, unreplicate
from tlqa_jax.errors import UserError
from tlqa_jax.training.freezing import frozen_names, unfreezing_stages
from tlqa_jax.training.memory import keep_freed_memory
from tlqa_jax.training.optimizers import make_optimizer, schedule
from tlqa_jax.training.progress import METRICS, Progress, TrainingDiverged, draw_curves
from tlqa_jax.training.settings import TrainingSettings, fingerprints, recorded
from tlqa_jax.training.step import State, check_batch_size
from tlqa_jax.training.stopping import Stopped, StopSignals

Evaluate = Callable[[Any], dict[str, Any]]


class TrainingRun:
    """One run: its settings, its directory, whether it continues.

    Attributes:
        path: the directory of the run.
        continues: whether a run of the same settings is there and has a checkpoint to continue from.
        is_complete: whether that run is at its end. The program then has nothing to do.
        quiet: whether nothing is printed. Of several processes the first one prints.

    Raises UserError for settings that do not go together, or if another run is in the directory.
    """

    def __init__(
        self, program: str, settings: TrainingSettings, *, quiet: bool = False, sources: Iterable[str] = (), **more: Any
    ):
        """`more` is kept in the record beside the settings: task records, say. `sources`: see `fingerprints`."""
        keep_freed_memory()
        self.settings, self.path = settings, Path(settings.out)
        self.quiet = quiet or jax.process_index() != 0
        self.record = {
            "version": __version__, "program": program,
            "settings": recorded(settings) | more, "inputs": fingerprints(settings, sources),
        }  # fmt: skip
        check_batch_size(settings.batch_size, settings.accumulate)
        self.status = check_run(settings.out, self.record, overwrite=settings.overwrite)
        self.is_complete = self.status == "complete"
        saved = lambda: str(any(path.name.isdecimal() for path in (self.path / CHECKPOINTS).glob("*")))
        self.continues = self.status == "continue" and agreed(saved) == "True"
        if self.is_complete:
            self.say(f"{self.path} is complete. To train it again: --overwrite, or another --out")

    def say(self, *lines: str) -> None:
        """Print lines for the user."""
        for line in lines if not self.quiet else ():
            print(line)

    def optimizer(self, steps: int) -> tuple[optax.GradientTransformation, optax.Schedule]:
        """The optimizer that the settings ask for, and its learning rate as a function of the step."""
        settings = self.settings
        warmup = settings.warmup_steps(steps)
        rate = schedule(settings.learning_rate, steps, warmup=warmup, decay=settings.decay)
        optimizer = make_optimizer(
            settings.optimizer, rate, weight_decay=settings.weight_decay, clip=settings.clip,
            relative_bias_rate=getattr(settings, "relative_bias_rate", 1.0),
        )  # fmt: skip
        return optimizer, rate

    def frozen(self, params: Any, steps: int) -> tuple[tuple[str, ...], Callable[[int], tuple[str, ...]]]:
        """(freeze, waiting) for `update`: what is never trained, and step -> what is not trained yet.

        Raises UserError where `frozen_names` does.
        """
        train = getattr(self.settings, "train", "all")
        freeze = frozen_names(params, train, self.settings.freeze)
        stages = unfreezing_stages(params) if train == "gradual" else [()]
        if len(stages) > 1:
            self.say(f"gradual unfreezing: {len(stages)} stages, each with one more layer; in the last one everything")
        return freeze, lambda step: stages[(step - 1) * len(stages) // steps]

    def start(self, model: nnx.Module, tokenizer: Any, usage: dict[str, Any]) -> None:
        """Make the directory, unless it is there, with config.json and the vocabulary.

        `usage` is what is needed to use the model as it was trained, such as the length of its inputs.
        """
        agreed(lambda: lock_run(self.path))
        if check_run(self.path, self.record, overwrite=self.settings.overwrite) != self.status:
            unlock_run(self.path)
            raise UserError(f"another program has changed {self.path} since this one began: start it again")
        start_run(self.path, self.record, overwrite=self.settings.overwrite)
        self.graph = nnx.split(model)[0]
        if jax.process_index() == 0 and not self.continues:
            base = self.settings.start_from or ""  # which an adapter_config.json names
            base = str(main_directory(Path(base)).resolve()) if Path(base).is_dir() else base
            write_config(self.path, model, usage | {"dtype": self.settings.dtype}, base)
            write_tokenizer(tokenizer, self.path, getattr(model.config, "max_position_embeddings", None))

    @contextlib.contextmanager
    def training(
        self, state: State, steps: int, rate: optax.Schedule, evaluate: Evaluate | None, title: str = "training"
    ) -> Iterator["TrainingLoop"]:
        """The context in which the steps are taken, from the newest checkpoint on. At its end the run is complete.

        Args:
            rate: the learning rate as a function of the step, to be reported.
            evaluate: params -> metrics, or -> {task: its metrics}; None: there is nothing to evaluate on.
        """
        try:
            with Checkpoints(self.path, self.settings.keep) as checkpoints, StopSignals() as stop:
                state = checkpoints.restore_newest_intact(state, self.say) if self.continues else state
                start, on_devices = int(state["step"]), replicate(state)
                del state  # the host's copy
                with Progress(self.path, title, steps, start=start, quiet=self.quiet) as progress:
                    loop = TrainingLoop(self, on_devices, start, steps, rate, evaluate, checkpoints, progress, stop)
                    if start and loop.evaluation_is_due(start):  # the run may have been stopped during its evaluation
                        loop.evaluate_and_report(start, saved=True)
                    yield loop
                    loop.check_files()
            if jax.process_index() == 0:
                draw_curves(self.path)
                finish_run(self.path)
        finally:
            unlock_run(self.path)


@dataclass
class TrainingLoop:
    """What happens after each step. `start` is the number of steps done before; the program puts the new `state` here.

    After SIGTERM or Ctrl-C it saves and raises Stopped.
    """

    run: TrainingRun
    state: State
    start: int
    steps: int
    rate: optax.Schedule
    evaluate: Evaluate | None
    checkpoints: Checkpoints
    progress: Progress
    stop: StopSignals

    def __post_init__(self):
        self.written = {name: (self.run.path / name).stat() for name in (RUN, CHECKPOINTS)}

    def finish_step(self, step: int, metrics: dict[str, jax.Array], tokens: int) -> None:
        """Report, save and evaluate, if it is time. `tokens` is the number of tokens in a batch, for the speed."""
        settings, last = self.run.settings, step == self.steps
        stopped_by = self.stop.of_any_process()
        saving = last or stopped_by or step % settings.save_every == 0
        if saving or step % settings.log_every == 0:
            try:
                self.progress.train(
                    step, **{name: float(value) for name, value in metrics.items()},
                    learning_rate=float(self.rate(step - 1)), tokens_per_step=tokens, latest=self.checkpoints.latest,
                )  # fmt: skip
            except TrainingDiverged as error:
                if error.good is not None:
                    self.write_model(self.checkpoints.restore({"params": self.state["params"]}, error.good)["params"])
                raise
        if saving:
            self.save(step)
        if stopped_by:
            raise Stopped(stopped_by, f"stopped after step {step}, which is saved")
        if self.evaluation_is_due(step):
            self.evaluate_and_report(step, saved=saving)

    def save(self, step: int) -> None:
        """Write the model and a checkpoint."""
        self.check_files()
        state = unreplicate(self.state)
        self.write_model(state["params"])  # first: whoever finds the checkpoint finds the model too
        self.checkpoints.save(step, state)

    def evaluation_is_due(self, step: int) -> bool:
        return bool(self.evaluate) and (step == self.steps or step % self.run.settings.evaluate_every == 0)

    def evaluate_and_report(self, step: int, *, saved: bool) -> None:
        """Evaluate after `step`. If that is broken off and the step is not `saved` yet, it is saved."""
        try:
            with self.stop.raised_at_once():
                metrics = self.evaluate(self.state["params"])
        except Stopped as stopped:
            if not saved:
                self.save(step)
            raise Stopped(stopped.signal, f"stopped in the evaluation after step {step}, which is saved") from None
        self.progress.evaluated(step, metrics)

    def check_files(self) -> None:
        """Raise UserError if the directory, or what this program writes into it, has been deleted or renamed."""
        if jax.process_index() != 0:
            return
        written = self.written | {METRICS: os.fstat(self.progress.file.fileno())}
        for name, stat in written.items():
            path = self.run.path / name
            if not path.exists() or not os.path.samestat(stat, path.stat()):
                what = f"{path} was deleted or renamed while the program trained, and nothing more can be saved"
                raise UserError(f"{what}: put it back, and the same command continues from the newest checkpoint")

    def write_model(self, params: Any) -> None:
        """Write model.safetensors."""
        if jax.process_index() == 0:
            write_weights(self.run.path, nnx.merge(self.run.graph, jax.tree.map(jnp.asarray, params)))
