"""A model as a pure function of a plain dict of arrays: what lets every transform be JAX's own."""

from collections.abc import Callable
from typing import Any

from flax import nnx

Params = dict[str, Any]


def as_function(model: nnx.Module) -> tuple[Callable, Params]:
    """(apply, params): `apply(params, *args, **kwargs)` calls the model with those parameters.

    `params` is a nested dict of arrays named as the module's attributes. Another method than `__call__` is named:
    `apply(params, tokens, method="encode")`. The model holds nothing but parameters, so nothing comes back but its
    output.
    """
    graph, state = nnx.split(model)

    def apply(params: Params, *args, method: str = "__call__", **kwargs):
        return getattr(nnx.merge(graph, params), method)(*args, **kwargs)

    return apply, nnx.to_pure_dict(state)


def as_module(model: nnx.Module, params: Params) -> nnx.Module:
    """The same module holding `params`: the way back from `as_function`."""
    return nnx.merge(nnx.split(model)[0], params)
