"""What learners try who assemble T5 (lesson 4) and BERT (lesson 7) from parts: exercise -> (check, right, wrong)."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import softmax

from tlqa_jax.core.relative_positions import relative_position_bucket
from tlqa_jax.lessons import bert, t5

from .attempts_models import BLOCK, normed


def rms(p, x):  # in numpy, which is quicker here: nothing is compiled
    return x / np.sqrt(np.mean(np.square(x), axis=-1, keepdims=True) + 1e-6) * np.asarray(p["scale"])


def look(p, x, seen, *, scale=1.0, bias=0.0, mask=True):
    p = {name: np.asarray(array) for name, array in p.items()}
    query = np.einsum("ld,dhk->hlk", x, p["query"])
    key, value = (np.einsum("sd,dhk->hsk", seen, p[name]) for name in ("key", "value"))
    scores = scale * np.einsum("hlk,hsk->hls", query, key) + np.asarray(bias)
    mixed = np.einsum("hls,hsk->hlk", softmax(np.where(mask, scores, -1e30), axis=-1), value)
    return np.einsum("hlk,hkd->ld", mixed, p["out"])


def expand(p, x):
    p = {name: np.asarray(array) for name, array in p.items()}
    gelu = lambda x: x / 2 * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3)))
    return (gelu(x @ p["gate"]) * (x @ p["up"]) if "gate" in p else np.maximum(x @ p["up"], 0)) @ p["down"]


def of_encoder(formula):
    """From a formula of x, attention, feed-forward and the two norms."""

    def layer(p, x, bias):
        def attention(x, seen=None, **changes):
            return look(p["attention"], x, x if seen is None else seen, **{"bias": bias, **changes})

        norms = (lambda x: rms(p["attention_norm"], x)), (lambda x: rms(p["feed_forward_norm"], x))
        return formula(np.asarray(x), attention, lambda x: expand(p["feed_forward"], x), *norms)

    return layer


def jax_nn_scales(p, x, bias):
    """jax.nn's own attention, which divides by sqrt(K) unless told otherwise."""
    normed, a = rms(p["attention_norm"], x), p["attention"]
    q, k, v = (jnp.einsum("ld,dhk->lhk", normed, a[name])[None] for name in ("query", "key", "value"))
    h = x + jnp.einsum("lhk,hkd->ld", jax.nn.dot_product_attention(q, k, v, bias=bias[None])[0], a["out"])
    return h + expand(p["feed_forward"], rms(p["feed_forward_norm"], h))


def right_encoder_layer(p, x, bias):
    return of_encoder(lambda x, a, f, n1, n2: (h := x + a(n1(x))) + f(n2(h)))(p, x, bias)


