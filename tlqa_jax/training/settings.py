"""Settings that no run can work with, refused by name before anything else is looked at."""

import math
from typing import Any, get_args

from tlqa_jax.data.corpus import SpansFrom
from tlqa_jax.errors import UserError
from tlqa_jax.training.optimizers import Decay, Optimizer

COUNTS = (
    "steps", "batch_size", "accumulate", "input_length", "target_length", "max_question_length", "max_answer_length",
    "n_best", "log_every", "evaluate_every", "save_every", "keep",
)  # fmt: skip
NOT_NEGATIVE = ("warmup", "weight_decay", "seed", "stride")
POSITIVE = ("learning_rate", "clip", "relative_bias_rate")
SHARES = ("salient_share", "salient_rate", "questions_share", "warmup_share")  # from 0 to 1, both allowed
RATES = ("dropout", "noise_density", "mask_rate")  # below 1
LARGEST_SEED, LARGEST_INT, LARGEST_EPOCHS = 2**32 - 1, 2**31 - 1, 10**6


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
    for name, known in (("decay", Decay), ("optimizer", Optimizer), ("salient_spans", SpansFrom)):
        if name in values and values[name] not in get_args(known):
            raise UserError(f"--{name.replace('_', '-')} is {values[name]!r}: known are {', '.join(get_args(known))}")
    if values.get("salient_spans") == "rule" and not values["salient_share"]:
        raise UserError("--salient-spans rule wants a --salient-share, the share of the rows that mask such spans")
