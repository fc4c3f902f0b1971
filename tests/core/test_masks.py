import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tlqa_jax.core.masks import apply_mask, causal_mask, padding_mask


def test_padding_mask():
    assert padding_mask(jnp.array([[7, 8, 0], [0, 9, 1]])).tolist() == [[True, True, False], [True, True, True]]
    assert padding_mask(jnp.array([[7, 8, 8]]), pad_id=8).tolist() == [[True, False, False]]
    # what stands before the last token is no padding
    assert padding_mask(jnp.array([[7, 0, 9, 0], [0, 0, 0, 0]])).tolist() == [[True] * 3 + [False], [False] * 4]


def test_causal_mask():
    mask = causal_mask(3)
    assert mask.dtype == bool
    assert mask.astype(jnp.int32).tolist() == [[1, 0, 0], [1, 1, 0], [1, 1, 1]]


def test_apply_mask_gives_forbidden_keys_no_weight_at_all():
    scores = jnp.log(jnp.array([1.0, 3.0, 100.0])).reshape(1, 1, 1, 3)
    weights = jax.nn.softmax(apply_mask(scores, jnp.array([True, True, False]).reshape(1, 1, 1, 3)))
    np.testing.assert_allclose(weights.ravel(), [0.25, 0.75, 0.0], rtol=1e-6)
    assert weights[0, 0, 0, 2] == 0.0
    assert apply_mask(scores, None) is scores


def test_a_forbidden_key_loses_against_the_worst_allowed_one():
    scores = apply_mask(jnp.array([[[[-1e30, 0.0]]]]), jnp.array([[[[True, False]]]]))
    assert jax.nn.softmax(scores).ravel().tolist() == [1.0, 0.0]


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_row_without_a_single_key_stays_finite_in_value_and_gradient(dtype):
    scores = jnp.array([[[[1.0, -2.0], [3.0, 4.0]]]], dtype)
    mask = jnp.array([[[[False, False], [True, True]]]])
    weights, pull_back = jax.vjp(lambda s: jax.nn.softmax(apply_mask(s, mask)), scores)
    assert weights[0, 0, 0].tolist() == [0.5, 0.5]
    gradient = pull_back(jnp.ones_like(weights).at[..., 0].set(2.0))[0]
    assert bool(jnp.isfinite(gradient).all())
    assert gradient[0, 0, 0].tolist() == [0.0, 0.0]


def test_mask_is_broadcast_over_batch_and_heads():
    scores = jnp.zeros((2, 3, 2, 2))
    masked = apply_mask(scores, causal_mask(2)[None, None])
    assert (masked == 0).astype(jnp.int32).tolist() == [[[[1, 0], [1, 1]]] * 3] * 2
