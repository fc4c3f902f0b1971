"""LoRA and adapters on disk: small files beside the model that they were trained with, their base.

    adapter_config.json         which base, which rank or size
    adapter_model.safetensors   what was trained: the added parts, and the head of a BERT

LoRA's are PEFT's layout: `peft.PeftModel.from_pretrained(base, directory)` opens a directory of ours, and `load` one of
PEFT's, with any matrices as targets. Loaded, LoRA is merged: W + alpha / R * A B takes the place of W.

Adapters (Houlsby et al. 2019) are not in PEFT, which refuses their `peft_type`. Their file has the scales and biases of
the norms, too, which are trained with them. They cannot be merged: there is a gelu between their matrices.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tlqa_jax.checkpoints.directories import read_json, write_json
from tlqa_jax.checkpoints.family import Rule
from tlqa_jax.errors import UserError
from tlqa_jax.models.adapters import LORA_ALPHA, added_kind, is_trained_with

ADDED_CONFIG, ADDED_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."  # of PEFT's names
PEFT_TYPES = {"LORA": "lora", "HOULSBY": "adapters"}
# PEFT's name of what a model does, and Transformers' class
TASK_TYPES = {
    "SEQ_CLS": "BertForSequenceClassification", "QUESTION_ANS": "BertForQuestionAnswering",
    "SEQ_2_SEQ_LM": "T5ForConditionalGeneration", "FEATURE_EXTRACTION": "BertModel",
}  # fmt: skip
UNKNOWN = ("use_dora", "use_qalora", "rank_pattern", "alpha_pattern", "alora_invocation_tokens", "layer_replication")


@dataclass(frozen=True)
class Added:
    """What `adapter_config.json` says."""

    kind: Literal["lora", "adapters"]
    base: str  # a directory, or a name on the hub
    size: int  # the rank, or the adapters' size
    scale: float  # of LoRA: alpha / R
    architecture: str | None  # Transformers' class; None: it is not said


def read_added(path: Path) -> Added:
    """Read an `adapter_config.json`. Raises UserError for what is not known here."""
    values = read_json(path)
    kind, base = PEFT_TYPES.get(values.get("peft_type", "")), values.get("base_model_name_or_path")
    if kind is None:
        raise UserError(f"{path}: peft_type is {values.get('peft_type')!r}; known are {', '.join(PEFT_TYPES)}")
    if not base:
        raise UserError(f"{path}: base_model_name_or_path is missing: write there which model it was trained with")
    if unknown := [name for name in UNKNOWN if values.get(name)]:
        raise UserError(f"{path}: {', '.join(unknown)} is set, which is not known here: merge it with PEFT")
    size, alpha = values.get("r" if kind == "lora" else "adapter_size"), values.get("lora_alpha", 0)
    if type(size) is not int or size < 1 or type(alpha) not in (int, float):
        raise UserError(f"{path}: the rank or size is {size!r} and lora_alpha {alpha!r}: they have to be numbers")
    scale = alpha / (size**0.5 if values.get("use_rslora") else size)
    return Added(kind, base, size, scale, TASK_TYPES.get(values.get("task_type") or ""))


def write_added(path: Path, paths: dict[str, Any], rules: dict[str, Rule], architecture: str, base: str) -> None:
    """Write the `adapter_config.json` of a model with LoRA or adapters, whose parameters are `paths`."""
    module = lambda path: rules[path].theirs.rsplit(".", 1)[0]
    values = {
        "base_model_name_or_path": base, "inference_mode": True,
        "task_type": {kind: task for task, kind in TASK_TYPES.items()}.get(architecture),
    }  # fmt: skip
    if added_kind(paths) == "lora":
        a = next(leaf for path, leaf in paths.items() if path.endswith("_lora/a"))
        targets = {module(path.split("_lora/")[0]).rsplit(".", 1)[-1] for path in paths if "_lora/" in path}
        heads = {
            module(path).removeprefix("bert.") for path in paths if is_trained_with("lora", path) and path in rules
        }
        values |= {
            "peft_type": "LORA", "r": a.shape[1], "lora_alpha": LORA_ALPHA, "lora_dropout": 0.0, "bias": "none",
            "fan_in_fan_out": False, "target_modules": sorted(targets), "modules_to_save": sorted(heads) or None,
        }  # fmt: skip
    else:
        up = next(leaf for path, leaf in paths.items() if path.endswith("adapter/up/matrix"))
        values |= {"peft_type": "HOULSBY", "adapter_size": up.shape[0]}
    write_json(path, values)


def added_rules(paths: Iterable[str], rules: dict[str, Rule]) -> dict[str, Rule]:
    """What LoRA and adapters are called in the file. No other library has the adapters: they have our names there."""
    added = {path: Rule(path) for path in paths if "/adapter/" in path}
    for path in paths:
        matrix, is_lora, name = path.partition("_lora/")
        if is_lora:
            module = rules[matrix].theirs.removesuffix(".weight")
            added[path] = Rule(f"{module}.lora_{name.upper()}.weight", 1)
    return added


def own_arrays(arrays: dict[str, np.ndarray], rules: dict[str, Rule], paths: Iterable[str]) -> dict[str, np.ndarray]:
    """Those arrays of a model with LoRA or adapters that are stored, under the names in the file."""
    paths = list(paths)
    kind = added_kind(paths)
    return {PREFIX + rules[p].theirs: arrays[rules[p].theirs] for p in paths if is_trained_with(kind, p)}


def with_added(
    base: dict[str, np.ndarray], stored: dict[str, np.ndarray], scale: float, where: Path | str
) -> dict[str, np.ndarray]:
    """The base's arrays with what is stored beside it: matrices with LoRA merged, and other arrays in place of its own.

    Raises UserError for LoRA of what is no matrix of the base, or has another shape.
    """
    arrays = {}
    for name, array in stored.items():
        name = name.removeprefix(PREFIX)
        if name.endswith((".lora_A.weight", ".lora_B.weight")):
            module, part, _ = name.rsplit(".", 2)
            other = f"{PREFIX}{module}.{'lora_B' if part == 'lora_A' else 'lora_A'}.weight"
            matrix = base.get(f"{module}.weight")
            if matrix is None or other not in stored:
                raise UserError(f"{where}: {name} is of no matrix of the base, or half of it is missing")
            if part == "lora_B":
                continue
            change = stored[other].astype(np.float32) @ array.astype(np.float32)
            if change.shape != matrix.shape:
                found = f"{list(change.shape)}, in the base {list(matrix.shape)}"
                raise UserError(f"{where}: {module} is {found}: it was trained with another model")
            arrays[f"{module}.weight"] = matrix.astype(np.float32) + np.float32(scale) * change
        else:
            arrays[name] = array
    return base | arrays
