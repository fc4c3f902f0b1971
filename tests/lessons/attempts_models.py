"""What learners try who have not read the checks of lessons 3, 4 and 7: exercise -> (check, right attempts, wrong ones)."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import softmax

from tlqa_jax.core.relative_positions import relative_position_bucket
from tlqa_jax.lessons import attention, bert, t5
from tlqa_jax.models.bert import BertConfig
from tlqa_jax.models.layers import gelu


def attend(q, k, v, scale=lambda q, k: q.shape[-1] ** -0.5, axis=-1, weights=softmax):
    return np.einsum("ls,sk->lk", weights(np.einsum("lk,sk->ls", q, k) * scale(q, k), axis=axis), v)


def in_bfloat16(q, k, v):
    q, k, v = (jnp.array(x, jnp.bfloat16) for x in (q, k, v))
    return jnp.einsum("ls,sk->lk", jax.nn.softmax(jnp.einsum("lk,sk->ls", q, k) / q.shape[-1] ** 0.5, axis=-1), v)


ATTEND = (
    attention.attend,
    {
        "einsum": attend,
        "query scaled": lambda q, k, v: attend(q / q.shape[-1] ** 0.5, k, v, scale=lambda q, k: 1),
        "in bfloat16": in_bfloat16,
        "in bfloat16, back in float32": lambda q, k, v: in_bfloat16(q, k, v).astype(jnp.float32),
        "jax.nn": lambda q, k, v: jax.nn.dot_product_attention(*(jnp.array(x)[:, None] for x in (q, k, v)))[:, 0],
    },
    {
        "not scaled": lambda q, k, v: attend(q, k, v, scale=lambda q, k: 1),
        "scaled twice": lambda q, k, v: attend(q / q.shape[-1] ** 0.5, k, v),
        "query and key by sqrt(K)": lambda q, k, v: attend(q, k, v, scale=lambda q, k: 1 / q.shape[-1]),
        "times sqrt(K)": lambda q, k, v: attend(q, k, v, scale=lambda q, k: q.shape[-1] ** 0.5),
        "by the number of keys": lambda q, k, v: attend(q, k, v, scale=lambda q, k: len(k) ** -0.5),
        "by the number of queries": lambda q, k, v: attend(q, k, v, scale=lambda q, k: len(q) ** -0.5),
        "over the queries": lambda q, k, v: attend(q, k, v, axis=0),
        "over both": lambda q, k, v: attend(q, k, v, weights=lambda x, axis: softmax(x)),
        "no softmax": lambda q, k, v: attend(q, k, v, weights=lambda x, axis: x),
        "exp alone": lambda q, k, v: attend(q, k, v, weights=lambda x, axis: np.exp(x)),
        "divided after": lambda q, k, v: attend(q, k, v, scale=lambda q, k: 1) / q.shape[-1] ** 0.5,
        "keys instead of values": lambda q, k, v: attend(q, k, k),
        "values instead of keys": lambda q, k, v: attend(q, v, v),
        "keys and values exchanged": lambda q, k, v: attend(q, v, k),
        "weights alone": lambda q, k, v: softmax(q @ k.T / q.shape[-1] ** 0.5, axis=-1),
        "least similar": lambda q, k, v: attend(q, k, v, scale=lambda q, k: -(q.shape[-1] ** -0.5)),
    },
)  # fmt: skip


def compared(compare):
    return lambda n: compare(np.arange(n)[:, None], np.arange(n)[None, :])


CAUSAL_MASK = (
    attention.causal_mask,
    {
        "compared": compared(lambda query, key: query >= key),
        "tril": lambda n: jnp.tril(jnp.ones((n, n), bool)),
        "tri": lambda n: np.tri(n, dtype=bool),
    },
    {
        "future": compared(lambda query, key: query <= key),
        "not itself": compared(lambda query, key: query > key),
        "future, not itself": compared(lambda query, key: query < key),
        "one step more": compared(lambda query, key: query + 1 >= key),
        "itself alone": compared(lambda query, key: query == key),
        "all": lambda n: np.ones((n, n), bool),
        "none": lambda n: np.zeros((n, n), bool),
        "numbers": lambda n: np.tril(np.ones((n, n))),
        "whole numbers": lambda n: np.tril(np.ones((n, n), int)),
        "to be added": lambda n: np.where(np.tri(n) > 0, 0.0, -1e9),
        "minus infinity": lambda n: np.where(np.tri(n) > 0, 0.0, -np.inf),
        "length 4": lambda n: np.tri(4, dtype=bool),
        "one row": lambda n: np.arange(n) >= 0,
        "an axis more": lambda n: np.tri(n, dtype=bool)[None],
    },
)  # fmt: skip


def with_score(forbidden):
    return lambda scores, mask: softmax(np.where(mask, scores, forbidden), axis=-1)


def renormalised(epsilon):
    def weights(scores, mask):
        weights = softmax(scores, axis=-1) * mask
        return weights / (weights.sum(axis=-1, keepdims=True) + epsilon)

    return weights


MASKED_WEIGHTS = (
    attention.masked_weights,
    {
        "the lowest number": with_score(np.finfo(np.float32).min),
        "-1e30": with_score(-1e30),
        "-1e9": with_score(-1e9),
        "added": lambda scores, mask: softmax(scores + np.where(mask, 0, np.float32(-1e30)), axis=-1),
        "where=": lambda scores, mask: np.where(mask, jax.nn.softmax(scores, axis=-1, where=mask), 0),
    },
    {
        "-100": with_score(-100.0),
        "-1000": with_score(-1000.0),
        "-1e4": with_score(-1e4),
        "0": with_score(0.0),
        "-1": with_score(-1.0),
        "times the mask": lambda scores, mask: softmax(scores * mask, axis=-1),
        "minus infinity": lambda scores, mask: jax.nn.softmax(jnp.where(mask, scores, -jnp.inf), axis=-1),
        "masked after": lambda scores, mask: softmax(scores, axis=-1) * mask,
        "shared out again, 1e-9": renormalised(1e-9),
        "shared out again, 1e-6": renormalised(1e-6),
        "upside down": lambda scores, mask: with_score(np.finfo(np.float32).min)(scores, ~mask),
        "over the queries": lambda scores, mask: softmax(np.where(mask, scores, np.float32(-1e30)), axis=0),
        "over both": lambda scores, mask: softmax(np.where(mask, scores, np.float32(-1e30))),
        "the scores": lambda scores, mask: np.where(mask, scores, np.float32(-1e30)),
        "no mask": lambda scores, mask: softmax(scores, axis=-1),
        "smallest positive number": with_score(np.finfo(np.float32).tiny),
    },
)  # fmt: skip


def bucket(relative, both, *, sign=1, half=True, apart=True, far=True, log=np.log, clip=True, to=int, limit=128):
    number, start, relative = 32, 0, sign * relative
    distance = np.abs(relative) if both else np.maximum(-relative, 0)
    number = 16 if both and half else 32
    start = number * (relative > 0) if both and apart else 0
    exact = number // 2
    growth = log(np.maximum(distance, 1) / exact) / log(limit / exact)
    large = (exact + growth * (number - exact) + 1e-4).astype(to)
    large = np.minimum(large, number - 1) if clip else large
    return start + (np.where(distance < exact, distance, large) if far else np.minimum(distance, number - 1))


BUCKETS = (
    t5.buckets,
    {
        "the formula": bucket,
        "the package's": lambda relative, both: relative_position_bucket(jnp.array(relative), bidirectional=both),
        "log2": lambda relative, both: bucket(relative, both, log=np.log2),
    },
    {
        "past and future exchanged": lambda r, both: bucket(r, both, sign=-1),
        "all 32 each way": lambda r, both: bucket(r, both, half=False),
        "before and after alike": lambda r, both: bucket(r, both, apart=False),
        "no limit": lambda r, both: bucket(r, both, clip=False),
        "cut off, no logarithm": lambda r, both: bucket(r, both, far=False),
        "equally wide": lambda r, both: bucket(r, both, log=lambda x: np.asarray(x) - 1),
        "rounded": lambda r, both: np.rint(bucket(r, both, to=float)).astype(int),
        "not rounded": lambda r, both: bucket(r, both, to=float),
        "rounded up": lambda r, both: np.ceil(bucket(r, both, to=float) - 2e-4).astype(int),
        "up to 64": lambda r, both: bucket(r, both, limit=64),
        "up to 512": lambda r, both: bucket(r, both, limit=512),
        "square root": lambda r, both: bucket(r, both, log=lambda x: np.sqrt(x) - 1),
        "decoder as the encoder": lambda r, both: bucket(r, True),
        "encoder as the decoder": lambda r, both: bucket(r, False),
        "the distance": lambda r, both: np.abs(r),
    },
)  # fmt: skip


def root_mean_square(x, epsilon=1e-6, axis=-1, mean=np.mean):
    return np.sqrt(mean(x**2, axis=axis, keepdims=True) + epsilon)


RMS_NORM = (
    t5.rms_norm,
    {
        "numpy": lambda x, s: x / root_mean_square(x) * s,
        "rsqrt": lambda x, s: s * x * jax.lax.rsqrt(jnp.mean(jnp.square(x), -1, keepdims=True) + 1e-6),
        "loop": lambda x, s: np.stack([row / np.sqrt((row @ row) / len(row) + 1e-6) * s for row in x]),
    },
    {
        "LayerNorm": lambda x, s: (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6) * s,
        "mean kept, variance": lambda x, s: x / np.sqrt(x.var(-1, keepdims=True) + 1e-6) * s,
        "epsilon outside": lambda x, s: x / (root_mean_square(x, 0) + 1e-6) * s,
        "no epsilon": lambda x, s: x / root_mean_square(x, 0) * s,
        "epsilon 1e-12": lambda x, s: x / root_mean_square(x, 1e-12) * s,
        "epsilon 1e-5": lambda x, s: x / root_mean_square(x, 1e-5) * s,
        "over positions": lambda x, s: x / root_mean_square(x, axis=0) * s,
        "over both": lambda x, s: x / root_mean_square(x, axis=None) * s,
        "no root": lambda x, s: x / root_mean_square(x) ** 2 * s,
        "sum": lambda x, s: x / root_mean_square(x, mean=np.sum) * s,
        "no scale": lambda x, s: x / root_mean_square(x),
        "scale first": lambda x, s: x * s / root_mean_square(x * s),
        "1 + scale": lambda x, s: x / root_mean_square(x) * (1 + s),
        "mean of absolutes": lambda x, s: x / (np.abs(x).mean(-1, keepdims=True) + 1e-6) * s,
        "multiplied": lambda x, s: x * root_mean_square(x) * s,
    },
)  # fmt: skip


def corrupted(tokens, mask, sentinels, *, before=lambda i, mask: i and mask[i - 1], each=False, closing=False,
              end=(1, 1), number=lambda n, s: s[n], after=False, seen=True, told=True):  # fmt: skip
    inputs, targets, n = [], [], 0
    for i, (token, hidden) in enumerate(zip(tokens, mask, strict=True)):
        if not hidden:
            inputs.append(token)
            continue
        if each or not before(i, mask):
            inputs += [number(n, sentinels)] * seen
            targets += [number(n, sentinels)] * (told and not after)
            n += 1
        targets.append(token)
        if after and (i + 1 == len(mask) or not mask[i + 1]):
            targets.append(number(n - 1, sentinels))
    targets += [sentinels[n]] * closing
    return inputs + [1] * end[0], targets + [1] * end[1]


CORRUPT = (
    t5.corrupt,
    {"the loop": corrupted, "tuples": lambda t, m, s: tuple(map(tuple, corrupted(t, m, s)))},
    {
        "the paper's closing sentinel": lambda t, m, s: corrupted(t, m, s, closing=True),
        "closing sentinel, no end": lambda t, m, s: corrupted(t, m, s, closing=True, end=(1, 0)),
        "one for each token": lambda t, m, s: corrupted(t, m, s, each=True),
        "mask[-1]": lambda t, m, s: corrupted(t, m, s, before=lambda i, mask: mask[i - 1]),
        "always the first": lambda t, m, s: corrupted(t, m, s, number=lambda n, s: s[0]),
        "from the second on": lambda t, m, s: corrupted(t, m, s, number=lambda n, s: s[n + 1]),
        "counted upwards": lambda t, m, s: corrupted(t, m, s, number=lambda n, s: s[0] + n),
        "no end": lambda t, m, s: corrupted(t, m, s, end=(0, 0)),
        "no end of the targets": lambda t, m, s: corrupted(t, m, s, end=(1, 0)),
        "no end of the inputs": lambda t, m, s: corrupted(t, m, s, end=(0, 1)),
        "sentinel behind": lambda t, m, s: corrupted(t, m, s, after=True),
        "not in the inputs": lambda t, m, s: corrupted(t, m, s, seen=False),
        "not in the targets": lambda t, m, s: corrupted(t, m, s, told=False),
        "upside down": lambda t, m, s: corrupted(t, [not x for x in m], s),
        "exchanged": lambda t, m, s: corrupted(t, m, s)[::-1],
        "whole text": lambda t, m, s: (corrupted(t, m, s)[0], [*t, 1]),
        "popped": lambda t, m, s: corrupted(t, m, s, number=lambda n, s: s.pop(0)),
    },
)  # fmt: skip


def normed(x, scale, bias, *, axis=-1, epsilon=1e-12, ddof=0):
    centred = x - x.mean(axis, keepdims=True)
    return centred / np.sqrt(x.var(axis, keepdims=True, ddof=ddof) + epsilon) * scale + bias


def plain(x):
    return normed(x, 1.0, 0.0)


LAYER_NORM = (
    bert.layer_norm,
    {
        "numpy": normed,
        "two means": lambda x, s, b: (x - x.mean(-1, keepdims=True)) * jax.lax.rsqrt(
            jnp.var(x, axis=-1, keepdims=True) + 1e-12) * s + b,
    },
    {
        "RMSNorm": lambda x, s, b: x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-12) * s + b,
        "squares not centred": lambda x, s, b: (x - x.mean(-1, keepdims=True)) / np.sqrt(
            (x**2).mean(-1, keepdims=True) + 1e-12) * s + b,
        "epsilon outside": lambda x, s, b: (x - x.mean(-1, keepdims=True)) / (x.std(-1, keepdims=True) + 1e-12) * s + b,
        "no epsilon": lambda x, s, b: normed(x, s, b, epsilon=0),
        "1e-6": lambda x, s, b: normed(x, s, b, epsilon=1e-6),
        "1e-5": lambda x, s, b: normed(x, s, b, epsilon=1e-5),
        "over positions": lambda x, s, b: normed(x, s, b, axis=0),
        "over all": lambda x, s, b: (x - x.mean()) / np.sqrt(x.var() + 1e-12) * s + b,
        "D - 1": lambda x, s, b: normed(x, s, b, ddof=1),
        "variance": lambda x, s, b: (x - x.mean(-1, keepdims=True)) / (x.var(-1, keepdims=True) + 1e-12) * s + b,
        "no scale": lambda x, s, b: plain(x) + b,
        "no bias": lambda x, s, b: plain(x) * s,
        "neither": lambda x, s, b: plain(x),
        "bias first": lambda x, s, b: (plain(x) + b) * s,
        "scale and bias exchanged": lambda x, s, b: plain(x) * b + s,
        "bias subtracted": lambda x, s, b: plain(x) * s - b,
    },
)  # fmt: skip


def parts(p, may_see):
    """attention, feed-forward and the two norms of a block."""

    def attention(x, may_see=may_see):
        a = p["attention"]
        heads = {n: jnp.einsum("ld,dhk->hlk", x, a[n]) + a[f"{n}_bias"].reshape(a[n].shape[1:])[:, None]
                 for n in ("query", "key", "value")}  # fmt: skip
        scores = jnp.einsum("hlk,hsk->hls", heads["query"], heads["key"]) / a["query"].shape[-1] ** 0.5
        weights = jax.nn.softmax(jnp.where(may_see, scores, -1e30), axis=-1)
        return jnp.einsum("hls,hsk,hkd->ld", weights, heads["value"], a["out"]) + a["out_bias"]

    f = p["feed_forward"]
    norm = lambda name: lambda x: jnp.asarray(normed(x, **p[name]))
    return attention, lambda x: gelu(x @ f["up"] + f["up_bias"]) @ f["down"] + f["down_bias"], *map(
        norm, ("attention_norm", "feed_forward_norm"))  # fmt: skip


def block_of(formula):
    return lambda p, x, may_see: formula(x, *parts(p, may_see), may_see)


BLOCK = (
    bert.block,
    {
        "two lines": block_of(lambda x, a, f, n1, n2, m: n2((h := n1(x + a(x))) + f(h))),
        "sums the other way round": block_of(lambda x, a, f, n1, n2, m: n2(f(h := n1(a(x) + x)) + h)),
    },
    {
        "pre-norm": block_of(lambda x, a, f, n1, n2, m: (h := x + a(n1(x))) + f(n2(h))),
        "norm of the part": block_of(lambda x, a, f, n1, n2, m: (h := x + n1(a(x))) + n2(f(h))),
        "no residual": block_of(lambda x, a, f, n1, n2, m: n2(f(n1(a(x))))),
        "no residual of attention": block_of(lambda x, a, f, n1, n2, m: n2((h := n1(a(x))) + f(h))),
        "no residual of the feed-forward": block_of(lambda x, a, f, n1, n2, m: n2(f(n1(x + a(x))))),
        "both from the input": block_of(lambda x, a, f, n1, n2, m: n2(x + f(n1(x + a(x))))),
        "feed-forward of the input": block_of(lambda x, a, f, n1, n2, m: n2(n1(x + a(x)) + f(x))),
        "in parallel": block_of(lambda x, a, f, n1, n2, m: n2(n1(x + a(x) + f(x)))),
        "no first norm": block_of(lambda x, a, f, n1, n2, m: n2((h := x + a(x)) + f(h))),
        "no second norm": block_of(lambda x, a, f, n1, n2, m: (h := n1(x + a(x))) + f(h)),
        "no norm": block_of(lambda x, a, f, n1, n2, m: (h := x + a(x)) + f(h)),
        "one norm twice": block_of(lambda x, a, f, n1, n2, m: n1((h := n1(x + a(x))) + f(h))),
        "norms exchanged": block_of(lambda x, a, f, n1, n2, m: n1((h := n2(x + a(x))) + f(h))),
        "attention alone": block_of(lambda x, a, f, n1, n2, m: n1(x + a(x))),
        "feed-forward alone": block_of(lambda x, a, f, n1, n2, m: n2(x + f(x))),
        "feed-forward first": block_of(lambda x, a, f, n1, n2, m: n1((h := n2(x + f(x))) + a(h))),
        "no mask": block_of(lambda x, a, f, n1, n2, m: n2((h := n1(x + a(x, m | True))) + f(h))),
        "upside down": block_of(lambda x, a, f, n1, n2, m: n2((h := n1(x + a(x, ~m))) + f(h))),
        "transposed mask": block_of(lambda x, a, f, n1, n2, m: n2((h := n1(x + a(x, m.T))) + f(h))),
    },
)  # fmt: skip


def seen_by(rule):
    return lambda real, causal: rule(np.tri(len(real), dtype=bool), np.tile(real, (len(real), 1)), causal)


MAY_SEE = (
    bert.may_see,
    {
        "both rules": seen_by(lambda past, real, causal: (past if causal else np.ones_like(past)) & real),
        "or": seen_by(lambda past, real, causal: (past | (not causal)) & real),
        "jnp": lambda real, causal: (jnp.tri(len(real), dtype=bool) | (not causal)) & real[None, :],
    },
    {
        "no padding": seen_by(lambda past, real, causal: past if causal else np.ones_like(past)),
        "causal forgets padding": seen_by(lambda past, real, causal: past if causal else real),
        "always causal": seen_by(lambda past, real, causal: past & real),
        "never causal": seen_by(lambda past, real, causal: real),
        "switch turned round": seen_by(lambda past, real, causal: real if causal else past & real),
        "rows": seen_by(lambda past, real, causal: (past | (not causal)) & real.T),
        "rows and columns": seen_by(lambda past, real, causal: (past | (not causal)) & real & real.T),
        "or of both": seen_by(lambda past, real, causal: past | real if causal else real),
        "future": seen_by(lambda past, real, causal: (past.T | (not causal)) & real),
        "not itself": seen_by(lambda past, real, causal: (np.tril(past, -1) | (not causal)) & real),
        "upside down": seen_by(lambda past, real, causal: ~((past | (not causal)) & real)),
        "one row": lambda real, causal: real,
        "numbers": seen_by(lambda past, real, causal: ((past | (not causal)) & real).astype(int)),
        "to be added": seen_by(lambda past, real, causal: np.where((past | (not causal)) & real, 0.0, -1e9)),
    },
)  # fmt: skip


def counted(c: BertConfig, *, tables=lambda c: c.vocab_size + c.max_position_embeddings + c.type_vocab_size, norm=2,
            embedding_norm=1, norms=2, pooler=1, bias=1, matrices=4, ups=2, heads=1, layers=None):  # fmt: skip
    D, F = c.hidden_size, c.intermediate_size
    layer = matrices * (D * D + bias * D) * (c.num_attention_heads if heads > 1 else 1)
    layer += ups * D * F + bias * (F + D * (ups > 1)) + norms * norm * D
    layers = c.num_hidden_layers if layers is None else layers
    return tables(c) * D + embedding_norm * norm * D + layers * layer + pooler * (D * D + bias * D)


PARAMETERS = (
    bert.parameters,
    {"sum": counted, "a float without a rest": lambda c: float(counted(c))},
    {
        "no biases": lambda c: counted(c, bias=0),
        "neither biases nor the norms'": lambda c: counted(c, bias=0, norm=1),
        "a norm has one": lambda c: counted(c, norm=1),
        "no norms": lambda c: counted(c, norm=0),
        "one norm a layer": lambda c: counted(c, norms=1),
        "no norm of the embeddings": lambda c: counted(c, embedding_norm=0),
        "no pooler": lambda c: counted(c, pooler=0),
        "words alone": lambda c: counted(c, tables=lambda c: c.vocab_size),
        "no types": lambda c: counted(c, tables=lambda c: c.vocab_size + c.max_position_embeddings),
        "no positions": lambda c: counted(c, tables=lambda c: c.vocab_size + c.type_vocab_size),
        "three matrices": lambda c: counted(c, matrices=3),
        "one of the feed-forward": lambda c: counted(c, ups=1),
        "times the heads": lambda c: counted(c, heads=2),
        "one layer": lambda c: counted(c, layers=1),
        "words twice": lambda c: counted(c) + c.vocab_size * c.hidden_size,
        "pooler without its bias": lambda c: counted(c) - c.hidden_size,
        "BERT-base, looked up": lambda c: 109_482_240,
        "BERT-base, as people say": lambda c: 110_000_000,
    },
)  # fmt: skip

EXERCISES = {
    "attend": ATTEND, "causal_mask": CAUSAL_MASK, "masked_weights": MASKED_WEIGHTS, "buckets": BUCKETS,
    "rms_norm": RMS_NORM, "corrupt": CORRUPT, "layer_norm": LAYER_NORM, "block": BLOCK, "may_see": MAY_SEE,
    "parameters": PARAMETERS,
}  # fmt: skip
