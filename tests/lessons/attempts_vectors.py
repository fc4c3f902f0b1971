"""What learners try who have not read the checks of lessons 14 and 15: exercise -> (check, right, wrong attempts)."""

import hashlib
import json
import random

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import expit, log_softmax

from tlqa_jax.lessons import features_or_finetuning, word_vectors


def around(vectors, tokens, place, window, *, left=None, right=None, own=False, mean=lambda x, window: x.mean(axis=0)):
    left = max(0, place - window) if left is None else left(place, window)
    right = place + window + 1 if right is None else right(place, window)
    kept = tokens[left:place] + ([tokens[place]] if own else []) + tokens[place + 1 : right]
    return mean(vectors[np.array(kept, int)], window)


def around_with(**slip):
    return lambda *case: around(*case, **slip)


def near_places(tokens, place, window):
    return [i for i in range(len(tokens)) if 0 < abs(i - place) <= window]


MEAN_OF_NEIGHBOURS = (
    word_vectors.mean_of_neighbours,
    {
        "slices": around,
        "distances": lambda v, t, p, w: v[[t[i] for i in near_places(t, p, w)]].mean(0),
        "jax": lambda v, t, p, w: jnp.asarray(v)[jnp.array(t[max(0, p - w) : p] + t[p + 1 : p + w + 1])].mean(0),
        "loop": lambda v, t, p, w: sum(v[t[i]] for i in near_places(t, p, w)) / len(near_places(t, p, w)),
    },
    {
        "with the word": around_with(own=True),
        "divided by the window": around_with(mean=lambda x, w: x.sum(0) / (2 * w)),
        "sum": around_with(mean=lambda x, w: x.sum(0)),
        "one more below": around_with(mean=lambda x, w: x.sum(0) / (len(x) + 1)),
        "left": around_with(right=lambda p, w: p + 1),
        "right": around_with(left=lambda p, w: p),
        "negative slice": around_with(left=lambda p, w: p - w),
        "right one short": around_with(right=lambda p, w: p + w),
        "left one short": around_with(left=lambda p, w: max(0, p - w + 1)),
        "one too long": around_with(right=lambda p, w: p + w + 2),
        "by number": lambda v, t, p, w: v[[x for x in t[max(0, p - w) : p + w + 1] if x != t[p]]].mean(0),
        "set": lambda v, t, p, w: v[sorted({*t[max(0, p - w) : p], *t[p + 1 : p + w + 1]})].mean(0),
        "ring": lambda v, t, p, w: np.mean([v[t[(p + d) % len(t)]] for d in range(-w, w + 1) if d], axis=0),
        "index": lambda v, t, p, w: np.mean([v[t[p + d]] for d in range(-w, w + 1) if d], axis=0),
        "of places": lambda v, t, p, w: v[[i for i in range(9) if 0 < abs(i - p) <= w]].mean(0),
        "side by side": around_with(mean=lambda x, w: x.ravel()),
        "one number": around_with(mean=lambda x, w: x.mean()),
        "over the entries": around_with(mean=lambda x, w: x.mean(axis=1)),
        "whole text": lambda v, t, p, w: v[t].mean(0),
    },
)  # fmt: skip


def of_scores(formula):
    return lambda mean, outputs: formula(np.float64(outputs) @ np.float64(mean))


log_sigmoid = lambda x: -np.logaddexp(0, -x)