ENCODER_LAYER = (
    t5.encoder_layer,
    {
        "two lines": right_encoder_layer,
        "sums the other way round": of_encoder(lambda x, a, f, n1, n2: f(n2(h := a(n1(x)) + x)) + h),
        "a mask of ones": of_encoder(
            lambda x, a, f, n1, n2: (h := x + a(n1(x), mask=np.ones((5, 5), bool))) + f(n2(h))),
    },
    {
        "post-norm": of_encoder(lambda x, a, f, n1, n2: n2((h := n1(x + a(x))) + f(h))),
        "norm of the part": of_encoder(lambda x, a, f, n1, n2: (h := x + n1(a(x))) + n2(f(h))),
        "x is overwritten by its norm": of_encoder(lambda x, a, f, n1, n2: n2(h := n1(x) + a(n1(x))) + f(n2(h))),
        "first residual normed": of_encoder(lambda x, a, f, n1, n2: (h := n1(x) + a(n1(x))) + f(n2(h))),
        "no residual": of_encoder(lambda x, a, f, n1, n2: f(n2(a(n1(x))))),
        "no residual of attention": of_encoder(lambda x, a, f, n1, n2: (h := a(n1(x))) + f(n2(h))),
        "no residual of the feed-forward": of_encoder(lambda x, a, f, n1, n2: f(n2(x + a(n1(x))))),
        "keys not normed": of_encoder(lambda x, a, f, n1, n2: (h := x + a(n1(x), x)) + f(n2(h))),
        "queries not normed": of_encoder(lambda x, a, f, n1, n2: (h := x + a(x, n1(x))) + f(n2(h))),
        "scaled": of_encoder(lambda x, a, f, n1, n2: (h := x + a(n1(x), scale=4**-0.5)) + f(n2(h))),
        "scaled by K": of_encoder(lambda x, a, f, n1, n2: (h := x + a(n1(x), scale=1 / 4)) + f(n2(h))),
        "scaled by the width": of_encoder(lambda x, a, f, n1, n2: (h := x + a(n1(x), scale=6**-0.5)) + f(n2(h))),
        "jax.nn, which scales": jax_nn_scales,
        "no bias": of_encoder(lambda x, a, f, n1, n2: (h := x + a(n1(x), bias=0.0)) + f(n2(h))),
        "causal": of_encoder(lambda x, a, f, n1, n2: (h := x + a(n1(x), mask=np.tri(5, dtype=bool))) + f(n2(h))),
        "no norm": of_encoder(lambda x, a, f, n1, n2: (h := x + a(x)) + f(h)),
        "no first norm": of_encoder(lambda x, a, f, n1, n2: (h := x + a(x)) + f(n2(h))),
        "no second norm": of_encoder(lambda x, a, f, n1, n2: (h := x + a(n1(x))) + f(h)),
        "one norm twice": of_encoder(lambda x, a, f, n1, n2: (h := x + a(n1(x))) + f(n1(h))),
        "norms exchanged": of_encoder(lambda x, a, f, n1, n2: (h := x + a(n2(x))) + f(n1(h))),
        "in parallel": of_encoder(lambda x, a, f, n1, n2: x + a(n1(x)) + f(n2(x))),
        "second residual from the input": of_encoder(lambda x, a, f, n1, n2: x + f(n2(x + a(n1(x))))),
        "attention alone": of_encoder(lambda x, a, f, n1, n2: x + a(n1(x))),
        "feed-forward alone": of_encoder(lambda x, a, f, n1, n2: x + f(n2(x))),
        "feed-forward first": of_encoder(lambda x, a, f, n1, n2: (h := x + f(n2(x))) + a(n1(h))),
        "three norms": of_encoder(lambda x, a, f, n1, n2: n2((h := x + a(n1(x))) + f(n2(h)))),
        "negative residual": of_encoder(lambda x, a, f, n1, n2: (h := x - a(n1(x))) + f(n2(h))),
    },
)  # fmt: skip


def of_decoder(formula):
    """From a formula of x, encoded, self-attention, cross-attention, feed-forward and the three norms."""

    def layer(p, x, encoded, bias):
        def attention(x, seen=None, part="self_attention", **changes):
            changes = {"bias": bias, "mask": np.tri(len(x), dtype=bool), **changes}
            return look(p[part], x, x if seen is None else seen, **changes)

        def cross(x, seen=encoded, part="cross_attention", **changes):
            return look(p[part], x, seen, **changes)

        norms = [lambda x, name=name: rms(p[f"{name}_norm"], x)
                 for name in ("self_attention", "cross_attention", "feed_forward")]  # fmt: skip
        return formula(np.asarray(x), encoded, attention, cross, lambda x: expand(p["feed_forward"], x), *norms)

    return layer


def right_decoder_layer(p, x, encoded, bias):
    return of_decoder(
        lambda x, e, s, c, f, n1, n2, n3: (h := (g := x + s(n1(x))) + c(n2(g))) + f(n3(h))
    )(p, x, encoded, bias)  # fmt: skip


def first_of(**slip):
    """The right layer but for a slip in self-attention."""
    return of_decoder(lambda x, e, s, c, f, n1, n2, n3: (h := (g := x + s(n1(x), **slip)) + c(n2(g))) + f(n3(h)))


