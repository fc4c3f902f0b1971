"""Run directories: what a training program leaves behind, and how another one picks it up.

A T5 may also come from a Hugging Face directory (`load_t5`); BERTs of both kinds are in `bert_runs.py`.

    RUN/config.json          program, model sizes, training settings, how many sentinels ("extra_ids")
    RUN/vocabulary.model     the SentencePiece vocabulary it was trained with; its sentinels are not in the file
    RUN/checkpoints/STEP/    Orbax: params, optimizer state, step
    RUN/no_answer.json       the no-answer threshold, of a run that learned that there may be no answer
    RUN/metrics.jsonl, curves.png, predictions.json
"""

import contextlib
import json
import logging
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import nnx

from tlqa_jax.checkpoints.directories import CONFIG, read_json
from tlqa_jax.checkpoints.family import check_fields, is_of_type as of_kind
from tlqa_jax.checkpoints.huggingface import from_pretrained, is_t5, load_tokenizer, read_task
from tlqa_jax.checkpoints.named_arrays import compare, flatten
from tlqa_jax.checkpoints.tokenizer_files import check_tokenizer as check_vocabulary
from tlqa_jax.errors import UserError
from tlqa_jax.models.functional import Params, as_function
from tlqa_jax.models.t5 import T5, T5Config
from tlqa_jax.text.sentencepiece import SentencePieceTokenizer
from tlqa_jax.text.atomic_write import write_atomically

VOCABULARY, CHECKPOINTS, THRESHOLD = "vocabulary.model", "checkpoints", "no_answer.json"


