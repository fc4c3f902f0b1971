"""Run directories: what a training program leaves behind, and how another one picks it up.

    RUN/config.json          program, model sizes, training settings
    RUN/vocabulary.model     the SentencePiece vocabulary it was trained with
    RUN/checkpoints/STEP/    Orbax: params, optimizer state, step
    RUN/metrics.jsonl, curves.png, predictions.json
"""

import contextlib
import dataclasses
import json
import logging
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from tlqa_jax.errors import UserError
from tlqa_jax.models.functional import Params, as_function
from tlqa_jax.models.t5 import T5, T5Config
from tlqa_jax.text.sentencepiece import SentencePieceTokenizer

CONFIG, VOCABULARY, CHECKPOINTS = "config.json", "vocabulary.model", "checkpoints"


def flatten(tree: Any) -> dict[str, Any]:
    """{"params/encoder_0/…": leaf}: the leaves by the path one would write."""
    name = lambda key: str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key))))
    return {"/".join(name(key) for key in path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


class Checkpoints:
    """The checkpoints of one run: atomic (a killed write leaves no half checkpoint), the newest `keep` are kept."""

    def __init__(self, run: Path | str, keep: int | None = 3):
        import orbax.checkpoint as ocp  # takes seconds to import: not before it is needed

        logging.getLogger("absl").setLevel(logging.ERROR)
        self._args = ocp.args
        self.directory = Path(run).resolve() / CHECKPOINTS
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, cleanup_tmp_directories=True, enable_async_checkpointing=False
        )
        self._manager = ocp.CheckpointManager(
            self.directory, options=options, item_handlers=ocp.StandardCheckpointHandler()
        )

    def latest(self) -> Path | None:
        """The newest checkpoint's directory, or None."""
        step = self._manager.latest_step()
        return None if step is None else self.directory / str(step)

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write the state (a nested structure of arrays) as of after `step` steps."""
        self._manager.save(step, args=self._args.StandardSave(jax.tree.map(np.asarray, state)))

    def restore(self, like: dict[str, Any]) -> dict[str, Any]:
        """The newest checkpoint, as numpy arrays in the structure of `like` (arrays or shapes).

        `like` may hold a part of the top-level entries (only "params", say). Raises UserError, before anything is read,
        listing every key that is missing, left over or of another shape or dtype.
        """
        latest = self.latest()
        if latest is None:
            raise UserError(f"{self.directory} holds no checkpoint")
        with readable(latest):
            stored = self._manager.item_metadata(int(latest.name))
            stored = {name: tree for name, tree in getattr(stored, "tree", stored).items()}
        compare(flatten({name: stored.get(name, {}) for name in like}), flatten(like), latest)
        template = {name: like.get(name, tree) for name, tree in stored.items()}
        template = jax.tree.map(lambda x: np.empty(x.shape, x.dtype), template)
        with readable(latest):
            restored = self._manager.restore(int(latest.name), args=self._args.StandardRestore(template))
        return {name: restored[name] for name in like}

    def close(self) -> None:
        self._manager.close()

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_) -> None:
        self.close()


@contextlib.contextmanager
def readable(checkpoint: Path):
    """What Orbax raises on a checkpoint with a part missing or damaged, as one line."""
    try:
        yield
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError(f"{checkpoint} cannot be read; delete it to go back to the one before it ({reason})") from error


def compare(stored: dict[str, Any], wanted: dict[str, Any], where: Path | str) -> None:
    """Raise UserError listing the keys by which two flat trees of arrays differ, all kinds together."""
    describe = lambda x: f"{np.dtype(x.dtype).name}{list(x.shape)}"
    differences = [f"missing {key} {describe(wanted[key])}" for key in wanted if key not in stored]
    differences += [f"left over {key} {describe(stored[key])}" for key in stored if key not in wanted]
    differences += [
        f"{key} is {describe(stored[key])}, the model wants {describe(wanted[key])}"
        for key in wanted if key in stored and describe(stored[key]) != describe(wanted[key])
    ]
    if differences:
        more = f" … and {len(differences) - 8} more" if len(differences) > 8 else ""
        raise UserError(f"{where} does not fit this model: {'; '.join(differences[:8])}{more}")


def check_run(run: Path | str, config: dict[str, Any], *, resume: bool = False, overwrite: bool = False) -> None:
    """Raise UserError where `start_run` would, without touching anything: before long work on data, say.

    `resume` wants the directory to hold a run of the same settings; `overwrite` one that may be deleted; without either
    there must be nothing.
    """
    if jax.process_index() != 0:
        return  # the first process looks for all of them, and may have made the directory by now
    run = Path(run)
    if resume and overwrite:
        raise UserError("--resume goes on with a run, --overwrite deletes it: give one of them")
    if run.exists() and not run.is_dir():
        raise UserError(f"{run} is a file: give a directory for the run")
    if resume:
        if not (run / CONFIG).exists():
            raise UserError(f"--resume: {run} is not a run (no {CONFIG}): leave --resume out to begin one there")
        old = read_config(run)
        new = json.loads(json.dumps(config))
        changed = [f"{key} was {a.get(k)!r}, is {b.get(k)!r}" for part in ("model", "training")
                   for a, b in [(old.get(part, {}), new.get(part, {}))]
                   for k in sorted(a.keys() | b.keys()) for key in [f"{part}.{k}"] if a.get(k) != b.get(k)]
        if old.get("program") != new.get("program"):
            changed = [f"program was {old.get('program')!r}, is {new.get('program')!r}"]
        if changed:
            raise UserError(f"--resume: {run} was made with other settings: {'; '.join(changed)}")
    elif run.exists() and any(run.iterdir()):
        if not overwrite:
            raise UserError(f"{run} is already in use: give another --out, --resume it, or --overwrite it")
        if not (run / CONFIG).exists():
            raise UserError(
                f"--overwrite: {run} does not look like a run (no {CONFIG}): delete it yourself if you mean it"
            )


def start_run(run: Path | str, config: dict[str, Any], *, resume: bool = False, overwrite: bool = False) -> Path:
    """Make the run directory and write its `config.json`; refuse to touch a run that is already there (`check_run`).

    `resume` leaves the directory as it is; `overwrite` deletes it first.
    """
    check_run(run, config, resume=resume, overwrite=overwrite)
    run = Path(run)
    if not resume and jax.process_index() == 0:
        if run.exists() and overwrite and any(run.iterdir()):
            shutil.rmtree(run)
        run.mkdir(parents=True, exist_ok=True)
        (run / CONFIG).write_text(json.dumps(config, indent=2) + "\n")
    return run


def read_config(run: Path | str) -> dict[str, Any]:
    """The `config.json` of a run."""
    path = Path(run) / CONFIG
    if not path.exists():
        lacking = f"it has no {CONFIG}" if Path(run).exists() else "there is no such directory"
        raise UserError(f"{run} is not a run: {lacking}")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not valid JSON: {error}") from None
    if not isinstance(config, dict):
        raise UserError(f"{path} is not a run's configuration: not a JSON object")
    return config


def save_vocabulary(run: Path, tokenizer: SentencePieceTokenizer) -> None:
    """Put the vocabulary into the run, so that the directory is all one needs to use the model."""
    if jax.process_index() == 0 and not (run / VOCABULARY).exists():
        tokenizer.save(run / VOCABULARY)


def load_t5(run: Path | str) -> tuple[T5Config, Params, SentencePieceTokenizer]:
    """The sizes, the newest parameters (numpy) and the vocabulary of a run."""
    run = main_run(run)
    record = read_config(run)
    if other := record.get("architecture") or record.get("architectures"):  # a run of a BERT, or Hugging Face's file
        raise UserError(f"{run} holds another kind of model ({other}); what is wanted here is a run of a T5")
    config = load_t5_config(record.get("model", {}), run / CONFIG)
    model = nnx.eval_shape(lambda: T5(config, rngs=nnx.Rngs(0)))
    with Checkpoints(run) as checkpoints:
        params = checkpoints.restore({"params": as_function(model)[1]})["params"]
    return config, params, SentencePieceTokenizer(run / VOCABULARY)


def main_run(run: Path | str) -> Path:
    """The run itself; of a directory that holds several (a quickstart's) the one its `config.json` calls "main"."""
    main = read_config(run).get("main")
    return Path(run) / main if main else Path(run)


def load_t5_config(values: Any, where: Path | str) -> T5Config:
    """A T5Config from a JSON object; an unknown field, or a value of another kind, is an error that names it."""
    if not isinstance(values, dict):
        raise UserError(f"{where}: the model's sizes are not a JSON object")
    kinds = {field.name: field.type for field in dataclasses.fields(T5Config)}
    unknown = sorted(values.keys() - kinds)
    if unknown:
        raise UserError(f"{where}: unknown model field(s) {', '.join(unknown)}")
    for name, value in values.items():
        kind = float | int if kinds[name] is float else kinds[name]
        if not isinstance(value, kind) or isinstance(value, bool) != (kind is bool):
            raise UserError(
                f"{where}: {name} is {json.dumps(value)}, not of kind {getattr(kinds[name], '__name__', kinds[name])}"
            )
        if type(value) is int and value < 1 and not name.endswith("_id"):
            raise UserError(f"{where}: {name} is {value}, which is too small")
    return T5Config(**values)