def second_of(seen=lambda g, e, n2: e, **slip):
    """The right layer but for a slip in cross-attention."""
    return of_decoder(lambda x, e, s, c, f, n1, n2, n3: (
        h := (g := x + s(n1(x))) + c(n2(g), seen(g, e, n2), **slip)) + f(n3(h)))  # fmt: skip


DECODER_LAYER = (
    t5.decoder_layer,
    {
        "three lines": right_decoder_layer,
        "masks in numbers": first_of(mask=np.tri(4)),
        "a mask of ones for the input": second_of(mask=np.ones((4, 5), bool)),
    },
    {
        "post-norm": of_decoder(lambda x, e, s, c, f, n1, n2, n3: n3((h := n2((g := n1(x + s(x))) + c(g))) + f(h))),
        "norm of the part": of_decoder(
            lambda x, e, s, c, f, n1, n2, n3: (h := (g := x + n1(s(x))) + n2(c(g))) + n3(f(h))),
        "no residual": of_decoder(lambda x, e, s, c, f, n1, n2, n3: f(n3(c(n2(s(n1(x))))))),
        "no residual of self-attention": of_decoder(
            lambda x, e, s, c, f, n1, n2, n3: (h := (g := s(n1(x))) + c(n2(g))) + f(n3(h))),
        "no residual of cross-attention": of_decoder(
            lambda x, e, s, c, f, n1, n2, n3: (h := c(n2(x + s(n1(x))))) + f(n3(h))),
        "no residual of the feed-forward": of_decoder(
            lambda x, e, s, c, f, n1, n2, n3: f(n3((g := x + s(n1(x))) + c(n2(g))))),
        "x is overwritten by its norm": of_decoder(lambda x, e, s, c, f, n1, n2, n3: n3(
            h := n2(g := n1(x) + s(n1(x))) + c(n2(g))) + f(n3(h))),
        "no causal mask": first_of(mask=True),
        "future": first_of(mask=np.tri(4, dtype=bool).T),
        "not itself": first_of(mask=np.tri(4, k=-1, dtype=bool)),
        "causal over the input too": second_of(mask=np.tri(4, 5, dtype=bool)),
        "causal over the input alone": of_decoder(lambda x, e, s, c, f, n1, n2, n3: (
            h := (g := x + s(n1(x), mask=True)) + c(n2(g), mask=np.tri(4, 5, dtype=bool))) + f(n3(h))),
        "keys from the decoder": second_of(lambda g, e, n2: n2(g)),
        "keys from the decoder, not normed": second_of(lambda g, e, n2: g),
        "encoder's states normed again": second_of(lambda g, e, n2: n2(e)),
        "scaled": of_decoder(lambda x, e, s, c, f, n1, n2, n3: (
            h := (g := x + s(n1(x), scale=0.5)) + c(n2(g), scale=0.5)) + f(n3(h))),
        "self-attention scaled": first_of(scale=0.5),
        "cross-attention scaled": second_of(scale=0.5),
        "no bias": first_of(bias=0.0),
        "an encoder's layer": of_decoder(lambda x, e, s, c, f, n1, n2, n3: (h := x + s(n1(x))) + f(n3(h))),
        "no self-attention": of_decoder(lambda x, e, s, c, f, n1, n2, n3: (h := x + c(n2(x))) + f(n3(h))),
        "no feed-forward": of_decoder(lambda x, e, s, c, f, n1, n2, n3: (g := x + s(n1(x))) + c(n2(g))),
        "cross-attention first": of_decoder(
            lambda x, e, s, c, f, n1, n2, n3: (h := (g := x + c(n2(x))) + s(n1(g))) + f(n3(h))),
        "self-attention's parameters twice": second_of(part="self_attention"),
        "attentions exchanged": of_decoder(lambda x, e, s, c, f, n1, n2, n3: (
            h := (g := x + s(n1(x), part="cross_attention")) + c(n2(g), part="self_attention")) + f(n3(h))),
        "no first norm": of_decoder(
            lambda x, e, s, c, f, n1, n2, n3: (h := (g := x + s(x)) + c(n2(g))) + f(n3(h))),
        "no second norm": of_decoder(
            lambda x, e, s, c, f, n1, n2, n3: (h := (g := x + s(n1(x))) + c(g)) + f(n3(h))),
        "no third norm": of_decoder(
            lambda x, e, s, c, f, n1, n2, n3: (h := (g := x + s(n1(x))) + c(n2(g))) + f(h)),
        "no norm": of_decoder(lambda x, e, s, c, f, n1, n2, n3: (h := (g := x + s(x)) + c(g)) + f(h)),
        "one norm": of_decoder(
            lambda x, e, s, c, f, n1, n2, n3: (h := (g := x + s(n1(x))) + c(n1(g))) + f(n1(h))),
        "cross-attention of the input of the layer": of_decoder(
            lambda x, e, s, c, f, n1, n2, n3: (h := x + s(n1(x)) + c(n2(x))) + f(n3(h))),
        "keys not normed": of_decoder(
            lambda x, e, s, c, f, n1, n2, n3: (h := (g := x + s(n1(x), x)) + c(n2(g))) + f(n3(h))),
        "bias in cross-attention": of_decoder(lambda x, e, s, c, f, n1, n2, n3: (
            h := (g := x + s(n1(x))) + c(n2(g), bias=np.ones((3, 4, 4)))) + f(n3(h))),
        "causal mask of self-attention in cross-attention": second_of(mask=np.tri(4, dtype=bool)),
        "queries from the encoder": of_decoder(lambda x, e, s, c, f, n1, n2, n3: (
            h := (g := x + s(n1(x))) + c(n2(np.asarray(e)), n2(g))) + f(n3(h))),
        "one norm at the end": of_decoder(
            lambda x, e, s, c, f, n1, n2, n3: n3((h := (g := x + s(n1(x))) + c(n2(g))) + f(n3(h)))),
    },
)  # fmt: skip


