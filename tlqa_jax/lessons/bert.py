"""The checks of lesson 7: LayerNorm, embeddings, BERT's block, who may see whom, the encoder, counting parameters."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float

from tlqa_jax.core.masks import causal_mask
from tlqa_jax.lessons.bert_encoder import embed, encode
from tlqa_jax.lessons.checks import compare
from tlqa_jax.models.bert import BertConfig, BertLayer
from tlqa_jax.models.functional import as_function, as_module
from tlqa_jax.models.layers import LayerNorm

__all__ = ["block", "embed", "encode", "layer_norm", "may_see", "parameters"]


def layer_norm(layer_norm: Callable[..., Float[Array, "L D"]]) -> None:
    """`layer_norm(x [L D], scale [D], bias [D])` -> [L D], with epsilon 1e-12."""
    size = np.array([[1e-4], [1.0], [30.0], [1e-6], [0.0]])  # so small that epsilon shows; and a row of zeros
    x = (size * (0.7 + np.random.default_rng(2).standard_normal((5, 6)))).astype(np.float32)
    scale, bias = np.array([[0.5, 1.0, 1.5, 2.0, 3.0, 0.7], [0.1, -0.2, 0.3, 1.0, -1.0, 0.4]], np.float32)
    norm = LayerNorm(6)
    norm.scale[...], norm.bias[...] = scale, bias
    mean = lambda x, axis=-1: x.mean(axis=axis, keepdims=True)
    variance = lambda x, axis=-1: mean(np.square(x - mean(x, axis)), axis)
    centred, deviation = x - mean(x), np.sqrt(variance(x) + 1e-12)
    without_bias = centred / deviation * scale
    with np.errstate(invalid="ignore"):
        no_epsilon = centred / np.sqrt(variance(x)) * scale + bias
    compare(
        "layer_norm",
        layer_norm(x, scale, bias),
        np.asarray(norm(jnp.array(x)[None])[0]),
        {
            "you leave the mean where it is: that is T5's RMSNorm. LayerNorm subtracts it first.":
                x / np.sqrt(mean(np.square(x)) + 1e-12) * scale + bias,
            "the mean is subtracted, but the divisor is made of the squares of x as it was: the variance is the mean "
            "of the squares of what is left.": centred / np.sqrt(mean(np.square(x)) + 1e-12) * scale + bias,
            "is your epsilon inside the square root? There it keeps the divisor above 0.000001; outside, only above "
            "0.000000000001.": centred / (np.sqrt(variance(x)) + 1e-12) * scale + bias,
            "there is no epsilon. A row whose entries are all alike has variance 0, and becomes 0 / 0.": no_epsilon,
            "your epsilon is 1e-6, Flax's. BERT's is 1e-12: on the vectors of its embeddings the two differ in the "
            "third digit.": centred / np.sqrt(variance(x) + 1e-6) * scale + bias,
            "your epsilon is 1e-5, PyTorch's. BERT's is 1e-12.": centred / np.sqrt(variance(x) + 1e-5) * scale + bias,
            "mean and variance are of the whole array. Each position is normalised by itself: axis=-1.":
                (x - x.mean()) / np.sqrt(x.var() + 1e-12) * scale + bias,
            "neither the learned scale nor the learned bias is applied.": centred / deviation,
            "scale and bias are exchanged: multiply by the scale, then add the bias.":
                centred / deviation * bias + scale,
            "the learned bias is subtracted. It is added.": without_bias - bias,
            "mean and variance run over the positions. Each position is normalised by itself, over its D entries: "
            "otherwise a word's vector would depend on the words around it, and on the padding.":
                (x - mean(x, 0)) / np.sqrt(variance(x, 0) + 1e-12) * scale + bias,
            "you divide by the variance, not by its root: a row ten times as large would come out ten times as "
            "small.": centred / (variance(x) + 1e-12) * scale + bias,
            "your variance divides by D - 1. That is the estimate for a sample (and what torch.std does); a norm takes "
            "the plain mean of the squares.":
                centred / np.sqrt(x.var(axis=-1, ddof=1, keepdims=True) + 1e-12) * scale + bias,
            "the learned bias is not added.": without_bias,
            "the learned scale is not applied.": centred / deviation + bias,
            "you add the bias before you scale, so it is scaled as well: it comes last.":
                (centred / deviation + bias) * scale,
        },
        tolerance=1e-4,
    )  # fmt: skip


def block(block: Callable[..., Float[Array, "L D"]]) -> None:
    """`block(p, x [L D], may_see [L L])` -> [L D]; `p` are the parameters of the package's BertLayer."""
    config = BertConfig(vocab_size=1, hidden_size=6, num_attention_heads=3, intermediate_size=11)
    rng = np.random.default_rng(0)
    apply, params = as_function(empty := BertLayer(config, rngs=nnx.Rngs(0)))
    params = {
        part: {name: jnp.array(rng.standard_normal(x.shape), jnp.float32) for name, x in leaves.items()}
        for part, leaves in params.items()
    }
    x = jnp.array(rng.standard_normal((4, 6)), jnp.float32)
    may_see = np.array([[1, 0, 1, 0], [1, 1, 1, 0], [0, 1, 1, 0], [1, 1, 0, 0]], bool)
    layer = as_module(empty, params)
    norm_1, norm_2 = layer.attention_norm, layer.feed_forward_norm
    feed_forward, rows = layer.feed_forward, x[None]

    def attend(x, mask=may_see):
        return layer.attention(x, layer.attention.keys_values(x), mask=jnp.array(mask)[None, None])

    def after(h, residual=True):
        return norm_2(feed_forward(h) + (h if residual else 0.0))[0]

    right = norm_1(rows + attend(rows))
    added = rows + attend(norm_1(rows))
    late = rows + norm_1(attend(rows))
    bare = rows + attend(rows)
    compare(
        "block",
        block(params, x, may_see),
        apply(params, rows, mask=jnp.array(may_see)[None, None], key=None)[0],
        {
            "your norms stand before attention and feed-forward: that is pre-norm, as in T5. In BERT each stands after "
            "the sum, so the residual goes through it as well.": (added + feed_forward(norm_2(added)))[0],
            "you normalise what attention and feed-forward give, and add afterwards. The sum comes first, and the "
            "norm is of the sum.": (late + norm_2(feed_forward(late)))[0],
            "there is no residual around attention: the word's own vector is lost, and with it what the word was.":
                after(norm_1(attend(rows))),
            "there is no residual around the feed-forward.": after(right, residual=False),
            "there is no residual at all: nothing carries a word's vector, or a gradient, past a block.":
                after(norm_1(attend(rows)), residual=False),
            "the second residual begins at the block's input. It goes around the feed-forward alone, from the output "
            "of the first norm.": norm_2(rows + feed_forward(right))[0],
            "your feed-forward reads the block's input. Attention comes first, and the feed-forward reads what its "
            "norm gives.": norm_2(right + feed_forward(rows))[0],
            "the first norm is missing: there are two in a block, one after each sum.": after(bare),
            "the last norm is missing: there are two in a block, one after each sum.":
                (right + feed_forward(right))[0],
            "you used the attention's norm twice. Each norm has a scale and a bias of its own.":
                norm_1(right + feed_forward(right))[0],
            "the norms are exchanged: the attention's stands after attention.":
                norm_1((h := norm_2(bare)) + feed_forward(h))[0],
            "there is no norm: two are in a block, one after each sum.": (bare + feed_forward(bare))[0],
            "attention and feed-forward both read the block's input, side by side. In BERT they come one after the "
            "other.":
                norm_2(norm_1(rows + attend(rows) + feed_forward(rows)))[0],
            "that is the first half of a block. The feed-forward comes after it, with a sum and a norm of its own.":
                right[0],
            "attention is missing: a word would never hear of another.": norm_2(rows + feed_forward(rows))[0],
            "the feed-forward comes first. Attention is the first part of a block.":
                norm_1((h := norm_2(rows + feed_forward(rows))) + attend(h))[0],
            "the mask is transposed: its rows are the queries, its columns the keys.":
                after(norm_1(rows + attend(rows, may_see.T))),
            "the mask is not handed on: everyone sees everyone, padding as well.":
                after(norm_1(rows + attend(rows, may_see | True))),
            "the mask is upside down: you handed on what must not be seen. True means \"may attend\".":
                after(norm_1(rows + attend(rows, ~may_see))),
        },
    )  # fmt: skip


