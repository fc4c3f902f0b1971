"""The checks of lesson 0: an einsum, a step of gradient descent, vmap over all pairs, keys."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from tlqa_jax.lessons.checks import NotYet, compare, filled, right


def project(project: Callable[..., Float[Array, "B H L K"]]) -> None:
    """`project(x [B L D], weights [D H K])` -> [B H L K]."""
    rng = np.random.default_rng(0)
    x, weights = rng.standard_normal((2, 3, 4), np.float32), rng.standard_normal((4, 3, 5), np.float32)  # L = H = 3
    by_token = np.einsum("bld,dhk->blhk", x, weights)
    compare(
        "project",
        project(x, weights),
        by_token.swapaxes(1, 2),
        {
            "the axes are [B L H K]. Behind the arrow stands the order that you want: b, h, l, k. (L and H are both 3 "
            "in this check, so that a reshape to the right shape changes nothing.)": by_token,
            "the last two axes are exchanged: [B H L K].": by_token.transpose(0, 2, 3, 1),
            "the texts are added up: b is not behind your arrow.": np.einsum("bld,dhk->hlk", x, weights),
            "the tokens are added up: l is not behind your arrow.": np.einsum("bld,dhk->bhk", x, weights),
            "nothing is summed over: d has no place behind the arrow.": np.einsum("bld,dhk->bhlkd", x, weights),
        },
        tolerance=1e-3,
    )  # fmt: skip


def descend(descend: Callable[..., dict]) -> None:
    """`descend(loss, params, rate)` -> a tree like `params`: each leaf minus rate times its gradient."""
    name, rate = "descend", 0.1
    params = {"layer": {"weights": jnp.array([1.0, -2.0]), "bias": jnp.array(0.5)}, "scale": jnp.array(3.0)}
    before = [np.asarray(leaf) for leaf in jax.tree.leaves(params)]

    def loss(params: dict) -> Array:
        return params["scale"] ** 2 + 4 * params["layer"]["bias"] + (params["layer"]["weights"] ** 2).sum()

    try:
        got = filled(descend(loss, params, rate), name)
    except TypeError as error:
        raise NotYet(
            f"{name}: Python cannot subtract dictionaries. jax.tree.map(lambda p, g: ..., params, gradient) goes "
            f"through the two trees leaf by leaf. ({error})"
        ) from None
    if jax.tree.structure(got) != jax.tree.structure(params):
        raise NotYet(f"{name}: the result must be a tree of the same form as params, and is {jax.tree.structure(got)}.")
    gradient = [np.array(4.0), np.array([2.0, -4.0]), np.array(6.0)]  # in the order of the leaves: bias, weights, scale
    each = lambda formula: [formula(p, g) for p, g in zip(before, gradient, strict=True)]
    compare(
        name,
        [np.asarray(leaf) for leaf in jax.tree.leaves(got)],
        each(lambda p, g: p - rate * g),
        {
            "you went uphill: the gradient points to where the loss grows, so subtract it.": each(
                lambda p, g: p + rate * g),
            "the rate is missing: it says how long the step is.": each(lambda p, g: p - g),
            "that is the gradient. Wanted are the new parameters.": each(lambda p, g: g),
            "that is the step. Subtract it from the parameters.": each(lambda p, g: rate * g),
            "that is the step with a minus. It is added to the parameters.": each(lambda p, g: -rate * g),
            "the parameters are as they were. Return the new ones: JAX's arrays do not change.": before,
            "you divide by the rate. A smaller rate is a shorter step: multiply.": each(lambda p, g: p - g / rate),
            "you multiply the parameters by the rate as well. Only the gradient is multiplied.": each(
                lambda p, g: rate * (p - g)),
        },
    )  # fmt: skip


def all_pairs(all_pairs: Callable[..., Float[Array, "N M"]]) -> None:
    """`all_pairs(function, a [N D], b [M D])` -> [N M], function(a[i], b[j]) at i, j."""
    name, rng = "all_pairs", np.random.default_rng(1)
    function = lambda x, y: (x * y**2).sum()  # not the same if x and y change places
    cases = [tuple(rng.standard_normal((n, 4)).astype(np.float32) for n in sizes) for sizes in ((2, 3), (3, 3))]
    try:
        got = [filled(all_pairs(function, *case), name) for case in cases]
    except ValueError as error:
        raise NotYet(
            f"{name}: one vmap goes through a and b together, row by row, so both need as many rows. Let one of them "
            f"stay the same, in_axes=(None, 0), and put a second vmap around it. ({str(error).splitlines()[0]})"
        ) from None
    each = lambda formula: [formula(a, b) for a, b in cases]
    compare(
        name,
        [np.asarray(table) for table in got],
        each(lambda a, b: a @ (b**2).T),
        {
            "your table is transposed: a row belongs to a[i], a column to b[j]. The outer vmap is over a.": each(
                lambda a, b: (a @ (b**2).T).T),
            "the arguments are exchanged: function(a[i], b[j]), not function(b[j], a[i]).": each(
                lambda a, b: a**2 @ b.T),
            "the arguments are exchanged, and the table is transposed.": each(lambda a, b: b @ (a**2).T),
            "these are the sums of the rows. Wanted is the table of all pairs.": each(
                lambda a, b: (a @ (b**2).T).sum(1)),
        },
        tolerance=1e-3,
    )  # fmt: skip


def random_arrays(random_arrays: Callable[..., dict[str, Any]]) -> None:
    """`random_arrays(key, {name: shape})` -> {name: array}, standard normal, independent of each other."""
    name, shapes = "random_arrays", {"one": (400, 3), "two": (400, 3), "three": (2,)}
    draw = lambda seed, shapes=shapes: filled(random_arrays(jax.random.key(seed), dict(shapes)), name)
    got, again, other = draw(0), draw(0), draw(1)
    if not isinstance(got, dict) or got.keys() != shapes.keys():
        raise NotYet(f"{name}: a dictionary with the names {list(shapes)} is wanted.")
    arrays = {key: np.asarray(array) for key, array in got.items()}
    if wrong := [key for key, shape in shapes.items() if arrays[key].shape != shape]:
        raise NotYet(f"{name}: {wrong[0]!r} has the shape {arrays[wrong[0]].shape}, wanted is {shapes[wrong[0]]}.")
    if not all((arrays[key] == np.asarray(again[key])).all() for key in shapes):
        raise NotYet(f"{name}: the same key gave other numbers. They must come from the key alone: use jax.random.")
    if any((arrays[key] == np.asarray(other[key])).all() for key in shapes):
        raise NotYet(f"{name}: another key gave the same numbers: use the key that you are given.")
    one, two = arrays["one"], arrays["two"]
    if (one == two).all():
        raise NotYet(
            f"{name}: two arrays of one shape are equal: you used one key for both. Split it first, one key for each."
        )
    if len({*one.ravel().tolist()} & {*two.ravel().tolist(), *arrays["three"].tolist()}) > 3:
        raise NotYet(f"{name}: the arrays share numbers: each needs a key of its own.")
    if abs(np.corrcoef(one.ravel(), two.ravel())[0, 1]) > 0.2:
        raise NotYet(f"{name}: one array can be computed from another: each needs a key of its own.")
    if abs(one.mean() - 0.5) < 0.1 and one.min() >= 0:
        raise NotYet(f"{name}: these are uniform, between 0 and 1. Wanted is jax.random.normal.")
    if abs(one.mean()) > 0.15 or abs(one.std() - 1) > 0.15:
        raise NotYet(
            f"{name}: mean {one.mean():.2f}, deviation {one.std():.2f}; the standard normal distribution has 0 and 1."
        )
    right(name)
