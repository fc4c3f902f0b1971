"""The checks of lesson 16: an adapter and its start, LoRA, merging it, and how many parameters both add."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray
from scipy.special import erf

from tlqa_jax.lessons.checks import NotYet, compare, equal, filled, right

Weights = dict[str, Float[Array, "..."]]


def adapter(
    new_adapter: Callable[[PRNGKeyArray, int, int], Weights], adapter: Callable[[Array, Weights], Float[Array, "B L D"]]
) -> None:
    """`new_adapter(key, width D, size M)` -> {"down" [D M], "down_bias" [M], "up" [M D], "up_bias" [D]}, and
    `adapter(x [B L D], weights)` -> [B L D]."""
    check_start(new_adapter)
    rng = np.random.default_rng(0)
    draw = lambda *shape: rng.standard_normal(shape).astype(np.float32)
    x, w = draw(2, 3, 6), {"down": draw(6, 4), "down_bias": draw(4), "up": draw(4, 6), "up_bias": draw(6)}
    gelu = lambda x: 0.5 * x * (1 + erf(x / np.sqrt(2)))
    tanh_gelu = lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))

    def slip(act=gelu, after=lambda y: y, skip=1.0, down_bias=1.0, up_bias=1.0):
        inner = act(x @ w["down"] + down_bias * w["down_bias"])
        return skip * x + after(inner @ w["up"] + up_bias * w["up_bias"])

    got = filled(adapter(jnp.asarray(x), {name: jnp.asarray(value) for name, value in w.items()}), "adapter")
    compare(
        "adapter",
        np.asarray(got),
        slip(),
        {
            "x is lost: an adapter returns x plus its change. Without x nothing of the pretrained model comes through.":
                slip(skip=0.0),
            "there is no gelu. Two matrices without one are a single matrix of low rank: that would be LoRA.":
                slip(act=lambda x: x),
            "the gelu is behind the second matrix. It belongs between the two.": slip(act=lambda x: x, after=gelu),
            "there are two gelus. The second matrix is the last thing that happens to the change.": slip(after=gelu),
            "the gelu goes over the sum with x, so that what the pretrained model gave is changed as well.":
                gelu(slip(act=lambda x: x)),
            "that is relu. BERT's own function, and this adapter's, is gelu.": slip(act=lambda x: np.maximum(x, 0)),
            "that is the tanh approximation of gelu. Use the `gelu` that is imported: BERT's is the exact one.":
                slip(act=tanh_gelu),
            "the first bias is missing.": slip(down_bias=0.0),
            "the second bias is missing.": slip(up_bias=0.0),
            "both biases are missing.": slip(down_bias=0.0, up_bias=0.0),
            "x is added twice.": slip(skip=2.0),
            "x is multiplied by what the adapter makes. It is added.": x * slip(skip=0.0),
            "x is subtracted.": slip(skip=-1.0),
        },
        tolerance=1e-4,
    )  # fmt: skip


def check_start(new_adapter: Callable[[PRNGKeyArray, int, int], Weights]) -> None:
    """Raises NotYet unless a new adapter hardly changes its input, and can learn."""
    name, width, size = "adapter", 64, 16
    draw = lambda seed: filled(new_adapter(jax.random.key(seed), width, size), name)
    weights, other = draw(0), draw(1)
    shapes = {"down": (width, size), "down_bias": (size,), "up": (size, width), "up_bias": (width,)}
    if not isinstance(weights, dict) or weights.keys() != shapes.keys():
        raise NotYet(f"{name}: new_adapter returns a dictionary with the names {', '.join(shapes)}.")
    w = {key: jnp.asarray(filled(value, name), jnp.float32) for key, value in weights.items()}
    if wrong := [key for key in shapes if w[key].shape != shapes[key]]:
        raise NotYet(f"{name}: {wrong[0]!r} has the shape {w[wrong[0]].shape}, wanted is {shapes[wrong[0]]}.")
    x = jax.random.normal(jax.random.key(2), (8, width))

    def change(w: Weights) -> Array:
        inner = jax.nn.gelu(x @ w["down"] + w["down_bias"], approximate=False)
        return inner @ w["up"] + w["up_bias"]

    if (size_of_change := float(jnp.sqrt(jnp.square(change(w)).mean()))) > 0.1:
        raise NotYet(
            f"{name}: a new adapter changes its input by {100 * size_of_change:.0f} % of its size, before it has learned "
            "anything, and that in each layer. Small matrices (deviation 0.01) and biases of 0 leave the model as it is."
        )
    gradient = jax.grad(lambda w: jnp.square(change(w) - x).sum())(w)
    if not (jnp.any(gradient["down"]) or jnp.any(gradient["up"])):
        raise NotYet(
            f"{name}: both matrices are 0, and so are both of their gradients: that of each is multiplied by the other. "
            "They would stay 0 for ever. Draw small random numbers, for one of them at least."
        )
    if all(np.array_equal(weights[key], other[key]) for key in shapes):
        raise NotYet(f"{name}: another key gave the same numbers. Draw them with the key that new_adapter is given.")
    if np.array_equal(np.sort(w["down"], axis=None), np.sort(w["up"], axis=None)):
        raise NotYet(f"{name}: both matrices have the same numbers: split the key, one for each.")
    if any(len(np.unique(w[key])) == 1 and jnp.any(w[key]) for key in ("down", "up")):
        raise NotYet(f"{name}: all numbers of a matrix are equal, so all units of the adapter do and learn the same.")


def slips_of_lora(base: np.ndarray, change: np.ndarray, alpha: float, rank: int) -> dict[str, np.ndarray]:
    """What is said of a wrong factor, and what it makes of `base` and of the `change` without a factor."""
    scale = alpha / rank
    return {
        "the factor alpha / r is missing.": base + change,
        "the factor is alpha alone. Divided by r, one learning rate suits every rank.": base + alpha * change,
        "the factor is alpha times r. It is alpha divided by r.": base + alpha * rank * change,
        "the factor is turned over: alpha / r, not r / alpha.": base + change / scale,
        "the factor is 1 / r. It is alpha / r.": base + change / rank,
        "you divide by the root of r (that is rsLoRA, Kalajdzievski 2023). Here it is r itself.":
            base + alpha / rank**0.5 * change,
        "the factor counts twice: use it once, for A B together.": base + scale**2 * change,
        "the factor goes over the pretrained part as well. Only the change is multiplied.": scale * (base + change),
        "that is the change alone. The pretrained matrix takes part as before.": scale * change,
        "the change is subtracted. It is added.": base - scale * change,
        "that is the pretrained part alone: A and B do nothing.": base,
    }  # fmt: skip


def with_lora(with_lora: Callable[..., Float[Array, "B L F"]]) -> None:
    """`with_lora(x [B L D], matrix [D F], a [D R], b [R F], alpha)` -> [B L F]."""
    rng, alpha, rank = np.random.default_rng(1), 8.0, 2
    x, matrix, a, b = (rng.standard_normal(shape) for shape in ((2, 3, 5), (5, 5), (5, rank), (rank, 5)))
    got = filled(with_lora(*(jnp.asarray(v, jnp.float32) for v in (x, matrix, a, b)), alpha), "with_lora")
    compare(
        "with_lora",
        np.asarray(got),
        x @ matrix + alpha / rank * x @ a @ b,
        slips_of_lora(x @ matrix, x @ a @ b, alpha, rank)
        | {
            "the pretrained matrix is transposed: x times W.": x @ matrix.T + alpha / rank * x @ a @ b,
            "what LoRA makes is added to x. It is added to x W: LoRA stands beside the matrix, an adapter behind it.":
                x + alpha / rank * x @ a @ b,
            "you divide by the width of x. r is the number of columns of A.": x @ matrix + alpha / 5 * x @ a @ b,
            "LoRA reads the output of W. It reads x: it stands beside W.": x @ matrix + alpha / rank * x @ matrix @ a @ b,
            "there is a gelu between A and B: that is an adapter, and it could not be merged.":
                x @ matrix + alpha / rank * np.asarray(jax.nn.gelu(x @ a, approximate=False)) @ b,
        },
        tolerance=1e-4,
    )  # fmt: skip


def merge(merge: Callable[..., Float[Array, "D F"]]) -> None:
    """`merge(matrix [D F], a [D R], b [R F], alpha)` -> [D F], a new matrix that does what LoRA does."""
    rng, alpha, rank = np.random.default_rng(2), 6.0, 3
    matrix, a, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((4, 4), (4, rank), (rank, 4)))
    given = matrix.copy()
    got = filled(merge(given, a, b, alpha), "merge")
    if not np.array_equal(given, matrix):
        raise NotYet(
            "merge: the pretrained matrix has been changed in place. Return a new one: other tasks share the base, and "
            "a second call would add the change once more."
        )
    compare(
        "merge",
        np.asarray(got),
        matrix + alpha / rank * a @ b,
        slips_of_lora(matrix, a @ b, alpha, rank)
        | {
            "the change is transposed: A B, in this order, has the axes of W.": matrix + alpha / rank * (a @ b).T,
            "the result is transposed.": (matrix + alpha / rank * a @ b).T,
            "the matrix is multiplied by the change. It is added.": matrix * (alpha / rank * a @ b),
            "you multiplied the matrices one after the other. LoRA is a sum: W + alpha / r A B.":
                alpha / rank * matrix @ a @ b,
        },
        tolerance=1e-4,
    )  # fmt: skip


def new_parameters(new_parameters: Callable[[str, int, int, int], Any]) -> None:
    """`new_parameters(kind "adapters" or "lora", size, width, layers)` -> how many numbers are added to a BERT."""
    name, cases = "new_parameters", [(8, 768, 12), (64, 768, 12), (3, 10, 2), (1, 4, 1)]
    each = lambda formula: [formula(*case) for case in cases]
    kinds = {
        "lora": (
            lambda r, D, n: n * 2 * 2 * D * r,
            {
                "LoRA stands beside two matrices of each layer, query and value: you counted one.":
                    lambda r, D, n: n * 2 * D * r,
                "LoRA has two matrices, A [D r] and B [r D]: you counted one of them.": lambda r, D, n: n * D * r * 2,
                "LoRA stands beside two matrices of each layer, query and value: you counted three.":
                    lambda r, D, n: n * 3 * 2 * D * r,
                "LoRA stands beside two matrices of each layer, query and value: you counted four.":
                    lambda r, D, n: n * 4 * 2 * D * r,
                "that is one layer's.": lambda r, D, n: 2 * 2 * D * r,
                "you counted the matrices that LoRA stands beside, too. They are frozen.":
                    lambda r, D, n: n * 2 * (2 * D * r + D * D),
                "that is the size of the matrices that LoRA changes. Its own numbers are far fewer.":
                    lambda r, D, n: n * 2 * D * D,
                "you counted biases. LoRA has none.": lambda r, D, n: n * 2 * (2 * D * r + D + r),
                "you counted LoRA as an adapter, with its biases.": lambda r, D, n: n * (2 * D * r + D + r),
                "you multiplied the two sizes of A and B. Count the numbers of each, and add.":
                    lambda r, D, n: n * 2 * (D * r) ** 2,
            },
        ),
        "adapters": (
            lambda m, D, n: n * 2 * (2 * D * m + m + D),
            {
                "each layer has two adapters, after the attention and after the feed-forward: you counted one.":
                    lambda m, D, n: n * (2 * D * m + m + D),
                "the biases are missing: the first has m numbers, the second D.": lambda m, D, n: n * 2 * 2 * D * m,
                "the second bias is missing.": lambda m, D, n: n * 2 * (2 * D * m + m),
                "the first bias is missing.": lambda m, D, n: n * 2 * (2 * D * m + D),
                "both biases have D numbers here. The first belongs to the narrow layer and has m.":
                    lambda m, D, n: n * 2 * (2 * D * m + 2 * D),
                "both biases have m numbers here. The second belongs to the wide side and has D.":
                    lambda m, D, n: n * 2 * (2 * D * m + 2 * m),
                "an adapter has two matrices, down and up: you counted one.": lambda m, D, n: n * 2 * (D * m + m + D),
                "that is one layer's.": lambda m, D, n: 2 * (2 * D * m + m + D),
                "you counted the norms. They are trained with the adapters, but they were there before.":
                    lambda m, D, n: n * 2 * (2 * D * m + m + 3 * D),
            },
        ),
    }  # fmt: skip
    for kind, (formula, slips) in kinds.items():
        got = filled([new_parameters(kind, *case) for case in cases], name)
        if not equal(got, each(formula)):
            compare(f"{name} of {kind}", got, each(formula), {message: each(slip) for message, slip in slips.items()})
    right(name)