def bias_of(p, length, bidirectional):
    position = np.arange(length)
    bucket = relative_position_bucket(jnp.array(position[None, :] - position[:, None]), bidirectional=bidirectional)
    return np.moveaxis(np.asarray(p["table"])[np.asarray(bucket)], -1, 0)


def encoded(p, inputs, layers, *, start=lambda p, x: x, bias="encoder", both=True, same=None, norm="encoder_norm",
            every=False, layer=right_encoder_layer, biases=lambda i, bias: bias):  # fmt: skip
    x = start(p, np.asarray(p["embedding"]["table"])[np.asarray(inputs)])
    bias = bias_of(p[f"{bias}_bias"], len(inputs), both)
    for i in range(layers) if same is None else same:
        x = layer(p[f"encoder_{i}"], x, biases(i, bias))
        x = rms(p["encoder_norm"], x) if every else x
    return rms(p[norm], x) if norm else x


def decoded(
    p, targets, states, layers, *, shift=lambda y: jnp.pad(y[:-1], (1, 0)), bias="decoder", both=False, same=None,
    norm="decoder_norm", tied=True, own=True, out=lambda x: x, biases=lambda bias: bias,
):  # fmt: skip
    x = np.asarray(p["embedding"]["table"])[np.asarray(shift(targets))]
    bias = biases(bias_of(p[f"{bias}_bias"], len(targets), both))
    for i in range(layers) if same is None else same:
        x = right_decoder_layer(p[f"decoder_{i}"], x, states, bias)
    x = rms(p[norm], x) if norm else x
    factor = lambda setting: {True: x.shape[-1] ** -0.5, False: 1.0}.get(setting, setting)
    if "output" in p and own is not None:
        return out(factor(not own) * x @ np.asarray(p["output"]))
    return out(factor(tied) * x @ np.asarray(p["embedding"]["table"]).T)


def encode_with(**slip):
    return (lambda *case: encoded(*case, **slip)), decoded


