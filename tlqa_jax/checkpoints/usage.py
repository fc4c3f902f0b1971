"""What is needed to use a model as it was trained: in `config.json`, under "task_specific_params", "tlqa".

Transformers hands these values through and does not read them. A directory that we did not write has none.
"""

import json
from pathlib import Path
from typing import Any

from tlqa_jax.checkpoints.directories import object_in
from tlqa_jax.checkpoints.family import check_fields

KEY = "tlqa"
USAGE = {
    "input_length": int, "target_length": int,  # in tokens
    "stride": int, "max_question_length": int, "max_answer_length": int,  # of a model that points at answers
    "no_answer_threshold": float,  # above it the answer is "no answer"; absent: there always is an answer
    "answers": bool,  # False: pretrained only; absent: unknown
    "tasks": dict,  # {name: record} of a T5 that was taught tasks
    "dtype": str,  # "auto", "float32" or "bfloat16"
}  # fmt: skip


def read_usage(values: dict[str, Any], where: Path | str) -> dict[str, Any]:
    """The usage in a `config.json`. Raises UserError for a value of another type."""
    usage = object_in(object_in(values, "task_specific_params", where), KEY, where)
    usage = {name: value for name, value in usage.items() if value is not None}
    check_fields({name: value for name, value in usage.items() if name in USAGE}, USAGE, where)
    return usage


def with_usage(values: dict[str, Any], usage: dict[str, Any], where: Path | str) -> dict[str, Any]:
    """The same `config.json` with this usage. Raises UserError for a value of another type."""
    tasks = json.loads(json.dumps({**(values.get("task_specific_params") or {}), KEY: usage}))
    tasks[KEY] = read_usage({"task_specific_params": tasks}, where)
    values = {name: value for name, value in values.items() if name != "task_specific_params"}
    tasks = {name: task for name, task in tasks.items() if task}
    return values | ({"task_specific_params": tasks} if tasks else {})
