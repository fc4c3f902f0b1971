"""What learners try who have not read the checks of lessons 16 and 17: exercise -> (check, right attempts, wrong ones)."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from tlqa_jax.lessons import how_much_to_freeze, self_supervision
from tlqa_jax.models.layers import gelu


def new_adapter(key, width, size, *, down=0.01, up=0.01, bias=0.0, draw=jax.random.normal):
    one, other = jax.random.split(key)
    return {
        "down": down * draw(one, (width, size)), "down_bias": jnp.full(size, bias),
        "up": up * draw(other, (size, width)), "up_bias": jnp.full(width, bias),
    }  # fmt: skip


def starts_with(**slip):
    return (lambda *sizes: new_adapter(*sizes, **slip)), adapter


def adapter(x, w, *, act=gelu, skip=1.0, after=lambda y: y, biases=(1, 1)):
    inner = act(x @ w["down"] + biases[0] * w["down_bias"])
    return skip * x + after(inner @ w["up"] + biases[1] * w["up_bias"])


def adapters_with(**slip):
    return new_adapter, lambda x, w: adapter(x, w, **slip)


def one_key(key, width, size):
    return new_adapter(key, width, size) | {
        "down": 0.01 * jax.random.normal(key, (width, size)), "up": 0.01 * jax.random.normal(key, (size, width))
    }  # fmt: skip


ADAPTER = (
    lambda pair: how_much_to_freeze.adapter(*pair),
    {
        "both small": starts_with(),
        "up at zero": starts_with(up=0.0, down=0.1),
        "down at zero": starts_with(down=0.0),
        "uniform": starts_with(draw=lambda key, shape: jax.random.uniform(key, shape, minval=-1, maxval=1)),
        "einsum": (new_adapter, lambda x, w: x + jnp.einsum(
            "blm,md->bld", gelu(jnp.einsum("bld,dm->blm", x, w["down"]) + w["down_bias"]), w["up"]) + w["up_bias"]),
    },
    {
        "both zero": starts_with(down=0.0, up=0.0),
        "large": starts_with(down=1.0, up=1.0),
        "as Linear layers": starts_with(down=1 / 8, up=1 / 4),
        "biases of 1": starts_with(bias=1.0),
        "all equal": starts_with(draw=lambda key, shape: jnp.ones(shape)),
        "a key of its own": (lambda key, *sizes: new_adapter(jax.random.key(0), *sizes), adapter),
        "one key": (one_key, adapter),
        "transposed": (lambda key, width, size: new_adapter(key, size, width), adapter),
        "a tuple": (lambda *sizes: tuple(new_adapter(*sizes).values()), adapter),
        "without biases": (lambda *sizes: {k: v for k, v in new_adapter(*sizes).items() if "bias" not in k}, adapter),
        "no skip": adapters_with(skip=0.0),
        "no gelu": adapters_with(act=lambda x: x),
        "gelu last": adapters_with(act=lambda x: x, after=gelu),
        "two gelus": adapters_with(after=gelu),
        "gelu of the sum": (new_adapter, lambda x, w: gelu(adapter(x, w, act=lambda y: y))),
        "relu": adapters_with(act=jax.nn.relu),
        "tanh gelu": adapters_with(act=jax.nn.gelu),
        "sigmoid": adapters_with(act=jax.nn.sigmoid),
        "no biases": adapters_with(biases=(0, 0)),
        "no second bias": adapters_with(biases=(1, 0)),
        "x twice": adapters_with(skip=2.0),
        "x subtracted": adapters_with(skip=-1.0),
        "x multiplied": (new_adapter, lambda x, w: x * adapter(x, w, skip=0.0)),
    },
)  # fmt: skip


def with_lora(x, w, a, b, alpha, *, scale=lambda alpha, r: alpha / r, base=1.0):
    return base * x @ w + scale(alpha, a.shape[1]) * x @ a @ b


def lora_with(**slip):
    return lambda *case: with_lora(*case, **slip)


WITH_LORA = (
    how_much_to_freeze.with_lora,
    {
        "beside": with_lora,
        "merged": lambda x, w, a, b, alpha: x @ (w + alpha / len(b) * a @ b),
        "einsum": lambda x, w, a, b, alpha: jnp.einsum("bld,df->blf", x, w) + jnp.einsum(
            "bld,dr,rf->blf", x, a, b) * alpha / a.shape[-1],
    },
    {
        "no factor": lora_with(scale=lambda alpha, r: 1),
        "alpha": lora_with(scale=lambda alpha, r: alpha),
        "alpha r": lora_with(scale=lambda alpha, r: alpha * r),
        "r / alpha": lora_with(scale=lambda alpha, r: r / alpha),
        "1 / r": lora_with(scale=lambda alpha, r: 1 / r),
        "root": lora_with(scale=lambda alpha, r: alpha / r**0.5),
        "twice": lora_with(scale=lambda alpha, r: (alpha / r) ** 2),
        "change alone": lora_with(base=0.0),
        "no change": lora_with(scale=lambda alpha, r: 0),
        "both scaled": lambda x, w, a, b, alpha: alpha / len(b) * (x @ w + x @ a @ b),
        "subtracted": lora_with(scale=lambda alpha, r: -alpha / r),
        "transposed": lambda x, w, a, b, alpha: with_lora(x, w.T, a, b, alpha),
        "added to x": lambda x, w, a, b, alpha: x + alpha / len(b) * x @ a @ b,
        "by the width": lambda x, w, a, b, alpha: x @ w + alpha / len(a) * x @ a @ b,
        "of the output": lambda x, w, a, b, alpha: x @ w + alpha / len(b) * x @ w @ a @ b,
        "gelu": lambda x, w, a, b, alpha: x @ w + alpha / len(b) * gelu(x @ a) @ b,
        "A for B": lambda x, w, a, b, alpha: x @ w + alpha / len(b) * x @ b.T @ a.T,
        "one row": lambda x, w, a, b, alpha: with_lora(x, w, a, b, alpha)[0],
    },
)  # fmt: skip


def merge(w, a, b, alpha, *, scale=lambda alpha, r: alpha / r, base=1.0):
    return base * w + scale(alpha, a.shape[1]) * a @ b


def merges_with(**slip):
    return lambda *case: merge(*case, **slip)


def in_place(w, a, b, alpha):
    w += alpha / len(b) * a @ b
    return w


MERGE = (
    how_much_to_freeze.merge,
    {
        "sum": merge,
        "jax": lambda w, a, b, alpha: jnp.asarray(w) + alpha / len(b) * jnp.asarray(a) @ jnp.asarray(b),
        "of the unit vectors": lambda w, a, b, alpha: with_lora(jnp.eye(len(w)), w, a, b, alpha),
    },
    {
        "in place": in_place,
        "no factor": merges_with(scale=lambda alpha, r: 1),
        "alpha": merges_with(scale=lambda alpha, r: alpha),
        "alpha r": merges_with(scale=lambda alpha, r: alpha * r),
        "r / alpha": merges_with(scale=lambda alpha, r: r / alpha),
        "1 / r": merges_with(scale=lambda alpha, r: 1 / r),
        "root": merges_with(scale=lambda alpha, r: alpha / r**0.5),
        "by the width": merges_with(scale=lambda alpha, r: alpha / 4),
        "change alone": merges_with(base=0.0),
        "no change": lambda w, a, b, alpha: w,
        "both scaled": lambda w, a, b, alpha: alpha / len(b) * (w + a @ b),
        "subtracted": merges_with(scale=lambda alpha, r: -alpha / r),
        "transposed change": lambda w, a, b, alpha: w + alpha / len(b) * (a @ b).T,
        "transposed": lambda *case: merge(*case).T,
        "product": lambda w, a, b, alpha: w * (alpha / len(b) * a @ b),
        "one after the other": lambda w, a, b, alpha: alpha / len(b) * w @ a @ b,
    },
)  # fmt: skip


def counted(lora=lambda r, D, n: 4 * n * D * r, adapters=lambda m, D, n: 2 * n * (2 * D * m + m + D)):
    return lambda kind, size, width, layers: (lora if kind == "lora" else adapters)(size, width, layers)


NEW_PARAMETERS = (
    how_much_to_freeze.new_parameters,
    {"formulas": counted(), "floats": counted(lora=lambda r, D, n: 4.0 * n * D * r)},
    {
        "one matrix": counted(lora=lambda r, D, n: 2 * n * D * r),
        "three matrices": counted(lora=lambda r, D, n: 6 * n * D * r),
        "four matrices": counted(lora=lambda r, D, n: 8 * n * D * r),
        "one layer of LoRA": counted(lora=lambda r, D, n: 4 * D * r),
        "the whole matrix": counted(lora=lambda r, D, n: 2 * n * D * D),
        "with the matrix": counted(lora=lambda r, D, n: 2 * n * (2 * D * r + D * D)),
        "LoRA with biases": counted(lora=lambda r, D, n: 2 * n * (2 * D * r + D + r)),
        "A times B": counted(lora=lambda r, D, n: 2 * n * (D * r) ** 2),
        "one adapter": counted(adapters=lambda m, D, n: n * (2 * D * m + m + D)),
        "no biases": counted(adapters=lambda m, D, n: 4 * n * D * m),
        "no second bias": counted(adapters=lambda m, D, n: 2 * n * (2 * D * m + m)),
        "two wide biases": counted(adapters=lambda m, D, n: 2 * n * (2 * D * m + 2 * D)),
        "two narrow biases": counted(adapters=lambda m, D, n: 2 * n * (2 * D * m + 2 * m)),
        "one adapter matrix": counted(adapters=lambda m, D, n: 2 * n * (D * m + m + D)),
        "one layer of adapters": counted(adapters=lambda m, D, n: 2 * (2 * D * m + m + D)),
        "with the norms": counted(adapters=lambda m, D, n: 2 * n * (2 * D * m + m + 3 * D)),
        "0": lambda *case: 0,
    },
)  # fmt: skip


def rows(tokens, length, cls, pad, *, first=None, shift=1, count=None):
    number = -(-len(tokens) // length)
    targets = np.full(number * length, pad)
    targets[: len(tokens)] = tokens
    targets = targets.reshape(number, length)
    inputs = np.roll(targets, shift, axis=1)
    if shift:
        inputs[:, 0 if shift > 0 else -1] = cls if first is None else first
    counts = (np.arange(number * length) < len(tokens)).reshape(number, length)
    return inputs, targets, counts if count is None else count(counts)


def rows_with(**slip):
    return lambda *case: rows(*case, **slip)


def by_loop(tokens, length, cls, pad):
    found = []
    for start in range(0, len(tokens), length):
        own = tokens[start : start + length].tolist()
        empty = length - len(own)
        found.append(([cls, *own, *[pad] * empty][:length], own + [pad] * empty, [1] * len(own) + [0] * empty))
    return tuple(np.array(part) for part in zip(*found, strict=True))


def text_then_next(tokens, length, cls, pad):
    _, text, counts = rows(tokens, length, cls, pad)
    return text, np.append(text.ravel()[1:], pad).reshape(text.shape), counts


def running(tokens, length, cls, pad):
    _, targets, counts = rows(tokens, length, cls, pad)
    return np.append(cls, targets.ravel()[:-1]).reshape(targets.shape), targets, counts


def padded_inputs(tokens, length, cls, pad):
    inputs, targets, counts = rows(tokens, length, cls, pad)
    return np.where(counts, inputs, pad), targets, counts


NEXT_TOKEN_ROWS = (
    self_supervision.next_token_rows,
    {
        "arrays": rows,
        "loop": by_loop,
        "list": lambda *case: list(rows(*case)),
        "weights in float32": rows_with(count=lambda c: c.astype(np.float32)),
        "padding behind the end": padded_inputs,
    },
    {
        "no shift": rows_with(shift=0),
        "shifted ahead": rows_with(shift=-1),
        "begins with padding": rows_with(first=0),
        "begins with the row's last": lambda *case: (np.roll((r := rows(*case))[1], 1, axis=1), *r[1:]),
        "running on": running,
        "text, then next": text_then_next,
        "exchanged": lambda *case: (rows(*case)[1], rows(*case)[0], rows(*case)[2]),
        "everything counts": rows_with(count=np.ones_like),
        "turned over": rows_with(count=np.logical_not),
        "first one does not count": rows_with(count=lambda c: c & (np.arange(c.shape[1]) > 0)),
        "last one does not count": lambda tokens, *rest: (
            *rows(tokens, *rest)[:2], rows(tokens[:-1], *rest)[2] if len(tokens) % 4 != 1 else rows(tokens, *rest)[2]),
        "full rows alone": lambda tokens, length, *ids: rows(tokens[: len(tokens) // length * length], length, *ids),
        "a row too many": lambda tokens, length, *ids: tuple(
            np.concatenate([part, np.zeros((1, length), part.dtype)]) for part in rows(tokens, length, *ids)),
        "one shorter": lambda *case: tuple(part[:, :-1] for part in rows(*case)),
        "two arrays": lambda *case: rows(*case)[:2],
        "flat": lambda *case: tuple(part.ravel() for part in rows(*case)),
    },
)  # fmt: skip

PERPLEXITY = (
    self_supervision.perplexity,
    {
        "e to the mean": lambda x, c: np.exp((x * c).sum() / c.sum()),
        "a float": lambda x, c: math.exp(np.average(x, weights=c)),
        "only what counts": lambda x, c: np.exp(x[c > 0].mean()),
        "root of the product": lambda x, c: np.prod(np.exp(-x[c > 0])) ** (-1 / c.sum()),
    },
    {
        "the loss": lambda x, c: (x * c).sum() / c.sum(),
        "with padding": lambda x, c: np.exp(x.mean()),
        "padding as 0": lambda x, c: np.exp((x * c).mean()),
        "mean of rows": lambda x, c: np.exp(((x * c).sum(1) / c.sum(1)).mean()),
        "mean of the rows' perplexities": lambda x, c: np.exp((x * c).sum(1) / c.sum(1)).mean(),
        "mean of e": lambda x, c: (np.exp(x) * c).sum() / c.sum(),
        "base 2": lambda x, c: 2 ** ((x * c).sum() / c.sum()),
        "base 10": lambda x, c: 10 ** ((x * c).sum() / c.sum()),
        "the sign": lambda x, c: np.exp(-(x * c).sum() / c.sum()),
        "sum": lambda x, c: np.exp((x * c).sum()),
        "by the rows": lambda x, c: np.exp((x * c).sum() / len(x)),
        "of each row": lambda x, c: np.exp((x * c).sum(1) / c.sum(1)),
        "of each token": lambda x, c: np.exp(x),
        "median": lambda x, c: np.exp(np.median(x[c > 0])),
        "log": lambda x, c: np.log((x * c).sum() / c.sum()),
    },
)  # fmt: skip


def labels_needed(labels, scores, wanted, *, axis=math.log, back=math.exp, between=None, never=math.inf):
    if scores[0] >= wanted:
        return labels[0]
    for (n, low), (m, high) in zip(zip(labels, scores), zip(labels[1:], scores[1:])):
        if high >= wanted:
            share = (wanted - low) / (high - low)
            return back((1 - share) * axis(n) + share * axis(m)) if between is None else between(n, m)
    return never


def needed_with(**slip):
    return lambda *curve: labels_needed(*curve, **slip)


LABELS_NEEDED = (
    self_supervision.labels_needed,
    {
        "by logarithms": labels_needed,
        "base 10": needed_with(axis=math.log10, back=lambda x: 10**x),
        "numpy": lambda n, s, w: math.inf if max(s) < w else n[0] if s[0] >= w else np.exp(np.interp(
            w, s[(i := int(np.argmax(np.array(s) >= w))) - 1 : i + 1], np.log(n[i - 1 : i + 1]))),
    },
    {
        "a straight line": needed_with(axis=float, back=float),
        "first at or above": needed_with(between=lambda n, m: m),
        "last below": needed_with(between=lambda n, m: n),
        "middle": needed_with(between=lambda n, m: (n * m) ** 0.5),
        "np.interp": lambda n, s, w: np.interp(w, s, n),
        "np.interp of logarithms": lambda n, s, w: np.exp(np.interp(w, s, np.log(n))),
        "never is None": needed_with(never=float("nan")),
        "never is -1": needed_with(never=-1),
        "never is the last": lambda n, *rest: labels_needed(n, *rest, never=n[-1]),
        "logarithm": needed_with(back=lambda x: x),
        "base 10, no power": needed_with(axis=math.log10, back=lambda x: x),
        "e to a logarithm of base 10": needed_with(axis=math.log10),
        "next": lambda n, s, w: next(m for m, score in zip(n, s) if score >= w),
        "the largest": lambda n, s, w: n[-1],
    },
)  # fmt: skip

EXERCISES = {
    "adapter": ADAPTER, "with_lora": WITH_LORA, "merge": MERGE, "new_parameters": NEW_PARAMETERS,
    "next_token_rows": NEXT_TOKEN_ROWS, "perplexity": PERPLEXITY, "labels_needed": LABELS_NEEDED,
}  # fmt: skip
