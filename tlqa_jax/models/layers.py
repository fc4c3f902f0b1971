"""The layers of BERT and T5.

Every shape in this package is written with these letters:
B batch, L query length, S key length, D width, H heads, K head size, F feed-forward width, V vocabulary.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray

from tlqa_jax.core.dropout import dropout
from tlqa_jax.core.masks import apply_mask
from tlqa_jax.core.precision import at_least_float32
from tlqa_jax.core.relative_positions import relative_position_bucket, relative_positions

MOST_LAYERS = 1000  # of a stack: more are a mistake, and would take minutes to make


def normal(rngs: nnx.Rngs, shape: tuple[int, ...], standard_deviation: float) -> nnx.Param:
    """A float32 parameter drawn from a normal distribution with mean 0."""
    return nnx.Param(standard_deviation * jax.random.normal(rngs.params(), shape, jnp.float32))


def truncated_normal(rngs: nnx.Rngs, shape: tuple[int, ...], standard_deviation: float) -> nnx.Param:
    """As `normal`, but values beyond two standard deviations are drawn again (as in the code of Devlin et al. 2019).

    The standard deviation of the result is 0.88 times the given one.
    """
    return nnx.Param(standard_deviation * jax.random.truncated_normal(rngs.params(), -2.0, 2.0, shape, jnp.float32))


def zeros(size: int) -> nnx.Param:
    """An initial bias. It has one axis, as a norm's scale has: weight decay skips parameters with one axis."""
    return nnx.Param(jnp.zeros(size, jnp.float32))


