"""Settings as dataclasses: a field has a type, its help text below it and, where it is a number, its limits beside it.

    @settings_class
    class MySettings(Settings):
        batch_size: int = number(64, at_least=1)
        \"""Rows in a batch.\"""

`MySettings(batch_size=0)` raises "--batch-size is 0: it has to be at least 1". A number that is not declared with
`number(…)` is a TypeError. A subclass may override a default (`batch_size: int = 16`): limits and help text are inherited.
"""

import ast
import dataclasses
import inspect
import math
import os
import re
import textwrap
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import numpy as np

from tlqa_jax.errors import UserError

LARGEST_INT = 2**31 - 1
TYPES = {int: "a whole number", float: "a number", str: "a text", bool: "True or False", tuple: "a tuple of texts"}
Class = TypeVar("Class", bound=type)


@dataclasses.dataclass(frozen=True)
class Limits:
    """The numbers that a field may be. None: no limit on that side."""

    at_least: int | float | None = None
    above: int | float | None = None
    at_most: int | float | None = None
    below: int | float | None = None

    def allow(self, value: int | float) -> bool:
        return (
            abs(value) < math.inf  # not of NaN; and an int may be larger than any float
            and (self.at_least is None or value >= self.at_least)
            and (self.above is None or value > self.above)
            and (self.at_most is None or value <= self.at_most)
            and (self.below is None or value < self.below)
        )

    def __str__(self) -> str:
        given = {name.replace("_", " "): value for name, value in vars(self).items() if value is not None}
        return " and ".join(f"{name} {value:,}" for name, value in given.items()) or "a finite number"


def number(default: Any = dataclasses.MISSING, **limits: int | float) -> Any:
    """A field that is a number. `limits` are at_least, above, at_most, below; without any, every finite number will do.

    Whole numbers are at most 2**31 - 1, unless `at_most` is given.
    """
    return dataclasses.field(default=default, metadata={"limits": Limits(**limits)})


def input_file(default: Any = dataclasses.MISSING) -> Any:
    """A field that names what a run reads: the run's record keeps a fingerprint of it."""
    return dataclasses.field(default=default, metadata={"input": True})


def settings_class(cls: Class) -> Class:
    """A class decorator: a frozen dataclass of keyword arguments, whose numbers all have limits.

    Raises TypeError for a number that is not declared with `number(…)`.
    """
    inherited = {field.name: field for base in reversed(cls.__mro__[1:]) if dataclasses.is_dataclass(base)
                 for field in dataclasses.fields(base)}  # fmt: skip
    for name in cls.__dict__.get("__annotations__", {}):
        default = cls.__dict__.get(name, dataclasses.MISSING)
        if name in inherited and not isinstance(default, dataclasses.Field):
            setattr(cls, name, dataclasses.field(default=default, metadata=inherited[name].metadata))
    cls = dataclasses.dataclass(frozen=True, kw_only=True)(cls)
    for field in dataclasses.fields(cls):
        if unwrap_optional(field.type)[0] in (int, float) and "limits" not in field.metadata:
            raise TypeError(f"{cls.__name__}.{field.name} is a number without limits: write number(default, at_least=…)")
    return cls


class Settings:
    """The base of all settings. Raises UserError for a value of another type or outside its limits, and for a path in a
    bucket.

    A Path may be given for a text, and a list for a tuple.
    """

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = coerce(field.name, getattr(self, field.name), field.type)
            object.__setattr__(self, field.name, value)  # the dataclass is frozen
            check_limits(field, value)
            for text in value if isinstance(value, tuple) else [value]:
                check_local(text)
        self.check()

    def check(self) -> None:
        """Raise UserError for settings that do not go together. A subclass calls its base's check first."""


def check_limits(field: dataclasses.Field, value: Any) -> None:
    """Raise UserError if a number is outside the limits beside its field, or a choice is none of its type's."""
    type_, _ = unwrap_optional(field.type)
    limits = field.metadata.get("limits")
    if limits is not None and type_ is int and limits.at_most is None and (value or 0) > LARGEST_INT:
        limits = dataclasses.replace(limits, at_most=LARGEST_INT)
    if limits is not None and value is not None and not limits.allow(value):
        raise UserError(f"{flag(field.name)} is {value}: it has to be {limits}")
    if get_origin(type_) is Literal and value is not None and value not in get_args(type_):
        raise UserError(f"{flag(field.name)} is {value!r}: known are {', '.join(map(str, get_args(type_)))}")


def coerce(name: str, value: Any, annotation: Any) -> Any:
    """The value of a field as its annotation asks for it. Choices are left to `check_limits`."""
    type_, optional = unwrap_optional(annotation)
    if (value is None and optional) or get_origin(type_) is Literal:
        return value
    plain = lambda value: os.fspath(value) if isinstance(value, os.PathLike) else value
    value = value.item() if isinstance(value, np.generic) else plain(value)
    if get_origin(type_) is tuple and isinstance(value, list | tuple):
        value = tuple(map(plain, value))
        fits = all(isinstance(one, str) for one in value)
    else:
        fits = type(value) in ((int, float) if type_ is float else (type_,))
    if not fits:
        expected = TYPES[get_origin(type_) or type_] + (" or None" if optional else "")
        raise UserError(f"{flag(name)} is {value!r}: it has to be {expected}")
    return value


def check_local(path: Any) -> None:
    """Raise UserError for a path in a bucket, such as gs://NAME/FILE or TASK=gs://NAME/FILE: only files are opened here."""
    if re.match(r"([\w-]+=)?(gs|s3):/", str(path)):  # a Path has one slash there
        advice = "mount the bucket (gcsfuse) and give the path below the mount, or copy to a local disk and back"
        raise UserError(f"{path}: paths in buckets cannot be opened: {advice} (gcloud storage cp -r)")


def flag(name: str) -> str:
    """The flag of a field: "--batch-size" of "batch_size"."""
    return "--" + name.replace("_", "-")


def unwrap_optional(annotation: Any) -> tuple[Any, bool]:
    """(int, True) of `int | None`, (int, False) of `int`; `int | float` is a float."""
    if get_origin(annotation) not in (Union, UnionType):
        return annotation, False
    types = [type_ for type_ in get_args(annotation) if type_ is not NoneType]
    return (float if {int, float} == set(types) else types[0]), NoneType in get_args(annotation)


def help_texts(cls: type) -> dict[str, str]:
    """The text below each field in the source of a dataclass and its bases, each as one line."""
    texts: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if dataclasses.is_dataclass(base):
            body = ast.parse(textwrap.dedent(inspect.getsource(base))).body[0].body
            texts |= {
                field.target.id: " ".join(text.value.value.split())
                for field, text in zip(body, body[1:])
                if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr)
                and isinstance(text.value, ast.Constant)
            }  # fmt: skip
    return texts
