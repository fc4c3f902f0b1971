"""What learners try who have not read the checks of lessons 5, 6 and 12: exercise -> (check, right attempts, wrong ones)."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy.special import log_softmax, softmax

from tlqa_jax.core.devices import AXIS
from tlqa_jax.lessons import answering_questions, decoding, pretraining_with_pmap


def psum(x):
    return jax.lax.psum(x, AXIS)


def pmean(x):
    return jax.lax.pmean(x, AXIS)


GLOBAL_MEAN = (
    pretraining_with_pmap.global_mean,
    {
        "two psums": lambda x, w: psum((x * w).sum()) / psum(w.sum()),
        "two pmeans": lambda x, w: pmean((x * w).sum()) / pmean(w.sum()),
        "gathered": lambda x, w: jax.lax.all_gather(x * w, AXIS).sum() / jax.lax.all_gather(w, AXIS).sum(),
        "shares": lambda x, w: psum((x * w).sum() / psum(w.sum())),
    },
    {
        "mean of means": lambda x, w: pmean((x * w).sum() / w.sum()),
        "sum of means": lambda x, w: psum((x * w).sum() / w.sum()),
        "mean of plain means": lambda x, w: pmean(x.mean()),
        "its own mean": lambda x, w: (x * w).sum() / w.sum(),
        "padding counts": lambda x, w: psum(x.sum()) / psum(w.sum()),
        "padding in the number": lambda x, w: psum((x * w).sum()) / psum(jnp.ones_like(w).sum()),
        "sum over its own weight": lambda x, w: psum((x * w).sum()) / w.sum(),
        "its own sum over all": lambda x, w: (x * w).sum() / psum(w.sum()),
        "sum": lambda x, w: psum((x * w).sum()),
        "mean of sums": lambda x, w: pmean((x * w).sum()),
        "by the number of devices": lambda x, w: psum((x * w).sum() / w.sum()) / psum(1) ** 2,
        "one for each row": lambda x, w: psum((x * w).sum(-1)) / psum(w.sum(-1)),
        "one for each token": lambda x, w: psum(x * w) / psum(w.sum()),
        "largest": lambda x, w: jax.lax.pmax((x * w).sum() / w.sum(), AXIS),
    },
)  # fmt: skip


def gradient(of, after=lambda tree: tree):
    def gradients(loss_sum, params, rows):
        return after(jax.grad(lambda params: of(loss_sum(params, rows), rows["weights"].sum()))(params))

    return gradients


def scaled(factor):
    return lambda tree: jax.tree.map(lambda x: x * factor, tree)


GRADIENTS = (
    pretraining_with_pmap.gradients,
    {
        "share, psum": gradient(lambda total, weight: total / psum(weight), psum),
        "sum, psum, divided": lambda loss_sum, params, rows: jax.tree.map(
            lambda g: psum(g) / psum(rows["weights"].sum()), jax.grad(loss_sum)(params, rows)),
        "pmean of both": gradient(lambda total, weight: total / pmean(weight), pmean),
        "value_and_grad": lambda loss_sum, params, rows: psum(jax.value_and_grad(
            lambda params: loss_sum(params, rows) / psum(rows["weights"].sum()))(params)[1]),
    },
    {
        "mean of means": gradient(lambda total, weight: total / weight, pmean),
        "sum of means": gradient(lambda total, weight: total / weight, psum),
        "its own mean": gradient(lambda total, weight: total / weight),
        "its share": gradient(lambda total, weight: total / psum(weight)),
        "mean of shares": gradient(lambda total, weight: total / psum(weight), pmean),
        "of the summed loss, summed": gradient(lambda total, weight: psum(total) / psum(weight), psum),
        "of the summed loss": gradient(lambda total, weight: psum(total) / psum(weight)),
        "of the sum": gradient(lambda total, weight: total, psum),
        "mean of sums": gradient(lambda total, weight: total, pmean),
        "minus": gradient(lambda total, weight: -total / psum(weight), psum),
        "times the weight": gradient(lambda total, weight: total * psum(weight), psum),
        "by the number of places": gradient(
            lambda total, weight: total / psum(6.0), psum),
        "a step": lambda loss_sum, params, rows: jax.tree.map(
            lambda p, g: p - g, params, gradient(lambda t, w: t / psum(w), psum)(loss_sum, params, rows)),
        "the loss": lambda loss_sum, params, rows: {"w": psum(loss_sum(params, rows)) / psum(rows["weights"].sum())
                                                    * jnp.ones(5)},
        "divided twice": gradient(lambda total, weight: total / psum(weight) / psum(1), psum),
    },
)  # fmt: skip


def folded(*numbers):
    def key(seed, step):
        key = jax.random.key(seed)
        for number in numbers:
            key = jax.random.fold_in(key, number(step))
        return key

    return key


def device(step):
    return jax.lax.axis_index(AXIS)


def itself(step):
    return step


DROPOUT_KEY = (
    pretraining_with_pmap.dropout_key,
    {
        "step, device": folded(itself, device),
        "device, step": folded(device, itself),
        "old keys":
            lambda seed, step: jax.random.fold_in(jax.random.fold_in(jax.random.PRNGKey(seed), step), device(0)),
    },
    {
        "seed alone": folded(),
        "step alone": folded(itself),
        "device alone": folded(device),
        "sum": folded(lambda step: step + device(step)),
        "product": folded(lambda step: step * device(step)),
        "times 8 and the seed": lambda seed, step: jax.random.key(1000 * seed + 8 * step + device(step)),
        "added to the seed": lambda seed, step: jax.random.fold_in(jax.random.key(seed + step), device(step)),
        "all added": lambda seed, step: jax.random.key(seed + step + device(step)),
        "seed forgotten": lambda seed, step: folded(itself, device)(0, step),
        "step times 3": folded(lambda step: 3 * step + device(step)),
        "step and device times 100": folded(lambda step: 100 * (step + device(step))),
        "a number": lambda seed, step: jnp.float32(seed),
        "split": lambda seed, step: jax.random.split(jax.random.key(seed))[0],
        "of the device, mod 2": folded(itself, lambda step: device(step) % 2),
    },
)  # fmt: skip


def written(logits, most, *, row=-1, start=0, memory=True, stop=True, keep=True, first=False, best=np.argmax, more=0):
    tokens = []
    while len(tokens) < most + more:
        seen = [start, *tokens]
        tokens.append(int(best(logits(seen if memory else seen[-1:])[row])))
        if stop and tokens[-1] == 1:
            break
    return [start] * first + (tokens if keep else [t for t in tokens if t != 1])


WRITE_ANSWER = (
    answering_questions.write_answer,
    {
        "loop": written,
        "numpy's numbers": lambda logits, most: [np.int64(t) for t in written(logits, most)],
        "array": lambda logits, most: np.array(written(logits, most)),
    },
    {
        "first row": lambda *a: written(*a, row=0),
        "last word alone": lambda *a: written(*a, memory=False),
        "on after the end": lambda *a: written(*a, stop=False),
        "from the end token": lambda *a: written(*a, start=1),
        "without the end": lambda *a: written(*a, keep=False),
        "with the start": lambda *a: written(*a, first=True),
        "argmin": lambda *a: written(*a, best=np.argmin),
        "one more": lambda *a: written(*a, more=1),
        "one less": lambda *a: written(*a, more=-1),
        "all at once": lambda logits, most: [int(np.argmax(row)) for row in logits([0] * most)],
        "one step": lambda logits, most: written(logits, 1),
        "second best": lambda *a: written(*a, best=lambda row: np.argsort(row)[-2]),
        "best of all rows": lambda logits, most: written(
            lambda seen: [np.max(logits(seen), axis=0)], most),
        "padded": lambda logits, most: (t := written(logits, most)) + [0] * (most - len(t)),
        "probabilities": lambda logits, most: [float(np.max(softmax(logits([0])[-1]))) for _ in range(most)],
    },
)  # fmt: skip


def keys(without, cached):
    return lambda T, S, cache: cached(T, S) if cache else without(T, S)


def once(T, S):
    return T + S


def again(T, S):
    return T * (T + 1) // 2 + T * S


KEYS_COMPUTED = (
    answering_questions.keys_computed,
    {"formula": keys(again, once), "loop": keys(lambda T, S: sum(t + S for t in range(1, T + 1)), once)},
    {
        "T squared": keys(lambda T, S: T * T + T * S, once),
        "no cross-attention": keys(lambda T, S: T * (T + 1) // 2, lambda T, S: T),
        "cross-attention again": keys(again, lambda T, S: T + T * S),
        "words again": keys(again, lambda T, S: T * (T + 1) // 2 + S),
        "cross-attention once": keys(lambda T, S: T * (T + 1) // 2 + S, once),
        "exchanged": keys(once, again),
        "one short": keys(lambda T, S: T * (T - 1) // 2 + T * S, once),
        "times S": keys(lambda T, S: T * (T + 1) // 2 * S, lambda T, S: T * S),
        "product": keys(lambda T, S: T * S, once),
        "the same": keys(once, once),
        "never cached": keys(again, again),
        "with the start": keys(again, lambda T, S: T + S + 1),
        "keys and values": keys(lambda T, S: 2 * again(T, S), lambda T, S: 2 * once(T, S)),
        "not halved": keys(lambda T, S: T * (T + 1) + T * S, once),
    },
)  # fmt: skip


def answered(formula, end=True, padding=False, log_p=log_softmax, first=False):
    def probability(logits, tokens):
        n = list(tokens).index(1) + 1 if 1 in tokens else len(tokens)
        n = len(tokens) if padding else n - (1 in tokens and not end)
        n = int(np.argmax(tokens == 1)) + 1 if first else n
        return float(formula(log_p(np.float64(logits), axis=-1)[np.arange(n), tokens[:n]]))

    return probability


ANSWER_PROBABILITY = (
    answering_questions.answer_probability,
    {
        "sum of logarithms": answered(lambda x: np.exp(x.sum())),
        "product": answered(lambda x: np.exp(x).prod()),
    },
    {
        "with padding": answered(lambda x: np.exp(x.sum()), padding=True),
        "without the end": answered(lambda x: np.exp(x.sum()), end=False),
        "mean probability": answered(lambda x: np.exp(x).mean()),
        "per token": answered(lambda x: np.exp(x.mean())),
        "logarithm": answered(np.sum),
        "minus the logarithm": answered(lambda x: -x.sum()),
        "logits": answered(lambda x: np.exp(x.sum()), log_p=lambda x, axis: x),
        "sum": answered(lambda x: np.exp(x).sum()),
        "first token": answered(lambda x: np.exp(x[0])),
        "last token": answered(lambda x: np.exp(x[-1])),
        "least of them": answered(lambda x: np.exp(x.min())),
        "argmax without an end": answered(lambda x: np.exp(x.sum()), first=True),
        "over positions": answered(lambda x: np.exp(x.sum()), log_p=lambda x, axis: log_softmax(x, axis=0)),
        "most probable tokens": lambda logits, tokens: float(np.exp(log_softmax(logits, axis=-1).max(-1).sum())),
        "in percent": answered(lambda x: 100 * np.exp(x.sum())),
        "to base 2": answered(lambda x: 2 ** x.sum()),
    },
)  # fmt: skip


def ways(beams, log_p, score=lambda s, x: s + x):
    return [((*tokens, v), score(s, x)) for tokens, s in beams for v, x in enumerate(log_p(tokens))]


def best(found, width):
    return sorted(found, key=lambda beam: -beam[1])[:width]


def one_for_each(found, width, which):
    kept = {}
    for beam in best(found, None):
        kept.setdefault(which(beam[0]), beam)
    return best(kept.values(), width)


BEAM_STEP = (
    decoding.beam_step,
    {
        "one list": lambda beams, log_p, width: best(ways(beams, log_p), width),
        "lists of tokens": lambda beams, log_p, width: [(list(t), s) for t, s in best(ways(beams, log_p), width)],
        "width of each first": lambda beams, log_p, width: best(
            [way for beam in beams for way in best(ways([beam], log_p), width)], width),
    },
    {
        "best of each beam": lambda beams, log_p, width: best([best(ways([b], log_p), 1)[0] for b in beams], width),
        "one for each last token": lambda beams, log_p, width: one_for_each(ways(beams, log_p), width, lambda t: t[-1]),
        "one for each beam": lambda beams, log_p, width: one_for_each(ways(beams, log_p), width, lambda t: t[:-1]),
        "last token alone": lambda beams, log_p, width: best(ways(beams, log_p, lambda s, x: x), width),
        "first beam alone": lambda beams, log_p, width: best(ways(beams[:1], log_p), width),
        "probability added": lambda beams, log_p, width: best(ways(beams, log_p, lambda s, x: s + np.exp(x)), width),
        "multiplied": lambda beams, log_p, width: best(ways(beams, log_p, lambda s, x: s * x), width),
        "worst": lambda beams, log_p, width: sorted(ways(beams, log_p), key=lambda b: b[1])[:width],
        "worst of the best first": lambda beams, log_p, width: best(ways(beams, log_p), width)[::-1],
        "all": lambda beams, log_p, width: best(ways(beams, log_p), None),
        "unsorted": lambda beams, log_p, width: ways(beams, log_p)[:width],
        "new token alone": lambda beams, log_p, width: [((t[-1],), s) for t, s in best(ways(beams, log_p), width)],
        "mean": lambda beams, log_p, width: best(
            [(t, s / len(t)) for t, s in ways(beams, log_p)], width),
        "two": lambda beams, log_p, width: best(ways(beams, log_p), 2),
        "tokens alone": lambda beams, log_p, width: [t for t, s in best(ways(beams, log_p), width)],
    },
)  # fmt: skip

TEXT_SCORE = (
    decoding.text_score,
    {
        "power": lambda x, a: x.sum() / len(x) ** a,
        "times a negative power": lambda x, a: len(x) ** -a * np.sum(x),
        "float": lambda x, a: float(x.mean() * len(x) ** (1 - a)),
    },
    {
        "multiplied": lambda x, a: x.sum() * len(x) ** a,
        "length times penalty": lambda x, a: x.sum() / (len(x) * a) if a else x.sum(),
        "mean": lambda x, a: x.mean(),
        "sum": lambda x, a: x.sum(),
        "without the end": lambda x, a: x.sum() / (len(x) - 1) ** a,
        "without the end's p": lambda x, a: x[:-1].sum() / len(x) ** a,
        "probability": lambda x, a: np.exp(x.sum()) / len(x) ** a,
        "of each token": lambda x, a: (x / len(x) ** a),
        "penalty to the length": lambda x, a: x.sum() / a ** len(x) if a else x.sum(),
        "Google's": lambda x, a: x.sum() / ((5 + len(x)) / 6) ** a,
        "minus": lambda x, a: -x.sum() / len(x) ** a,
        "added": lambda x, a: x.sum() + a * len(x),
        "divided by the penalty": lambda x, a: x.sum() / a if a else x.sum(),
        "mean and power": lambda x, a: x.mean() / len(x) ** a,
        "power of the sum": lambda x, a: -(abs(x.sum()) ** a),
    },
)  # fmt: skip

WITH_TEMPERATURE = (
    decoding.with_temperature,
    {
        "softmax": lambda x, t: softmax(x / t),
        "by hand": lambda x, t: np.exp(x / t - max(x / t)) / np.exp(x / t - max(x / t)).sum(),
        "powers": lambda x, t: (p := softmax(x) ** (1 / t)) / p.sum(),
    },
    {
        "multiplied": lambda x, t: softmax(x * t),
        "divided after": lambda x, t: softmax(x) / t,
        "logits": lambda x, t: x / t,
        "subtracted": lambda x, t: softmax(x - t),
        "powers, not shared out": lambda x, t: softmax(x) ** (1 / t),
        "power T": lambda x, t: (p := softmax(x) ** t) / p.sum(),
        "no temperature": lambda x, t: softmax(x),
        "log_softmax": lambda x, t: log_softmax(x / t),
        "divided twice": lambda x, t: softmax(x / t / t),
        "root": lambda x, t: softmax(x / np.sqrt(t)),
        "exp alone": lambda x, t: np.exp(x / t),
        "softmax of the softmax": lambda x, t: softmax(softmax(x) / t),
        "1 - T": lambda x, t: softmax(x * (2 - t)),
        "sigmoid": lambda x, t: 1 / (1 + np.exp(-x / t)),
    },
)  # fmt: skip


def kept(p, tokens):
    mask = np.zeros(len(p), bool)
    mask[tokens] = True
    return mask


def needed(p, share, order=lambda p: np.argsort(-p)):
    return order(p)[: int((np.cumsum(p[order(p)]) < share).sum()) + 1]


def loop(p, share):
    mask, total = np.zeros(len(p), bool), 0.0
    while total < share:
        best = max(np.flatnonzero(~mask), key=lambda i: p[i])
        mask[best] = True
        total += p[best]
    return mask


NUCLEUS = (
    decoding.nucleus,
    {
        "what comes before": lambda p, share: kept(p, needed(p, share)),
        "loop": loop,
        "jax": lambda p, share: jnp.array(kept(p, needed(p, share))),
    },
    {
        "stays below": lambda p, share: kept(p, needed(p, share)[:-1]),
        "one too many": lambda p, share: kept(p, np.argsort(-p)[: len(needed(p, share)) + 1]),
        "each above the share": lambda p, share: p >= share,
        "each above 1 - share": lambda p, share: p >= 1 - share,
        "in order of the vocabulary": lambda p, share: kept(p, needed(p, share, lambda p: np.arange(len(p)))),
        "least likely first": lambda p, share: kept(p, needed(p, share, np.argsort)),
        "sorted positions": lambda p, share: np.cumsum(np.sort(p)[::-1]) - np.sort(p)[::-1] < share,
        "the share of tokens": lambda p, share: kept(p, np.argsort(-p)[: round(share * len(p))]),
        "relative to the best": lambda p, share: p >= share * p.max(),
        "upside down": lambda p, share: ~kept(p, needed(p, share)),
        "the tokens": needed,
        "probabilities": lambda p, share: np.where(kept(p, needed(p, share)), p, 0),
        "the best alone": lambda p, share: p == p.max(),
        "all": lambda p, share: p > 0,
    },
)  # fmt: skip

EXERCISES = {
    "global_mean": GLOBAL_MEAN, "gradients": GRADIENTS, "dropout_key": DROPOUT_KEY, "write_answer": WRITE_ANSWER,
    "keys_computed": KEYS_COMPUTED, "answer_probability": ANSWER_PROBABILITY, "beam_step": BEAM_STEP,
    "text_score": TEXT_SCORE, "with_temperature": WITH_TEMPERATURE, "nucleus": NUCLEUS,
}  # fmt: skip