def decode_with(**slip):
    return encoded, (lambda *case: decoded(*case, **slip))


WHOLE_T5 = (
    lambda pair: t5.whole_t5(*pair),
    {
        "loops": (encoded, decoded),
        "concatenated": decode_with(shift=lambda y: jnp.concatenate([jnp.zeros(1, y.dtype), y[:-1]])),
        "logits scaled": (encoded, lambda p, *case: decoded(p, *case, tied=False) * (1 if "output" in p else 6**-0.5)),
        "numpy's targets": decode_with(shift=lambda y: np.array([0, *y[:-1]])),
    },
    {
        "no last norm of the encoder": encode_with(norm=None),
        "norm in the loop": encode_with(norm=None, every=True),
        "norm in the loop too": encode_with(every=True),
        "decoder's norm": encode_with(norm="decoder_norm"),
        "embeddings times sqrt(D)": encode_with(start=lambda p, x: x * 6**0.5),
        "embeddings by sqrt(D)": encode_with(start=lambda p, x: x * 6**-0.5),
        "embeddings normed": encode_with(start=lambda p, x: rms(p["encoder_norm"], x)),
        "no bias": encode_with(biases=lambda i, bias: 0 * bias),
        "bias in the first layer": encode_with(biases=lambda i, bias: bias if i == 0 else 0 * bias),
        "decoder's table": encode_with(bias="decoder", both=False),
        "decoder's buckets": encode_with(both=False),
        "decoder's table, both ways": encode_with(bias="decoder"),
        "transposed bias": encode_with(biases=lambda i, bias: bias.swapaxes(1, 2)),
        "first layer twice": encode_with(same=[0, 0]),
        "first layer alone": encode_with(same=[0]),
        "last layer alone": encode_with(same=[1]),
        "no layer": encode_with(same=[]),
        "layers backwards": encode_with(same=[1, 0]),
        "causal encoder": encode_with(layer=of_encoder(
            lambda x, a, f, n1, n2: (h := x + a(n1(x), mask=np.tri(5, dtype=bool))) + f(n2(h)))),
        "not shifted": decode_with(shift=lambda y: y),
        "shifted left": decode_with(shift=lambda y: jnp.pad(y[1:], (0, 1))),
        "rolled": decode_with(shift=lambda y: jnp.roll(y, 1)),
        "begins with the end": decode_with(shift=lambda y: jnp.pad(y[:-1], (1, 0), constant_values=1)),
        "one position more": decode_with(shift=lambda y: jnp.pad(y, (1, 0)), biases=lambda bias: bias[:, :1, :1]),
        "no last norm": decode_with(norm=None),
        "encoder's norm": decode_with(norm="encoder_norm"),
        "not scaled": decode_with(tied=False),
        "always scaled": decode_with(own=False),
        "scaled the wrong way round": decode_with(tied=False, own=False),
        "times sqrt(D)": decode_with(tied=6**0.5),
        "by D": decode_with(tied=1 / 6),
        "always the table": decode_with(tied=True, own=None),
        "always the table, not scaled": decode_with(tied=False, own=None),
        "no decoder's bias": decode_with(biases=lambda bias: 0 * bias),
        "encoder's table": decode_with(bias="encoder", both=True),
        "encoder's buckets": decode_with(both=True),
        "decoder's first layer three times": decode_with(same=[0, 0, 0]),
        "decoder's first layer alone": decode_with(same=[0]),
        "decoder's layers backwards": decode_with(same=[2, 1, 0]),
        "probabilities": decode_with(out=jax.nn.softmax),
        "log-probabilities": decode_with(out=jax.nn.log_softmax),
        "most probable": decode_with(out=lambda x: x.argmax(axis=-1)),
        "the input is not read": (encoded, lambda p, y, states, n: decoded(p, y, 0 * states, n)),
    },
)  # fmt: skip


TABLES = ("word", "position", "token_type")


