"""What learners try who have not read the checks of lessons 8, 9 and 13: exercise -> (check, right attempts, wrong ones)."""

import itertools
import math
from collections import Counter

import numpy as np
from scipy.special import log_softmax, softmax

from tlqa_jax.lessons import classes_of_texts, masked_lm, pointing_at_answers


def masked(
    rng, tokens, special_ids, mask_id, vocab_size, *, share=0.15, round=round, least=1, choose=None, of=None,
    throws=(0.8, 0.9), each=True, ordinary=True, replace=False, sort=True, changed=None,
):  # fmt: skip
    text = np.flatnonzero(~np.isin(tokens, special_ids)) if of is None else of(tokens)
    number = max(least, int(round(share * len(text))))
    positions = choose(rng, text, number) if choose else rng.choice(text, number, replace=replace)
    positions = np.sort(positions) if sort else positions
    pieces = np.setdiff1d(np.arange(vocab_size), special_ids) if ordinary else np.arange(vocab_size)
    throw = rng.random(len(positions)) if each else rng.random()
    seen = tokens.copy()
    seen[positions] = np.where(
        throw < throws[0], mask_id, np.where(throw < throws[1], rng.choice(pieces, len(positions)), tokens[positions])
    )
    return (seen, positions, tokens[positions]) if changed is None else changed(seen, positions, tokens)


def with_slip(**slip):
    return lambda *row: masked(*row, **slip)


MASK_ROW = (
    masked_lm.mask_row,
    {
        "the rules": masked,
        "permutation": with_slip(choose=lambda rng, text, n: rng.permutation(text)[:n]),
        "lists": lambda *row: [part.tolist() for part in masked(*row)],
    },
    {
        "special tokens too": with_slip(of=lambda tokens: np.arange(len(tokens))),
        "15 % of the row": lambda rng, tokens, *rest: masked(
            rng, tokens, *rest, share=0.15 * len(tokens) / max(1, (tokens > 4).sum())),
        "a coin for each": with_slip(choose=lambda rng, text, n: text[rng.random(len(text)) < 0.15]),
        "with replacement": with_slip(replace=True),
        "always the first": with_slip(choose=lambda rng, text, n: text[:n]),
        "neighbours": with_slip(choose=lambda rng, text, n: text[(i := rng.integers(len(text) - n + 1)) : i + n]),
        "rounded up": with_slip(round=math.ceil),
        "cut off": with_slip(round=int),
        "none of a short row": with_slip(least=0),
        "all masked": with_slip(throws=(1, 1)),
        "no random": with_slip(throws=(0.8, 0.8)),
        "none kept": with_slip(throws=(0.8, 1)),
        "80, 18, 2": with_slip(throws=(0.8, 0.98)),
        "70, 15, 15": with_slip(throws=(0.7, 0.85)),
        "one throw": with_slip(each=False),
        "random specials": with_slip(ordinary=False),
        "not sorted": with_slip(sort=False),
        "targets seen": with_slip(changed=lambda seen, at, tokens: (seen, at, seen[at])),
        "whole row as targets": with_slip(changed=lambda seen, at, tokens: (seen, at, tokens)),
        "two results": with_slip(changed=lambda seen, at, tokens: (seen, at)),
        "own generator": lambda rng, *row: masked(np.random.default_rng(0), *row),
        "in place": lambda rng, tokens, *rest: (
            (result := masked(rng, tokens, *rest)), tokens.__setitem__(slice(None), result[0])) and result,
    },
)  # fmt: skip


def nll(logits, answers, log_p=log_softmax):
    return -np.take_along_axis(log_p(np.float64(logits), axis=-1), answers[..., None], axis=-1)[..., 0]


def loss_of(both, mlm=lambda x, w: (x * w).sum() / w.sum(), nsp=np.mean, log_p=log_softmax):
    return lambda z, t, w, y, n: both(mlm(nll(z, t, log_p), w), nsp(nll(y, n, log_p)))


def add(a, b):
    return a + b


def unstable(x, axis):
    return np.log(np.exp(x) / np.exp(x).sum(axis=axis, keepdims=True))