def may_see(may_see: Callable[..., Bool[np.ndarray, "L L"]]) -> None:
    """`may_see(real [S], causal)` -> [S S], True where query (row) may attend to key (column)."""
    padded = np.array([1, 1, 1, 1, 0, 0], bool)
    cases = [(padded, False), (padded, True), (np.ones(3, bool), True)]

    def results(mask: Callable[[np.ndarray, np.ndarray, bool], np.ndarray]) -> list:
        return [mask(real, np.asarray(causal_mask(len(real))), causal) for real, causal in cases]

    right = lambda real, earlier, causal: (earlier | (not causal)) & real[None, :]
    compare(
        "may_see",
        [may_see(real.copy(), causal) for real, causal in cases],
        results(right),
        {
            "your mask is upside down, True where looking is forbidden. Here, and in jax.nn, True means \"may "
            "attend\".": results(lambda *case: ~right(*case)),
            "you struck out the rows of padding, and left its columns: rows are queries, columns keys. Padding is what "
            "nobody may look *at*.": results(lambda real, earlier, causal: (earlier | (not causal)) & real[:, None]),
            "your causal mask is transposed: it shows the future and hides the past. Row 0 is the first query, and may "
            "see only column 0.": results(lambda real, earlier, causal: (earlier.T | (not causal)) & real[None, :]),
            "your causal mask forgets the padding: both rules hold at once.": results(
                lambda real, earlier, causal: earlier if causal else right(real, earlier, causal)),
            "the switch has no effect: where causal is True, a key must be earlier as well.": results(
                lambda real, earlier, causal: right(real, earlier, False)),
            "padding is taken out of the rows as well. Nobody may look *at* it; a row without any True would make a "
            "softmax of nothing, and what padding itself sees is never used.":
                results(lambda real, earlier, causal: right(real, earlier, causal) & real[:, None]),
            "the right places, but as numbers. A mask is boolean: `&` and `~` then mean what they say.":
                results(lambda *case: right(*case).astype(int)),
            "padding is looked at: `real` has no say in your mask.": results(
                lambda real, earlier, causal: earlier | (not causal)),
            "your causal mask has forgotten the padding. Both rules hold at once.": results(
                lambda real, earlier, causal: earlier if causal else earlier | real[None, :]),
            "you joined the two rules with \"or\": a key may be looked at if it is earlier *and* real.": results(
                lambda real, earlier, causal: earlier | real[None, :] if causal else right(real, earlier, causal)),
            "the plain mask is causal too. BERT sees both ways, unless the switch says otherwise.": results(
                lambda real, earlier, causal: earlier & real[None, :]),
            "the switch is the wrong way round: you hide the future where causal is False.": results(
                lambda real, earlier, causal: right(real, earlier, not causal)),
            "no position sees itself in your causal mask. Nothing is predicted from the left here, so nothing is given "
            "away; and position 0 would have nothing to look at.": results(
                lambda real, earlier, causal: right(real, earlier & ~np.eye(len(real), dtype=bool), causal)),
        },
    )  # fmt: skip