WORD_LOSS = (
    word_vectors.word_loss,
    {
        "jax": lambda m, o: -jax.nn.log_sigmoid(o[0] @ m) - jax.nn.log_sigmoid(-(o[1:] @ m)).sum(),
        "signs": lambda m, o: -jax.nn.log_sigmoid((o @ m) * jnp.where(jnp.arange(len(o)) == 0, 1, -1)).sum(),
        "softplus": lambda m, o: jax.nn.softplus(-(o[0] @ m)) + sum(jax.nn.softplus(x) for x in o[1:] @ m),
        "float64": of_scores(lambda s: -np.log(expit(s[0])) - np.log(1 - expit(s[1:])).sum()),
    },
    {
        "log of one minus": lambda m, o: -jnp.log(jax.nn.sigmoid(o[0] @ m))
            - jnp.log(1 - jax.nn.sigmoid(o[1:] @ m)).sum(),
        "minus": of_scores(lambda s: log_sigmoid(s[0]) + log_sigmoid(-s[1:]).sum()),
        "all positive": of_scores(lambda s: -log_sigmoid(s).sum()),
        "all negative": of_scores(lambda s: -log_sigmoid(-s).sum()),
        "changed": of_scores(lambda s: -log_sigmoid(-s[0]) - log_sigmoid(s[1:]).sum()),
        "softmax": of_scores(lambda s: -log_softmax(s)[0]),
        "no negatives": of_scores(lambda s: -log_sigmoid(s[0])),
        "no word": of_scores(lambda s: -log_sigmoid(-s[1:]).sum()),
        "mean of negatives": of_scores(lambda s: -log_sigmoid(s[0]) - log_sigmoid(-s[1:]).mean()),
        "mean": of_scores(lambda s: -log_sigmoid(np.append(s[0], -s[1:])).mean()),
        "all": of_scores(lambda s: -log_sigmoid(np.append(s[0], -s[1:]))),
        "negatives subtracted": of_scores(lambda s: -log_sigmoid(s[0]) + log_sigmoid(-s[1:]).sum()),
        "probabilities": of_scores(lambda s: expit(s[0]) + expit(-s[1:]).sum()),
        "1 - p": of_scores(lambda s: 1 - expit(s[0]) + expit(s[1:]).sum()),
        "squares": of_scores(lambda s: (1 - expit(s[0])) ** 2 + (expit(s[1:]) ** 2).sum()),
        "base 2": of_scores(lambda s: (-log_sigmoid(s[0]) - log_sigmoid(-s[1:]).sum()) / np.log(2)),
        "last": of_scores(lambda s: -log_sigmoid(s[-1]) - log_sigmoid(-s[:-1]).sum()),
        "scores": of_scores(lambda s: -s[0] + s[1:].sum()),
        "clipped": of_scores(lambda s: -np.log(expit(s[0])) - np.log(np.maximum(1 - expit(s[1:]), 1e-7)).sum()),
    },
)  # fmt: skip


def by_error(error=lambda s, t: expit(s) - t, change=lambda d_mean, d_outputs: (d_mean, d_outputs)):
    def loss_gradients(mean, outputs):
        e = error(outputs @ mean, np.eye(len(outputs))[0])
        return change(e @ outputs, np.outer(e, mean))

    return loss_gradients


LOSS_GRADIENTS = (
    word_vectors.loss_gradients,
    {
        "by hand": by_error(),
        "jax.grad": jax.grad(WORD_LOSS[1]["jax"], argnums=(0, 1)),
        "a list": by_error(change=lambda m, o: [m, jnp.asarray(o)]),
        "loop": lambda m, o: (
            sum((expit(x @ m) - (i == 0)) * x for i, x in enumerate(o)),
            [(expit(x @ m) - (i == 0)) * m for i, x in enumerate(o)]),
    },
    {
        "downhill": by_error(lambda s, t: t - expit(s)),
        "no target": by_error(lambda s, t: expit(s)),
        "target turned": by_error(lambda s, t: expit(s) - (1 - t)),
        "scores": by_error(lambda s, t: s - t),
        "softmax": by_error(lambda s, t: np.exp(log_softmax(s)) - t),
        "squared error": by_error(lambda s, t: (expit(s) - t) * expit(s) * (1 - expit(s))),
        "changed": by_error(change=lambda m, o: (o, m)),
        "divided": by_error(lambda s, t: (expit(s) - t) / len(s)),
        "mean for the mean": by_error(change=lambda m, o: (m / len(o), o)),
        "transposed": by_error(change=lambda m, o: (m, o.T)),
        "only the mean": by_error(change=lambda m, o: m),
        "word alone": lambda m, o: ((expit(o[0] @ m) - 1) * o[0], by_error()(m, o)[1]),
        "plain sum": lambda m, o: (o.sum(0), by_error()(m, o)[1]),
        "error times output": lambda m, o: (by_error()(m, o)[0], (expit(o @ m) - np.eye(len(o))[0])[:, None] * o),
        "log": by_error(lambda s, t: np.log(expit(s)) - t),
        "one vector": by_error(change=lambda m, o: (m, o.sum(0))),
    },
)  # fmt: skip

unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)


def near(vectors, plus, minus, n, *, prepare=unit, score=lambda v, t: unit(v) @ t, sign=-1, leave=None):
    v = prepare(vectors)
    scores = score(vectors, v[plus].sum(0) + sign * v[minus].sum(0))
    order = np.argsort(-scores)
    asked = [*plus, *minus] if leave is None else leave(plus, minus)
    return [int(i) for i in order if i not in asked][:n]


def near_with(**slip):
    return lambda *case: near(*case, **slip)