PRETRAINING_LOSS = (
    masked_lm.pretraining_loss,
    {
        "sum of means": loss_of(add),
        "np.average": loss_of(add, mlm=lambda x, w: np.average(x, weights=w)),
        "float32": lambda z, t, w, y, n: np.float32(loss_of(add)(z, t, w, y, n)),
    },
    {
        "weights forgotten": loss_of(add, mlm=lambda x, w: x.mean()),
        "weights in the sum alone": loss_of(add, mlm=lambda x, w: (x * w).mean()),
        "mean of rows": loss_of(add, mlm=lambda x, w: ((x * w).sum(1) / w.sum(1)).mean()),
        "sum of the predictions": loss_of(add, mlm=lambda x, w: (x * w).sum()),
        "sum of the pairs": loss_of(add, nsp=np.sum),
        "both sums": loss_of(add, mlm=lambda x, w: (x * w).sum(), nsp=np.sum),
        "masked LM alone": loss_of(lambda a, b: a),
        "pairs alone": loss_of(lambda a, b: b),
        "mean of the two": loss_of(lambda a, b: (a + b) / 2),
        "product": loss_of(lambda a, b: a * b),
        "minus": loss_of(lambda a, b: -a - b),
        "both numbers": loss_of(lambda a, b: (a, b)),
        "labels turned round": lambda z, t, w, y, n: loss_of(add)(z, t, w, y, 1 - n),
        "nan": loss_of(add, log_p=unstable),
        "logits": loss_of(add, log_p=lambda x, axis: x),
        "over the batch": loss_of(add, log_p=lambda x, axis: log_softmax(x, axis=0)),
        "bits": loss_of(lambda a, b: (a + b) / np.log(2)),
        "by the number of rows": loss_of(add, mlm=lambda x, w: (x * w).sum() / len(w)),
    },
)  # fmt: skip


def products(encoder=lambda L, D, F: L * (4 * D * D + 2 * D * F) + 2 * L * L * D, times=lambda layers: layers,
             head=lambda L, P, D, V: P * (D * D + D * V)):  # fmt: skip
    return lambda L, P, D, F, layers, V: (times(layers) * encoder(L, D, F), head(L, P, D, V))


MULTIPLICATIONS = (
    masked_lm.multiplications,
    {"sums": products(), "floats": lambda *sizes: [float(x) for x in products()(*sizes)]},
    {
        "head everywhere": products(head=lambda L, P, D, V: L * (D * D + D * V)),
        "no matrix of the head": products(head=lambda L, P, D, V: P * D * V),
        "one head": products(head=lambda L, P, D, V: D * D + D * V),
        "one layer": products(times=lambda layers: 1),
        "three matrices": products(lambda L, D, F: L * (3 * D * D + 2 * D * F) + 2 * L * L * D),
        "no pairs": products(lambda L, D, F: L * (4 * D * D + 2 * D * F)),
        "pairs once": products(lambda L, D, F: L * (4 * D * D + 2 * D * F) + L * L * D),
        "pairs without D": products(lambda L, D, F: L * (4 * D * D + 2 * D * F) + 2 * L * L),
        "half of the pairs": products(lambda L, D, F: L * (4 * D * D + 2 * D * F) + L * (L + 1) * D),
        "one feed-forward": products(lambda L, D, F: L * (4 * D * D + D * F) + 2 * L * L * D),
        "parameters": products(lambda L, D, F: 4 * D * D + 2 * D * F),
        "with additions": lambda *sizes: tuple(2 * x for x in products()(*sizes)),
        "one number": lambda *sizes: sum(products()(*sizes)),
        "exchanged": lambda *sizes: products()(*sizes)[::-1],
        "V alone": products(head=lambda L, P, D, V: P * (D * D + V)),
    },
)  # fmt: skip


def words_of(pieces, *, joins=lambda piece: piece.startswith("##"), skip=("[CLS]", "[SEP]", "[PAD]")):
    words = []
    for i, piece in enumerate(pieces):
        if joins(piece) and words:
            words[-1].append(i)
        elif piece not in skip:
            words.append([i])
    return words


WHOLE_WORDS = (
    masked_lm.whole_words,
    {
        "as hinted": words_of,
        "by brackets": lambda p: words_of(p, skip=[x for x in p if x.startswith("[")]),
        "tuples": lambda p: tuple(map(tuple, words_of(p))),
    },
    {
        "each piece": lambda p: words_of(p, joins=lambda x: False),
        "continuations alone": lambda p: [w[1:] for w in words_of(p) if w[1:]],
        "specials are words": lambda p: words_of(p, skip=()),
        "no words of one piece": lambda p: [w for w in words_of(p) if len(w) > 1],
        "last word lost": lambda p: words_of(p)[:-1],
        "first word lost": lambda p: words_of(p)[1:],
        "pieces": lambda p: [[p[i] for i in w] for w in words_of(p)],
        "joined": lambda p: ["".join(p[i].removeprefix("##") for i in w) for w in words_of(p)],
        "first positions": lambda p: [w[0] for w in words_of(p)],
        "first and last": lambda p: [[w[0], w[-1]] for w in words_of(p)],
        "flat": lambda p: [i for w in words_of(p) for i in w],
        "from 1": lambda p: [[i + 1 for i in w] for w in words_of(p)],
        "marks are no words": lambda p: words_of(p, skip=("[CLS]", "[SEP]", "[PAD]", ".", ",")),
        "padding is a word": lambda p: words_of(p, skip=("[CLS]", "[SEP]")),
        "two at most": lambda p: [w[:2] for w in words_of(p)],
    },
)  # fmt: skip


