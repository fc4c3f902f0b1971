"""What `bert_names.py`, `t5_names.py` and `own_names.py` have in common: a family of models is a module with

    MODEL_TYPE          the `model_type` of its `config.json`
    TOKENIZER           the class of its vocabularies
    ARCHITECTURES       {"BertModel": Bert, ...}: Hugging Face's classes and ours
    rules               what each of our parameters is called there
    config_from_json    `config.json` -> our config, and further arguments of our model's class
    config_to_json      our model -> `config.json`
    empty_model         the model with shapes in place of arrays
    canonicalize        stored arrays under today's names, without copies and buffers
    as_class            the arrays of one class as another has them
    to_hf               arrays as Transformers expects them
"""

import dataclasses
import json
import math
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args

import jax.numpy as jnp
import numpy as np
from flax import nnx
from flax.traverse_util import unflatten_dict

from tlqa_jax.checkpoints.named_arrays import compare, flatten
from tlqa_jax.errors import UserError
from tlqa_jax.models.functional import as_function, as_module


class Rule(NamedTuple):
    """What one of our parameters is called in Hugging Face's files.

    Their matrices are [outputs, inputs]. In ours the first `inputs` axes are those that are summed over: 1 in
    [D, H, K], 2 in [H, K, D]. None: a table or a vector, which is the same on both sides.
    """

    theirs: str
    inputs: int | None = None

    def numbered(self, i: int) -> "Rule":
        """The rule of layer {i}."""
        return self._replace(theirs=self.theirs.format(i=i))

    def their_shape(self, ours: tuple[int, ...]) -> tuple[int, ...]:
        if self.inputs is None:
            return ours
        return int(np.prod(ours[self.inputs :])), int(np.prod(ours[: self.inputs]))


def fill(empty: nnx.Module, rules: dict[str, Rule], arrays: dict[str, np.ndarray], where: str) -> nnx.Module:
    """The model with the arrays of a file in place of its shapes; floating-point arrays become float32.

    Raises UserError naming arrays that are missing, left over or of another shape.
    """
    ours = flatten(as_function(empty)[1])
    as_float32 = lambda array: array.astype(np.float32, copy=False) if array.dtype.kind in "fV" else array
    arrays, zero = {name: as_float32(array) for name, array in arrays.items()}, np.float32(0)
    expected = {rules[p].theirs: np.broadcast_to(zero, rules[p].their_shape(leaf.shape)) for p, leaf in ours.items()}
    compare(arrays, expected, where)
    params = {}
    for path, leaf in ours.items():
        array = arrays[rules[path].theirs]
        params[path] = jnp.asarray((array if rules[path].inputs is None else array.T).reshape(leaf.shape))
    return as_module(empty, unflatten_dict(params, sep="/"))


def arrays_of(model: nnx.Module, rules: dict[str, Rule]) -> dict[str, np.ndarray]:
    """The inverse of `fill`: the parameters of a model as the arrays of a file."""
    arrays = {}
    for path, leaf in flatten(as_function(model)[1]).items():
        array, rule = np.asarray(leaf), rules[path]
        arrays[rule.theirs] = array if rule.inputs is None else array.reshape(rule.their_shape(array.shape)[::-1]).T
    return arrays


def is_of_type(value: Any, annotation: Any) -> bool:
    """Whether a JSON value can be that of a field: `true` is no int, 3 can be a float, NaN cannot."""
    types = get_args(annotation) or (annotation,)
    if float in types and type(value) in (int, float):
        return abs(value) <= sys.float_info.max or value == math.inf
    return type(value) in types


def check_fields(values: dict[str, Any], types: dict[str, Any], where: Path | str) -> None:
    """Raise UserError for a value of another type than `types` says, or a size below 1."""
    for name, value in values.items():
        if not is_of_type(value, types[name]):
            expected = getattr(types[name], "__name__", types[name])
            raise UserError(f"{where}: {name} is {json.dumps(value)}, not of type {expected}")
        least = 0 if name.endswith(("_id", "stride")) else 1
        if types[name] in (int, int | None) and value is not None and not least <= value < 2**31:
            raise UserError(f"{where}: {name} is {value}, which is too {'small' if value < least else 'large'}")


def read_sizes(values: dict[str, Any], config: type, where: Path | str, *, without: str = "") -> dict[str, Any]:
    """Those entries of Hugging Face's `config.json` that are fields of a config class; null counts as absent.

    The field `without` is left out. Raises UserError as `check_fields` does.
    """
    types = {field.name: field.type for field in dataclasses.fields(config) if field.name != without}
    sizes = {name: values[name] for name in types if values.get(name) is not None}
    check_fields(sizes, types, where)
    as_float = lambda name: float in (get_args(types[name]) or (types[name],))
    return {name: float(value) if as_float(name) else value for name, value in sizes.items()}


def labels_from_json(values: dict[str, Any], where: Path | str) -> dict[str, tuple[str, ...]]:
    """{"id2label": the names of a classifier's classes}; {} where a `config.json` does not tell them.

    Raises UserError for labels that are not numbered from "0".
    """
    if "id2label" in values:
        names = values["id2label"]
        if not isinstance(names, dict) or sorted(names) != sorted(str(i) for i in range(len(names))):
            raise UserError(f'{where}: id2label is {names!r}, not labels numbered from "0"')
        return {"id2label": tuple(str(names[str(i)]) for i in range(len(names)))}
    if "num_labels" in values:
        if not is_of_type(values["num_labels"], int):
            raise UserError(f"{where}: num_labels is {values['num_labels']!r}, not of type int")
        return {"id2label": tuple(f"LABEL_{i}" for i in range(values["num_labels"]))}
    return {}


def label_names(labels: Sequence[str]) -> dict[str, dict]:
    """The entries of a `config.json` for the names of the classes."""
    return {
        "id2label": {str(i): label for i, label in enumerate(labels)},
        "label2id": {label: i for i, label in enumerate(labels)},
    }


def load_sizes(values: dict[str, Any], config: type, where: Path | str) -> dict[str, Any]:
    """Fields of a config class as a user writes them into a JSON file, which may also be a whole `config.json`.

    Raises UserError for an unknown field, except in a `config.json`, and as `check_fields` does.
    """
    known = {field.name for field in dataclasses.fields(config)} - {"id2label"}
    if "model_type" not in values and (unknown := sorted(values.keys() - known)):
        raise UserError(f"{where}: unknown model field(s) {', '.join(unknown)}")
    return read_sizes(values, config, where, without="id2label")
