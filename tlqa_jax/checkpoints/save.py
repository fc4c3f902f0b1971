"""Models and vocabularies written as Hugging Face directories, which Transformers and `load` read.

    save_pretrained(model, "out", tokenizer, usage={"input_length": 512})

A training program writes the same files into its run, one by one. Of several processes only the first one writes.
"""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
from flax import nnx

from tlqa_jax.checkpoints.added_parts import ADDED_CONFIG, ADDED_WEIGHTS, added_rules, own_arrays, write_added
from tlqa_jax.checkpoints.directories import CONFIG, RUN, check_not_here, read_json, write_json
from tlqa_jax.checkpoints.family import arrays_of
from tlqa_jax.checkpoints.load import FAMILIES, FILES, load
from tlqa_jax.checkpoints.named_arrays import flatten
from tlqa_jax.checkpoints.tokenizer_files import Tokenizer, check_tokenizer, write_tokenizer
from tlqa_jax.checkpoints.usage import read_usage, with_usage
from tlqa_jax.checkpoints.weights import WEIGHTS, read_safetensors, weight_files, write_safetensors
from tlqa_jax.errors import UserError
from tlqa_jax.fields import check_local
from tlqa_jax.models.adapters import added_kind
from tlqa_jax.models.functional import as_function

ARCHITECTURES = {kind: name for family in FAMILIES.values() for name, kind in family.ARCHITECTURES.items()}


def save_pretrained(
    model: nnx.Module, directory: str | Path, tokenizer: Tokenizer | None = None,
    *, usage: dict[str, Any] | None = None, overwrite: bool = False,
) -> Path:  # fmt: skip
    """Write a new directory with the model, and the vocabulary if there is one. Returns it.

    It appears when it is complete. A directory that is in use is only replaced, with all that is in it, if `overwrite`
    is true and it holds a model and is no run.

    Raises UserError for a model of another class, a vocabulary that does not fit, a directory in use.
    """
    family, directory = _family(model), Path(directory)
    if tokenizer is not None:
        if not isinstance(tokenizer, family.TOKENIZER):
            ours, given = family.TOKENIZER.__name__, type(tokenizer).__name__
            raise UserError(f"a {type(model).__name__} needs a {ours}, and this is a {given}")
        check_tokenizer(tokenizer, model.config, directory)
    with _new_directory(directory, overwrite) as new:
        write_config(new, model, usage)
        write_weights(new, model)
        if tokenizer is not None:
            write_tokenizer(tokenizer, new, getattr(model.config, "max_position_embeddings", None))
    return directory


def copy_pretrained(source: str | Path, out: str | Path, *, overwrite: bool = False, merge: bool = False) -> Path:
    """Copy the model of a run, a Hugging Face directory or a hub name: `config.json`, the weights, the vocabulary.

    Nothing else is copied, such as a run's checkpoints. `overwrite` is as for `save_pretrained`. `merge`: write LoRA
    merged into the whole model, which then needs no base.

    Raises UserError for adapters that are to be merged.
    """
    pretrained, out = load(source), Path(out)
    if merge and pretrained.added:
        if pretrained.added.kind == "adapters":
            raise UserError(
                f"{source} holds adapters, and these cannot be merged: there is a gelu between their matrices"
            )
        usage = pretrained.usage
        return save_pretrained(pretrained.model(), out, pretrained.tokenizer, usage=usage, overwrite=overwrite)
    if pretrained.added:
        read_safetensors(pretrained.complete_directory / ADDED_WEIGHTS)  # raises an error if there are none
    else:
        weight_files(pretrained.complete_directory, pretrained.where)
    files = [file for pattern in FILES for file in pretrained.complete_directory.glob(pattern)]
    with _new_directory(out, overwrite) as new:
        for file in files:
            shutil.copyfile(file, new / file.name)
    return out


def write_config(directory: str | Path, model: nnx.Module, usage: dict[str, Any] | None = None, base: str = "") -> None:
    """Write `config.json`: the model's class and sizes, and what is needed to use it (`usage.py`).

    Of a model with LoRA or adapters, also `adapter_config.json`, with `base`: what they were added to, and on which
    they depend.
    """
    family, path, architecture = _family(model), Path(directory) / CONFIG, ARCHITECTURES[type(model)]
    paths, rules = flatten(as_function(model)[1]), family.rules(architecture, model.config)
    if jax.process_index() == 0 and added_kind(paths):
        write_added(Path(directory) / ADDED_CONFIG, paths, rules, architecture, base)
    values = {"architectures": [architecture], "model_type": family.MODEL_TYPE}
    values = with_usage(values | family.config_to_json(model), usage or {}, path)
    if jax.process_index() == 0:
        write_json(path, values)


def update_usage(directory: str | Path, **usage: Any) -> None:
    """Change entries of the usage in `config.json`: `update_usage(run, no_answer_threshold=0.3)`; None removes one."""
    path = Path(directory) / CONFIG
    if jax.process_index() == 0:
        values = read_json(path)
        write_json(path, with_usage(values, read_usage(values, path) | usage, path))


def write_weights(directory: str | Path, model: nnx.Module) -> None:
    """Write `model.safetensors`: the parameters under Hugging Face's names.

    Of a model with LoRA or adapters, only these and the head of a BERT: `adapter_model.safetensors`.
    """
    if jax.process_index() == 0:
        family, paths = _family(model), flatten(as_function(model)[1])
        rules = family.rules(ARCHITECTURES[type(model)], model.config)
        rules |= added_rules(paths, rules)
        arrays = arrays_of(model, rules)
        if added_kind(paths):
            write_safetensors(Path(directory) / ADDED_WEIGHTS, own_arrays(arrays, rules, paths))
        else:
            write_safetensors(Path(directory) / WEIGHTS, family.to_hf(model, arrays))


def _family(model: nnx.Module):
    """The module with the names of this model's family."""
    family = next((one for one in FAMILIES.values() if type(model) in one.ARCHITECTURES.values()), None)
    if family is None:
        known = ", ".join(kind.__name__ for kind in ARCHITECTURES)
        raise UserError(f"a {type(model).__name__} cannot be saved this way; known are {known}")
    return family


@contextlib.contextmanager
def _new_directory(directory: Path, overwrite: bool) -> Iterator[Path]:
    """A temporary directory to fill, which then becomes `directory`. After an error everything is as before."""
    check_local(directory)
    check_not_here(directory)
    if directory.exists() and (not directory.is_dir() or os.listdir(directory)):
        if not overwrite:
            raise UserError(f"{directory} is already in use: give another, or overwrite it (--overwrite)")
        model = (directory / CONFIG).is_file() and "model_type" in read_json(directory / CONFIG)
        if not model or (directory / RUN).exists():
            kind = "is a run" if model else "does not look like an exported model"
            raise UserError(f"{directory} {kind}: delete it yourself if you mean it")
    directory.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{directory.name}.", dir=directory.parent) as beside:
        new = Path(beside) / "new"
        new.mkdir()
        yield new
        if directory.exists():
            directory.rename(Path(beside) / "old")
        new.rename(directory)
