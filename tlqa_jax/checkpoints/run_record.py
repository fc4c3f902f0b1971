"""The record of a run, RUN/run.json: program, settings, inputs. With it the same command again continues the run.

    inputs = {"texts": {"a.txt": fingerprint("a.txt")}}
    record = {"version": "0.2.0", "program": "pretrain-spans", "settings": {...}, "inputs": inputs}
    status = check_run(out, record)         # "new", "continue" or "complete", or a UserError that names what differs
    run = start_run(out, record)
    ...
    finish_run(run)
"""

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from tlqa_jax.checkpoints.added_parts import ADDED_CONFIG
from tlqa_jax.checkpoints.directories import (
    CONFIG, RUN, check_not_here, is_old_run, main_directory, object_in, read_json, write_json,
)  # fmt: skip
from tlqa_jax.checkpoints.run_lock import LOCK, check_unlocked
from tlqa_jax.errors import UserError
from tlqa_jax.text.atomic_write import write_atomically

AFRESH = "give another --out, or --overwrite to delete it"


def check_run(out: Path | str, record: dict[str, Any], *, overwrite: bool = False) -> str:
    """What `start_run` would do, without touching anything: "new", "continue" or "complete".

    "new": nothing is there, or `overwrite` says to delete it. "continue": a run of the same program, settings and
    inputs. "complete": such a run that has ended. An input that is missing now, whose fingerprint is None, is not
    compared.

    Raises UserError if something else is there, or if `overwrite` would delete a directory that is no run or that holds
    what the new run reads. Of several processes the first one looks, and all of them return or raise the same.
    """
    return agreed(lambda: _check_run(Path(out), record, overwrite))


def start_run(out: Path | str, record: dict[str, Any], *, overwrite: bool = False) -> Path:
    """Make the directory of a run and its record. A run to be continued stays as it is. Raises as `check_run` does."""
    out, text = Path(out), json.dumps(record, indent=2, default=str) + "\n"

    def start() -> str:
        status = _check_run(out, record, overwrite)
        if status == "new":
            out.mkdir(parents=True, exist_ok=True)
            for old in list(out.iterdir()):
                if old.is_dir() and not old.is_symlink():
                    shutil.rmtree(old)
                elif old.name != LOCK:
                    old.unlink()
            write_atomically(out / RUN, text)
        return status

    agreed(start)
    return out


def finish_run(out: Path | str) -> None:
    """Say in the record that the run is complete."""
    if jax.process_index() == 0:
        write_json(Path(out) / RUN, read_json(Path(out) / RUN) | {"finished": True})


def fingerprint(path: Path | str) -> str | None:
    """Content and size of a file, or of the model in a directory: "sha256:… 123 bytes". None if there is neither."""
    path, digest = Path(path), hashlib.sha256()
    files = [path]
    if path.is_dir():
        path = main_directory(path)
        files = [path / CONFIG, path / ADDED_CONFIG, *sorted(path.glob("*.safetensors"))]
    files = [file for file in files if file.is_file()]
    for file in files:
        with file.open("rb") as opened:
            hashlib.file_digest(opened, lambda: digest)
    return f"sha256:{digest.hexdigest()} {sum(file.stat().st_size for file in files)} bytes" if files else None


def agreed(check: Callable[[], str | None]) -> str:
    """Call `check` in the first process; what it returns or raises there, all processes return or raise."""
    if jax.process_count() == 1:
        return check() or ""
    from jax.experimental import multihost_utils

    error, said = None, ""
    if jax.process_index() == 0:
        try:
            said = f"={check() or ''}"
        except Exception as raised:
            error, said = raised, f"!{str(raised) or type(raised).__name__}"
    text = np.frombuffer(said.encode().ljust(2048, b"\0")[:2048], np.uint8)
    text = np.asarray(multihost_utils.broadcast_one_to_all(text)).astype(np.uint8)
    said = text.tobytes().rstrip(b"\0").decode(errors="ignore")
    if error is not None:
        raise error
    if said.startswith("!"):
        raise UserError(said[1:])
    return said[1:]


