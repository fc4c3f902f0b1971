"""Opens every pretrained model: a run, a Hugging Face directory, or a name on the Hugging Face hub.

    pretrained = load("runs/quickstart")        # or "google-t5/t5-small"
    model, tokenizer = pretrained.model(), pretrained.tokenizer
"""

import functools
import json
import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
from flax import nnx

from tlqa_jax.checkpoints import bert_names, own_names, t5_names
from tlqa_jax.checkpoints.added_parts import ADDED_CONFIG, ADDED_WEIGHTS, Added, added_rules, read_added, with_added
from tlqa_jax.checkpoints.directories import CONFIG, RUN, find_directory, is_old_run, read_json
from tlqa_jax.checkpoints.family import fill
from tlqa_jax.checkpoints.named_arrays import flatten
from tlqa_jax.checkpoints.tokenizer_files import TOKENIZER_FILES, Tokenizer, check_tokenizer, read_tokenizer
from tlqa_jax.checkpoints.usage import read_usage
from tlqa_jax.checkpoints.weights import WEIGHT_FILES, read_safetensors, weight_files
from tlqa_jax.errors import UserError
from tlqa_jax.models.adapters import add_adapters
from tlqa_jax.models.bert import BertConfig
from tlqa_jax.models.features import FeatureConfig
from tlqa_jax.models.functional import as_function
from tlqa_jax.models.t5 import T5Config
from tlqa_jax.models.word_vectors import WordVectorsConfig

FILES = (CONFIG, *WEIGHT_FILES, ADDED_CONFIG, ADDED_WEIGHTS, *TOKENIZER_FILES)  # of a model's directory
OLD_NAMES = {"T5WithLMHeadModel": "T5ForConditionalGeneration"}  # of Hugging Face's classes
FAMILIES = {family.MODEL_TYPE: family for family in (bert_names, t5_names, own_names)}


@dataclass(frozen=True)
class Pretrained:
    """A model on disk, of which `config.json` has been read. Parameters and vocabulary are read on demand."""

    name: str  # as it was given to `load`
    directory: Path
    family: str  # "bert", "t5" or "tlqa"
    architecture: str  # Hugging Face's name of the model's class: "BertForMaskedLM", say
    config: BertConfig | T5Config | WordVectorsConfig | FeatureConfig  # as `config.json` says
    usage: dict[str, Any]  # what is needed to use it as it was trained (`usage.py`)
    options: dict[str, Any] = field(default_factory=dict)  # {"attention": "causal"} where "is_decoder" is true
    on_hub: bool = False
    added: Added | None = None  # LoRA or adapters
    base: "Pretrained | None" = None  # the model that they were trained with

    def model(self, dtype: Any = jnp.float32) -> nnx.Module:
        """The model, of the class that `architecture` names, with float32 parameters; it computes in `dtype`.

        LoRA is merged into it; adapters are parts of it.
        Its `config` is exact: whether a T5's output matrix is its embedding depends on the stored arrays.

        Raises UserError naming the parameters that are missing, left over or of another shape, a few of each kind.
        """
        family, arrays = FAMILIES[self.family], self._arrays()
        empty = family.empty_model(self.architecture, self.config, set(arrays), dtype=dtype, **self.options)
        rules = family.rules(self.architecture, self.config)
        if self.added and self.added.kind == "adapters":
            add_adapters(empty, self.added.size, nnx.Rngs(0))
            rules |= added_rules(flatten(as_function(empty)[1]), rules)
        return fill(empty, rules, arrays, f"{self.where}, read as {self.architecture},")

    def _arrays(self) -> dict[str, np.ndarray]:
        """The arrays of the files, as the class that `architecture` names has them."""
        family, arrays = FAMILIES[self.family], {}
        if self.base is None:
            for file in weight_files(self.complete_directory, self.where):
                arrays |= read_safetensors(file)
            return family.canonicalize(self.architecture, arrays, self.config, self.where)
        base = family.as_class(self.architecture, self.base.architecture, self.base._arrays())
        return with_added(base, read_safetensors(self.complete_directory / ADDED_WEIGHTS), self.added.scale, self.where)

    @functools.cached_property
    def tokenizer(self) -> Tokenizer:
        """The vocabulary. Raises UserError if there is none, it has unknown rules, or it does not fit the model."""
        if self.base is not None and not any((self.complete_directory / file).exists() for file in TOKENIZER_FILES):
            return self.base.tokenizer  # PEFT stores none
        tokenizer = read_tokenizer(self.complete_directory, FAMILIES[self.family].TOKENIZER)
        check_tokenizer(tokenizer, self.config, self.where)
        return tokenizer

    @functools.cached_property
    def complete_directory(self) -> Path:
        """The directory with weights and vocabulary too. Of a name on the hub they are downloaded now."""
        return find_directory(self.name, FILES) if self.on_hub else self.directory

    @property
    def where(self) -> Path:
        """What an error message calls it: the directory, or the name on the hub."""
        return Path(self.name) if self.on_hub else self.directory


