"""Nested parameters as flat dicts of named arrays, and two of these compared."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from tlqa_jax.errors import UserError


def flatten(tree: Any) -> dict[str, Any]:
    """{"params/encoder_0/…": leaf}: the leaves by the path one would write."""
    name = lambda key: str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key))))
    return {"/".join(name(key) for key in path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


def compare(stored: dict[str, Any], wanted: dict[str, Any], where: Path | str) -> None:
    """Raise UserError listing the keys by which two flat trees of arrays differ, all kinds together."""
    describe = lambda x: f"{np.dtype(x.dtype).name}{list(x.shape)}"
    differences = [f"missing {key} {describe(wanted[key])}" for key in wanted if key not in stored]
    differences += [f"left over {key} {describe(stored[key])}" for key in stored if key not in wanted]
    differences += [
        f"{key} is {describe(stored[key])}, the model wants {describe(wanted[key])}"
        for key in wanted if key in stored and describe(stored[key]) != describe(wanted[key])
    ]
    if differences:
        more = f" … and {len(differences) - 8} more" if len(differences) > 8 else ""
        raise UserError(f"{where} does not fit this model: {'; '.join(differences[:8])}{more}")
