"""The one door to pretrained models: a run, a Hugging Face directory, or a name on the Hugging Face hub.

    pretrained = load("runs/quickstart")        # or "google-t5/t5-small"
    model, tokenizer = pretrained.model(), pretrained.tokenizer
"""

import functools
import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from flax import nnx

from tlqa_jax.checkpoints import bert_names, t5_names
from tlqa_jax.checkpoints.directories import CONFIG, RUN, find_directory, is_old_run, read_json
from tlqa_jax.checkpoints.family import fill
from tlqa_jax.checkpoints.tokenizer_files import TOKENIZER_FILES, Tokenizer, check_tokenizer, read_tokenizer
from tlqa_jax.checkpoints.usage import read_usage
from tlqa_jax.checkpoints.weights import WEIGHT_FILES, read_safetensors, weight_files
from tlqa_jax.errors import UserError
from tlqa_jax.models.bert import BertConfig
from tlqa_jax.models.t5 import T5Config

FILES = (CONFIG, *WEIGHT_FILES, *TOKENIZER_FILES)  # of a model's directory
FAMILIES = {family.MODEL_TYPE: family for family in (bert_names, t5_names)}


@dataclass(frozen=True)
class Pretrained:
    """A model on disk, of which `config.json` has been read. Parameters and vocabulary are read on demand."""

    name: str  # as it was given to `load`
    directory: Path
    family: str  # "bert" or "t5"
    architecture: str  # Hugging Face's name of the model's class: "BertForMaskedLM", say
    config: BertConfig | T5Config  # as `config.json` says
    usage: dict[str, Any]  # what is needed to use it as it was trained (`usage.py`)
    options: dict[str, Any] = field(default_factory=dict)  # {"attention": "causal"} where "is_decoder" is true
    on_hub: bool = False

    def model(self, dtype: Any = jnp.float32) -> nnx.Module:
        """The model, of the class that `architecture` names, with float32 parameters; it computes in `dtype`.

        Its `config` is exact: whether a T5's output matrix is its embedding depends on the stored arrays.

        Raises UserError naming the parameters that are missing, left over or of another shape, a few of each kind.
        """
        family = FAMILIES[self.family]
        arrays = {}
        for file in weight_files(self.files, self.where):
            arrays |= read_safetensors(file)
        arrays = family.canonicalize(self.architecture, arrays, self.config, self.where)
        empty = family.empty_model(self.architecture, self.config, set(arrays), dtype=dtype, **self.options)
        rules = family.rules(self.architecture, self.config)
        return fill(empty, rules, arrays, f"{self.where}, read as {self.architecture},")

    @functools.cached_property
    def tokenizer(self) -> Tokenizer:
        """The vocabulary. Raises UserError if there is none, it has unknown rules, or it does not fit the model."""
        tokenizer = read_tokenizer(self.files, FAMILIES[self.family].TOKENIZER)
        check_tokenizer(tokenizer, self.config, self.where)
        return tokenizer

    @functools.cached_property
    def files(self) -> Path:
        """The directory with all its files. Those of a name on the hub are downloaded now."""
        return find_directory(self.name, FILES) if self.on_hub else self.directory

    @property
    def where(self) -> Path:
        """What an error message calls it: the directory, or the name on the hub."""
        return Path(self.name) if self.on_hub else self.directory


def load(name: str | Path, architecture: str | None = None) -> Pretrained:
    """Open a run, a Hugging Face directory or a name on the hub such as "bert-base-uncased". Reads `config.json` once.

    Of a directory with several runs, such as a quickstart's, it opens the one that `run.json` calls "main". Of a name
    on the hub it downloads `config.json` only. `architecture`: read it as this class, "BertForPreTraining" for example.

    Raises UserError if there is no such model, or it has a family, a class or a setting that is not known here.
    """
    directory, on_hub = find_directory(name, (CONFIG,)), not Path(name).is_dir()
    where = (Path(name) if on_hub else directory) / CONFIG
    if not (directory / CONFIG).exists() and (directory / RUN).exists():
        raise UserError(f"{directory} has no {CONFIG}: this run has not saved a model yet")
    values = read_json(directory / CONFIG)
    if is_old_run(values):
        convert = f"export it with that version (tlqa export {name} --out DIR) and use DIR"
        raise UserError(f"{directory} was made by tlqa_jax 0.1: {convert}")
    model_type = values.get("model_type", bert_names.MODEL_TYPE)  # the first BERTs did not say
    if model_type not in [*FAMILIES]:
        raise UserError(f'{where}: model_type is "{model_type}"; known are {", ".join(FAMILIES)}')
    family = FAMILIES[model_type]
    named = values.get("architectures") or [None]
    if not isinstance(named, list) or not isinstance(named[0], str | None):
        raise UserError(f"{where}: architectures is {json.dumps(named):.60}, not a list of names")
    architecture = architecture or named[0]
    # a model that was saved from TensorFlow or Flax has the same arrays in its safetensors file
    architecture = re.sub("^(TF|Flax)(?=Bert|T5)", "", architecture or "")
    architecture = family.OLD_NAMES.get(architecture, architecture)
    if architecture not in family.ARCHITECTURES:
        found = f'the architecture is "{architecture}"' if architecture else "no architecture is named"
        raise UserError(f"{where}: {found}; known are {', '.join(family.ARCHITECTURES)} (architecture=)")
    config, options = family.config_from_json(architecture, values, where)
    usage = read_usage(values, where)
    return Pretrained(str(name), directory, model_type, architecture, config, usage, options, on_hub)
