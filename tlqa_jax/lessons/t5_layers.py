"""The checks of lesson 4's last exercises: T5's layers, its encoder and its decoder, beside the package's own T5.

The values that a check compares with do not depend on the learner: they are computed once.
"""

from collections.abc import Callable
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from tlqa_jax.core.masks import causal_mask
from tlqa_jax.lessons.checks import NotYet, compare, equal, filled, right
from tlqa_jax.models import layers
from tlqa_jax.models.functional import Params, as_function, as_module
from tlqa_jax.models.layers import Attention, RelativeBias
from tlqa_jax.models.t5 import T5, T5Config, shift_right

INPUTS = jnp.array([[7, 3, 12, 5, 1]])
TARGETS = jnp.array([[9, 4, 6, 2, 8, 3, 11, 5, 7, 10, 12]])  # so long that a decoder's buckets are not an encoder's
Values = tuple[Float[Array, "..."], dict[str, Float[Array, "..."]]]  # what is wanted, and what mistakes lead to


@cache
def small_t5(gated: bool = False) -> tuple[T5, Params]:
    """A T5 of tiny odd sizes whose random parameters all matter. `gated`: T5 1.1, with an output matrix of its own."""
    changes = dict(feed_forward_proj="gated-gelu", tie_word_embeddings=False) if gated else {}
    config = T5Config(
        vocab_size=13, d_model=6, d_kv=4, d_ff=11, num_layers=2, num_decoder_layers=3, num_heads=3, dropout_rate=0.0,
        **changes,
    )  # fmt: skip
    empty, rng = T5(config, rngs=nnx.Rngs(0)), np.random.default_rng(4)
    draw = lambda x: jnp.array((x.ndim == 1) + 0.5 * rng.standard_normal(x.shape), jnp.float32)  # scales are about 1
    params = jax.tree.map(draw, as_function(empty)[1])
    return as_module(empty, params), params


def attend(
    part: Attention, x: Float[Array, "1 L D"], seen: Float[Array, "1 S D"], *, scale=1.0, bias=None, mask=None
) -> Float[Array, "1 L D"]:
    """A part of the package as a mistake would use it: its own scale is always 1."""
    query = layers.swap_heads(layers.project(x, part.query[...]))
    mask = None if mask is None else jnp.array(mask)[None, None]
    attended = layers.attention(query, *part.keys_values(seen), scale=scale, bias=bias, mask=mask)
    return layers.project(layers.swap_heads(attended), part.out[...])


def encoder_layer(encoder_layer: Callable[..., Float[Array, "S D"]]) -> None:
    """`encoder_layer(p, x [S D], bias [H S S])` -> [S D]; `p` are the parameters of the package's EncoderLayer."""
    params, x, bias, values = _encoder_layer()
    compare("encoder_layer", encoder_layer(params, x[0], bias[0]), *values, tolerance=1e-4)


