"""The checks of lesson 14: the mean of a word's neighbours, CBOW's loss and its gradient, nearest words."""

import warnings
from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from scipy.special import expit, log_softmax

from tlqa_jax.lessons.checks import NotYet, compare, filled


def mean_of_neighbours(mean_of_neighbours: Callable[..., Float[np.ndarray, "D"]]) -> None:
    """`mean_of_neighbours(vectors [V D], tokens, place, window)` -> [D]: of the words around `place`, without it."""
    name, rng = "mean_of_neighbours", np.random.default_rng(0)
    vectors = rng.standard_normal((9, 4)).astype(np.float32)
    tokens = [3, 5, 3, 8, 3, 1, 2, 1, 4, 6]
    cases = [(4, 2), (4, 4), (0, 3), (1, 2), (8, 3), (9, 2)]  # in the middle, at the beginning, at the end

    def each(choose=lambda around, place, window: around, mean=lambda x, window: x.mean(axis=0), own=False):
        results = []
        for place, window in cases:
            inside = range(max(0, place - window), min(len(tokens), place + window + 1))
            around = choose([i for i in inside if own or i != place], place, window)
            results.append(mean(vectors[[tokens[i] for i in around]], window) if around else np.full(4, np.nan))
        return results

    try:
        with warnings.catch_warnings(action="ignore"):  # the mean of no neighbour at all
            got = [filled(mean_of_neighbours(vectors, list(tokens), *case), name) for case in cases]
    except IndexError as error:
        raise NotYet(
            f"{name}: at the end of the text there are fewer than `window` words on the right. Take those that there "
            f"are: places from max(0, place - window) to min(len(tokens), place + window + 1). ({error})"
        ) from None
    without_left = each(lambda around, place, window: [i for i in around if place >= window or i > place])
    compare(
        name,
        [np.asarray(vector, np.float64) for vector in got],
        each(),
        {
            "the word itself is among its neighbours. The vector would only have to repeat it, and would learn nothing "
            "about its company.": each(own=True),
            "at the ends of a text there are fewer neighbours. Divide by their number, not by 2 * window.": each(
                mean=lambda x, window: x.sum(axis=0) / (2 * window)),
            "that is the sum. With the mean, a word at the edge of a text has a vector as long as others.": each(
                mean=lambda x, window: x.sum(axis=0)),
            "you divide by the number of neighbours and 1: the word itself is not counted.": each(
                mean=lambda x, window: x.sum(axis=0) / (len(x) + 1)),
            "only the words on the left. CBOW looks both ways.": each(
                lambda around, place, window: [i for i in around if i < place]),
            "only the words on the right. CBOW looks both ways.": each(
                lambda around, place, window: [i for i in around if i > place]),
            "near the beginning the left side is lost: for place 1 and window 2, tokens[place - window : place] is "
            "tokens[-1:1], and a negative index counts from the end. max(0, place - window).": without_left,
            "the window on the right is one word too short: tokens[place + 1 : place + window] stops before it.": each(
                lambda around, place, window: [i for i in around if i < place + window]),
            "the window on the left is one word too short.": each(
                lambda around, place, window: [i for i in around if i > place - window]),
            "you leave out every neighbour that is the same word. Only the one at `place` is left out.": each(
                lambda around, place, window: [i for i in around if tokens[i] != tokens[place]]),
            "a word that stands there twice counts twice.": each(
                lambda around, place, window: [tokens.index(t) for t in sorted({tokens[i] for i in around})]),
            "the text is no ring: at its beginning you took words of its end.": [
                np.mean([vectors[tokens[(place + d) % len(tokens)]] for d in range(-window, window + 1) if d], axis=0)
                for place, window in cases],
            "at the beginning you took words of the end: a negative index counts from there.": [
                np.mean([vectors[tokens[place + d]] for d in range(-window, window + 1)
                         if d and place + d < len(tokens)], axis=0) for place, window in cases],
        },
    )  # fmt: skip


