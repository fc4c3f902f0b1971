"""Nested parameters as flat dicts of named arrays, and the comparison of two of these."""

from pathlib import Path
from typing import Any

import jax
import numpy as np

from tlqa_jax.errors import UserError

MOST = 4  # so many keys of a kind are named


def flatten(tree: Any) -> dict[str, Any]:
    """{"params/encoder_0/…": leaf}: the leaves by their paths."""
    name = lambda key: str(getattr(key, "key", getattr(key, "name", getattr(key, "idx", key))))
    return {"/".join(name(key) for key in path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]}


def compare(stored: dict[str, Any], wanted: dict[str, Any], where: Path | str) -> None:
    """Raise UserError if two flat dicts of arrays differ.

    It names the keys that are missing, left over, or of another shape or dtype: MOST of each kind, and how many more.
    """
    describe = lambda x: f"{np.dtype(x.dtype).name}{list(x.shape)}"
    missing = [f"missing {key} {describe(wanted[key])}" for key in wanted if key not in stored]
    left_over = [f"left over {key} {describe(stored[key])}" for key in stored if key not in wanted]
    other = [
        f"{key} is {describe(stored[key])}, the model wants {describe(wanted[key])}"
        for key in wanted if key in stored and describe(stored[key]) != describe(wanted[key])
    ]
    listed = []
    for kind in (missing, left_over, other):
        listed += kind[:MOST] + ([f"… and {len(kind) - MOST} more"] if len(kind) > MOST else [])
    if listed:
        raise UserError(f"{where} does not fit this model: {'; '.join(listed)}")