@cache
def _encoder_layer() -> tuple[Params, Array, Array, Values]:
    model, params = small_t5()
    layer, position = model.encoder_layers[0], jnp.arange(5)
    x = jnp.array(2 * np.random.default_rng(5).standard_normal((1, 5, 6)), jnp.float32)
    bias = model.encoder_bias(position, position)
    n1, n2, f = layer.attention_norm, layer.feed_forward_norm, layer.feed_forward

    def a(x, seen=None, **changes):
        return attend(layer.attention, x, x if seen is None else seen, **{"bias": bias, **changes})

    after = lambda h: h + f(n2(h))
    added = x + a(n1(x))
    mistakes = {
        "your norms stand after the sums: that is post-norm, as in BERT. T5 normalises what goes into a part, and the "
        "residual passes by.": n2((h := n1(x + a(x))) + f(h)),
        "you normalise what attention and feed-forward give. The norm stands at their input.":
            (h := x + n1(a(x))) + n2(f(h)),
        "your residual is the normed x. What is added is x as it came in: nothing may change it on its way up.":
            (h := n1(x) + a(n1(x))) + f(n2(h)),
        "your residuals are the normed vectors. What is added is the vector as it came in.":
            n2(h := n1(x) + a(n1(x))) + f(n2(h)),
        "there is no residual around attention: each word's own vector is lost.": after(a(n1(x))),
        "there is no residual around the feed-forward.": f(n2(added)),
        "there is no residual at all: nothing carries a word's vector, or a gradient, past a layer.": f(n2(a(n1(x)))),
        "only the queries are normed. Queries, keys and values all come from the same normed vectors.":
            after(x + a(n1(x), x)),
        "the queries are not normed, only the keys and values are.": after(x + a(x, n1(x))),
        "your scores are divided by sqrt(K). T5 has this factor in its initial W_Q already: scale=1.0.":
            after(x + a(n1(x), scale=4**-0.5)),
        "your scores are divided by K. T5 does not divide at all: scale=1.0.": after(x + a(n1(x), scale=1 / 4)),
        "your scores are divided by sqrt(D). T5 does not divide at all: scale=1.0.": after(x + a(n1(x), scale=6**-0.5)),
        "the relative bias is not handed on: this layer does not know the order of the words.":
            after(x + a(n1(x), bias=None)),
        "there is a causal mask in your encoder. It has all of the input before it, and reads both ways.":
            after(x + a(n1(x), mask=causal_mask(5))),
        "attention's norm is missing.": after(x + a(x)),
        "the feed-forward's norm is missing.": added + f(added),
        "there is no norm: one stands before each of the two parts.": (h := x + a(x)) + f(h),
        "you used attention's norm twice. Each norm has a scale of its own.": added + f(n1(added)),
        "the norms are exchanged.": (h := x + a(n2(x))) + f(n1(h)),
        "your feed-forward reads the layer's input. Attention comes first, and the feed-forward reads the sum after "
        "it.": added + f(n2(x)),
        "the second residual begins at the layer's input. It goes around the feed-forward alone.": x + f(n2(added)),
        "that is the first half of a layer. The feed-forward comes after it, with a norm and a residual of its own.":
            added,
        "attention is missing: no word would hear of another.": after(x),
        "the feed-forward comes first. Attention is the first part of a layer.": (h := x + f(n2(x))) + a(n1(h)),
    }  # fmt: skip
    want = layer(x, bias=bias, mask=None, key=None)[0]
    return params["encoder_0"], x, bias, (want, {message: wrong[0] for message, wrong in mistakes.items()})


def decoder_layer(decoder_layer: Callable[..., Float[Array, "L D"]]) -> None:
    """`decoder_layer(p, x [L D], encoded [S D], bias [H L L])` -> [L D]; `p` is of the package's DecoderLayer."""
    params, x, encoded, bias, values = _decoder_layer()
    try:
        got = decoder_layer(params, x[0], encoded[0], bias[0])
    except (TypeError, ValueError) as error:
        if "broadcast" not in str(error):
            raise
        raise NotYet(
            "decoder_layer: shapes do not fit. Here x has 4 rows and `encoded` has 5. All queries come from x, so each "
            "part gives 4 rows, and what is added to x has 4; bias and causal mask are [4, 4], for self-attention "
            f"only. ({str(error).splitlines()[0]})"
        ) from error
    compare("decoder_layer", got, *values, tolerance=1e-4)


