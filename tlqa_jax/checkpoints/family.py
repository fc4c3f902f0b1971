"""What the families of `huggingface.py` share. A family is a module such as `huggingface_bert.py`:

    MODEL_TYPE       the `model_type` of its `config.json`
    ARCHITECTURES    {"BertModel": Bert, ...}: Hugging Face's classes and ours
    TOKENIZER        the class of its vocabularies
    rules            what each of our parameters is called there
    read_config      `config.json` to our sizes and the options of our model
    write_config     and back
    empty_model      the model with shapes in place of arrays
    tidy             stored arrays under today's names, without copies and buffers
    finish           arrays to be stored, as Transformers wants them
"""

import dataclasses
import json
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np

from tlqa_jax.errors import UserError


class Rule(NamedTuple):
    """What one of our parameters is called in their files.

    A matrix of theirs is [outputs, inputs]; of ours the first `inputs` axes are those that are summed over: 1 in
    [D, H, K], 2 in [H, K, D]. None: a table or vector, which is the same on both sides.
    """

    theirs: str
    inputs: int | None = None

    def numbered(self, i: int) -> "Rule":
        """The rule of layer {i}."""
        return self._replace(theirs=self.theirs.format(i=i))


def their_shape(shape: tuple[int, ...], inputs: int | None) -> tuple[int, ...]:
    """[outputs, inputs] of a matrix of ours; a table's or vector's own."""
    return shape if inputs is None else (int(np.prod(shape[inputs:])), int(np.prod(shape[:inputs])))


def is_of_type(value: Any, annotation: Any) -> bool:
    """Whether a value of JSON can stand for a field: `true` is no int, 3 can be a float."""
    kinds = get_args(annotation) or (annotation,)
    return type(value) in (*kinds, int if float in kinds else kinds[0])


of_kind = is_of_type


def check_fields(values: dict[str, Any], fields: dict[str, Any], where: Path | str) -> None:
    """Raise UserError for a value of another type than `fields` says of that name, or a size below 1."""
    for name, value in values.items():
        if not is_of_type(value, fields[name]):
            kind = getattr(fields[name], "__name__", fields[name])
            raise UserError(f"{where}: {name} is {json.dumps(value)}, not of type {kind}")
        if type(value) is int and fields[name] is not float and value < 1 and not name.endswith(("_id", "stride")):
            raise UserError(f"{where}: {name} is {value}, which is too small")


def check_kinds(values, config, where):
    check_fields(values, {field.name: field.type for field in dataclasses.fields(config)}, where)


def config_from_sizes(values: Any, config: type, where: Path | str) -> Any:
    """A T5Config or BertConfig from a JSON object of its fields and nothing else, such as a user writes.

    Raises UserError for an unknown field, and as `check_fields` does.
    """
    sizes = load_sizes(values, config, where, without=("id2label",))
    if "id2label" in values:
        labels = values["id2label"]
        if not isinstance(labels, list | tuple) or not all(isinstance(label, str) for label in labels):
            raise UserError(f"{where}: id2label is {labels!r}, not a list of texts")
        sizes["id2label"] = labels
    return config(**sizes)


def load_sizes(values: Any, config: type, where: Path | str, *, without: tuple[str, ...] = ()) -> dict[str, Any]:
    """A JSON object of fields of a config class and nothing else: sizes that our programs wrote, or that a user did.

    Raises UserError for an unknown field, and as `check_kinds` does.
    """
    if not isinstance(values, dict):
        raise UserError(f"{where}: the model's sizes are not a JSON object")
    if unknown := sorted(values.keys() - {field.name for field in dataclasses.fields(config)}):
        raise UserError(f"{where}: unknown model field(s) {', '.join(unknown)}")
    sizes = {name: value for name, value in values.items() if name not in without}
    check_kinds(sizes, config, where)
    return sizes


def read_sizes(
    values: dict[str, Any], config: type, where: Path | str, *, without: tuple[str, ...] = ()
) -> dict[str, Any]:
    """Those entries of Hugging Face's `config.json` that are fields of a config class; null counts as none.

    Raises UserError as `check_kinds` does.
    """
    fields = [field.name for field in dataclasses.fields(config) if field.name not in without]
    sizes = {name: values[name] for name in fields if values.get(name) is not None}
    check_kinds(sizes, config, where)
    return sizes
