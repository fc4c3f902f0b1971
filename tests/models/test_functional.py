import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tlqa_jax.models.functional import as_function, as_module


class Line(nnx.Module):
    """y = weight x + bias; a part of it is a module, as in T5."""

    def __init__(self, weight: float):
        self.inner = Weight(weight)
        self.bias = nnx.Param(jnp.zeros(1))
        self.nothing = None

    def __call__(self, x, *, twice: bool = False):
        return (2.0 if twice else 1.0) * (x * self.inner.weight[...] + self.bias[...])

    def backwards(self, y):
        return (y - self.bias[...]) / self.inner.weight[...]


class Weight(nnx.Module):
    def __init__(self, weight: float):
        self.weight = nnx.Param(jnp.full(1, weight))


@pytest.fixture
def line():
    return as_function(Line(3.0))


def test_params_are_a_plain_nested_dict_of_arrays(line):
    _, params = line
    assert type(params) is dict and type(params["inner"]) is dict
    assert jax.tree.map(np.asarray, params) == {"inner": {"weight": np.array([3.0])}, "bias": np.array([0.0])}
    assert all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(params))


def test_apply_uses_the_params_it_is_given(line):
    apply, params = line
    other = {"inner": {"weight": jnp.array([5.0])}, "bias": jnp.array([1.0])}
    assert apply(params, jnp.array([2.0])).tolist() == [6.0]
    assert apply(other, jnp.array([2.0])).tolist() == [11.0]
    assert apply(other, jnp.array([2.0]), twice=True).tolist() == [22.0]
    assert apply(other, jnp.array([11.0]), method="backwards").tolist() == [2.0]
    assert apply(params, jnp.array([2.0])).tolist() == [6.0]


def test_gradients_have_the_structure_of_the_params(line):
    apply, params = line
    gradients = jax.jit(jax.grad(lambda p: apply(p, jnp.array([2.0])).sum()))(params)
    assert jax.tree.structure(gradients) == jax.tree.structure(params)
    assert (float(gradients["inner"]["weight"][0]), float(gradients["bias"][0])) == (2.0, 1.0)


def test_pmap_over_devices(line):
    apply, params = line
    x = jnp.arange(8.0).reshape(8, 1)
    y = jax.pmap(apply, in_axes=(None, 0))(params, x)
    assert y.ravel().tolist() == [3.0 * i for i in range(8)]


def test_round_trip():
    model = Line(3.0)
    apply, params = as_function(model)
    changed = jax.tree.map(lambda leaf: leaf + 1.0, params)
    again = as_module(model, changed)
    assert again(jnp.array([2.0])).tolist() == [9.0]
    assert jax.tree.map(np.asarray, as_function(again)[1]) == jax.tree.map(np.asarray, changed)
    assert model(jnp.array([2.0])).tolist() == [6.0]  # untouched


def test_params_of_another_model_are_refused(line):
    apply, params = line
    with pytest.raises((ValueError, KeyError, AttributeError)):
        apply({"bias": params["bias"]}, jnp.array([2.0]))