@cache
def _decoder_layer() -> tuple[Params, Array, Array, Array, Values]:
    model, params = small_t5()
    layer, position, rng = model.decoder_layers[0], jnp.arange(4), np.random.default_rng(6)
    x, encoded = (jnp.array(2 * rng.standard_normal((1, length, 6)), jnp.float32) for length in (4, 5))
    bias, past = model.decoder_bias(position, position), causal_mask(4)
    n1, n2, n3, f = layer.self_attention_norm, layer.cross_attention_norm, layer.feed_forward_norm, layer.feed_forward

    def s(x, seen=None, part=layer.self_attention, **changes):
        return attend(part, x, x if seen is None else seen, **{"bias": bias, "mask": past, **changes})

    def c(x, seen=encoded, part=layer.cross_attention, **changes):
        return attend(part, x, seen, **changes)

    first = x + s(n1(x))
    second = first + c(n2(first))
    last = lambda h: h + f(n3(h))
    rest = lambda h: last(h + c(n2(h)))
    mistakes = {
        "your norms stand after the sums: that is post-norm, as in BERT. T5 normalises what goes into a part, and the "
        "residual passes by.": n3((h := n2((g := n1(x + s(x))) + c(g))) + f(h)),
        "you normalise what each part gives. The norm stands at its input.":
            (h := (g := x + n1(s(x))) + n2(c(g))) + n3(f(h)),
        "there is no residual around self-attention.": rest(s(n1(x))),
        "there is no residual around cross-attention: what has been written so far is lost.": last(c(n2(first))),
        "there is no residual around the feed-forward.": f(n3(second)),
        "there is no residual at all: nothing carries a vector, or a gradient, past a layer.": f(n3(c(n2(s(n1(x)))))),
        "your residuals are the normed vectors. What is added is the vector as it came in.":
            n3(h := n2(g := n1(x) + s(n1(x))) + c(n2(g))) + f(n3(h)),
        "the causal mask is missing: a position sees the words that it is to predict, and learns to copy them.":
            rest(x + s(n1(x), mask=None)),
        "your causal mask shows the future and hides the past. Row = query, column = key.":
            rest(x + s(n1(x), mask=past.T)),
        "there is a causal mask over the encoder's states too: position i would read inputs 0 to i only. All of the "
        "input is there before the first word is written.": last(first + c(n2(first), mask=np.tri(4, 5, dtype=bool))),
        "your causal mask is over the encoder's states, and self-attention has none. It is the other way round.":
            last((h := x + s(n1(x), mask=None)) + c(n2(h), mask=np.tri(4, 5, dtype=bool))),
        "the keys and values of your cross-attention come from the decoder. Only its queries do; it looks at "
        "`encoded`, and without that nothing of the input is ever read.": last(first + c(n2(first), n2(first))),
        "the keys and values of your cross-attention come from the decoder, and are not even normed. It looks at "
        "`encoded`.": last(first + c(n2(first), first)),
        "the encoder's states are normed once more. They come out of the encoder's last norm; the norm in this layer "
        "is for the queries.": last(first + c(n2(first), n2(encoded))),
        "your scores are divided by sqrt(K). T5 has this factor in its initial W_Q already: scale=1.0, in both "
        "attentions.": last((h := x + s(n1(x), scale=0.5)) + c(n2(h), scale=0.5)),
        "the scores of self-attention are divided by sqrt(K): scale=1.0.": rest(x + s(n1(x), scale=0.5)),
        "the scores of cross-attention are divided by sqrt(K): scale=1.0.": last(first + c(n2(first), scale=0.5)),
        "the relative bias is not handed on to self-attention.": rest(x + s(n1(x), bias=None)),
        "cross-attention is missing: that is an encoder's layer with a causal mask. Nothing of the input is read.":
            last(first),
        "self-attention is missing: the decoder does not see what has been written.": rest(x),
        "the feed-forward is missing.": second,
        "cross-attention comes before self-attention. First the decoder looks at what is written, then at the input.":
            last((h := x + c(n2(x))) + s(n1(h))),
        "both attentions use the parameters of self-attention. Each has its own.":
            last(first + c(n2(first), part=layer.self_attention)),
        "the parameters of the two attentions are exchanged.":
            last((h := x + s(n1(x), part=layer.cross_attention)) + c(n2(h), part=layer.self_attention)),
        "self-attention's norm is missing.": rest(x + s(x)),
        "cross-attention's norm is missing.": last(first + c(first)),
        "the feed-forward's norm is missing.": second + f(second),
        "there is no norm: one stands before each of the three parts.": (h := (g := x + s(x)) + c(g)) + f(h),
        "you used one norm three times. Each has a scale of its own.": (h := first + c(n1(first))) + f(n1(h)),
        "cross-attention reads the layer's input. Its queries come from the sum after self-attention.":
            last(first + c(n2(x))),
        "only the queries of self-attention are normed. Its keys and values come from the same normed vectors.":
            rest(x + s(n1(x), x)),
    }  # fmt: skip
    want = layer(x, layer.cross_attention.keys_values(encoded), bias=bias, self_mask=past[None, None], cross_mask=None)
    values = want[0][0], {message: wrong[0] for message, wrong in mistakes.items()}
    return params["decoder_0"], x, encoded, bias, values