def embedded(p, tokens, token_types, *, rows=lambda L: np.arange(L), types=lambda t: t, parts=TABLES, join=sum,
             norm=lambda p, x: normed(x, **p), before=lambda name, x: x, after=()):  # fmt: skip
    which = {"word": tokens, "position": rows(len(tokens)), "token_type": types(token_types)}
    x = {name: before(name, p[name]["table"][which[name]]) for name in parts}
    return norm(p["norm"], join([x[name] for name in parts if name not in after])) + sum(x[name] for name in after)


def embed_with(**slip):
    return lambda *case: embedded(*case, **slip)


def one_hot(p, tokens, token_types):
    rows = {"word": tokens, "position": np.arange(len(tokens)), "token_type": token_types}
    tables = {name: p[name]["table"] for name in rows}
    return normed(sum(jax.nn.one_hot(rows[name], len(x)) @ x for name, x in tables.items()), **p["norm"])


EMBED = (
    bert.embed,
    {
        "three rows": embedded,
        "one-hot": one_hot,
        "mean of the three": embed_with(join=lambda x: sum(x) / 3),  # the norm takes the factor out again
        "taken": lambda p, tokens, types: normed(
            jnp.take(p["word"]["table"], tokens, axis=0) + p["position"]["table"][: tokens.shape[0]]
            + jnp.take(p["token_type"]["table"], types, axis=0), **p["norm"]),
    },
    {
        "no norm": embed_with(norm=lambda p, x: x),
        "words alone": embed_with(parts=("word",)),
        "no positions": embed_with(parts=("word", "token_type")),
        "no types": embed_with(parts=("word", "position")),
        "positions by ids": lambda p, tokens, types: embedded(p, tokens, types, rows=lambda L: np.minimum(tokens, 8)),
        "positions from 1": embed_with(rows=lambda L: 1 + np.arange(L)),
        "RoBERTa's positions": embed_with(rows=lambda L: 2 + np.arange(L)),
        "last rows": embed_with(rows=lambda L: 9 - L + np.arange(L)),
        "first row for all": embed_with(rows=lambda L: np.zeros(L, int)),
        "positions anew": embed_with(rows=lambda L: np.array([0, 1, 2, 0, 1, 2])),
        "positions backwards": embed_with(rows=lambda L: np.arange(L)[::-1]),
        "numbers of positions": embed_with(before=lambda name, x: np.arange(6.0)[:, None] if name == "position" else x),
        "numbers of types": embed_with(
            before=lambda name, x: np.array([0, 0, 0, 1.0, 1, 0])[:, None] if name == "token_type" else x),
        "type 0": embed_with(types=lambda t: 0 * t),
        "type 1": embed_with(types=lambda t: 0 * t + 1),
        "types exchanged": embed_with(types=lambda t: 1 - t),
        "norm of the words": embed_with(after=("position", "token_type")),
        "types after the norm": embed_with(after=("token_type",)),
        "positions after the norm": embed_with(after=("position",)),
        "three norms": lambda p, tokens, types: sum(
            embedded(p, tokens, types, parts=(name,)) for name in ("word", "position", "token_type")),
        "words times sqrt(D)": embed_with(before=lambda name, x: x * 6**0.5 if name == "word" else x),
        "product": embed_with(join=lambda x: x[0] * x[1] * x[2]),
        "side by side": embed_with(join=lambda x: jnp.concatenate(x, axis=-1), norm=lambda p, x: x),
        "norm without scale and bias": embed_with(norm=lambda p, x: normed(x, 1.0, 0.0)),
        "RMSNorm": embed_with(norm=lambda p, x: rms(p, x) + p["bias"]),
        "norm over the positions": embed_with(norm=lambda p, x: normed(x, **p, axis=0)),
    },
)  # fmt: skip


def pool(p, vector, *, act=jnp.tanh, matrix=lambda m: m, bias=1):
    return act(vector @ matrix(p["pooler"]["matrix"]) + bias * p["pooler"]["bias"])