def word_loss(word_loss: Callable[..., float]) -> None:
    """`word_loss(mean [D], outputs [K D])` -> one number in nats; outputs[0] is of the word that is there."""
    name = "word_loss"
    cases = _contexts()
    scores = [outputs.astype(np.float64) @ mean for mean, outputs in cases]
    log_sigmoid = lambda x: -np.logaddexp(0, -x)
    each = lambda formula: [formula(s) for s in scores]
    right = each(lambda s: -log_sigmoid(s[0]) - log_sigmoid(-s[1:]).sum())
    with np.errstate(all="ignore"):
        got = [np.asarray(filled(word_loss(*case), name), np.float64) for case in cases]
    if any(np.isinf(loss) or np.isnan(loss) for loss in map(np.max, got)) and np.allclose(got[:-1], right[:-1], 1e-4):
        raise NotYet(
            f"{name}: right, until a score is large: in float32 the sigmoid of 30 is exactly 1, and log(1 - 1) is "
            "minus infinity. log(1 - sigmoid(s)) is jax.nn.log_sigmoid(-s), which is never infinite."
        )
    compare(
        name,
        got,
        right,
        {
            "the sign: a logarithm of a probability is negative, a loss is minus that.": each(
                lambda s: log_sigmoid(s[0]) + log_sigmoid(-s[1:]).sum()),
            "the scores of the negatives keep their sign, so they are rewarded for being large. The probability that "
            "a word is *not* here is sigmoid(-score).": each(lambda s: -log_sigmoid(s).sum()),
            "the word that is there and the negatives have changed places.": each(
                lambda s: -log_sigmoid(-s[0]) - log_sigmoid(s[1:]).sum()),
            "that is a softmax over the candidates. Here each candidate is a question of its own, yes or no: "
            "sigmoid.": each(lambda s: -log_softmax(s)[0]),
            "the negatives are missing: large scores for every word would be perfect.": each(
                lambda s: -log_sigmoid(s[0])),
            "the word that is there is missing. It is outputs[0].": each(lambda s: -log_sigmoid(-s[1:]).sum()),
            "the mean over the negatives. In the paper they are added up.": each(
                lambda s: -log_sigmoid(s[0]) - log_sigmoid(-s[1:]).mean()),
            "the mean over the candidates. In the paper they are added up.": each(
                lambda s: (-log_sigmoid(s[0]) - log_sigmoid(-s[1:]).sum()) / len(s)),
            "these are all K losses. Add them up.": each(
                lambda s: -log_sigmoid(np.concatenate([s[:1], -s[1:]]))),
            "the loss of the negatives is subtracted.": each(lambda s: -log_sigmoid(s[0]) + log_sigmoid(-s[1:]).sum()),
            "these are probabilities. The loss is minus their logarithms.": each(
                lambda s: expit(s[0]) + expit(-s[1:]).sum()),
            "1 - p instead of -log p: a confident mistake would cost hardly more than a small one.": each(
                lambda s: 1 - expit(s[0]) + (1 - expit(-s[1:])).sum()),
            "the squared error. The loss is minus the logarithm of the right answer's probability.": each(
                lambda s: (1 - expit(s[0])) ** 2 + (expit(s[1:]) ** 2).sum()),
            "the logarithm to base 2. The package's loss is in nats.": [loss / np.log(2) for loss in right],
            "the word that is there is the first candidate, not the last.": each(
                lambda s: -log_sigmoid(s[-1]) - log_sigmoid(-s[:-1]).sum()),
            "these are scores: a sigmoid makes probabilities of them first.": each(lambda s: -s[0] + s[1:].sum()),
        },
        tolerance=1e-4,
    )  # fmt: skip


def loss_gradients(loss_gradients: Callable[..., tuple]) -> None:
    """`loss_gradients(mean [D], outputs [K D])` -> the gradients of `word_loss`: ([D], [K D])."""
    name, cases = "loss_gradients", _contexts()[:-1]

    def each(error: Callable = lambda s, t: expit(s) - t, change: Callable = lambda d_mean, d_out: (d_mean, d_out)):
        results = []
        for mean, outputs in cases:
            mean, outputs = mean.astype(np.float64), outputs.astype(np.float64)
            e = error(outputs @ mean, np.eye(len(outputs))[0])
            results.append(change(e @ outputs, np.outer(e, mean)))
        return results

    got = [filled(loss_gradients(*case), name) for case in cases]
    if any(not isinstance(pair, tuple | list) or len(pair) != 2 for pair in got):
        raise NotYet(f"{name}: two arrays are wanted: the gradient of the mean [D], and that of the outputs [K D].")
    compare(
        name,
        [tuple(np.asarray(x, np.float64) for x in filled(pair, name)) for pair in got],
        each(),
        {
            "the signs: you computed the way downhill. The gradient points to where the loss grows; the optimizer "
            "subtracts it.": each(lambda s, t: t - expit(s)),
            "nothing in it says which word is there: the target, 1 for candidate 0, is to be subtracted from the "
            "sigmoid.": each(lambda s, t: expit(s)),
            "the target is 1 for the word that is there and 0 for the others. You have it the other way round.": each(
                lambda s, t: expit(s) - (1 - t)),
            "the scores themselves are no probabilities: sigmoid(score) - target.": each(lambda s, t: s - t),
            "that is the derivative for a softmax over the candidates. Each has a sigmoid of its own.": each(
                lambda s, t: np.exp(log_softmax(s)) - t),
            "sigmoid * (1 - sigmoid) is the derivative of the squared error. With the logarithm it cancels: sigmoid - "
            "target.": each(lambda s, t: (expit(s) - t) * expit(s) * (1 - expit(s))),
            "the two gradients have changed places: first that of the mean [D].": each(change=lambda m, o: (o, m)),
            "the loss is a sum over the candidates: there is nothing to divide by.": each(
                lambda s, t: (expit(s) - t) / len(s)),
            "only the word that is there has moved the mean. The negatives push it, too.": [
                ((expit(outputs @ mean)[0] - 1) * outputs[0], np.outer(expit(outputs @ mean) - np.eye(len(outputs))[0],
                                                                       mean)) for mean, outputs in cases],
            "the gradient of the mean lacks the errors: it is not the plain sum of the outputs.": [
                (outputs.sum(axis=0), o) for (_, outputs), (_, o) in zip(cases, each(), strict=True)],
            "the gradient of each output vector is its error times the mean, not the error times the output "
            "vector.": [(m, (expit(outputs @ mean) - np.eye(len(outputs))[0])[:, None] * outputs)
                        for (mean, outputs), (m, _) in zip(cases, each(), strict=True)],
            "the gradient of the mean is a mean over the candidates. It is their sum.": each(
                change=lambda m, o: (m / len(o), o)),
            "the gradient of the outputs is transposed: [K D] is wanted.": each(change=lambda m, o: (m, o.T)),
        },
        tolerance=1e-4,
    )  # fmt: skip


