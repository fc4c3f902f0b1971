"""The checks of lesson 6: writing greedily, what a cache saves, and the probability of an answer."""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from scipy.special import log_softmax

from tlqa_jax.lessons.checks import NotYet, compare

START, END = 0, 1
V = 9


def toy_decoder(seed: int) -> Callable[[list[int]], Float[np.ndarray, "L V"]]:
    """A decoder without a model: row i of its logits depends on targets_in[: i + 1], and on nothing else."""

    def logits(targets_in):
        prefixes = [list(map(int, targets_in[: i + 1])) for i in range(len(targets_in))]
        rows = [np.random.default_rng([seed, *prefix]).standard_normal(V) for prefix in prefixes]
        rows = np.array(rows).reshape(len(rows), V)
        rows[:, START] = -9.0  # padding is never written
        rows[:, END] += 0.3 * np.arange(len(rows))  # the end grows more probable
        return rows

    return logits


def write_answer(write_answer: Callable[..., list[int]]) -> None:
    """`write_answer(logits, max_length)` -> the tokens written, the end token (1) with them if it came."""

    def loop(
        logits, max_length, *,
        row=-1, memory=True, stop=True, start=START, keep_end=True, keep_start=False, best=np.argmax,
    ) -> list[int]:
        written: list[int] = []
        while len(written) < max_length:
            seen = [start, *written] if memory else [start, *written][-1:]
            written.append(int(best(logits(seen)[row])))
            if stop and written[-1] == END:
                break
        written = written if keep_end else [token for token in written if token != END]
        return [start, *written] if keep_start else written

    cases = [(toy_decoder(seed), max_length) for seed, max_length in [(0, 8), (1, 8), (2, 8), (3, 8), (4, 3), (5, 4)]]
    results = lambda **slip: [loop(*case, **slip) for case in cases]
    compare(
        "write_answer",
        [write_answer(*case) for case in cases],
        results(),
        {
            "you take the first row of the logits, again and again: that is the prediction of the first word. After "
            "n words, the next one is predicted by the last row.": results(row=0),
            "you hand over only the last word. This decoder has no memory of its own: it needs all that is written "
            "so far (until there is a cache).": results(memory=False),
            "you write on after the end token, until the room is used up. The end token is how the model says that "
            "it has finished.": results(stop=False),
            "you start from the end token. A T5 decoder starts from the padding token, 0, as in training: "
            "shift_right put it there.": results(start=END),
            "the start token is in your answer. It was given, not written.": results(keep_start=True),
            "the end token is missing at the end. It was written, and its probability is a part of the "
            "answer's.": results(keep_end=False),
            "you take the least likely token: argmax, not argmin.": results(best=np.argmin),
            "your loop runs once more than max_length.": [loop(logits, length + 1) for logits, length in cases],
            "you hand over nothing but start tokens and read all rows at once. Each word depends on the words before "
            "it, so they are written one by one.": [
                [int(row.argmax()) for row in logits([START] * length)] for logits, length in cases],
            "only one token is written. Go on until the end token, or until max_length.": [
                loop(logits, 1) for logits, _ in cases],
            "you take the largest logit of all rows. The last row alone predicts the next word.": [
                loop(lambda seen, logits=logits: [logits(seen).max(axis=0)], length) for logits, length in cases],
            "your answer is filled up with padding. Return what was written, through the end token.": [
                (answer := loop(*case)) + [START] * (case[1] - len(answer)) for case in cases],
            "your loop stops one short of max_length.": [loop(logits, length - 1) for logits, length in cases],
        },
    )  # fmt: skip


