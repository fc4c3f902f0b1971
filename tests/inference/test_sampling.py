"""Sampling: what is drawn from against a plain reading of the definitions, and that keys decide everything."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies as st

from tlqa_jax.errors import UserError
from tlqa_jax.inference.generate import greedy, write
from tlqa_jax.inference.generation_config import Method
from tlqa_jax.inference.sampling import drawn, sample, shaped

LOGITS = np.log(np.array([[0.05, 0.4, 0.1, 0.25, 0.2]], np.float32))


def probabilities(**settings):
    return np.asarray(jax.nn.softmax(shaped(jnp.asarray(LOGITS), **settings), axis=-1), np.float64)[0].round(4).tolist()


def test_by_hand():
    assert probabilities() == [0.05, 0.4, 0.1, 0.25, 0.2]
    assert probabilities(top_k=2) == [0, round(0.4 / 0.65, 4), 0, round(0.25 / 0.65, 4), 0]
    assert probabilities(top_p=0.65) == probabilities(top_k=2)  # .4 + .25 is enough
    assert probabilities(top_p=0.66) == probabilities(top_k=3)
    assert probabilities(top_p=0.01) == probabilities(top_k=1) == [0, 1, 0, 0, 0]  # one is always left
    assert probabilities(top_k=9) == probabilities(top_p=1.0) == probabilities()
    squares = np.array([0.05, 0.4, 0.1, 0.25, 0.2]) ** 2
    np.testing.assert_allclose(probabilities(temperature=0.5), squares / squares.sum(), atol=1e-4)


@given(st.integers(0, 2**32 - 1), st.floats(0.3, 3), st.integers(1, 12), st.floats(0.05, 1))
def test_what_is_kept(seed, temperature, top_k, top_p):
    """One token after the other, the likeliest first, as the definitions read."""
    logits = np.random.default_rng(seed).normal(size=(2, 9)).astype(np.float32) * 2
    got = np.asarray(shaped(jnp.asarray(logits), temperature=temperature, top_k=top_k, top_p=top_p))
    for row, kept in zip(logits, got > -np.inf):
        order = np.argsort(-row)[:top_k]
        p = np.exp(row[order].astype(np.float64) / temperature)
        p /= p.sum()
        wanted, share = [], 0.0
        for token, its in zip(order, p):
            if wanted and share >= top_p:
                break
            wanted.append(token)
            share += its
        if abs(share - top_p) > 1e-5 and abs(share - p[len(wanted) - 1] - top_p) > 1e-5:  # not at a border
            assert sorted(wanted) == np.flatnonzero(kept).tolist()
    finite = got > -np.inf
    np.testing.assert_allclose(got[finite], (logits / np.float32(temperature))[finite], rtol=1e-5)


def test_tokens_are_drawn_as_often_as_they_are_likely():
    n = 20_000
    choose = drawn(jax.random.split(jax.random.key(0), n), temperature=1.0, top_k=3)
    tokens = np.asarray(choose(jnp.broadcast_to(jnp.asarray(LOGITS), (n, 5)), jnp.int32(4)))
    shares = np.bincount(tokens, minlength=5) / n
    wanted = np.array([0, 0.4, 0, 0.25, 0.2]) / 0.85
    assert (abs(shares - wanted) < 4 * np.sqrt(wanted * (1 - wanted) / n) + 1e-9).all()
    again = np.asarray(choose(jnp.broadcast_to(jnp.asarray(LOGITS), (n, 5)), jnp.int32(5)))
    assert (again != tokens).any()  # another step, another draw


LENGTH = 9


@pytest.fixture(scope="module")
def keys():
    return jax.random.split(jax.random.key(3), 40)


def test_the_likeliest_only_is_greedy(t5, questions, keys):
    apply, params = t5
    greedily = jax.jit(partial(greedy, apply, max_length=LENGTH))(params, *questions)
    one = jax.jit(partial(sample, apply, max_length=LENGTH, top_k=1))(params, *questions, keys)
    assert one.tokens.tolist() == greedily.tokens.tolist()
    np.testing.assert_allclose(one.log_probabilities, greedily.log_probabilities, atol=1e-5)


def test_the_same_key_writes_the_same_text_in_any_batch_and_what_has_ended_stays(t5, questions, keys):
    apply, params = t5
    draw = jax.jit(partial(sample, apply, max_length=LENGTH, temperature=1.5))
    all_rows = draw(params, *questions, keys)
    few = draw(params, *(x[30:35] for x in questions), keys[30:35])
    assert few.tokens.tolist() == all_rows.tokens[30:35].tolist()
    shares = [x.reshape(8, 5, *x.shape[1:]) for x in (*questions, keys)]
    on_all = jax.pmap(partial(sample, apply, max_length=LENGTH, temperature=1.5), in_axes=(None, 0, 0, 0))
    assert on_all(params, *shares).tokens.reshape(40, LENGTH).tolist() == all_rows.tokens.tolist()
    other = draw(params, *questions, keys[::-1])
    assert (other.tokens != all_rows.tokens).any()
    tokens = np.asarray(all_rows.tokens)
    ended = (tokens == 1).any(axis=1)
    assert ended.any()
    for row, log_p in zip(tokens[ended], np.asarray(all_rows.log_probabilities)[ended]):
        end = row.tolist().index(1)
        assert not row[end + 1 :].any() and not log_p[end + 1 :].any() and (log_p[: end + 1] < 0).all()


def test_the_probabilities_are_the_models_and_not_those_that_were_drawn_from(t5, questions, keys):
    apply, params = t5
    hot = jax.jit(partial(sample, apply, max_length=LENGTH, temperature=3.0, top_p=0.9))(params, *questions, keys)
    targets_in = jnp.pad(hot.tokens[:, :-1], ((0, 0), (1, 0)))
    logits = apply(params, questions[0], targets_in, input_mask=questions[1])
    log_p = np.asarray(jax.nn.log_softmax(logits))
    log_p = np.take_along_axis(log_p, np.asarray(hot.tokens)[..., None], axis=2)[..., 0]
    written = np.asarray(hot.log_probabilities) != 0
    np.testing.assert_allclose(np.asarray(hot.log_probabilities)[written], log_p[written], atol=1e-4)


def test_a_stream_is_what_the_loop_writes(t5, questions, keys):
    apply, params = t5
    method = Method(temperature=1.5)
    inputs, mask = (x[:5] for x in questions)
    steps = list(method.stream(apply, max_length=LENGTH)(params, inputs, mask, keys[:5]))
    choose = drawn(keys[:5], temperature=1.5)
    looped = jax.jit(lambda params: write(apply, params, inputs, mask, choose, max_length=LENGTH))(params)
    longest = int((looped.log_probabilities != 0).sum(axis=1).max())
    assert len(steps) == longest
    assert np.stack([token for token, _ in steps], axis=1).tolist() == looped.tokens[:, :longest].tolist()
    np.testing.assert_allclose(
        np.stack([p for _, p in steps], axis=1), looped.log_probabilities[:, :longest], atol=1e-5
    )


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(beams=0), "beams is 0: it has to be at least 1"),
        (dict(temperature=0.0), "temperature is 0.0: it has to be above 0"),
        (dict(top_k=0), "top-k is 0"),
        (dict(top_p=1.5), "top-p is 1.5: it has to be above 0 and at most 1"),
        (dict(length_penalty=float("nan")), "length-penalty is nan"),
        (dict(seed=-1), "seed is -1"),
        (dict(seed=2**32), "seed is 4294967296: it has to be 0 or more and below 2"),
        (dict(n=0), "n is 0"),
        (dict(n=2), "2 texts want at least 2 beams, or a temperature"),
        (dict(n=5, beams=4), "5 texts want at least 5 beams"),
        (dict(beams=2, top_p=0.5), "give one or the other"),
    ],
)
def test_settings_that_cannot_be_meant(settings, message):
    with pytest.raises(UserError, match=message):
        Method(**settings)


@pytest.mark.parametrize("early_stopping", ["nevr", 1])
def test_another_early_stopping_is_refused(early_stopping):
    method = Method(beams=2, early_stopping="never")
    object.__setattr__(method, "early_stopping", early_stopping)  # as an argument, annotations refuse it in the tests
    message = f"early-stopping is {early_stopping}: it has to be False, True or 'never'"
    with pytest.raises(UserError, match=message):
        method.__post_init__()


def test_beams_are_not_streamed(t5):
    with pytest.raises(UserError, match="beams is 4: a text that is shown while it is written has one beam"):
        Method(beams=4).stream(t5[0], max_length=LENGTH)


@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1])
def test_a_seed_as_an_array_draws_what_the_methods_own_draws(t5, questions, seed):
    apply, params = t5
    rows = jnp.arange(40)
    other = jax.jit(partial(Method(temperature=1.0, seed=3).write, apply, max_length=LENGTH))
    own = jax.jit(partial(Method(temperature=1.0, seed=seed).write, apply, max_length=LENGTH))
    given = other(params, *questions, rows, jnp.uint32(seed)).tokens.tolist()
    assert given == own(params, *questions, rows).tokens.tolist()
    assert given != other(params, *questions, rows).tokens.tolist()


def test_several_texts_of_each(t5, questions):
    apply, params = t5
    rows = jnp.arange(40)
    write_n = lambda **method: jax.jit(partial(Method(**method).write, apply, max_length=LENGTH))
    three = write_n(n=3, temperature=1.0)(params, *questions, rows)
    assert three.tokens.shape == (40, 3, LENGTH)
    assert (three.tokens[:, 0] != three.tokens[:, 1]).any()
    again = write_n(n=3, temperature=1.0)(params, *(x[::-1] for x in questions), rows[::-1])
    assert again.tokens[::-1].tolist() == three.tokens.tolist()  # the number of the row counts, not its place
    best = write_n(beams=4, n=2)(params, *questions, rows)
    assert best.tokens.shape == (40, 2, LENGTH)
    assert (best.log_probabilities.sum(axis=2) < 0).all() and (best.tokens[:, 0] != best.tokens[:, 1]).any(axis=1).all()
