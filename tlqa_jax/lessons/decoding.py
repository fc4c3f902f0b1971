"""The checks of lesson 12, the table that stands in for a model there, and trees of texts."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int
from scipy.special import log_softmax, softmax

from tlqa_jax.lessons.checks import NotYet, compare, filled

START, END = 0, 1
WORDS = ("<start>", "<end>", "a", "the", "nothing", "lute", "drum", "horn", "flute", "old")
# what follows each beginning of "Mira plays …"; where a beginning is not named, the text ends
TABLE = {
    (): {"a": 0.5, "the": 0.4, "nothing": 0.1},
    ("a",): {"lute": 0.4, "drum": 0.3, "horn": 0.3},
    ("the",): {"flute": 0.58, "old": 0.42},
    ("the", "old"): {"flute": 0.9, "horn": 0.1},
}
Beam = tuple[tuple[int, ...], float]  # tokens, and the sum of their log-probabilities


def table_probabilities(words: Sequence[str]) -> Float[np.ndarray, "V"]:
    """The distribution of the next word, over WORDS."""
    p = np.zeros(len(WORDS))
    for word, its in TABLE.get(tuple(words), {"<end>": 1.0}).items():
        p[WORDS.index(word)] = its
    return p


class Places(NamedTuple):
    """The cache of the table: where in it each text is."""

    at: Int[Array, "N"]

    def of_rows(self, rows: Int[Array, "N"]) -> "Places":
        return Places(self.at[rows])


class TableModel:
    """The table in the clothes of a T5 as a function, so that the package can decode with it, whatever the input."""

    def __init__(self):
        beginnings = [(), *{(*before, word): 0 for before, after in TABLE.items() for word in after}, ("<end>",)]
        number = {beginning: i for i, beginning in enumerate(beginnings)}
        over = number["<end>",]
        p = np.array([table_probabilities(beginning) for beginning in beginnings])
        self.logits = jnp.asarray(np.log(np.maximum(p, 1e-30)), jnp.float32)
        following = np.array([[number.get((*beginning, word), over) for word in WORDS] for beginning in beginnings])
        following[:, START] = 0
        self.next = jnp.asarray(following, jnp.int32)

    def __call__(self, params: Any, *args: Any, method: str, **kwargs: Any) -> Any:
        return getattr(self, method)(*args, **kwargs)

    def encode(self, inputs: Int[Array, "B S"], *, input_mask: Any) -> Int[Array, "B S"]:
        return inputs

    def start_cache(self, encoded: Int[Array, "B S"], length: int, beams: int = 1) -> list[Places]:
        return [Places(jnp.zeros(len(encoded) * beams, jnp.int32))]

    def decode_step(self, token, step, cache: list[Places], *, input_mask: Any) -> tuple[Array, list[Places]]:
        at = self.next[cache[0].at, token]
        return self.logits[at], [Places(at)]


def words(tokens: Sequence[int]) -> str:
    return " ".join(WORDS[token] for token in tokens if token not in (START, END))


def draw_tree(axes: Any, texts: Mapping[Sequence[str], Sequence[float]], colours: Mapping[Sequence[str], str]) -> None:
    """Texts as the paths of a tree from left to right, wide where likely; those named in `colours` in their colour."""
    texts = {tuple(path): probabilities for path, probabilities in texts.items()}
    likely = lambda node: -sum(np.prod(p) for path, p in texts.items() if path[: len(node)] == node)
    paths = sorted(texts, key=lambda path: [(likely(path[: k + 1]), path[k]) for k in range(len(path))])
    height = {path: -float(i) for i, path in enumerate(paths)}
    place = lambda node: np.mean([height[path] for path in paths if path[: len(node)] == node])
    coloured = {tuple(path): colour for path, colour in colours.items()}
    for path in paths:
        for k, probability in enumerate(texts[path]):
            node = path[: k + 1]
            if path != next(other for other in paths if other[: k + 1] == node):
                continue  # drawn with an earlier text
            colour = next((c for other, c in coloured.items() if other[: k + 1] == node), "lightgray")
            axes.plot([k, k + 1], [place(node[:-1]), place(node)], color=colour, linewidth=0.5 + 6 * probability)
            axes.annotate(f"{node[-1]}\n{probability:.2f}", (k + 1, place(node)), ha="center", va="center", fontsize=8,
                          bbox=dict(boxstyle="round", facecolor="white", edgecolor=colour))  # fmt: skip
    axes.set_axis_off()


# --- the checks


def beam_step(beam_step: Callable[[list[Beam], Callable, int], list[Beam]]) -> None:
    """`beam_step(beams, log_p, width)` -> the `width` best continuations of all beams, best first."""
    rng = np.random.default_rng(3)
    tables = {beginning: log_softmax(2 * rng.standard_normal(5)) for beginning in [(2,), (3,), (4,), (2, 4), (3, 2)]}
    log_p = lambda tokens: tables[tuple(tokens)]
    for beginning in ((5,), (6,)):  # both are continued most probably by 4: two beams may end in the same token
        tables[beginning] = np.log([0.02, 0.03, 0.05, 0.1, 0.8])
    cases = [
        ([((5,), -0.3), ((6,), -0.4)], 2), ([((2,), -0.3), ((3,), -1.2)], 2),
        ([((2,), -0.1), ((3,), -0.2), ((4,), -4.0)], 3), ([((3,), -0.7)], 3),
        ([((2, 4), -0.5), ((3, 2), -0.6)], 2),
    ]  # fmt: skip

    def step(
        beams, width, *, score=lambda s, lp: s + lp, cut=True, each=None, best=-1, same=tuple, ordered=True
    ) -> list[Beam]:  # fmt: skip
        found = []
        for tokens, its in beams:
            own = [((*tokens, v), float(score(its, lp))) for v, lp in enumerate(log_p(tokens))]
            found += sorted(own, key=lambda beam: best * beam[1])[:each]
        found = sorted(found, key=lambda beam: best * beam[1]) if ordered else found
        kept: dict[Any, Beam] = {}
        for beam in found:
            kept.setdefault(same(beam[0]), beam)
        return list(kept.values())[: width if cut else None]

    results = lambda **slip: [step(*case, **slip) for case in cases]
    got = [filled(beam_step(beams, log_p, width), "beam_step") for beams, width in cases]
    try:
        got = [[(tuple(map(int, tokens)), float(score)) for tokens, score in beams] for beams in got]
    except (TypeError, ValueError):
        raise NotYet("beam_step: a list of pairs is wanted, tokens and score, as `beams` is.") from None
    compare(
        "beam_step",
        got,
        results(),
        {
            "you go on with the best continuation of *each* beam. Beams compete: all continuations of all beams go "
            "into one list, and a beam may have several descendants or none.": results(each=1),
            "of two texts that end in the same token you keep one. They are two texts: what they have in common is "
            "only the last token.": results(same=lambda tokens: tokens[-1]),
            "of each beam you keep one continuation. Beams compete, and a beam may have several descendants or none.":
                results(same=lambda tokens: tokens[:-1]),
            "you continue the first beam alone: all of them are continued, and compete.": [
                step(beams[:1], width) for beams, width in cases],
            "the right ones in the wrong order: the best comes first.": [right[::-1] for right in results()],
            "nothing is sorted: these are the first `width` continuations, not the best.": results(ordered=False),
            "your score is a mean. Texts of one length are compared here by the sum; the length comes later.": [
                [(tokens, score / len(tokens)) for tokens, score in right] for right in results()],
            "the beginning is lost: a continuation has all the tokens of its beam, and one more.": [
                [(tokens[-1:], score) for tokens, score in right] for right in results()],
            "two are kept, whatever the width is.": [step(beams, 2) for beams, _ in cases],
            "the score of the beam itself is lost: you rank by the last token alone. A text's log-probability is the "
            "sum over all its tokens.": results(score=lambda s, lp: lp),
            "you add a probability to a log-probability: log_p gives logarithms already, no exp is wanted.":
                results(score=lambda s, lp: s + np.exp(lp)),
            "you multiply log-probabilities. Probabilities multiply; their logarithms add up.":
                results(score=lambda s, lp: s * lp),
            "these are the worst ones: the largest score is the best, so sort downwards.": results(best=1),
            "these are all continuations of all beams: only the `width` best may stay, or there is no end to them.":
                results(cut=False),
        },
    )  # fmt: skip


def text_score(text_score: Callable[[Float[np.ndarray, "T"], float], float]) -> None:
    """`text_score(log_p, penalty)` -> sum of log p / length ** penalty, the end token counted."""
    texts = [np.log(p) for p in ([0.5, 0.4, 1.0], [0.4, 0.42, 0.9, 1.0], [0.1, 1.0], [0.3, 0.3, 0.3, 0.3, 0.9])]
    cases = [(text, penalty) for text in texts for penalty in (0.0, 1.0, 2.0, -1.0)]
    each = lambda formula: [float(formula(text, penalty)) for text, penalty in cases]
    got = [filled(text_score(text, penalty), "text_score") for text, penalty in cases]
    if any(np.ndim(score) for score in got):
        raise NotYet("text_score: one number for the whole text is wanted, not one for each token: add them up.")
    compare(
        "text_score",
        got,
        each(lambda x, penalty: x.sum() / len(x) ** penalty),
        {
            "you multiply by the length to the penalty. Then a long text is punished twice: its sum of logarithms is "
            "the more negative already. Divide.": each(lambda x, penalty: x.sum() * len(x) ** penalty),
            "you divide by length times penalty. The penalty is an exponent: 0 must leave the sum as it is.": each(
                lambda x, penalty: x.sum() / (len(x) * penalty) if penalty else np.nan),
            "you divide by length times penalty. The penalty is an exponent: len(x) ** penalty.": each(
                lambda x, penalty: x.sum() / (len(x) * penalty) if penalty else x.sum()),
            "that is the sum, whatever the penalty: the penalty of 0.": each(lambda x, penalty: x.sum()),
            "the end's log p is missing in the sum: it was written, and has a probability.": each(
                lambda x, penalty: x[:-1].sum() / len(x) ** penalty),
            "base and exponent are exchanged: the length to the power of the penalty.": each(
                lambda x, penalty: x.sum() / penalty ** len(x) if penalty else x.sum()),
            "that is the formula of Wu et al. 2016, ((5 + T) / 6) to the penalty. Here it is T to the penalty.": each(
                lambda x, penalty: x.sum() / ((5 + len(x)) / 6) ** penalty),
            "the sign: log p is negative, and the best text has the largest score.": each(
                lambda x, penalty: -x.sum() / len(x) ** penalty),
            "you take the mean and divide again: the sum is divided, once.": each(
                lambda x, penalty: x.mean() / len(x) ** penalty),
            "the penalty is added for each token. Here the sum is divided by a power of the length.": each(
                lambda x, penalty: x.sum() + penalty * len(x)),
            "you divide by the penalty, and the length has no say.": each(
                lambda x, penalty: x.sum() / penalty if penalty else x.sum()),
            "you took the mean per token, whatever the penalty: that is the penalty of 1.": each(
                lambda x, penalty: x.mean()),
            "the end token counts as well: it was written, and had a probability.": each(
                lambda x, penalty: x.sum() / max(len(x) - 1, 1) ** penalty),
            "you divide the probability. What is divided is its logarithm.": each(
                lambda x, penalty: np.exp(x.sum()) / len(x) ** penalty),
        },
    )  # fmt: skip


def with_temperature(with_temperature: Callable[[Float[np.ndarray, "V"], float], Float[np.ndarray, "V"]]) -> None:
    """`with_temperature(logits, temperature)` -> the probabilities to draw from."""
    rng = np.random.default_rng(5)
    cases = [(2 * rng.standard_normal(6), temperature) for temperature in (0.5, 1.0, 2.0, 0.1)]
    each = lambda formula: [formula(logits, temperature) for logits, temperature in cases]
    compare(
        "with_temperature",
        [with_temperature(logits, temperature) for logits, temperature in cases],
        each(lambda x, t: softmax(x / t)),
        {
            "you multiply by the temperature: then heat would make the model surer. Hot means everything moves, the "
            "distribution is flat; divide.": each(lambda x, t: softmax(x * t)),
            "you divide the probabilities, after the softmax. They no longer add up to 1, and their order of "
            "magnitude to each other is as before: divide the logits.": each(lambda x, t: softmax(x) / t),
            "these are logits: softmax makes probabilities of them.": each(lambda x, t: x / t),
            "you subtract: a constant added to all logits changes nothing at all in a softmax.": each(
                lambda x, t: softmax(x - t)),
            "the temperature has no effect: divide the logits by it.": each(lambda x, t: softmax(x)),
            "these are logarithms of the probabilities: softmax, not log_softmax.":
                each(lambda x, t: log_softmax(x / t)),
            "you divide by the temperature twice.": each(lambda x, t: softmax(x / t / t)),
            "you divide by the root of the temperature. Divide by the temperature itself.": each(
                lambda x, t: softmax(x / np.sqrt(t))),
            "exp makes them positive, but they do not yet sum to 1: softmax.": each(lambda x, t: np.exp(x / t)),
            "you took softmax twice. The logits are divided, and then comes one softmax.": each(
                lambda x, t: softmax(softmax(x) / t)),
            "each token has a sigmoid of its own. The tokens compete: softmax.": each(
                lambda x, t: 1 / (1 + np.exp(-x / t))),
            "your powers of the probabilities do not add up to 1: divide by their sum.": each(
                lambda x, t: softmax(x) ** (1 / t)),
        },
    )  # fmt: skip


def nucleus(nucleus: Callable[[Float[np.ndarray, "V"], float], Bool[np.ndarray, "V"]]) -> None:
    """`nucleus(p, share)` -> True for the fewest tokens that together have at least `share`."""
    cases = [
        (np.array([0.05, 0.4, 0.1, 0.25, 0.2]), share) for share in (0.3, 0.5, 0.62, 0.9, 0.97)
    ] + [(np.array([0.1, 0.2, 0.6, 0.06, 0.04]), share) for share in (0.5, 0.7, 0.95)]  # fmt: skip

    def each(more: int = 0, order: Callable = lambda p: np.argsort(-p), by: Callable | None = None) -> list:
        kept = []
        for p, share in cases:
            ranked = order(p)
            number = int(np.searchsorted(np.cumsum(p[ranked]), share)) + 1 + more
            mask = np.zeros(len(p), bool)
            mask[ranked[: max(number, 0)]] = True
            kept.append(mask if by is None else by(p, share))
        return kept

    compare(
        "nucleus",
        [nucleus(p, share) for p, share in cases],
        each(),
        {
            "one token is missing: yours together stay *below* the share. Take the one that crosses the line as well, "
            "or a token of probability 0.4 would leave nothing for a share of 0.3.": each(more=-1),
            "you keep each token whose own probability is above the share. It is their sum that has to reach it.":
                each(by=lambda p, share: p >= share),
            "you go through the tokens in the order of the vocabulary. Begin with the most probable.":
                each(order=lambda p: np.arange(len(p))),
            "you begin with the least likely token: that keeps the rubbish and drops the sense.":
                each(order=np.argsort),
            "you sorted the probabilities and forgot whose they are: the first places are True, whichever tokens they "
            "are. Go back from the order to the tokens: kept[order[...]] = True.":
                each(by=lambda p, share: np.cumsum(np.sort(p)[::-1]) - np.sort(p)[::-1] < share),
            "you keep a share of the *tokens*. The share is of the probability.":
                each(by=lambda p, share: np.isin(np.arange(len(p)), np.argsort(-p)[: round(share * len(p))])),
            "you keep what comes near the most probable token. The probabilities are added up until they reach the "
            "share.":
                each(by=lambda p, share: p >= share * p.max()),
            "True means kept: you kept what was to go.": [~mask for mask in each()],
            "only the most probable token is kept. That is greedy decoding.": each(by=lambda p, share: p == p.max()),
            "everything is kept: nothing is cut off.": each(by=lambda p, share: p > 0),
            "these are the probabilities. Wanted are True and False.": [
                np.where(mask, p, 0.0) for mask, (p, _) in zip(each(), cases, strict=True)],
            "you keep each token above 1 - share. It is their sum that has to reach the share.":
                each(by=lambda p, share: p >= 1 - share),
            "you keep one token too many: stop as soon as the share is reached.": each(more=1),
        },
    )  # fmt: skip