def keys_computed(keys_computed: Callable[[int, int, bool], int]) -> None:
    """`keys_computed(T, S, cached)` -> how many keys one decoder layer computes to write T tokens from S inputs."""
    sizes = [(1, 7), (5, 7), (32, 128), (10, 3)]

    def count(without: Callable[[int, int], int], cached: Callable[[int, int], int]) -> list[int]:
        return [formula(T, S) for T, S in sizes for formula in (without, cached)]

    triangle = lambda T: T * (T + 1) // 2
    without, cached = lambda T, S: triangle(T) + T * S, lambda T, S: T + S
    compare(
        "keys_computed",
        [keys_computed(T, S, with_cache) for T, S in sizes for with_cache in (False, True)],
        count(without, cached),
        {
            "without a cache you count T x T keys of the words. At step t there are only t words yet: 1 + 2 + ... + "
            "T = T (T + 1) / 2.": count(lambda T, S: T * T + T * S, cached),
            "you left the cross-attention out: its keys come from the S vectors of the encoder, and they are most "
            "of the work.": count(lambda T, S: triangle(T), lambda T, S: T),
            "with a cache you compute the cross-attention's keys again at every step. The encoder's output does not "
            "change while the answer is written: S keys, once.": count(without, lambda T, S: T + T * S),
            "with a cache you compute the words' keys again at every step. The key of a word that is written does "
            "not change (it looks only back): each is computed once, T in all.":
                count(without, lambda T, S: triangle(T) + S),
            "without a cache the cross-attention's keys are computed at every step as well: T x S.": count(
                lambda T, S: triangle(T) + S, cached),
            "at the first step the decoder's input has one token already, the start: 1 + 2 + ... + T, and not up to T "
            "- 1.":
                count(lambda T, S: T * (T - 1) // 2 + T * S, cached),
            "without a cache you left out the words' own keys: 1 + 2 + ... + T of them.":
                count(lambda T, S: T * S, cached),
            "without a cache nothing is kept: the T (T + 1) / 2 keys of the words, and S again at each of the T steps.":
                count(cached, cached),
            "with a cache nothing is computed twice: T keys of the words and S of the inputs.": count(without, without),
            "1 + 2 + ... + T is T (T + 1) / 2: you forgot to halve.": count(lambda T, S: T * (T + 1) + T * S, cached),
            "you count keys and values. Asked are the keys alone.": count(
                lambda T, S: 2 * without(T, S), lambda T, S: 2 * cached(T, S)),
            "you multiply words and inputs. Self-attention and cross-attention are two: their keys are added.": count(
                lambda T, S: triangle(T) * S, lambda T, S: T * S),
            "the last token written is never read again, and the start token is: T inputs at the decoder, not T + 1.":
                count(without, lambda T, S: T + S + 1),
            "the cache is the wrong way round: you gave the count with a cache where there is none.":
                count(cached, without),
        },
    )  # fmt: skip


def answer_probability(answer_probability: Callable[..., float]) -> None:
    """`answer_probability(logits [T V], tokens [T])` -> of the tokens through the end token; padding follows it.

    An answer that was cut off at max_length has no end token: all of its tokens were written.
    """
    rng = np.random.default_rng(7)
    rows = [4, 2, 1, 0, 0], [3, 1, 0, 0, 0], [5, 6, 2, 7, 1], [1, 0, 0, 0, 0], [5, 3, 8, 2, 4]
    tokens = [np.array(row, np.int32) for row in rows]
    logits = [1.5 * rng.standard_normal((5, V)).astype(np.float32) for _ in tokens]
    written = lambda row: int(np.argmax(row == END)) + 1 if END in row else len(row)

    def each(formula: Callable[[Float[np.ndarray, "T"]], float], *, end=True, padding=False) -> list[float]:
        """`formula` of the log-probabilities of each answer's tokens."""
        results = []
        for row, x in zip(tokens, logits, strict=True):
            log_p = log_softmax(x.astype(np.float64), axis=-1)[np.arange(5), row]
            length = written(row) - (END in row and not end)
            results.append(float(formula(log_p if padding else log_p[:length])))
        return results

    product = lambda log_p: np.exp(log_p.sum())
    raw: list[float] = []
    for row, x in zip(tokens, logits, strict=True):
        length = written(row)
        raw.append(float(np.exp(x[np.arange(length), row[:length]].astype(np.float64).sum())))
    over_positions = [
        float(np.exp(log_softmax(x.astype(np.float64), axis=0)[np.arange(written(row)), row[: written(row)]].sum()))
        for row, x in zip(tokens, logits, strict=True)
    ]
    *ended, cut_off = zip(logits, tokens, strict=True)
    got = [answer_probability(*one) for one in ended]
    try:
        got.append(answer_probability(*cut_off))
    except (ValueError, IndexError):  # as .index(1) raises
        raise NotYet(
            "answer_probability: it fails for an answer without an end token. That is one which was cut off at "
            "max_length: all of its tokens were written."
        ) from None
    compare(
        "answer_probability",
        got,
        each(product),
        {
            "the padding after the end token is counted in. Nobody wrote it: only the tokens through the end count.":
                each(product, padding=True),
            "you left the end token out. That is the probability of all answers that *begin* like this: \"Iron\" "
            "would be at least as likely as \"Ironbridge\".": each(product, end=False),
            "that is the mean of the tokens' probabilities. A chain of conditions is a product: p(a b) = p(a) p(b "
            "given a).": each(lambda log_p: np.exp(log_p).mean()),
            "you took the mean of the logarithms: that is the probability *per token*, a useful number to compare "
            "answers of different lengths, but not the probability of this answer.":
                each(lambda log_p: np.exp(log_p.mean())),
            "that is the logarithm of the probability. Take exp of it.": each(lambda log_p: log_p.sum()),
            "these are logits, not logarithms of probabilities: they need log_softmax over the vocabulary "
            "first.": raw,
            "only the last token's probability.": each(lambda log_p: np.exp(log_p[-1])),
            "the least probable token's probability. All of them multiply.": each(lambda log_p: np.exp(log_p.min())),
            "that is minus the logarithm, the loss. The probability is exp of the sum of log p.":
                each(lambda log_p: -log_p.sum()),
            "that is in percent: a probability is between 0 and 1.": each(lambda log_p: 100 * product(log_p)),
            "log_softmax gives natural logarithms: undo them with exp, and not with a power of 2.":
                each(lambda log_p: 2.0 ** log_p.sum()),
            "your softmax runs over the positions. Each row of the logits is a distribution over the vocabulary: "
            "axis=-1.": over_positions,
            "those are the most probable tokens. Asked is the probability of the tokens that were written.": [
                float(np.exp(log_softmax(x.astype(np.float64), axis=-1).max(axis=-1).sum())) for x in logits],
            "only the first token's probability.": each(lambda log_p: np.exp(log_p[0])),
            "of an answer without an end token you took the first token alone: np.argmax(tokens == 1) is 0 where no "
            "token is 1. Such an answer was cut off at max_length: all of its tokens were written.":
                [*each(product)[:-1], each(lambda log_p: np.exp(log_p[0]))[-1]],
            "you added the probabilities. A sum of them may exceed 1: multiply.":
                each(lambda log_p: np.exp(log_p).sum()),
        },
        tolerance=1e-4,
    )  # fmt: skip
