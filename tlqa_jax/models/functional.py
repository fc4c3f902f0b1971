"""A model as a pure function of a plain dict of arrays, so that JAX's own transforms apply: jax.pmap, jax.grad, ..."""

from collections.abc import Callable
from typing import Any

from flax import nnx

Params = dict[str, Any]


def as_function(model: nnx.Module) -> tuple[Callable, Params]:
    """(apply, params): `apply(params, *args, **kwargs)` calls the model with those parameters.

    `params` is a nested dict of arrays; the names are those of the module's attributes. To call another method than
    `__call__`, name it: `apply(params, tokens, method="encode")`. The model holds parameters and nothing else, so
    `apply` returns only the output.
    """
    graph, state = nnx.split(model)

    def apply(params: Params, *args, method: str = "__call__", **kwargs):
        return getattr(nnx.merge(graph, params), method)(*args, **kwargs)

    return apply, nnx.to_pure_dict(state)


def as_module(model: nnx.Module, params: Params) -> nnx.Module:
    """The same module with `params` as its parameters: the inverse of `as_function`."""
    return nnx.merge(nnx.split(model)[0], params)
