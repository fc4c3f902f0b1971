"""Lesson 12's checks say yes to the right solution, name the misconception behind wrong ones; its table decodes."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.special import softmax

from tlqa_jax.inference.beam_search import beam_search
from tlqa_jax.inference.greedy import greedy
from tlqa_jax.lessons import NotYet, decoding as check


def ranked(found, width):
    return sorted(found, key=lambda beam: -beam[1])[:width]


def all_ways(beams, log_p, score=lambda s, lp: s + lp):
    return [((*tokens, v), score(s, lp)) for tokens, s in beams for v, lp in enumerate(log_p(tokens))]


STEPS = {
    "of \\*each\\*": lambda beams, log_p, width: ranked([ranked(all_ways([b], log_p), 1)[0] for b in beams], width),
    "rank by the last token alone": lambda beams, log_p, width: ranked(all_ways(beams, log_p, lambda s, lp: lp), width),
    "add a probability to": lambda beams, log_p, width: ranked(
        all_ways(beams, log_p, lambda s, lp: s + np.exp(lp)), width
    ),
    "multiply log-prob": lambda beams, log_p, width: ranked(all_ways(beams, log_p, lambda s, lp: s * lp), width),
    "the worst ones": lambda beams, log_p, width: sorted(all_ways(beams, log_p), key=lambda beam: beam[1])[:width],
    "all continuations of all": lambda beams, log_p, width: ranked(all_ways(beams, log_p), 99),
    "wrong order": lambda beams, log_p, width: list(reversed(ranked(all_ways(beams, log_p), width))),
}
SCORES = {
    "multiply by the length": lambda x, penalty: x.sum() * len(x) ** penalty,
    "length times penalty": lambda x, penalty: x.sum() / (len(x) * penalty) if penalty else np.nan,
    "mean per token": lambda x, penalty: x.mean(),
    "end token counts": lambda x, penalty: x.sum() / (len(x) - 1) ** penalty,
    "divide the probability": lambda x, penalty: np.exp(x.sum()) / len(x) ** penalty,
}
TEMPERATURES = {
    "multiply by the temperature": lambda x, t: softmax(x * t),
    "divide the probabilities": lambda x, t: softmax(x) / t,
    "these are logits": lambda x, t: x / t,
    "you subtract": lambda x, t: softmax(x - t),
    "do not add up to 1": lambda x, t: softmax(x) ** (1 / t),
}


def first_tokens(p, n, order):
    mask = np.zeros(len(p), bool)
    mask[order[:n]] = True
    return mask


def count(p, share):
    return int((np.cumsum(np.sort(p)[::-1]) < share).sum())


NUCLEI = {
    "one token is missing": lambda p, share: first_tokens(p, count(p, share), np.argsort(-p)),
    "own probability": lambda p, share: p >= share,
    "order of the vocabulary": lambda p, share: np.cumsum(p) - p < share,
    "least likely": lambda p, share: first_tokens(p, (np.cumsum(np.sort(p)) < share).sum() + 1, np.argsort(p)),
    "one token too many": lambda p, share: first_tokens(p, count(p, share) + 2, np.argsort(-p)),
}
CASES = [
    (check.beam_step, STEPS), (check.text_score, SCORES), (check.with_temperature, TEMPERATURES),
    (check.nucleus, NUCLEI),
]  # fmt: skip


def test_lesson_decoding_right(capsys):
    check.beam_step(lambda beams, log_p, width: ranked(all_ways(beams, log_p), width))
    check.text_score(lambda x, penalty: x.sum() / len(x) ** penalty)
    check.with_temperature(lambda x, t: softmax(x) ** (1 / t) / (softmax(x) ** (1 / t)).sum())
    check.nucleus(lambda p, share: first_tokens(p, count(p, share) + 1, np.argsort(-p)))
    assert capsys.readouterr().out == "".join(
        f"Right: {name}\n" for name in ("beam_step", "text_score", "with_temperature", "nucleus")
    )


@pytest.mark.parametrize(
    "exercise, wrong, misconception",
    [(exercise, wrong, name) for exercise, slips in CASES for name, wrong in slips.items()],
)
def test_lesson_decoding_wrong(exercise, wrong, misconception):
    with pytest.raises(NotYet, match=misconception):
        exercise(wrong)


def test_lesson_table_decodes_as_one_reads_it():
    """Greedily "a lute", .5 x .4; two beams find "the flute", .4 x .58; per token "the old flute" is the best."""
    nothing = jnp.zeros((1, 1), jnp.int32)
    found = greedy(check.TableModel(), {}, nothing, max_new_tokens=5)
    assert check.words(found.tokens[0].tolist()) == "a lute"
    np.testing.assert_allclose(np.exp(found.log_probabilities[0]), [0.5, 0.4, 1, 1, 1], rtol=1e-5)

    def best(beams, penalty):
        search = partial(beam_search, check.TableModel(), num_beams=beams, max_new_tokens=5, length_penalty=penalty)
        found = jax.jit(search)({}, nothing)
        return check.words(found.tokens[0, 0].tolist()), float(np.exp(found.log_probabilities[0, 0].sum()))

    text, probability = best(2, 0.0)
    assert text == "the flute" and probability == pytest.approx(0.232, rel=1e-5)
    text, probability = best(3, 1.0)
    assert text == "the old flute" and probability == pytest.approx(0.4 * 0.42 * 0.9, rel=1e-5)
    for beginning, after in check.TABLE.items():
        assert sum(after.values()) == pytest.approx(1)
        assert check.table_probabilities(beginning).sum() == pytest.approx(1)