class Checkpoints:
    """The checkpoints of one run: atomic (a killed write leaves no half checkpoint), the newest `keep` are kept.

    With `read_only` nothing is made or tidied up: a program may be training in this very directory.
    """

    def __init__(self, run: Path | str, keep: int | None = 3, *, read_only: bool = False):
        import orbax.checkpoint as ocp  # takes seconds to import: not before it is needed

        logging.getLogger("absl").setLevel(logging.ERROR)
        self._args = ocp.args
        self.directory = Path(run).resolve() / CHECKPOINTS
        if read_only and not self.directory.is_dir():
            raise UserError(f"{run} holds no checkpoint")
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep, create=not read_only, read_only=read_only, cleanup_tmp_directories=not read_only,
            enable_async_checkpointing=False,
        )
        self._manager = ocp.CheckpointManager(
            self.directory, options=options, item_handlers=ocp.StandardCheckpointHandler()
        )

    def latest(self, before: int | None = None) -> Path | None:
        """The newest checkpoint's directory, or the newest of fewer than `before` steps; None if there is none."""
        steps = [step for step in self._manager.all_steps() if before is None or step < before]
        return self.directory / str(max(steps)) if steps else None

    def save(self, step: int, state: dict[str, Any]) -> None:
        """Write the state (a nested structure of arrays) as of after `step` steps."""
        self._manager.save(step, args=self._args.StandardSave(jax.tree.map(np.asarray, state)))

    def restore(self, like: dict[str, Any]) -> dict[str, Any]:
        """The newest checkpoint, as numpy arrays in the structure of `like` (arrays or shapes).

        `like` may hold a part of the top-level entries (only "params", say). Raises UserError, before anything is read,
        naming keys that are missing, left over or of another shape or dtype.
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
    """What Orbax raises on a checkpoint with a part missing or damaged, as one line.

    It advises to delete the checkpoint where there is one before it, and it is not the memory or the rights that lack.
    """
    try:
        yield
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        steps = [int(path.name) for path in checkpoint.parent.iterdir() if path.name.isdecimal()]
        elsewhere = isinstance(error, (MemoryError, OSError)) and not isinstance(error, FileNotFoundError)
        older = min(steps) < int(checkpoint.name)
        advice = "; delete it to go back to the one before it" if older and not elsewhere else ""
        raise UserError(f"{checkpoint} cannot be read{advice} ({reason})") from error


def check_run(run: Path | str, config: dict[str, Any], *, resume: bool = False, overwrite: bool = False) -> None:
    """Raise UserError where `start_run` would, without touching anything: before long work on data, say.

    `resume` wants the directory to hold a run of the same settings; `overwrite` one that may be deleted; without either
    there must be nothing. Of several processes the first one looks, and all of them raise.
    """
    agreed(lambda: _check_run(Path(run), config, resume, overwrite))


def agreed(check: Callable[[], None]) -> None:
    """Call `check` in the first process; what it raises there, all processes raise, so that none waits for another."""
    error, text = None, np.zeros(2048, np.uint8)
    if jax.process_index() == 0:
        try:
            check()
        except Exception as raised:
            error = raised
            written = (str(error) or type(error).__name__).encode()[: text.size]
            text[: len(written)] = list(written)
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        text = np.asarray(multihost_utils.broadcast_one_to_all(text)).astype(np.uint8)
    if error is not None:
        raise error
    if text.any():
        raise UserError(text.tobytes().rstrip(b"\0").decode(errors="ignore"))


def _check_run(run: Path, config: dict[str, Any], resume: bool, overwrite: bool) -> None:
    if resume and overwrite:
        raise UserError("--resume goes on with a run, --overwrite deletes it: give one of them")
    if run.exists() and not run.is_dir():
        raise UserError(f"{run} is a file: give a directory for the run")
    if resume:
        if not (run / CONFIG).exists():
            raise UserError(f"--resume: {run} is not a run (no {CONFIG}): leave --resume out to begin one there")
        old = read_config(run)
        new = json.loads(json.dumps(config, default=str))
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
        if not is_run(run):
            raise UserError(f"--overwrite: {run} does not look like a run: delete it yourself if you mean it")
        training = config.get("training", {})
        check_kept(run, training.get("start_from"), [text for text in jax.tree.leaves(training) if type(text) is str])


def check_kept(run: Path, start_from: Path | str | None, settings: list[str]) -> None:
    """Refuse to delete a directory with what the new run starts from in it, or a file that its settings name."""
    inside = lambda path: Path(path).resolve().is_relative_to(run.resolve())
    if start_from and inside(main_run(start_from) if is_run(start_from) else start_from):
        raise UserError(f"--overwrite would delete {start_from}, which the run starts from: give another --out")
    for text in settings:
        for path in (text, text.partition("=")[2]):  # TASK=SOURCE
            if path and os.path.exists(path) and inside(path):
                raise UserError(f"--overwrite would delete {path}, which the run reads: give another --out")


def start_run(run: Path | str, config: dict[str, Any], *, resume: bool = False, overwrite: bool = False) -> Path:
    """Make the run directory and write its `config.json`; refuse to touch a run that is already there (`check_run`).

    `resume` leaves the directory as it is; `overwrite` deletes it first.
    """
    run, text = Path(run), json.dumps(config, indent=2, default=str) + "\n"  # before anything is deleted
    check_run(run, config, resume=resume, overwrite=overwrite)

    def begin() -> None:
        if run.exists() and overwrite and any(run.iterdir()):
            shutil.rmtree(run)
        run.mkdir(parents=True, exist_ok=True)
        write_atomically(run / CONFIG, text)

    if not resume:
        agreed(begin)
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


def source_of(start_from: str | None, out: Path | str, *, resume: bool) -> str | None:
    """Where the model of a run is read from: `start_from`, but once it goes on from a checkpoint of its own, the run.

    What it started from may be gone by then.
    """
    own = resume and any(path.name.isdecimal() for path in (Path(out) / CHECKPOINTS).glob("*"))
    return str(out) if own and start_from else start_from


def save_vocabulary(run: Path, tokenizer: SentencePieceTokenizer) -> None:
    """Put the vocabulary into the run, so that the directory is all one needs to use the model."""
    if jax.process_index() == 0 and not (run / VOCABULARY).exists():
        tokenizer.save(run / VOCABULARY)


def is_run(path: Path | str) -> bool:
    """Whether a directory is one that our programs made; a Hugging Face directory is not."""
    return (Path(path) / CONFIG).is_file() and bool(read_config(path).keys() & {"program", "main"})


def trained_with(name: Path | str) -> dict[str, Any]:
    """The training settings of a run; of a Hugging Face directory or hub name what it kept of them, if anything."""
    return read_config(name).get("training", {}) if is_run(name) else read_task(name)


def save_threshold(run: Path, threshold: float) -> None:
    """Put the no-answer threshold into the run: above it there is no answer (`decoding.spans`, `decoding.answers`)."""
    if jax.process_index() == 0:
        write_atomically(run / THRESHOLD, json.dumps({"no_answer_threshold": threshold}) + "\n")


def read_threshold(run: Path | str) -> float | None:
    """The no-answer threshold of a run, or of a Hugging Face directory made of one; None where it always answers."""
    path = Path(run) / THRESHOLD
    threshold = (read_json(path) if path.exists() else trained_with(run)).get("no_answer_threshold")
    if not of_kind(threshold, float | None):
        where = path if path.exists() else Path(run) / CONFIG
        raise UserError(f"{where}: no_answer_threshold is {json.dumps(threshold)}, not a number")
    return threshold


def load_t5(name: Path | str) -> tuple[T5Config, Params, SentencePieceTokenizer]:
    """The sizes, the parameters (numpy; the newest) and the vocabulary of a run, a Hugging Face directory or hub name.

    Raises UserError if it is neither, holds no whole T5, or its vocabulary has more pieces than the model.
    """
    config, params, tokenizer = _load_pretrained(name) if is_t5(name) else _load_run(main_run(name))
    check_vocabulary(tokenizer, config, name)
    return config, params, tokenizer


def _load_run(run: Path) -> tuple[T5Config, Params, SentencePieceTokenizer]:
    record = read_config(run)
    if other := record.get("architecture") or record.get("architectures"):  # a BERT's run, or Hugging Face's file
        raise UserError(f"{run} holds another kind of model ({other}); what is wanted here is a run of a T5")
    config = load_t5_config(record.get("model", {}), run / CONFIG)
    model = nnx.eval_shape(lambda: T5(config, rngs=nnx.Rngs(0)))
    with Checkpoints(run, read_only=True) as checkpoints:
        params = checkpoints.restore({"params": as_function(model)[1]})["params"]
    extra_ids = record.get("extra_ids", 100)  # the first runs did not say
    if not of_kind(extra_ids, int) or extra_ids < 0:
        raise UserError(f"{run / CONFIG}: extra_ids is {json.dumps(extra_ids)}, not a whole number from 0 on")
    return config, params, SentencePieceTokenizer(run / VOCABULARY, extra_ids=extra_ids)


def _load_pretrained(name: Path | str) -> tuple[T5Config, Params, SentencePieceTokenizer]:
    model, tokenizer = from_pretrained(name), load_tokenizer(name)
    if not isinstance(model, T5):
        raise UserError(f"{name} is the encoder of a T5 alone, which writes nothing; a whole T5 is wanted here")
    check_special_ids(model.config, name)
    return model.config, jax.tree.map(np.asarray, as_function(model)[1]), tokenizer


def main_run(run: Path | str) -> Path:
    """The run itself; of a directory that holds several (a quickstart's) the one its `config.json` calls "main"."""
    main = read_config(run).get("main")
    return Path(run) / main if main else Path(run)


def load_sizes(values, config, where, *, without=()):
    import dataclasses
    if not isinstance(values, dict):
        raise UserError(f"{where}: the model's sizes are not a JSON object")
    types = {field.name: field.type for field in dataclasses.fields(config)}
    if unknown := sorted(values.keys() - types.keys()):
        raise UserError(f"{where}: unknown model field(s) {', '.join(unknown)}")
    sizes = {name: value for name, value in values.items() if name not in without}
    check_fields(sizes, types, where)
    return sizes


def load_t5_config(values: Any, where: Path | str) -> T5Config:
    """A T5Config from a JSON object; an unknown field, or a value of another kind, is an error that names it."""
    config = T5Config(**load_sizes(values, T5Config, where))
    check_special_ids(config, where)
    return config


def check_special_ids(config: T5Config, where: Path | str) -> None:
    """Refuse a T5 whose texts begin, end or are padded with other ids than T5's own: `decoding` writes these."""
    for name, id in (("decoder_start_token_id", 0), ("eos_token_id", 1), ("pad_token_id", 0)):
        if getattr(config, name) != id:
            raise UserError(f"{where}: {name} is {getattr(config, name)}; here a T5's is {id}")