def nearest_words(nearest_words: Callable[..., list[int]]) -> None:
    """`nearest_words(vectors [V D], plus, minus, n)` -> n numbers of words, nearest first."""
    name, rng = "nearest_words", np.random.default_rng(6)
    lengths = np.exp(0.7 * rng.standard_normal((40, 1)))  # frequent words have longer vectors
    vectors = (lengths * (rng.standard_normal((40, 3)) + [0.5, 0, 0])).astype(np.float32)
    cases = [([4], [], 5), ([7], [], 3), ([0, 37], [36], 4), ([1, 27], [7], 5), ([11, 8], [20], 2)]
    unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)

    def each(score=lambda target, v: unit(v) @ target, prepare=unit, asked=lambda plus, minus: plus + minus, sign=-1):
        results = []
        for plus, minus, n in cases:
            v = vectors.astype(np.float64)
            scores = score(prepare(v)[plus].sum(axis=0) + sign * prepare(v)[minus].sum(axis=0), v)
            scores[asked(plus, minus)] = -np.inf
            results.append(np.argsort(-scores)[:n].tolist())
        return results

    got = [filled(nearest_words(vectors.copy(), list(plus), list(minus), n), name) for plus, minus, n in cases]
    try:
        got = [[int(number) for number in np.ravel(np.asarray(one))] for one in got]
    except (TypeError, ValueError):
        raise NotYet(f"{name}: a list of the numbers of words is wanted, and this is {got[0]!r}.") from None
    if any(len(found) != n for found, (_, _, n) in zip(got, cases, strict=True)):
        raise NotYet(f"{name}: for n = {cases[0][2]} you return {len(got[0])} words. The words that were asked for do "
                     "not count among the n: leave them out before you take the first n.")  # fmt: skip
    compare(
        name,
        got,
        each(),
        {
            "the word itself is its own nearest neighbour, and says nothing. Leave out all that were asked for.": each(
                asked=lambda plus, minus: []),
            "the words of `minus` are left out as well: in king - man + woman, none of the three is an answer.": each(
                asked=lambda plus, minus: plus),
            "the words of `plus` are left out as well.": each(asked=lambda plus, minus: minus),
            "these are dot products: a long vector, of a frequent word, is near to everything. Divide by the "
            "lengths.": each(lambda target, v: v @ target),
            "these are dot products, of sums of vectors that keep their lengths. Divide by the lengths first.": each(
                lambda target, v: v @ target, prepare=lambda v: v),
            "the farthest come first: a large cosine means near.": each(lambda target, v: -unit(v) @ target),
            "these are distances, not angles. The length of a vector says how frequent a word is.": each(
                lambda target, v: -np.linalg.norm(v - target, axis=1), prepare=lambda v: v),
            "these are distances to vectors that keep their lengths. Only the direction counts.": each(
                lambda target, v: -np.linalg.norm(v - target, axis=1)),
            "the words of `plus` and `minus` are added before they are divided by their lengths: a long one would "
            "decide alone.": each(prepare=lambda v: v),
            "`minus` is added. It is to be subtracted.": each(sign=1),
            "`minus` has no effect.": each(sign=0),
            "an absolute value: a vector that points the opposite way is as far away as can be.": each(
                lambda target, v: np.abs(unit(v) @ target)),
        },
    )  # fmt: skip


def _contexts() -> list[tuple[np.ndarray, np.ndarray]]:
    """(mean, outputs) of three words; of the last one the scores are large."""
    rng = np.random.default_rng(1)
    draw = lambda *shape: rng.standard_normal(shape).astype(np.float32)
    mean = draw(3)
    large = np.float32([[1], [30], [-2]]) * mean / (mean @ mean)  # scores 1, 30, -2
    return [(draw(4), draw(6, 4)), (draw(3), draw(3, 3)), (draw(5), draw(2, 5)), (mean, large)]