def bert_of(p, tokens, types, may_see, layers, *, same=None, pooled=lambda p, last, first: pool(p, last[0]),
            block=BLOCK[1]["two lines"], mask=lambda m: m, types_of=lambda t: t, end=lambda p, x: x):  # fmt: skip
    x = start = embedded(p["embeddings"], tokens, types_of(types))
    for i in range(layers) if same is None else same:
        x = block(p[f"layer_{i}"], x, mask(may_see))
    return end(p, x), pooled(p, end(p, x), start)


def bert_with(**slip):
    return lambda *case: bert_of(*case, **slip)


def pooled_with(vector=lambda last: last[0], **slip):
    return bert_with(pooled=lambda p, last, start: pool(p, vector(last), **slip))


ENCODE = (
    bert.encode,
    {
        "loop": bert_of,
        "a list": lambda *case: list(bert_of(*case)),
        "pooled of all, then the first": bert_with(pooled=lambda p, last, start: pool(p, last)[0]),
    },
    {
        "first layer three times": bert_with(same=[0, 0, 0]),
        "first layer alone": bert_with(same=[0]),
        "one layer too few": bert_with(same=[0, 1]),
        "from 1": bert_with(same=[1, 2]),
        "last layer alone": bert_with(same=[2]),
        "backwards": bert_with(same=[2, 1, 0]),
        "no layer": bert_with(same=[]),
        "a residual more": bert_with(block=lambda *case: case[1] + BLOCK[1]["two lines"](*case)),
        "pre-norm blocks": bert_with(block=BLOCK[2]["pre-norm"]),
        "T5's last norm": bert_with(end=lambda p, x: normed(x, **p["embeddings"]["norm"])),
        "no mask": bert_with(mask=lambda m: m | True),
        "upside down": bert_with(mask=lambda m: ~m),
        "causal": bert_with(mask=lambda m: m & np.tri(6, dtype=bool)),
        "no types": bert_with(types_of=lambda t: 0 * t),
        "last alone": lambda *case: bert_of(*case)[0],
        "pooled alone": lambda *case: bert_of(*case)[1],
        "three things": lambda *case: (*bert_of(*case), 0),
        "exchanged": lambda *case: bert_of(*case)[::-1],
        "no tanh": pooled_with(act=lambda x: x),
        "no bias of the pooler": pooled_with(bias=0),
        "matrix transposed": pooled_with(matrix=lambda m: m.T),
        "sigmoid": pooled_with(act=jax.nn.sigmoid),
        "relu": pooled_with(act=jax.nn.relu),
        "gelu": pooled_with(act=jax.nn.gelu),
        "softmax": pooled_with(act=jax.nn.softmax),
        "tanh first": bert_with(pooled=lambda p, last, start: pool(p, jnp.tanh(last[0]), act=lambda x: x)),
        "tanh alone": bert_with(pooled=lambda p, last, start: jnp.tanh(last[0])),
        "first vector": bert_with(pooled=lambda p, last, start: last[0]),
        "mean": pooled_with(lambda last: last.mean(axis=0)),
        "mean of the real ones": pooled_with(lambda last: last[:5].mean(axis=0)),
        "mean afterwards": bert_with(pooled=lambda p, last, start: pool(p, last).mean(axis=0)),
        "largest": pooled_with(lambda last: last.max(axis=0)),
        "last token": pooled_with(lambda last: last[-1]),
        "last real token": pooled_with(lambda last: last[4]),
        "second token": pooled_with(lambda last: last[1]),
        "all tokens": pooled_with(lambda last: last),
        "an axis more": pooled_with(lambda last: last[:1]),
        "first entries": bert_with(pooled=lambda p, last, start: pool(p, last[:, 0])),
        "of the embeddings": bert_with(pooled=lambda p, last, start: pool(p, start[0])),
    },
)  # fmt: skip

EXERCISES = {
    "encoder_layer": ENCODER_LAYER, "decoder_layer": DECODER_LAYER, "whole_t5": WHOLE_T5, "embed": EMBED,
    "encode": ENCODE,
}  # fmt: skip
