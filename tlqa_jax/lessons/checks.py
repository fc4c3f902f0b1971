"""How a check answers: it says what is right, or names the misconception behind what is wrong."""

from collections.abc import Mapping
from typing import Any

import numpy as np


class NotYet(AssertionError):
    """An exercise is not solved yet. The message names the misconception; a notebook prints it without a traceback."""

    def _render_traceback_(self) -> list[str]:  # the method IPython looks for
        return [f"Not yet: {self}"]


def right(exercise: str) -> None:
    print(f"Right: {exercise}")


def filled(value: Any, exercise: str) -> Any:
    """The value itself. Raises NotYet if it, or an item of it, is None or `...`: what a blank leaves behind."""
    if any(item is None or item is ... for item in (value if isinstance(value, list | tuple) else [value])):
        raise NotYet(f"{exercise}: the blank is still empty. Two hints unfold below it.")
    return value


def compare(exercise: str, got: Any, want: Any, misconceptions: Mapping[str, Any], *, tolerance: float = 1e-5) -> None:
    """Holds `got` against `want`: numbers, arrays, texts, and lists or tuples of these.

    `misconceptions` maps what to say to the learner to the wrong value that gives the misconception away. The first
    that fits `got` is raised as NotYet; a wrong value that fits none of them is shown beside the right one.
    """
    filled(got, exercise)
    if equal(got, want, tolerance):
        return right(exercise)
    for message, wrong in misconceptions.items():
        if equal(got, wrong, tolerance):
            raise NotYet(f"{exercise}: {message}")
    if hasattr(want, "shape") and np.shape(got) != np.shape(want):
        raise NotYet(f"{exercise}: the shape is {np.shape(got)}, wanted is {np.shape(want)}.")
    raise NotYet(f"{exercise}: wanted\n{want}\nand got\n{got}")


def equal(a: Any, b: Any, tolerance: float = 1e-5) -> bool:
    """Equal to `tolerance` where numbers are meant, exactly where texts, booleans or integers are.

    A value in bfloat16 or float16 has two or three digits, and no more are asked of it.
    """
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(equal(x, y, tolerance) for x, y in zip(a, b, strict=True))
    if isinstance(a, str | dict | set) or isinstance(b, str | dict | set):
        return type(a) is type(b) and a == b
    x, y = np.asarray(a), np.asarray(b)
    if any(str(array.dtype) in ("bfloat16", "float16") for array in (x, y)):  # right, with fewer digits
        x, y, tolerance = x.astype(np.float32), y.astype(np.float32), max(tolerance, 2**-6)
    if x.shape != y.shape or (x.dtype == bool) != (y.dtype == bool):
        return False
    if "f" in (x.dtype.kind, y.dtype.kind):
        return bool(np.allclose(x, y, rtol=tolerance, atol=tolerance, equal_nan=True))
    return bool((x == y).all())
