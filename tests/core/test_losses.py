import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from tlqa_jax.core.losses import correct_predictions, cross_entropy

random = np.random.default_rng(0)
LOGITS = random.normal(size=(2, 5, 7)).astype(np.float32) * 3
TARGETS = random.integers(0, 7, (2, 5)).astype(np.int32)
WEIGHTS = np.array([[1, 1, 1, 0, 0], [1, 0.5, 0, 1, 2]], np.float32)


def test_two_equal_logits_cost_log_two():
    total, weight = cross_entropy(jnp.zeros((1, 3, 2)), jnp.zeros((1, 3), jnp.int32), jnp.array([[1.0, 1.0, 0.0]]))
    assert float(total) == pytest.approx(2 * np.log(2))
    assert float(weight) == 2.0


def test_cross_entropy_against_numpy_in_float64():
    probabilities = np.exp(LOGITS.astype(np.float64))
    probabilities /= probabilities.sum(-1, keepdims=True)
    expected = sum(
        -np.log(probabilities[b, l, TARGETS[b, l]]) * WEIGHTS[b, l] for b in range(2) for l in range(5)
    )
    total, weight = cross_entropy(jnp.asarray(LOGITS), jnp.asarray(TARGETS), jnp.asarray(WEIGHTS))
    assert float(total) == pytest.approx(expected, rel=1e-6)
    assert float(weight) == WEIGHTS.sum() == 7.5


def test_cross_entropy_has_the_gradient_softmax_minus_one_hot():
    gradient = jax.grad(lambda x: cross_entropy(x, jnp.asarray(TARGETS), jnp.asarray(WEIGHTS))[0])(jnp.asarray(LOGITS))
    softmax = np.exp(LOGITS) / np.exp(LOGITS).sum(-1, keepdims=True)
    np.testing.assert_allclose(gradient, (softmax - np.eye(7)[TARGETS]) * WEIGHTS[..., None], atol=1e-5)


def test_cross_entropy_against_finite_differences():
    loss = jax.jit(lambda x: cross_entropy(x, jnp.asarray(TARGETS), jnp.asarray(WEIGHTS))[0])
    check_grads(loss, (jnp.asarray(LOGITS),), order=1, modes=("rev",), rtol=1e-2)


def test_positions_of_weight_zero_change_neither_loss_nor_gradient():
    other = LOGITS.copy()
    other[WEIGHTS == 0] = 1e4
    losses = [cross_entropy(jnp.asarray(x), jnp.asarray(TARGETS), jnp.asarray(WEIGHTS))[0] for x in (LOGITS, other)]
    assert losses[0] == losses[1]


def test_large_logits_do_not_overflow():
    total, _ = cross_entropy(jnp.array([[1e4, 0.0]]), jnp.array([1]), jnp.array([1.0]))
    assert float(total) == 1e4


def test_loss_of_bfloat16_logits_is_computed_in_float32():
    total, weight = cross_entropy(jnp.zeros((1000, 3), jnp.bfloat16), jnp.zeros(1000, jnp.int32), jnp.ones(1000))
    assert total.dtype == weight.dtype == jnp.float32
    assert float(total) == pytest.approx(1000 * np.log(3), rel=1e-6)  # bfloat16 keeps three digits


def test_correct_predictions_are_counted_by_weight():
    logits = jnp.array([[0.0, 1.0, 2.0], [5.0, 1.0, 2.0], [0.0, 9.0, 2.0], [0.0, 9.0, 2.0]])
    assert float(correct_predictions(logits, jnp.array([2, 1, 1, 1]), jnp.array([1.0, 1.0, 0.5, 0.0]))) == 1.5