def _check_run(out: Path, record: dict[str, Any], overwrite: bool) -> str:
    new = json.loads(json.dumps(record, default=str))
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is a file: give a directory for the run")
    if not out.exists():
        return "new"
    check_unlocked(out)
    if not set(os.listdir(out)) - {LOCK}:
        return "new"
    old_run = not (out / RUN).exists() and (out / CONFIG).is_file() and is_old_run(read_json(out / CONFIG))
    if not (out / RUN).exists() and not old_run:
        raise UserError(f"{out} is not empty and does not look like a run: give another --out, or delete it yourself")
    if overwrite:
        _check_kept(out, new.get("settings", {}))
        return "new"
    if old_run:
        raise UserError(
            f"{out} was made by tlqa_jax 0.1 and cannot be continued: {AFRESH}; "
            f"to use its model, export it with that version (tlqa export {out} --out DIR)"
        )
    old = read_json(out / RUN)
    if changed := _changes(old, new, out / RUN):
        raise UserError(f"{out} is a run with other settings or inputs: {'; '.join(changed)}: {AFRESH}")
    return "complete" if old.get("finished") is True else "continue"


def _is_same(old: Any, new: Any, before: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether a setting has not changed: it is equal, or names the same file or the same content in another way.

    `before` and `now` are the fingerprints of the files that the setting names, by their paths.
    """
    if isinstance(old, list) and isinstance(new, list):
        return len(old) == len(new) and all(_is_same(a, b, before, now) for a, b in zip(old, new))
    if old == new or not (isinstance(old, str) and isinstance(new, str) and (before or now)):
        return old == new
    (task, equals, source), (new_task, _, new_source) = old.partition("="), new.partition("=")  # TASK=SOURCE
    if not equals or task != new_task:
        source, new_source = old, new
    paths = [os.path.expanduser(one) for one in (source, new_source)]
    contents = before.get(str(Path(paths[0]))), now.get(str(Path(paths[1])))
    same_file = os.path.exists(paths[1]) and os.path.realpath(paths[0]) == os.path.realpath(paths[1])
    return same_file or (None not in contents and contents[0] == contents[1])


def _changes(old: dict[str, Any], new: dict[str, Any], where: Path) -> list[str]:
    """What differs between two records, in words."""
    if old.get("program") != new.get("program"):
        return [f"program was {old.get('program')!r}, is {new.get('program')!r}"]
    a, b = object_in(old, "settings", where), object_in(new, "settings", where)
    inputs, now_inputs = object_in(old, "inputs", where), object_in(new, "inputs", where)
    of = lambda inputs, name: object_in(inputs, name, where)
    changed = [
        "{} was {!r}, is {!r}".format(k, *_different(a.get(k), b.get(k))) for k in sorted(a.keys() | b.keys())
        if not _is_same(a.get(k), b.get(k), of(inputs, k), of(now_inputs, k))
    ]  # fmt: skip
    for setting in now_inputs:
        flag = f"--{setting.replace('_', '-')}"
        before, now = of(inputs, setting), {path: it for path, it in of(now_inputs, setting).items() if it}
        if sorted(map(str, before.values())) == sorted(now.values()):
            continue  # the same files, wherever they are now
        names = {os.path.realpath(path): path for path in [*before, *now]}  # one path may be written in two ways
        before, now = ({names[os.path.realpath(path)]: files[path] for path in files} for files in (before, now))
        for path in sorted(before.keys() | now.keys()) if before and now else ():  # what is gone as a whole may be gone
            if before.get(path) != now.get(path):
                what = "is new" if path not in before else "is gone" if path not in now else "has changed"
                changed.append(f"{flag} {path} {what} since the run began")
    return changed


def _different(old: Any, new: Any) -> tuple[Any, Any]:
    """Two values, or of two dicts what differs in them."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        return old, new
    parts = {name: _different(old.get(name), new.get(name)) for name in old | new if old.get(name) != new.get(name)}
    return {name: before for name, (before, _) in parts.items()}, {name: now for name, (_, now) in parts.items()}


def _check_kept(out: Path, settings: dict[str, Any]) -> None:
    """Refuse to delete a directory with what the new run starts from in it, or a file that its settings name."""
    check_not_here(out)
    inside = lambda path: Path(path).resolve().is_relative_to(out.resolve())
    start_from = settings.get("start_from")
    if start_from and inside(main_directory(Path(start_from))):
        raise UserError(f"--overwrite would delete {start_from}, which the run starts from: give another --out")
    for text in (text for text in jax.tree.leaves(settings) if type(text) is str):
        for path in (text, text.partition("=")[2]):  # TASK=SOURCE
            if path and os.path.exists(path) and inside(path):
                raise UserError(f"--overwrite would delete {path}, which the run reads: give another --out")