def parameters(parameters: Callable[[BertConfig], int]) -> None:
    """`parameters(config)` -> how many parameters an encoder with its pooler has."""
    configs = [
        BertConfig(vocab_size=50, hidden_size=12, num_hidden_layers=3, num_attention_heads=2, intermediate_size=20,
                   max_position_embeddings=7, type_vocab_size=4),
        BertConfig.base(),
    ]  # fmt: skip

    def results(**changes) -> list[int]:
        return [_count(config, **changes) for config in configs]

    compare(
        "parameters",
        [parameters(config) for config in configs],
        results(),
        {
            "the heads do not multiply: they cut the width into pieces. Twelve heads of size 64 are one matrix of "
            "width 768, and four such matrices make an attention.": results(heads=True),
            "you counted no biases. BERT has one at every matrix, and in every norm; T5 has none.": results(
                biases=0, norm=1),
            "the matrices' biases are missing: each has as many as it has outputs.": results(biases=0),
            "a norm has two vectors, a scale and a bias; you counted one of them. (T5's has one.)": results(norm=1),
            "the norms are missing, two in each layer and one over the embeddings: a scale and a bias of width D.":
                results(norm=0),
            "the norm over the embeddings is missing: the sum of the three tables is normalised before the first "
            "layer.": results(embedding_norm=False),
            "a layer has two norms, one after attention and one after the feed-forward. You counted one.":
                results(norms=1),
            "the pooler's bias is missing: it has D of them.": [
                number - config.hidden_size for number, config in zip(results(), configs, strict=True)],
            "that is the number of BERT-base, whatever the configuration. Here any size is asked for.":
                [results()[1]] * 2,
            "the pooler is missing: one more matrix of D by D, and its bias.": results(pooler=False),
            "the positions and token types are missing. They are tables as well, of max_position_embeddings and "
            "type_vocab_size rows.": results(positions=False, types=False),
            "the token types are missing: a table of type_vocab_size rows.": results(types=False),
            "the positions are missing: a table of max_position_embeddings rows.": results(positions=False),
            "the output of attention is missing. Query, key and value are three matrices; a fourth brings the heads "
            "together again.": results(projections=3),
            "a feed-forward has two matrices, from D up to F and back down from F to D. You counted one.":
                results(ups=1),
            "you counted one layer; there are num_hidden_layers, each with parameters of its own.": results(layers=1),
            "you counted the table of words twice. The masked-LM head reads the same table once more; and here only "
            "the encoder is counted.": results(words=2),
        },
        tolerance=0.0,
    )  # fmt: skip


def _count(
    config: BertConfig, *, heads=False, biases=1, norm=2, norms=2, embedding_norm=True, pooler=True, positions=True,
    types=True, projections=4, ups=2, layers=None, words=1,
) -> int:
    """Parameters, right if nothing is said."""
    D, F = config.hidden_size, config.intermediate_size
    rows = config.vocab_size * words + config.max_position_embeddings * positions + config.type_vocab_size * types
    attention = projections * (D * D + D * biases) * (config.num_attention_heads if heads else 1)
    feed_forward = ups * D * F + (F + D * (ups == 2)) * biases
    layer = attention + feed_forward + norms * norm * D
    embeddings = rows * D + embedding_norm * norm * D
    return embeddings + (layers or config.num_hidden_layers) * layer + pooler * (D * D + D * biases)
