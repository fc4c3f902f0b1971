"""Each layer against a few lines of numpy that share nothing with it."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from tlqa_jax.core.dropout import dropout
from tlqa_jax.core.relative_positions import relative_position_bucket
from tlqa_jax.models.functional import as_function, as_module
from tlqa_jax.models.layers import (
    Attention,
    Embedding,
    FeedForward,
    LayerNorm,
    Linear,
    RelativeBias,
    RMSNorm,
    attention,
    gelu,
    project,
    truncated_normal,
    vocabulary_logits,
)

B, L, S, D, H, K, F, V = 2, 4, 5, 6, 3, 7, 11, 13
random = np.random.default_rng(0)


def draw(*shape) -> jax.Array:
    return jnp.asarray(random.normal(size=shape), jnp.float32)


def compiled(function, *args, **options):
    """One compilation, where op by op there would be twenty."""
    return np.asarray(jax.jit(lambda: function(*args, **options))())


def numpy_attention(query, key, value, scale, bias, mask) -> np.ndarray:
    """One query at a time, in float64."""
    out = np.zeros((*query.shape[:3], value.shape[-1]))
    for b, h, q in np.ndindex(*query.shape[:3]):
        scores = [scale * np.dot(query[b, h, q], k) for k in np.asarray(key[b, h], np.float64)]
        scores = np.array(scores) + (0 if bias is None else bias[0, h, q])
        seen = np.flatnonzero(np.broadcast_to(True if mask is None else mask, (B, 1, L, S))[b, 0, q])
        weights = np.exp(scores[seen] - scores[seen].max())
        out[b, h, q] = (weights / weights.sum()) @ np.asarray(value[b, h], np.float64)[seen]
    return out


PADDING = np.array([[1, 1, 1, 0, 0], [1, 0, 1, 1, 1]], bool)[:, None, None, :]
CAUSAL = (np.arange(L)[:, None] + 1 >= np.arange(S))[None, None]
cases = pytest.mark.parametrize(
    ("bias", "mask", "scale"),
    [
        (False, None, 1.0),
        (True, None, 1.0),
        (False, PADDING, K**-0.5),
        (True, PADDING, 1.0),
        (True, PADDING & CAUSAL, 1.0),
        (True, CAUSAL, 0.3),
    ],
    ids=["bare", "bias", "padding", "bias+padding", "bias+padding+causal", "bias+causal"],
)


@pytest.fixture(scope="module")
def qkv():
    return draw(B, H, L, K), draw(B, H, S, K), draw(B, H, S, K), 2 * draw(1, H, L, S)


@cases
def test_attention_against_numpy(qkv, bias, mask, scale):
    *qkv, some_bias = qkv
    bias = some_bias if bias else None
    ours = compiled(attention, *qkv, scale=scale, bias=bias, mask=None if mask is None else jnp.asarray(mask))
    np.testing.assert_allclose(ours, numpy_attention(*qkv, scale, bias, mask), atol=1e-6)


def test_two_keys_by_hand():
    """Scores log 3 and 0, so weights 3/4 and 1/4; values 4 and 8."""
    query, key = jnp.full((1, 1, 1, 1), np.log(3)), jnp.array([1.0, 0.0]).reshape(1, 1, 2, 1)
    value = jnp.array([4.0, 8.0]).reshape(1, 1, 2, 1)
    assert attention(query, key, value, scale=1.0).item() == pytest.approx(5.0)
    assert attention(query, key, value, scale=2.0).item() == pytest.approx(4.4)  # weights 9/10, 1/10
    bias = jnp.array([0.0, np.log(3)], jnp.float32).reshape(1, 1, 1, 2)
    assert attention(query, key, value, scale=1.0, bias=bias).item() == pytest.approx(6.0)


def test_attention_dropout_falls_on_the_weights_after_softmax(qkv):
    query, key, value, _ = qkv
    dropout_key = jax.random.key(3)
    weights = np.exp(np.einsum("bhlk,bhsk->bhls", query, key))
    weights = compiled(dropout, jnp.asarray(weights / weights.sum(axis=-1, keepdims=True)), 0.4, dropout_key)
    ours = compiled(attention, query, key, value, scale=1.0, dropout_rate=0.4, dropout_key=dropout_key)
    np.testing.assert_allclose(ours, np.einsum("bhls,bhsk->bhlk", weights, value), atol=1e-5)
    assert 0.2 < (weights == 0).mean() < 0.6


def test_attention_layer_is_its_heads_side_by_side():
    layer = Attention(D, H, K, scale=1.0, deviations=(0.5, 0.5, 0.5, 0.5), dropout_rate=0.4, rngs=nnx.Rngs(0))
    x, memory = draw(B, L, D), draw(B, S, D)
    query, key, value, out = (np.asarray(p[...]) for p in (layer.query, layer.key, layer.value, layer.out))
    expected = np.zeros((B, L, D))
    for b, h in np.ndindex(B, H):
        q, k, v = np.asarray(x)[b] @ query[:, h], np.asarray(memory)[b] @ key[:, h], np.asarray(memory)[b] @ value[:, h]
        weights = np.exp(q @ k.T)
        expected[b] += weights / weights.sum(axis=-1, keepdims=True) @ v @ out[h]
    ours = compiled(lambda: layer(x, layer.keys_values(memory)))
    np.testing.assert_allclose(ours, expected, atol=1e-5)


def test_rms_norm_against_numpy():
    norm, x = RMSNorm(D, epsilon=0.5), draw(B, L, D) + 2
    norm.scale = nnx.Param(draw(D))
    expected = np.empty((B, L, D))
    for b, i in np.ndindex(B, L):
        row = np.asarray(x, np.float64)[b, i]
        expected[b, i] = row / np.sqrt(sum(row**2) / D + 0.5) * np.asarray(norm.scale[...])
    np.testing.assert_allclose(compiled(norm, x), expected, rtol=1e-5)


def test_rms_norm_by_hand():
    x = jnp.array([[[3.0, 4.0, 0.0, 0.0]]])  # mean square 25 / 4; the mean is not taken away
    np.testing.assert_allclose(compiled(RMSNorm(4), x), [[[1.2, 1.6, 0.0, 0.0]]], rtol=1e-6)


def test_rms_norm_takes_its_mean_in_float32():
    x = jnp.ones((1, 1, 1000), jnp.bfloat16)  # a bfloat16 sum of ones stops growing at 256
    normed = compiled(RMSNorm(1000), x)
    assert normed.dtype == jnp.bfloat16
    assert set(normed.astype(np.float32).ravel()) == {1.0}


@pytest.mark.parametrize("gated", [False, True])
def test_feed_forward_against_numpy(gated):
    layer = FeedForward(D, F, gated=gated, deviations=(0.7, 0.7), dropout_rate=0.4, rngs=nnx.Rngs(0))
    x = draw(B, L, D)
    up = np.asarray(x) @ np.asarray(layer.up[...])
    if gated:
        g = np.asarray(x) @ np.asarray(layer.gate[...])
        hidden = 0.5 * g * (1 + np.tanh(np.sqrt(2 / np.pi) * (g + 0.044715 * g**3))) * up
    else:
        assert layer.gate is None
        hidden = np.maximum(up, 0)
    np.testing.assert_allclose(compiled(layer, x), hidden @ np.asarray(layer.down[...]), atol=1e-5)
    key = jax.random.key(0)
    dropped = compiled(dropout, jnp.asarray(hidden), 0.4, key) @ np.asarray(layer.down[...])
    np.testing.assert_allclose(compiled(layer, x, key=key), dropped, atol=1e-5)


@pytest.mark.parametrize("bidirectional", [False, True])
def test_relative_bias_is_the_table_at_the_bucket(bidirectional):
    layer = RelativeBias(H, 8, 20, 1.0, bidirectional=bidirectional, rngs=nnx.Rngs(0))
    bias, table = compiled(layer, jnp.arange(L), jnp.arange(S)), np.asarray(layer.table[...])
    offsets = jnp.arange(-L, S)
    bucket = compiled(relative_position_bucket, offsets, bidirectional=bidirectional, num_buckets=8, max_distance=20)
    assert bias.shape == (1, H, L, S)
    for query, key in np.ndindex(L, S):
        assert bias[0, :, query, key].tolist() == table[bucket[key - query + L]].tolist()


def test_relative_bias_of_one_later_query_is_that_row():
    layer = RelativeBias(H, 8, 20, 1.0, bidirectional=False, rngs=nnx.Rngs(0))
    whole = compiled(layer, jnp.arange(S), jnp.arange(S))
    assert (compiled(layer, jnp.array([3]), jnp.arange(S))[:, :, 0] == whole[:, :, 3]).all()


def test_embedding_reads_rows_and_its_logits_are_products_with_them():
    layer, x = Embedding(V, D, 1.0, rngs=nnx.Rngs(0)), draw(B, L, D)
    table = np.asarray(layer.table[...])
    assert compiled(layer, jnp.array([[3, 0], [12, 3]])).tolist() == table[[[3, 0], [12, 3]]].tolist()
    np.testing.assert_allclose(compiled(layer.logits, x), np.asarray(x) @ table.T, atol=1e-5)
    assert layer(jnp.array([[3]]), jnp.bfloat16).dtype == jnp.bfloat16


# what BERT has and T5 has not ----------------------------------------------------------------------------------------


def filled(make) -> nnx.Module:
    """The layer with every parameter drawn, biases too."""
    layer = nnx.eval_shape(make)
    return as_module(layer, jax.tree.map(lambda leaf: 0.5 * draw(*leaf.shape), as_function(layer)[1]))


@pytest.mark.parametrize("formula", ["nd,vd->nv", "nd,dv->nv"])
def test_logits_of_bfloat16_are_sums_in_float32_and_their_gradients_are_right_to_bfloat16(formula):
    x, matrix = (draw(*shape).astype(jnp.bfloat16) for shape in ((B, L, D), (V, D) if "vd" in formula else (D, V)))
    logits, back = jax.vjp(partial(vocabulary_logits, formula), x, matrix)
    exact = lambda formula, *operands: np.einsum(formula, *(np.asarray(x, np.float64) for x in operands))
    difference = lambda ours, exact: np.abs(np.asarray(ours, np.float64) - exact).max() / np.abs(exact).max()
    letters = formula.split(",")[1][:2]
    assert logits.dtype == jnp.float32
    assert difference(logits, exact(f"bld,{letters}->blv", x, matrix)) < 1e-6
    assert difference(jnp.einsum(f"bld,{letters}->blv", x, matrix), exact(f"bld,{letters}->blv", x, matrix)) > 1e-4
    direction = draw(B, L, V)
    to_x, to_matrix = back(direction)
    assert to_x.dtype == to_matrix.dtype == jnp.bfloat16
    assert difference(to_x, exact(f"blv,{letters}->bld", direction, matrix)) < 2**-8
    assert difference(to_matrix, exact(f"bld,blv->{letters}", x, direction)) < 2**-8


def test_gradients_of_vectors_and_tables_in_bfloat16_are_sums_in_float32():
    """A sum of 4,096 bfloat16 numbers in bfloat16 is wrong by some percent."""
    tokens = jnp.asarray(random.integers(0, 2, (32, 128)))
    x, direction = (draw(32, 128, D).astype(jnp.bfloat16) for _ in range(2))
    direction = direction + jnp.bfloat16(0.25)
    exact = np.asarray(direction, np.float64)

    @jax.jit
    def gradients(bias, table, scale):
        embedding, norm = (as_function(layer)[0] for layer in (Embedding(2, D, 1.0, rngs=nnx.Rngs(0)), RMSNorm(D)))
        outputs = lambda bias, table, scale: (
            project(x, jnp.eye(D, dtype=jnp.float32), nnx.Param(bias)),
            embedding({"table": table}, tokens, jnp.bfloat16),
            norm({"scale": scale}, x),
        )
        return jax.vjp(outputs, bias, table, scale)[1]((direction,) * 3)

    to_bias, to_table, to_scale = gradients(jnp.zeros(D), jnp.zeros((2, D)), jnp.ones(D))
    x64 = np.asarray(x, np.float64)
    normed = x64 / np.sqrt((x64**2).mean(axis=-1, keepdims=True) + 1e-6)
    np.testing.assert_allclose(to_bias, exact.sum((0, 1)), rtol=1e-5)
    np.testing.assert_allclose(to_table, [exact[tokens == i].sum(axis=0) for i in (0, 1)], rtol=1e-4)
    np.testing.assert_allclose(to_scale, (exact * normed).sum((0, 1)), rtol=1e-4)


def test_the_bias_of_bfloat16_logits_is_not_rounded():
    embedding = Embedding(V, D, 1.0, rngs=nnx.Rngs(0))
    bias = 1 + 1e-4 * np.arange(V, dtype=np.float32)
    x = draw(B, L, D).astype(jnp.bfloat16)
    added = embedding.logits(x, nnx.Param(jnp.asarray(bias))) - embedding.logits(x)
    np.testing.assert_allclose(added, np.broadcast_to(bias, (B, L, V)), atol=1e-6)


def test_attention_with_biases_is_attention_to_inputs_with_a_one_more():
    """A bias is the row of a matrix that an input of constant 1 is multiplied with."""
    options = dict(scale=0.7, deviations=(1.0, 1.0, 1.0, 1.0), dropout_rate=0.0)
    layer = filled(lambda: Attention(D, H, K, biases=True, rngs=nnx.Rngs(0), **options))
    wider = filled(lambda: Attention(D + 1, H, K, rngs=nnx.Rngs(0), **options))
    for name in ("query", "key", "value"):
        bias = getattr(layer, f"{name}_bias")[...].reshape(1, H, K)
        setattr(wider, name, nnx.Param(jnp.concatenate([getattr(layer, name)[...], bias])))
    wider.out = nnx.Param(jnp.pad(layer.out[...], ((0, 0), (0, 0), (0, 1))))
    x = draw(B, L, D)
    x1 = jnp.concatenate([x, jnp.ones((B, L, 1))], axis=-1)
    expected = compiled(lambda: wider(x1, wider.keys_values(x1)))[..., :D] + np.asarray(layer.out_bias[...])
    np.testing.assert_allclose(compiled(lambda: layer(x, layer.keys_values(x))), expected, atol=1e-5)


def test_feed_forward_with_biases_and_gelu_against_numpy():
    options = dict(gated=False, deviations=(1.0, 1.0), dropout_rate=0.0, activation="gelu", biases=True)
    layer = filled(lambda: FeedForward(D, F, rngs=nnx.Rngs(0), **options))
    x = draw(B, L, D)
    hidden = np.asarray(x) @ np.asarray(layer.up[...]) + np.asarray(layer.up_bias[...])
    hidden = hidden * np.vectorize(lambda z: (1 + math.erf(z / math.sqrt(2))) / 2)(hidden)
    expected = hidden @ np.asarray(layer.down[...]) + np.asarray(layer.down_bias[...])
    np.testing.assert_allclose(compiled(layer, x), expected, atol=1e-5)


def test_gelu_is_the_exact_one():
    x = jnp.linspace(-9, 9, 1001, dtype=jnp.float32)
    values, slopes = compiled(gelu, x), compiled(jax.vmap(jax.grad(gelu)), x)
    phi = np.array([math.erfc(-z / math.sqrt(2)) / 2 for z in x.tolist()])
    np.testing.assert_allclose(values, np.asarray(x) * phi, atol=1e-6)
    np.testing.assert_allclose(slopes, phi + x * np.exp(-np.asarray(x) ** 2 / 2) / math.sqrt(2 * math.pi), atol=1e-6)
    assert np.abs(values - compiled(jax.nn.gelu, x)).max() > 1e-4  # the tanh approximation is another function
    assert gelu(jnp.ones(1, jnp.bfloat16)).dtype == jnp.bfloat16


def test_layer_norm_against_numpy():
    norm, x = LayerNorm(D, epsilon=0.5), draw(B, L, D) + 2
    norm.scale, norm.bias = nnx.Param(draw(D)), nnx.Param(draw(D))
    expected = np.empty((B, L, D))
    for b, i in np.ndindex(B, L):
        row = np.asarray(x, np.float64)[b, i]
        row = (row - row.mean()) / np.sqrt(row.var() + 0.5)
        expected[b, i] = row * np.asarray(norm.scale[...]) + np.asarray(norm.bias[...])
    np.testing.assert_allclose(compiled(norm, x), expected, atol=1e-5)


def test_layer_norm_by_hand():
    x = jnp.array([[[1e-4, 3e-4]]])  # mean 2e-4, deviation 1e-4: an epsilon of 1e-6 would leave a tenth of it
    np.testing.assert_allclose(compiled(LayerNorm(2), x), [[[-1.0, 1.0]]], rtol=1e-3)


def test_layer_norm_takes_its_means_in_float32():
    x = jnp.asarray(256 + np.tile([[[0, 2]]], (1, 1, 500)), jnp.bfloat16)
    assert set(compiled(LayerNorm(1000), x).astype(np.float32).ravel()) == {-1.0, 1.0}


@pytest.mark.parametrize("shape", [(B, D), (B, L, D)])
def test_linear(shape):
    layer, x = filled(lambda: Linear(D, F, 1.0, rngs=nnx.Rngs(0))), draw(*shape)
    expected = np.asarray(x) @ np.asarray(layer.matrix[...]) + np.asarray(layer.bias[...])
    np.testing.assert_allclose(compiled(layer, x), expected, atol=1e-5)


def test_truncated_normal_ends_at_two_deviations():
    x = np.asarray(truncated_normal(nnx.Rngs(0), (100, 200), 0.02)[...])
    assert 0.0398 < np.abs(x).max() <= 0.04
    assert x.std() == pytest.approx(0.8796 * 0.02, rel=0.02)