def tokens_of(first, last=None, more=0):
    def tokens(offsets, start, end):
        a = [i for i, (s, e) in enumerate(offsets) if first(s, e, start, end)]
        b = [i for i, (s, e) in enumerate(offsets) if (last or first)(s, e, start, end)]
        return a[0], b[-1] + more

    return tokens


def overlaps(s, e, start, end):
    return e > start and s < end


def inside(s, e, start, end):
    return s >= start and e <= end


ANSWER_TOKENS = (
    pointing_at_answers.answer_tokens,
    {"overlap": tokens_of(overlaps), "list": lambda *case: list(tokens_of(overlaps)(*case))},
    {
        "as a slice": tokens_of(overlaps, more=1),
        "wholly inside": tokens_of(inside),
        "begins at the start": tokens_of(lambda s, e, start, end: s == start, lambda s, e, start, end: e == end),
        "begins within": tokens_of(lambda s, e, start, end: start <= s < end),
        "ends within": tokens_of(lambda s, e, start, end: start < e <= end),
        "begins within, overlaps": tokens_of(lambda s, e, start, end: start <= s < end, overlaps),
        "overlaps, ends within": tokens_of(overlaps, lambda s, e, start, end: start < e <= end),
        "touches": tokens_of(lambda s, e, start, end: e >= start and s <= end),
        "touches before": tokens_of(lambda s, e, start, end: e >= start and s < end),
        "touches behind": tokens_of(lambda s, e, start, end: e > start and s <= end),
        "first twice": lambda offsets, start, end: (tokens_of(overlaps)(offsets, start, end)[0],) * 2,
        "number of tokens": lambda *case: ((a := tokens_of(overlaps)(*case))[0], a[1] - a[0] + 1),
        "characters": lambda offsets, start, end: (start, end),
        "from 1": lambda *case: tuple(x + 1 for x in tokens_of(overlaps)(*case)),
        "all of them":
            lambda offsets, start, end: [i for i, (s, e) in enumerate(offsets) if overlaps(s, e, start, end)],
    },
)  # fmt: skip


def span_loss(a, b, start, end, *, log_p=log_softmax, both=lambda x, y: (x + y) / 2):
    rows = np.arange(len(a))
    return both(-log_p(np.float64(a), axis=-1)[rows, start], -log_p(np.float64(b), axis=-1)[rows, end])


def losses_with(**slip):
    return lambda *batch: span_loss(*batch, **slip)


SPAN_LOSS = (
    pointing_at_answers.span_loss,
    {"numpy": span_loss, "float32": lambda *batch: span_loss(*batch).astype(np.float32)},
    {
        "sum": losses_with(both=lambda x, y: x + y),
        "start alone": losses_with(both=lambda x, y: x),
        "end alone": losses_with(both=lambda x, y: y),
        "minus": losses_with(both=lambda x, y: -(x + y) / 2),
        "larger one": losses_with(both=np.maximum),
        "product": losses_with(both=lambda x, y: x * y),
        "mean of the batch": losses_with(both=lambda x, y: ((x + y) / 2).mean()),
        "sum of the batch": losses_with(both=lambda x, y: ((x + y) / 2).sum()),
        "probabilities": losses_with(both=lambda x, y: (np.exp(-x) + np.exp(-y)) / 2),
        "1 - p": losses_with(both=lambda x, y: 1 - (np.exp(-x) + np.exp(-y)) / 2),
        "log of the mean p": losses_with(both=lambda x, y: -np.log((np.exp(-x) + np.exp(-y)) / 2)),
        "logits": losses_with(log_p=lambda x, axis: x),
        "over the batch": losses_with(log_p=lambda x, axis: log_softmax(x, axis=0)),
        "targets exchanged": lambda a, b, start, end: span_loss(a, b, end, start),
        "logits exchanged": lambda a, b, start, end: span_loss(b, a, start, end),
        "start twice": lambda a, b, start, end: span_loss(a, a, start, start),
        "squares": lambda a, b, start, end: ((softmax(a, -1).argmax(-1) - start) ** 2.0),
    },
)  # fmt: skip