def whole_t5(encode: Callable[..., Float[Array, "S D"]], decode: Callable[..., Float[Array, "L V"]]) -> None:
    """`encode(p, inputs [S], layers)` -> [S D]; `decode(p, targets [L], encoded [S D], layers)` -> logits [L V]."""
    both = [small_t5(gated) for gated in (False, True)]
    logits = [decode(params, TARGETS[0], model.encode(INPUTS)[0], 3) for model, params in both]
    parts = {"encode": (encode(both[0][1], INPUTS[0], 2), *_encode()), "decode": (logits, *_decode())}
    for name, (got, want, mistakes) in parts.items():
        if not equal(filled(got, name), want, 1e-4):
            compare(name, got, want, mistakes, tolerance=1e-4)
    right("encode and decode")


@cache
def _encode() -> Values:
    (model, params), position = small_t5(), jnp.arange(5)
    bias, norm, stack = (
        model.encoder_bias(position, position),
        model.encoder_norm,
        [params[f"encoder_{i}"] for i in range(2)],
    )
    layer = jax.jit(as_function(model.encoder_layers[0])[0])  # of the parameters of any layer
    decoder_bias = model.decoder_bias(position, position)
    backwards = jnp.moveaxis(bias, -1, -2)

    def states(layers=stack, biases=(bias, bias), first=lambda x: x, each=lambda x: x, last=norm, mask=None):
        x = first(model.embedding(INPUTS))
        for p, its_bias in zip(layers, biases, strict=False):
            x = each(layer(p, x, bias=its_bias, mask=mask, key=None))
        return last(x)[0]

    return model.encode(INPUTS)[0], {
        "the last norm is missing. A residual stream grows with each layer; T5 norms it once more at the end.":
            states(last=lambda x: x),
        "the last norm is in the loop: it comes once, after the last layer.": states(each=norm, last=lambda x: x),
        "the last norm is in the loop as well: it comes once, after the last layer.": states(each=norm),
        "the last norm is the decoder's. The encoder's is p[\"encoder_norm\"].": states(last=model.decoder_norm),
        "the embeddings are multiplied by sqrt(D). The first transformer did that (Vaswani et al. 2017), T5 does not.":
            states(first=lambda x: 6**0.5 * x),
        "the embeddings are multiplied by 1/sqrt(D). That comes before the logits, and nowhere else.":
            states(first=lambda x: 6**-0.5 * x),
        "the embeddings are normed. The first norm is inside the first layer, and x itself stays as it is.":
            states(first=norm),
        "the relative bias is missing: nothing knows the order of the words.": states(biases=(0 * bias, 0 * bias)),
        "only the first layer has the relative bias. All layers share it.": states(biases=(bias, 0 * bias)),
        "your relative bias is that of the decoder. The encoder has a table of its own, and reads both ways.":
            states(biases=(decoder_bias,) * 2),
        "your buckets are those of the decoder: the encoder's are bidirectional.":
            states(biases=(_one_way(model.encoder_bias, 5),) * 2),
        "your relative bias is transposed: rows are queries, columns keys.": states(biases=(backwards,) * 2),
        "every layer has the parameters of the first: p[f\"encoder_{i}\"].": states([stack[0]] * 2),
        "only the first layer is computed: there are `layers` of them.": states(stack[:1]),
        "the layers are in the wrong order.": states(stack[::-1]),
        "each layer reads the embeddings: it has to read what the layer before it gives.": states(stack[1:]),
        "there is a causal mask in your encoder.": states(mask=causal_mask(5)[None, None]),
        "these are the embeddings, normed: the layers have no effect.": states([]),
    }  # fmt: skip