NEAREST_WORDS = (
    word_vectors.nearest_words,
    {
        "numpy": near,
        "array": lambda *case: np.array(near(*case)),
        "cosine": near_with(score=lambda v, t: unit(v) @ unit(t)),
        "jax": lambda v, p, m, n: [i for i in jnp.argsort(-(unit(v) @ (
            sum(unit(v)[i] for i in p) - sum((unit(v)[i] for i in m), np.zeros(3))))).tolist() if i not in p + m][:n],
        "distance between directions": near_with(score=lambda v, t: -np.linalg.norm(unit(v) - unit(t), axis=1)),
    },
    {
        "with all": near_with(leave=lambda plus, minus: []),
        "with minus": near_with(leave=lambda plus, minus: plus),
        "with plus": near_with(leave=lambda plus, minus: minus),
        "dot product": near_with(score=lambda v, t: v @ t),
        "dot products only": near_with(score=lambda v, t: v @ t, prepare=lambda v: v),
        "farthest": near_with(score=lambda v, t: -unit(v) @ t),
        "distance": near_with(score=lambda v, t: -np.linalg.norm(v - t, axis=1), prepare=lambda v: v),
        "distance to unit": near_with(score=lambda v, t: -np.linalg.norm(v - t, axis=1)),
        "added before": near_with(prepare=lambda v: v),
        "minus added": near_with(sign=1),
        "no minus": near_with(sign=0),
        "absolute": near_with(score=lambda v, t: np.abs(unit(v) @ t)),
        "one fewer": lambda v, p, m, n: near(v, p, m, n)[1:],
        "left out after": lambda v, p, m, n: [i for i in near(v, p, m, n, leave=lambda *_: []) if i not in p + m],
        "first alone": lambda v, p, m, n: near(v, p[:1], m, n, leave=lambda *_: p + m),
        "similarities": lambda v, p, m, n: np.sort(unit(v) @ unit(v)[p[0]])[::-1][:n].tolist(),
    },
)  # fmt: skip


def pooled(states, mask, layers, *, mean=None, join=lambda parts: np.concatenate(parts, axis=-1), shift=0):
    mean = mean or (lambda x, mask: (x * mask[..., None]).sum(1) / mask.sum(1, keepdims=True))
    return join([mean(states[layer + shift], mask) for layer in layers])


def pooled_with(**slip):
    return lambda *case: pooled(*case, **slip)


FEATURES = (
    features_or_finetuning.features,
    {
        "numpy": pooled,
        "where": pooled_with(mean=lambda x, m: np.mean(x, axis=1, where=m[..., None])),
        "texts in a loop": pooled_with(mean=lambda x, m: np.stack([t[k].mean(0) for t, k in zip(x, m)])),
        "layers first": lambda states, mask, layers: pooled(
            [np.concatenate([states[i] for i in layers], axis=-1)], mask, [0]),
        "einsum": pooled_with(mean=lambda x, m: jnp.einsum("bld,bl->bd", x, m / m.sum(1, keepdims=True))),
    },
    {
        "padding": pooled_with(mean=lambda x, m: x.mean(1)),
        "zeros counted": pooled_with(mean=lambda x, m: (x * m[..., None]).mean(1)),
        "sum": pooled_with(mean=lambda x, m: (x * m[..., None]).sum(1)),
        "inverse mask": pooled_with(mean=lambda x, m: (x * ~m[..., None]).sum(1) / np.maximum((~m).sum(1), 1)[:, None]),
        "whole batch": pooled_with(mean=lambda x, m: (x * m[..., None]).sum(1) / m.sum()),
        "[CLS]": pooled_with(mean=lambda x, m: x[:, 0]),
        "max": pooled_with(mean=lambda x, m: np.where(m[..., None], x, -np.inf).max(1)),
        "last token": pooled_with(mean=lambda x, m: x[:, -1]),
        "layers added": pooled_with(join=sum),
        "layers' mean": pooled_with(join=lambda parts: np.mean(parts, axis=0)),
        "stacked": pooled_with(join=lambda parts: np.stack(parts, 1)),
        "stacked first": pooled_with(join=np.stack),
        "below": pooled_with(join=np.concatenate),
        "too low": pooled_with(shift=-1),
        "too high": lambda states, mask, layers: pooled([*states[1:]], mask, layers),
        "last layer": pooled_with(join=lambda parts: parts[-1]),
        "first layer": pooled_with(join=lambda parts: parts[0]),
        "mixed": pooled_with(join=lambda parts: np.stack(parts, -1).reshape(3, -1)),
        "sorted": lambda states, mask, layers: pooled(states, mask, sorted(layers)),
        "all layers": lambda states, mask, layers: pooled(states, mask, range(4)),
        "tokens": pooled_with(mean=lambda x, m: x),
        "over the texts": pooled_with(mean=lambda x, m: (x * m[..., None]).mean(0)),
    },
)  # fmt: skip