def load(name: str | Path, architecture: str | None = None) -> Pretrained:
    """Open a run, a Hugging Face directory or a name on the hub such as "bert-base-uncased". Reads `config.json` once.

    Of a directory with several runs, such as a quickstart's, it opens the one that `run.json` calls "main". Of a name
    on the hub it downloads `config.json` only. `architecture`: read it as this class, "BertForPreTraining" for example.

    A directory with an `adapter_config.json` holds LoRA or adapters; the model that this file names is opened, too.

    Raises UserError if there is no such model, or it has a family, a class or a setting that is not known here.
    """
    directory = find_directory(name, (CONFIG, ADDED_CONFIG))
    on_hub = not Path(name).is_dir()
    where = (Path(name) if on_hub else directory) / CONFIG
    added = base = None
    if (directory / ADDED_CONFIG).exists():
        added, base = open_base(directory / ADDED_CONFIG)
        if not (directory / CONFIG).exists():  # PEFT stores none
            opened = replace(base, name=str(name), directory=directory, usage={}, on_hub=on_hub, added=added, base=base)
            return of_task(opened, architecture or added.architecture or base.architecture)
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
    architecture = OLD_NAMES.get(architecture, architecture)
    if architecture not in family.ARCHITECTURES:
        found = f'the architecture is "{architecture}"' if architecture else "no architecture is named"
        raise UserError(f"{where}: {found}; known are {', '.join(family.ARCHITECTURES)} (architecture=)")
    config, options = family.config_from_json(architecture, values, where)
    usage = read_usage(values, where)
    return Pretrained(str(name), directory, model_type, architecture, config, usage, options, on_hub, added, base)


def open_base(path: Path) -> tuple[Added, Pretrained]:
    """What an `adapter_config.json` says, and the model that it names."""
    added = read_added(path)
    try:
        return added, load(added.base)
    except UserError as error:
        raise UserError(f"{path}: the model that it was trained with is needed, too: {error}") from None


def of_task(pretrained: Pretrained, architecture: str) -> Pretrained:
    """LoRA without a `config.json`, read as this class. A classifier has as many classes as its stored head."""
    if architecture not in FAMILIES[pretrained.family].ARCHITECTURES:
        raise UserError(f"{pretrained.where / ADDED_CONFIG}: its base, {pretrained.base.name}, is no {architecture}")
    config = pretrained.config
    if architecture == "BertForSequenceClassification":
        stored = read_safetensors(pretrained.complete_directory / ADDED_WEIGHTS)
        classes = next((len(array) for name, array in stored.items() if name.endswith("classifier.weight")), None)
        if classes not in (None, config.num_labels):
            config = replace(config, id2label=tuple(f"LABEL_{i}" for i in range(classes)))
    return replace(pretrained, architecture=architecture, config=config)