@cache
def _decode() -> tuple[list, dict[str, list]]:
    length = TARGETS.shape[1]
    position, past = jnp.arange(length), causal_mask(length)[None, None]
    models = [small_t5(gated)[0] for gated in (False, True)]
    encoded = [model.encode(INPUTS) for model in models]
    layers = [jax.jit(as_function(model.decoder_layers[0])[0]) for model in models]  # of the parameters of any layer

    def logits(gated, *, shift=shift_right, biases=None, same=(0, 1, 2), last=None, tied=None, scale=None, end=None):
        model, params = small_t5(gated)
        bias = model.decoder_bias(position, position) if biases is None else biases(model)
        x = model.embedding(shift(TARGETS))
        for number in same:
            cross = model.decoder_layers[number].cross_attention.keys_values(encoded[gated])
            x, _ = layers[gated](params[f"decoder_{number}"], x, cross, bias=bias, self_mask=past, cross_mask=None)
        x = (last or (lambda model: model.decoder_norm))(model)(x)
        x = x * (1.0 if gated else 6**-0.5) if scale is None else x * scale(gated)
        table = model.embedding.table[...].T
        product = x @ (model.output[...] if gated and not tied else table)
        return product[0] if end is None else end(product[0])

    def both(**slip) -> list:
        return [logits(gated, **slip) for gated in (False, True)]

    return [model(INPUTS, shift_right(TARGETS))[0] for model in models], {
        "the targets are not shifted: position i sees target i, and would learn to copy it.": both(shift=lambda y: y),
        "the targets are shifted to the left. The decoder's input is one step *late*: position i has target i - 1.":
            both(shift=lambda y: jnp.pad(y[:, 1:], ((0, 0), (0, 1)))),
        "the last target stands in front: jnp.roll brings it there. The start token is 0.":
            both(shift=lambda y: jnp.roll(y, 1, axis=1)),
        "your start token is the end token, 1. T5's is the padding token, 0.":
            both(shift=lambda y: shift_right(y, 1)),
        "the last norm is missing.": both(last=lambda model: lambda x: x),
        "the last norm is the encoder's. The decoder has its own.": both(last=lambda model: model.encoder_norm),
        "the factor 1/sqrt(D) before the tied table is missing: at the start of training the logits would be too large "
        "by sqrt(D).": both(scale=lambda gated: 1.0),
        "T5 1.1 is scaled as well. The factor 1/sqrt(D) belongs to the tied table; with its own output matrix there is "
        "none.": both(scale=lambda gated: 6**-0.5),
        "you multiply by sqrt(D): the factor is x.shape[-1] ** -0.5.": both(scale=lambda gated: 1 if gated else 6**0.5),
        "you divide by D, not by its root.": both(scale=lambda gated: 1 if gated else 1 / 6),
        "the scaling is the wrong way round: the tied table (1.0) has it, the output matrix (1.1) does not.":
            both(scale=lambda gated: 6**-0.5 if gated else 1.0),
        "T5 1.1 has an output matrix of its own, p[\"output\"]. You used the table of embeddings.": both(tied=True),
        "T5 1.1 has an output matrix of its own, p[\"output\"], without 1/sqrt(D). You used the scaled table.":
            both(tied=True, scale=lambda gated: 6**-0.5),
        "the relative bias is missing: the decoder does not know the order of what it has written.":
            both(biases=lambda model: 0 * model.decoder_bias(position, position)),
        "your relative bias is that of the encoder. The decoder has a table of its own, and looks only back.":
            both(biases=lambda model: model.encoder_bias(position, position)),
        "your buckets are those of the encoder: the decoder's are not bidirectional.":
            both(biases=lambda model: _one_way(model.decoder_bias, length, bidirectional=True)),
        "every layer has the parameters of the first: p[f\"decoder_{i}\"].": both(same=[0, 0, 0]),
        "only the first layer is computed: there are `layers` of them.": both(same=[0]),
        "the layers are in the wrong order.": both(same=[2, 1, 0]),
        "these are probabilities. The model hands on logits, and the loss takes the softmax.": both(end=jax.nn.softmax),
        "these are log-probabilities. The model hands on logits, and the loss takes the softmax.":
            both(end=jax.nn.log_softmax),
        "each row is the most probable token. Wanted are the logits of all.": both(end=lambda x: x.argmax(axis=-1)),
    }  # fmt: skip


def _one_way(bias: RelativeBias, length: int, bidirectional: bool = False) -> Float[Array, "1 H L L"]:
    """The biases of a table that is read with the buckets of the other half of the model."""
    other = RelativeBias(*bias.table.shape[::-1], bias.max_distance, 0.0, bidirectional=bidirectional, rngs=nnx.Rngs(0))
    other.table[...] = bias.table[...]
    return other(jnp.arange(length), jnp.arange(length))