sha = lambda text: hashlib.sha256(text.encode()).hexdigest()

CACHE_NAME = (
    features_or_finetuning.cache_name,
    {
        "json": lambda *case: sha(json.dumps(case)),
        "repr": lambda *case: sha(repr(case)),
        "md5": lambda w, t, layers, p: hashlib.md5(json.dumps([p, layers, t, w]).encode()).hexdigest(),
        "readable": lambda w, t, layers, p: f"{w}-{'.'.join(map(str, layers))}-{p}-{sha(json.dumps(t))}",
        "each text": lambda w, t, layers, p: sha("".join(map(sha, t)) + sha(w) + sha(str(layers)) + sha(p)),
    },
    {
        "hash": lambda *case: str(hash(repr(case))),
        "number": lambda *case: len(repr(case)),
        "bytes": lambda *case: hashlib.sha256(repr(case).encode()).digest(),
        "not hashed": lambda *case: json.dumps(case),
        "random": lambda *case: str(random.random()),
        "no weights": lambda w, t, layers, p: sha(json.dumps([t, layers, p])),
        "no texts": lambda w, t, layers, p: sha(json.dumps([w, layers, p])),
        "number of texts": lambda w, t, layers, p: sha(json.dumps([w, len(t), layers, p])),
        "no layers": lambda w, t, layers, p: sha(json.dumps([w, t, p])),
        "no pooling": lambda w, t, layers, p: sha(json.dumps([w, t, layers])),
        "set": lambda w, t, layers, p: sha(json.dumps([w, sorted(t), layers, p])),
        "layers sorted": lambda w, t, layers, p: sha(json.dumps([w, t, sorted(layers), p])),
        "joined": lambda w, t, layers, p: sha(w + "".join(t) + str(layers) + p),
        "joined by a space": lambda w, t, layers, p: sha(w + " ".join(t) + str(layers) + p),
        "joined by a line break": lambda w, t, layers, p: sha(w + "\n".join(t) + str(layers) + p),
        "joined by a comma": lambda w, t, layers, p: sha(w + ",".join(t) + str(layers) + p),
        "layers joined": lambda w, t, layers, p: sha(json.dumps([w, t, "".join(map(str, layers)), p])),
        "number of layers": lambda w, t, layers, p: sha(json.dumps([w, t, len(layers), p])),
        "first text": lambda w, t, layers, p: sha(json.dumps([w, t[0], layers, p])),
    },
)  # fmt: skip

PASSES = (
    features_or_finetuning.passes,
    {
        "formula": lambda n, e, t: (n, 3 * n * e * t),
        "list": lambda n, e, t: [n, t * e * (n + 2 * n)],
        "array": lambda n, e, t: np.array([n, 3 * n * e * t]),
        "floats": lambda n, e, t: (float(n), 3.0 * n * e * t),
    },
    {
        "changed": lambda n, e, t: (3 * n * e * t, n),
        "each epoch": lambda n, e, t: (n * e, 3 * n * e * t),
        "each task": lambda n, e, t: (n * t, 3 * n * e * t),
        "nothing kept": lambda n, e, t: (n * e * t, 3 * n * e * t),
        "backward": lambda n, e, t: (3 * n, 3 * n * e * t),
        "the same": lambda n, e, t: (3 * n * e * t, 3 * n * e * t),
        "free": lambda n, e, t: (0, 3 * n * e * t),
        "forward only": lambda n, e, t: (n, n * e * t),
        "backward is one": lambda n, e, t: (n, 2 * n * e * t),
        "backward is three": lambda n, e, t: (n, 4 * n * e * t),
        "one epoch": lambda n, e, t: (n, 3 * n * t),
        "one task": lambda n, e, t: (n, 3 * n * e),
        "one of each": lambda n, e, t: (n, 3 * n),
        "one number": lambda n, e, t: 3 * n * e * t,
        "ratio": lambda n, e, t: (1, 3 * e * t),
    },
)

EXERCISES = {
    "mean_of_neighbours": MEAN_OF_NEIGHBOURS, "word_loss": WORD_LOSS, "loss_gradients": LOSS_GRADIENTS,
    "nearest_words": NEAREST_WORDS, "features": FEATURES, "cache_name": CACHE_NAME, "passes": PASSES,
}  # fmt: skip
