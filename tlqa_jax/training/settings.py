"""What the settings of all programs share: kinds, the run's record, and what no run can work with, refused by name."""

import dataclasses
import math
import os
from typing import Any, Literal, get_args, get_origin

import numpy as np

from tlqa_jax.data.corpus import SpansFrom
from tlqa_jax.errors import UserError
from tlqa_jax.flags import kind_of
from tlqa_jax.training.optimizers import Decay, Optimizer

COUNTS = (
    "steps", "batch_size", "accumulate", "input_length", "target_length", "max_question_length", "max_answer_length",
    "n_best", "log_every", "evaluate_every", "save_every", "keep", "pretrain_steps", "finetune_steps", "max_tokens",
)  # fmt: skip
NOT_NEGATIVE = ("warmup", "weight_decay", "seed", "stride")
POSITIVE = ("learning_rate", "clip", "relative_bias_rate")
SHARES = ("salient_share", "salient_rate", "questions_share", "warmup_share")  # from 0 to 1, both allowed
RATES = ("dropout", "noise_density", "mask_rate")  # below 1
LARGEST_SEED, LARGEST_INT, LARGEST_EPOCHS = 2**32 - 1, 2**31 - 1, 10**6
# may change when a run is resumed
HOUSEKEEPING = (
    "out", "data_dir", "tokens_file", "log_every", "evaluate_every", "save_every", "keep", "resume", "overwrite",
)  # fmt: skip
KINDS = {int: "a whole number", float: "a number", str: "a text", bool: "True or False", tuple: "a tuple of texts"}


class Settings:
    """Of a dataclass: a Path may be given for a text, and a list for a tuple. Raises UserError for another kind."""

    def __post_init__(self):
        for field in dataclasses.fields(self):
            value = of_its_kind(field.name, getattr(self, field.name), field.type)
            object.__setattr__(self, field.name, value)  # the dataclasses are frozen


def of_its_kind(name: str, value: Any, annotation: Any) -> Any:
    """The value of a setting as its annotation wants it. Choices are left to `check_settings`."""
    kind, optional = kind_of(annotation)
    if (value is None and optional) or get_origin(kind) is Literal:
        return value
    plain = lambda value: os.fspath(value) if isinstance(value, os.PathLike) else value
    value = value.item() if isinstance(value, np.generic) else plain(value)
    if get_origin(kind) is tuple and isinstance(value, list | tuple):
        value = tuple(map(plain, value))
        fits = all(isinstance(one, str) for one in value)
    else:
        fits = type(value) in ((int, float) if kind is float else (kind,))
    if not fits:
        wanted = KINDS[get_origin(kind) or kind] + (" or None" if optional else "")
        raise UserError(f"--{name.replace('_', '-')} is {value!r}: it has to be {wanted}")
    return value


def recorded(config: Any) -> dict[str, Any]:
    """The settings that a run's record keeps: those that a resumed run must share."""
    return {name: value for name, value in dataclasses.asdict(config).items() if name not in HOUSEKEEPING}


def check_settings(config: Any) -> None:
    """Raise UserError for a field of a training program's configuration whose value cannot be meant."""
    values = {name: value for name, value in vars(config).items() if value is not None}
    for name, value in values.items():
        most = LARGEST_SEED if name == "seed" else LARGEST_INT
        if type(value) is int and value > most:
            raise UserError(f"--{name.replace('_', '-')} is {value}: it has to be at most {most}")
    for names, wanted, fits in (
        (COUNTS, "at least 1", lambda x: x >= 1),
        (NOT_NEGATIVE, "0 or more", lambda x: x >= 0),
        (POSITIVE, "above 0", lambda x: x > 0),
        (SHARES, "a share, from 0 to 1", lambda x: 0 <= x <= 1),
        (RATES, "0 or more and below 1", lambda x: 0 <= x < 1),
        (("epochs",), f"above 0 and at most {LARGEST_EPOCHS}", lambda x: 0 < x <= LARGEST_EPOCHS),
        (("mean_span_length",), "at least 1", lambda x: x >= 1),
    ):
        for name in names:
            if name in values and not (math.isfinite(values[name]) and fits(values[name])):
                raise UserError(f"--{name.replace('_', '-')} is {values[name]}: it has to be {wanted}")
    if "mean_span_length" in values and values["input_length"] < 3:
        raise UserError(
            f"--input-length is {values['input_length']}: it has to be at least 3 (a token, a sentinel, the end)"
        )
    for name in ("noise_density", "mask_rate"):
        if values.get(name) == 0:
            raise UserError(f"--{name.replace('_', '-')} is 0: with nothing to restore there is nothing to learn")
    if values.get("salient_share", 0) + values.get("questions_share", 0) > 1:
        raise UserError("--salient-share and --questions-share are shares of the same rows: together at most 1")
    for name in ("salient_share", "questions_share"):
        share, rows = values.get(name), values.get("batch_size")
        if share and rows and round(share * rows) == 0:
            flags = f"--{name.replace('_', '-')} {share} of --batch-size {rows}"
            raise UserError(f"{flags} is not one row: give a larger share, a larger batch, or 0")
    for name, known in (("decay", Decay), ("optimizer", Optimizer), ("salient_spans", SpansFrom)):
        if name in values and values[name] not in get_args(known):
            raise UserError(f"--{name.replace('_', '-')} is {values[name]!r}: known are {', '.join(get_args(known))}")
    if values.get("salient_spans") == "rule" and not values["salient_share"]:
        raise UserError("--salient-spans rule wants a --salient-share, the share of the rows that mask such spans")
