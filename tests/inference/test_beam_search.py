"""Beam search against every text of a tiny vocabulary, and against a search over lists on a larger one."""

import itertools
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tlqa_jax.inference.beam_search import beam_search
from tlqa_jax.inference.greedy import greedy

EOS, LENGTH, ROWS = 1, 6, 8


@pytest.fixture(scope="module")
def small_t5(random_t5):
    return random_t5(16, 7)


@pytest.fixture(scope="module")
def asked(random_questions):
    return random_questions(ROWS, 7)


@pytest.fixture(scope="module")
def next_log_p(small_t5, asked):
    """log p of every next token after a beginning, without a cache: one row at a time, as Python reads."""
    apply, params = small_t5
    decode = jax.jit(lambda targets_in, inputs, mask: apply(params, inputs, targets_in, input_mask=mask))
    inputs, mask = asked

    def of(row: int, beginning: tuple[int, ...]):
        targets_in = np.zeros((1, LENGTH), np.int32)
        targets_in[0, 1 : len(beginning) + 1] = beginning[: LENGTH - 1]
        logits = decode(jnp.asarray(targets_in), inputs[row : row + 1], mask[row : row + 1])
        logits = np.asarray(logits, np.float64)[0, len(beginning)]
        return logits - np.log(np.exp(logits).sum())

    return of


def plain_search(log_p, beams: int, penalty: float, early):
    """Lists in place of arrays: the texts that ended, best first, as (score, tokens)."""
    running, ended, can_improve = [(0.0, ())], [], True
    for t in range(LENGTH):
        ways = [(score + lp, (*text, v)) for score, text in running for v, lp in enumerate(log_p(text))]
        ways = sorted(ways, reverse=True)[: 2 * beams]
        ends = [text[-1] == EOS or t == LENGTH - 1 for _, text in ways]
        new = [(score / (t + 1) ** penalty, text) for (score, text), end in zip(ways[:beams], ends) if end]
        ended = sorted(ended + new, reverse=True)[:beams]
        running = [way for way, end in zip(ways, ends) if not end][:beams]
        if len(ended) == beams and running:
            length = LENGTH if early == "never" and penalty > 0 else t + 1
            can_improve = early is not True and running[0][0] / length**penalty > ended[-1][0]
        if not can_improve:
            break
    return ended


def padded(text):
    return [*text, *[0] * (LENGTH - len(text))]


@pytest.mark.parametrize(
    "beams, penalty, early, pmap", [(2, -12.0, False, False), (3, 1.0, True, True), (4, 0.6, "never", False)]
)
def test_equals_a_plain_search_without_a_cache(small_t5, asked, next_log_p, beams, penalty, early, pmap):
    """With pmap, which gives each device one row: no row depends on the others."""
    options = dict(num_beams=beams, max_new_tokens=LENGTH, length_penalty=penalty, early_stopping=early)
    search = partial(beam_search, small_t5[0], **options)
    if pmap:
        found = jax.pmap(search, in_axes=(None, 0, 0))(small_t5[1], *(x[:, None] for x in asked))
        found = jax.tree.map(lambda x: np.asarray(x)[:, 0], found)
    else:
        found = jax.jit(search)(small_t5[1], *asked)
    lengths = set()
    for row in range(ROWS):
        wanted = plain_search(partial(next_log_p, row), beams, penalty, early)
        assert found.tokens[row].tolist() == [padded(text) for _, text in wanted]
        np.testing.assert_allclose(found.scores[row], [score for score, _ in wanted], rtol=1e-4)
        for tokens, log_p, (_, text) in zip(found.tokens[row], found.log_probabilities[row], wanted):
            each = [next_log_p(row, text[:t])[token] for t, token in enumerate(text)]
            np.testing.assert_allclose(log_p, each + [0.0] * (LENGTH - len(text)), atol=1e-4)
            lengths.add(len(text))
    assert len(lengths) > (2 if penalty > 0 else 0)


def test_a_text_is_better_than_none_whatever_the_penalty(small_t5, asked):
    search = partial(beam_search, small_t5[0], num_beams=2, max_new_tokens=LENGTH, length_penalty=-40.0)
    found = jax.jit(search)(small_t5[1], *asked)
    assert np.isfinite(found.scores).all() and (found.log_probabilities.sum(axis=2) < 0).all()


@pytest.fixture(scope="module")
def every_text(random_t5, random_questions):
    """(model, questions, all texts of up to 4 tokens, the log-probabilities of their tokens [3 N 4], greedy's texts)."""
    apply, params = random_t5(23, 4)
    inputs, mask = random_questions(3, 4)
    words = (0, 2, 3)
    texts = [(*text, EOS) for n in range(4) for text in itertools.product(words, repeat=n)]
    texts += list(itertools.product(words, repeat=4))
    assert len(texts) == 1 + 3 + 9 + 27 + 81
    rows = np.zeros((len(texts), 4), np.int32)
    for row, text in zip(rows, texts):
        row[: len(text)] = text
    targets_in = jnp.asarray(np.pad(rows[:, :-1], ((0, 0), (1, 0))))
    decode = jax.jit(lambda inputs, mask: apply(params, inputs, targets_in, input_mask=mask))
    log_p = []
    for asked in zip(inputs, mask):
        logits = decode(*(jnp.broadcast_to(x, (len(texts), 7)) for x in asked))
        log_p.append(np.take_along_axis(np.asarray(jax.nn.log_softmax(logits), np.float64), rows[..., None], axis=2))
    greedily = jax.jit(partial(greedy, apply, max_new_tokens=4))(params, inputs, mask)
    return (apply, params), (inputs, mask), texts, rows, np.array(log_p)[..., 0], greedily.tokens.tolist()


@pytest.mark.parametrize("penalty", [0.0, 1.0])
def test_with_a_beam_for_every_beginning_it_finds_the_best_of_all_texts(penalty, every_text):
    (apply, params), asked, texts, rows, log_p, greedily = every_text
    search = partial(beam_search, apply, num_beams=54, max_new_tokens=4, length_penalty=penalty)
    found = jax.jit(search)(params, *asked)
    counts = np.array([len(text) for text in texts])
    bests, missed_by_greedy = set(), []
    for b in range(3):
        scores = np.where(np.arange(4) < counts[:, None], log_p[b], 0).sum(axis=1) / counts**penalty
        order = np.argsort(-scores)[:5]
        np.testing.assert_allclose(found.scores[b, :5], scores[order], rtol=1e-4)
        assert found.tokens[b, :5].tolist() == rows[order].tolist()
        bests.add(texts[order[0]])
        missed = found.tokens[b, 0].tolist() != greedily[b]
        assert not missed or scores[order[0]] > scores[rows.tolist().index(greedily[b])]
        missed_by_greedy.append(missed)
    assert len(bests) > 1 and (penalty or any(missed_by_greedy))


def test_one_beam_that_stops_at_the_first_end_is_greedy(t5, questions, greedy_texts):
    one = partial(beam_search, t5[0], num_beams=1, max_new_tokens=9, early_stopping=True)
    found = jax.jit(one)(t5[1], *questions)
    assert found.tokens[:, 0].tolist() == greedy_texts.tokens.tolist()
    np.testing.assert_allclose(found.log_probabilities[:, 0], greedy_texts.log_probabilities, atol=1e-5)
    assert 0 < (greedy_texts.tokens == EOS).any(axis=1).sum() < 40
