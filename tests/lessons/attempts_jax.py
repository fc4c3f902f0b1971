"""What learners try who have not read the checks of lesson 0: exercise -> (check, right attempts, wrong ones)."""

import jax
import jax.numpy as jnp
import numpy as np

from tlqa_jax.lessons import jax_basics


def einsum(letters, *, change=lambda y: y):
    return lambda x, w: change(jnp.einsum(letters, x, w))


PROJECT = (
    jax_basics.project,
    {
        "einsum": einsum("bld,dhk->bhlk"),
        "two steps": einsum("bld,dhk->blhk", change=lambda y: y.swapaxes(1, 2)),
        "tensordot": lambda x, w: np.moveaxis(np.tensordot(x, w, 1), 2, 1),
        "in bfloat16": lambda x, w: jnp.einsum("bld,dhk->bhlk", x.astype(jnp.bfloat16), w.astype(jnp.bfloat16)),
    },
    {
        "tokens before heads": einsum("bld,dhk->blhk"),
        "reshaped": einsum("bld,dhk->blhk", change=lambda y: y.reshape(2, 3, 3, 5)),
        "texts added": einsum("bld,dhk->hlk"),
        "tokens added": einsum("bld,dhk->bhk"),
        "heads added": einsum("bld,dhk->blk"),
        "not summed": einsum("bld,dhk->bhlkd"),
        "number before token": einsum("bld,dhk->bhkl"),
        "heads first": einsum("bld,dhk->hblk"),
        "one text": lambda x, w: jnp.einsum("ld,dhk->hlk", x[0], w),
        "mean": lambda x, w: jnp.einsum("bld,dhk->bhlk", x, w) / x.shape[-1],
        "merged": einsum("bld,dhk->blhk", change=lambda y: y.reshape(2, 3, 15)),
    },
)  # fmt: skip


def step(formula):
    return lambda loss, params, rate: jax.tree.map(
        lambda p, g: formula(p, g, rate), params, jax.grad(loss)(params))  # fmt: skip


DESCEND = (
    jax_basics.descend,
    {
        "tree.map": step(lambda p, g, rate: p - rate * g),
        "value_and_grad": lambda loss, params, rate: jax.tree.map(
            lambda p, g: p - rate * g, params, jax.value_and_grad(loss)(params)[1]),
        "two maps": lambda loss, params, rate: jax.tree.map(
            jnp.add, params, jax.tree.map(lambda g: -rate * g, jax.grad(loss)(params))),
    },
    {
        "uphill": step(lambda p, g, rate: p + rate * g),
        "no rate": step(lambda p, g, rate: p - g),
        "gradient": step(lambda p, g, rate: g),
        "step": step(lambda p, g, rate: rate * g),
        "minus the step": step(lambda p, g, rate: -rate * g),
        "unchanged": lambda loss, params, rate: params,
        "divided": step(lambda p, g, rate: p - g / rate),
        "rate for both": step(lambda p, g, rate: rate * (p - g)),
        "dictionaries subtracted": lambda loss, params, rate: params - rate * jax.grad(loss)(params),
        "leaves": lambda loss, params, rate: jax.tree.leaves(step(lambda p, g, rate: p - rate * g)(loss, params, rate)),
        "the loss": lambda loss, params, rate: loss(params),
        "sign": step(lambda p, g, rate: p - rate * jnp.sign(g)),
        "first level": lambda loss, params, rate: {"scale": params["scale"] - rate * jax.grad(loss)(params)["scale"]},
    },
)  # fmt: skip

ALL_PAIRS = (
    jax_basics.all_pairs,
    {
        "two vmaps": lambda f, a, b: jax.vmap(lambda x: jax.vmap(lambda y: f(x, y))(b))(a),
        "loops": lambda f, a, b: jnp.array([[f(x, y) for y in b] for x in a]),
        "in_axes": lambda f, a, b: jax.vmap(jax.vmap(f, (None, 0)), (0, None))(a, b),
    },
    {
        "one vmap": lambda f, a, b: jax.vmap(f)(a, b),
        "transposed": lambda f, a, b: jax.vmap(jax.vmap(f, (0, None)), (None, 0))(a, b),
        "exchanged": lambda f, a, b: jax.vmap(jax.vmap(lambda y, x: f(x, y), (None, 0)), (0, None))(a, b),
        "exchanged and transposed": lambda f, a, b: jax.vmap(jax.vmap(f, (None, 0)), (0, None))(b, a),
        "two plain vmaps": lambda f, a, b: jax.vmap(jax.vmap(f))(a, b),
        "a with itself": lambda f, a, b: jax.vmap(jax.vmap(f, (None, 0)), (0, None))(a, a),
        "first row of a": lambda f, a, b: jax.vmap(f, (None, 0))(a[0], b),
        "first row of b": lambda f, a, b: jax.vmap(f, (0, None))(a, b[0]),
        "flat": lambda f, a, b: jax.vmap(jax.vmap(f, (None, 0)), (0, None))(a, b).ravel(),
        "sums": lambda f, a, b: jax.vmap(jax.vmap(f, (None, 0)), (0, None))(a, b).sum(1),
        "dot product": lambda f, a, b: a @ b.T,
    },
)  # fmt: skip


def each(draw):
    return lambda key, shapes: {name: draw(key, i, shape) for i, (name, shape) in enumerate(shapes.items())}


RANDOM_ARRAYS = (
    jax_basics.random_arrays,
    {
        "split": lambda key, shapes: {
            name: jax.random.normal(its, shapes[name])
            for its, name in zip(jax.random.split(key, len(shapes)), shapes, strict=True)},
        "fold_in": each(lambda key, i, shape: jax.random.normal(jax.random.fold_in(key, i), shape)),
    },
    {
        "one key": each(lambda key, i, shape: jax.random.normal(key, shape)),
        "one of the split": each(lambda key, i, shape: jax.random.normal(jax.random.split(key)[0], shape)),
        "a key of its own": each(lambda key, i, shape: jax.random.normal(jax.random.key(i), shape)),
        "numpy": each(lambda key, i, shape: np.random.standard_normal(shape)),
        "uniform": each(lambda key, i, shape: jax.random.uniform(jax.random.fold_in(key, i), shape)),
        "-1 to 1": each(lambda key, i, shape: jax.random.uniform(jax.random.fold_in(key, i), shape, minval=-1)),
        "wider": each(lambda key, i, shape: 2 * jax.random.normal(jax.random.fold_in(key, i), shape)),
        "by the shape": each(lambda key, i, shape: jax.random.normal(jax.random.fold_in(key, len(shape)), shape)),
        "times i": each(lambda key, i, shape: (i + 1) * jax.random.normal(key, shape)),
        "list": lambda key, shapes: [
            jax.random.normal(jax.random.fold_in(key, i), s) for i, s in enumerate(shapes.values())],
        "transposed": each(lambda key, i, shape: jax.random.normal(jax.random.fold_in(key, i), shape[::-1])),
        "one number": each(lambda key, i, shape: jax.random.normal(jax.random.fold_in(key, i))),
    },
)  # fmt: skip

EXERCISES = {"project": PROJECT, "descend": DESCEND, "all_pairs": ALL_PAIRS, "random_arrays": RANDOM_ARRAYS}