def gelu(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """The exact gelu of BERT, in float32: `jax.nn.gelu` computes the tanh approximation unless told otherwise."""
    return jax.nn.gelu(at_least_float32(x), approximate=False).astype(x.dtype)


# by the names of Hugging Face's `hidden_act`; there, one function may have several
TANH_GELU = ("gelu_new", "gelu_pytorch_tanh", "gelu_fast", "gelu_accurate")
ACTIVATIONS = {"relu": jax.nn.relu, "gelu": gelu, "gelu_python": gelu} | dict.fromkeys(TANH_GELU, jax.nn.gelu)


def broadcast_and_cast(parameter: Float[Array, "..."], shape: tuple[int, ...], dtype) -> Float[Array, "..."]:
    """The parameter, broadcast to `shape` in float32 and then cast, so that its gradient is a sum in float32.

    If it were cast first, the sum would be in bfloat16. Over 4,096 tokens that is wrong by 2%, and this by 1e-7.
    """
    return jnp.broadcast_to(parameter, shape).astype(dtype)


def project(
    x: Float[Array, "B L ..."], matrix: Float[Array, "..."], bias: nnx.Param | None = None
) -> Float[Array, "B L ..."]:
    """The product of each token with one matrix: [B L D] with [D F], [B L D] with [D H K], or [B L H K] with [H K D].

    The bias, if there is one, has a single axis: [F], [H * K] or [D].
    """
    # B and L become one axis. In the gradient of einsum("bld,df->blf") XLA sums over two axes, which is slower: the
    # whole step of BERT mini takes 1.12 times the CPU time on jax 0.10.2 and 1.05 times on 0.12 (2 cores)
    tokens = x.reshape(x.shape[0] * x.shape[1], -1)
    projected = tokens @ matrix.astype(x.dtype).reshape(tokens.shape[1], -1)
    if bias is not None:
        projected = projected + broadcast_and_cast(bias[...], projected.shape, x.dtype)
    return projected.reshape(*x.shape[:2], *matrix.shape[x.ndim - 2 :])


def vocabulary_logits(formula: str, x: Float[Array, "B L D"], matrix: Float[Array, "..."]) -> Float[Array, "B L V"]:
    """The product of each token with the output matrix: "nd,dv->nv", or "nd,vd->nv" with an embedding table.

    The result is float32 also if x is bfloat16: the hardware adds in float32 anyway, and rounded to the 8 bits of
    bfloat16, the two largest of 32,128 logits are equal in one row of 26.
    """
    # one axis of tokens as in `project`: else the whole step of BERT mini takes 1.11 times the CPU time on jax 0.10.2
    tokens = x.reshape(x.shape[0] * x.shape[1], -1)
    dtype = jnp.float32 if x.dtype == jnp.bfloat16 else x.dtype
    logits = jnp.einsum(formula, tokens, matrix.astype(x.dtype), preferred_element_type=dtype)
    return logits.reshape(*x.shape[:2], -1)


class Embedding(nnx.Module):
    """A table of V vectors of width D, read by token id. If input and output are tied, it is also the output matrix."""

    def __init__(
        self, vocab_size: int, width: int, standard_deviation: float, *, draw: Callable = normal, rngs: nnx.Rngs
    ):
        self.table = draw(rngs, (vocab_size, width), standard_deviation)

    def __call__(self, tokens: Int[Array, "B L"], dtype=jnp.float32) -> Float[Array, "B L D"]:
        return jnp.take(self.table[...], tokens, axis=0).astype(dtype)  # cast last: see `broadcast_and_cast`

    def logits(self, x: Float[Array, "B L D"], bias: nnx.Param | None = None) -> Float[Array, "B L V"]:
        """The product with every row of the table, in float32 at least."""
        logits = vocabulary_logits("nd,vd->nv", x, self.table[...])
        return logits if bias is None else logits + bias[...].astype(logits.dtype)[None, None]


class Linear(nnx.Module):
    """x times a matrix, plus a bias."""

    def __init__(
        self, inputs: int, outputs: int, standard_deviation: float, *, draw: Callable = normal, rngs: nnx.Rngs
    ):
        self.matrix = draw(rngs, (inputs, outputs), standard_deviation)
        self.bias = zeros(outputs)

    def __call__(self, x: Float[Array, "B *L D"]) -> Float[Array, "B *L F"]:
        y = project(x.reshape(x.shape[0], -1, x.shape[-1]), self.matrix[...], self.bias)
        return y.reshape(*x.shape[:-1], y.shape[-1])


class RMSNorm(nnx.Module):
    """x / sqrt(mean(x^2) + epsilon) * scale: no mean is subtracted, no bias added (Zhang & Sennrich 2019; T5)."""

    def __init__(self, width: int, epsilon: float = 1e-6):
        self.scale = nnx.Param(jnp.ones(width, jnp.float32))
        self.epsilon = epsilon

    def __call__(self, x: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
        x32 = at_least_float32(x)  # the mean of squares needs float32, also if the model computes in bfloat16
        inverse = jax.lax.rsqrt(jnp.mean(jnp.square(x32), axis=-1, keepdims=True) + self.epsilon)
        return (x32 * inverse * self.scale[...][None, None]).astype(x.dtype)


class LayerNorm(nnx.Module):
    """(x - mean) / sqrt(variance + epsilon) * scale + bias, for each token by itself (Ba et al. 2016).

    BERT's epsilon is 1e-12, that of Flax's LayerNorm is 1e-6. It is inside the square root, and the outputs differ.
    """

    def __init__(self, width: int, epsilon: float = 1e-12):
        self.scale = nnx.Param(jnp.ones(width, jnp.float32))
        self.bias = zeros(width)
        self.epsilon = epsilon

    def __call__(self, x: Float[Array, "B L D"]) -> Float[Array, "B L D"]:
        x32 = at_least_float32(x)
        centred = x32 - jnp.mean(x32, axis=-1, keepdims=True)
        inverse = jax.lax.rsqrt(jnp.mean(jnp.square(centred), axis=-1, keepdims=True) + self.epsilon)
        return (centred * inverse * self.scale[...][None, None] + self.bias[...][None, None]).astype(x.dtype)


class RelativeBias(nnx.Module):
    """One learned number for each bucket and head, added to the attention scores: T5's only sense of word order."""

    def __init__(
        self, heads: int, buckets: int, max_distance: int, standard_deviation: float,
        *, bidirectional: bool, rngs: nnx.Rngs,
    ):
        self.table = normal(rngs, (buckets, heads), standard_deviation)
        self.max_distance = max_distance
        self.bidirectional = bidirectional

    def __call__(self, queries: Int[Array, "L"], keys: Int[Array, "S"]) -> Float[Array, "1 H L S"]:
        """The bias between queries and keys at the given positions, in float32."""
        table = self.table[...]
        bucket = relative_position_bucket(
            relative_positions(queries, keys),
            bidirectional=self.bidirectional, num_buckets=table.shape[0], max_distance=self.max_distance,
        )
        # not table[bucket]: its gradient adds L x S numbers one by one, with 13 times the rounding error at 512 x 512
        one_hot = jax.nn.one_hot(bucket, table.shape[0], dtype=table.dtype)
        return jnp.einsum("lsn,nh->hls", one_hot, table)[None]


def swap_heads(x: Float[Array, "B A1 A2 K"]) -> Float[Array, "B A2 A1 K"]:
    """[B L H K] <-> [B H L K]."""
    return jnp.swapaxes(x, 1, 2)


def attention(
    query: Float[Array, "B H L K"],
    key: Float[Array, "B H S K"],
    value: Float[Array, "B H S K"],
    *,
    scale: float,
    bias: Float[Array, "1 H L S"] | None = None,
    mask: Bool[Array, "#B 1 #L S"] | None = None,
    dropout_rate: float = 0.0,
    dropout_key: PRNGKeyArray | None = None,
) -> Float[Array, "B H L K"]:
    """softmax(scale * Q K^T + bias) V over the pairs that the mask allows (Vaswani et al. 2017, section 3.2.1).

    The softmax is computed in float32 at least. Dropout is applied to the weights, after it.
    """
    scores = at_least_float32(jnp.einsum("bhlk,bhsk->bhls", query, key)) * scale
    if bias is not None:
        # scores + bias, as a product with ones, so that the sum over B in its gradient is a matrix product. With a
        # broadcast the whole step of T5-small takes 1.08 times the CPU time on jax 0.10.2, 1.05 times on 0.12 (2 cores)
        ones = jnp.ones(query.shape[0], scores.dtype)
        scores = scores + jnp.einsum("b,hls->bhls", ones, bias[0].astype(scores.dtype))
    weights = jax.nn.softmax(apply_mask(scores, mask), axis=-1).astype(value.dtype)
    weights = dropout(weights, dropout_rate, dropout_key)
    return jnp.einsum("bhls,bhsk->bhlk", weights, value)


class Attention(nnx.Module):
    """Multi-head attention. BERT's four projections have biases, T5's have none.

    Args:
        scale: multiplies the scores; T5 has 1.0, every other transformer K ** -0.5.
        deviations: standard deviations of the initial query, key, value and output projections.
        biases: whether the projections add biases; their initial values are 0.
        draw: draws the initial projections: `normal` or `truncated_normal`.
    """

    # set by `adapters.py`; on the class: nnx allows no module in an instance's attribute that was None before
    adapter = query_lora = value_lora = None

    def __init__(
        self, width: int, heads: int, head_size: int, *, scale: float, deviations: tuple[float, float, float, float],
        dropout_rate: float, biases: bool = False, draw: Callable = normal, rngs: nnx.Rngs,
    ):
        query, key, value, out = deviations
        self.query = draw(rngs, (width, heads, head_size), query)
        self.key = draw(rngs, (width, heads, head_size), key)
        self.value = draw(rngs, (width, heads, head_size), value)
        self.out = draw(rngs, (heads, head_size, width), out)
        self.query_bias = zeros(heads * head_size) if biases else None
        self.key_bias = zeros(heads * head_size) if biases else None
        self.value_bias = zeros(heads * head_size) if biases else None
        self.out_bias = zeros(width) if biases else None
        self.scale = scale
        self.dropout_rate = dropout_rate

    def keys_values(self, x: Float[Array, "B S D"]) -> tuple[Float[Array, "B H S K"], Float[Array, "B H S K"]]:
        """The keys and values of the sequence that is attended to."""
        key, value = project(x, self.key[...], self.key_bias), project(x, self.value[...], self.value_bias)
        return swap_heads(key), swap_heads(value if self.value_lora is None else value + self.value_lora(x))

    def __call__(
        self, x: Float[Array, "B L D"], keys_values: tuple[Array, Array],
        *, bias=None, mask=None, key: PRNGKeyArray | None = None,
    ) -> Float[Array, "B L D"]:
        """Attention of x to `keys_values`: its own, those of the encoder's output, or those of a cache."""
        query = project(x, self.query[...], self.query_bias)
        query = query if self.query_lora is None else query + self.query_lora(x)
        attended = attention(
            swap_heads(query), *keys_values,
            scale=self.scale, bias=bias, mask=mask, dropout_rate=self.dropout_rate, dropout_key=key,
        )
        projected = project(swap_heads(attended), self.out[...], self.out_bias)
        return projected if self.adapter is None else self.adapter(projected)


class FeedForward(nnx.Module):
    """Two matrices with an activation between them. Gated: activation(x W_0) * (x W_1), then W_2 (Shazeer 2020).

    Args:
        activation: one of ACTIVATIONS. None is T5's: relu, or the tanh gelu if gated.
        biases, draw: as in `Attention`.
    """

    adapter = None  # as in `Attention`

    def __init__(
        self, width: int, hidden: int, *, gated: bool, deviations: tuple[float, float], dropout_rate: float,
        activation: str | None = None, biases: bool = False, draw: Callable = normal, rngs: nnx.Rngs,
    ):
        into, out = deviations
        self.gate = draw(rngs, (width, hidden), into) if gated else None
        self.up = draw(rngs, (width, hidden), into)
        self.down = draw(rngs, (hidden, width), out)
        self.up_bias = zeros(hidden) if biases else None
        self.down_bias = zeros(width) if biases else None
        self.activation = activation or ("gelu_new" if gated else "relu")
        self.dropout_rate = dropout_rate

    def __call__(self, x: Float[Array, "B L D"], *, key: PRNGKeyArray | None = None) -> Float[Array, "B L D"]:
        activation = ACTIVATIONS[self.activation]
        hidden = project(x, self.up[...], self.up_bias)
        hidden = activation(hidden) if self.gate is None else activation(project(x, self.gate[...])) * hidden
        hidden = dropout(hidden, self.dropout_rate, key)
        projected = project(hidden, self.down[...], self.down_bias)
        return projected if self.adapter is None else self.adapter(projected)