def best(start, end, longest, *, score=add, allowed=lambda i, j, n: i <= j < i + n, least=-np.inf):
    found = None
    for i, j in itertools.product(range(len(start)), repeat=2):
        if allowed(i, j, longest) and score(start[i], end[j]) > least:
            found, least = (i, j), score(start[i], end[j])
    return found if found else (0, 0)


def spans_with(**slip):
    return lambda *case: best(*case, **slip)


def start_first(start, end, longest):
    i = int(np.argmax(start))
    return i, i + int(np.argmax(end[i : i + longest]))


def end_first(start, end, longest):
    j = int(np.argmax(end))
    first = max(0, j - longest + 1)
    return first + int(np.argmax(start[first : j + 1])), j


BEST_SPAN = (
    pointing_at_answers.best_span,
    {
        "loops": best,
        "table": lambda s, e, n: np.unravel_index(
            np.where(np.tri(len(s)).T * np.tri(len(s), k=n - 1) > 0, s[:, None] + e, -np.inf).argmax(), (len(s),) * 2),
    },
    {
        "each by itself": lambda s, e, n: (int(s.argmax()), int(e.argmax())),
        "start first": start_first,
        "end first": end_first,
        "best begins at 0": spans_with(least=0.0),
        "best begins at -10": spans_with(least=-10.0),
        "no length": spans_with(allowed=lambda i, j, n: i <= j),
        "no order": spans_with(allowed=lambda i, j, n: abs(i - j) < n),
        "one more": spans_with(allowed=lambda i, j, n: i <= j <= i + n),
        "one less": spans_with(allowed=lambda i, j, n: i <= j < i + n - 1),
        "two at least": spans_with(allowed=lambda i, j, n: i < j < i + n),
        "product": spans_with(score=lambda x, y: x * y, least=-np.inf),
        "smallest": spans_with(score=lambda x, y: -x - y),
        "larger of the two": spans_with(score=max),
        "as a slice": lambda *case: ((span := best(*case))[0], span[1] + 1),
        "length": lambda *case: ((span := best(*case))[0], span[1] - span[0] + 1),
        "with the score": lambda s, e, n: (*best(s, e, n), float(s.max() + e.max())),
        "exchanged": lambda s, e, n: best(e, s, n),
    },
)  # fmt: skip


def cut(length, room, stride, *, step=lambda room, stride: room - stride, size=min):
    found, first = [], 0
    while True:
        found.append((first, size(room, length - first)))
        if first + room >= length:
            return found
        first += step(room, stride)


WINDOWS = (
    pointing_at_answers.windows,
    {
        "loop": cut,
        "lists": lambda *case: [list(window) for window in cut(*case)],
        "range": lambda L, room, s: [
            (i, min(room, L - i)) for i in range(0, max(L - room, 0) + room - s, room - s) if i == 0 or i + s < L],
    },
    {
        "moves by stride": lambda *case: cut(*case, step=lambda room, stride: stride),
        "shares nothing": lambda *case: cut(*case, step=lambda room, stride: room),
        "one too few": lambda *case: cut(*case, step=lambda room, stride: room - stride + 1),
        "one too many": lambda *case: cut(*case, step=lambda room, stride: max(room - stride - 1, 1)),
        "beyond the end": lambda *case: cut(*case, size=lambda room, left: room),
        "start and end": lambda *case: [(first, first + size) for first, size in cut(*case)],
        "first and last token": lambda *case: [(first, first + size - 1) for first, size in cut(*case)],
        "whole windows alone": lambda L, room, s: [(i, room) for i in range(0, L - room + 1, room - s)],
        "one window too many": lambda L, room, s: [(i, min(room, L - i)) for i in range(0, L, room - s)],
        "last one full": lambda L, room, s: [(max(0, min(i, L - room)), min(room, L)) for i, _ in cut(L, room, s)],
        "one window": lambda L, room, s: [(0, min(room, L))],
        "beginnings": lambda *case: [first for first, _ in cut(*case)],
        "last one missing": lambda *case: cut(*case)[:-1],
        "stride added": lambda L, room, s: cut(L, room + s, s),
        "half shared": lambda *case: cut(*case, step=lambda room, stride: room // 2),
    },
)  # fmt: skip


def smoothed(texts, vocabulary, *, one=1, total=None, log=np.log, count=None):
    counts = Counter(word for text in texts for word in text) if count is None else count(texts)
    n = np.array([counts[word] for word in vocabulary], float)
    below = (n + one).sum() if total is None else total(n, texts)
    with np.errstate(all="ignore"):
        return log((n + one) / below)


def words_with(**slip):
    return lambda *case: smoothed(*case, **slip)


WORD_LOG_PROBABILITIES = (
    classes_of_texts.word_log_probabilities,
    {
        "Counter": smoothed,
        "list": lambda *case: smoothed(*case).tolist(),
        "count": lambda texts, vocabulary: np.array([math.log(
            (1 + sum(t.count(w) for t in texts)) / (len(vocabulary) + sum(map(len, texts)))) for w in vocabulary]),
    },
    {
        "no 1": words_with(one=0),
        "no V": words_with(total=lambda n, texts: n.sum()),
        "1 below": words_with(total=lambda n, texts: n.sum() + 1),
        "half": words_with(one=0.5),
        "texts": words_with(count=lambda texts: Counter(word for text in texts for word in set(text))),
        "by the texts": words_with(total=lambda n, texts: len(texts)),
        "by the texts, smoothed": words_with(total=lambda n, texts: len(texts) + 2),
        "probabilities": words_with(log=lambda x: x),
        "minus": words_with(log=lambda x: -np.log(x)),
        "base 2": words_with(log=np.log2),
        "base 10": words_with(log=np.log10),
        "counts": words_with(total=lambda n, texts: 1.0),
        "V alone": words_with(total=lambda n, texts: len(n)),
        "log(1 + n)": words_with(one=0, total=lambda n, texts: 1.0, log=np.log1p),
        "dictionary": lambda texts, vocabulary: dict(zip(vocabulary, smoothed(texts, vocabulary), strict=True)),
    },
)  # fmt: skip


def class_loss(pooled, matrix, bias, labels, *, logits=lambda x, m, b: x @ m + b, log_p=log_softmax, pick=None):
    log_p = log_p(logits(np.float64(pooled), np.float64(matrix), np.float64(bias)), axis=-1)
    return -log_p[np.arange(len(labels)), labels] if pick is None else pick(log_p, labels)


def classes_with(**slip):
    return lambda *batch: class_loss(*batch, **slip)


CLASS_LOSS = (
    classes_of_texts.class_loss,
    {
        "numpy": class_loss,
        "one-hot": classes_with(pick=lambda log_p, labels: -(log_p * np.eye(log_p.shape[-1])[labels]).sum(-1)),
    },
    {
        "no bias": classes_with(logits=lambda x, m, b: x @ m),
        "bias subtracted": classes_with(logits=lambda x, m, b: x @ m - b),
        "tanh again": classes_with(logits=lambda x, m, b: np.tanh(x) @ m + b),
        "over the batch": classes_with(log_p=lambda x, axis: log_softmax(x, axis=0)),
        "minus": classes_with(pick=lambda log_p, labels: log_p[np.arange(len(labels)), labels]),
        "probabilities": classes_with(pick=lambda log_p, labels: np.exp(log_p)[np.arange(len(labels)), labels]),
        "1 - p": classes_with(pick=lambda log_p, labels: 1 - np.exp(log_p)[np.arange(len(labels)), labels]),
        "logits": classes_with(log_p=lambda x, axis: x),
        "sigmoid": classes_with(log_p=lambda x, axis: -np.log1p(np.exp(-x))),
        "most probable": classes_with(pick=lambda log_p, labels: -log_p.max(-1)),
        "mean": classes_with(pick=lambda log_p, labels: -log_p[np.arange(len(labels)), labels].mean()),
        "sum": classes_with(pick=lambda log_p, labels: -log_p[np.arange(len(labels)), labels].sum()),
        "all classes": classes_with(pick=lambda log_p, labels: -log_p),
        "mean of the classes": classes_with(pick=lambda log_p, labels: -log_p.mean(-1)),
        "wrong or right": classes_with(pick=lambda log_p, labels: (log_p.argmax(-1) != labels).astype(float)),
        "columns": classes_with(pick=lambda log_p, labels: -log_p[:, labels]),
        "base 2": classes_with(pick=lambda log_p, labels: -log_p[np.arange(len(labels)), labels] / np.log(2)),
    },
)  # fmt: skip

EXERCISES = {
    "mask_row": MASK_ROW, "pretraining_loss": PRETRAINING_LOSS, "multiplications": MULTIPLICATIONS,
    "whole_words": WHOLE_WORDS, "answer_tokens": ANSWER_TOKENS, "span_loss": SPAN_LOSS, "best_span": BEST_SPAN,
    "windows": WINDOWS, "word_log_probabilities": WORD_LOG_PROBABILITIES, "class_loss": CLASS_LOSS,
}  # fmt: skip
