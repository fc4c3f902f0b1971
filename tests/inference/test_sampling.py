"""Sampling: the distribution against a plain reading of the definitions, and keys that decide everything."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, strategies as st

from tlqa_jax.errors import UserError
from tlqa_jax.inference.generation_config import GenerationConfig
from tlqa_jax.inference.generator import generate_batch, text_keys
from tlqa_jax.inference.greedy import generate_tokens
from tlqa_jax.inference.sampling import sampled_choice, warp_logits

LOGITS = np.log(np.array([[0.05, 0.4, 0.1, 0.25, 0.2]], np.float32))


def probabilities(**settings):
    return np.asarray(jax.nn.softmax(warp_logits(jnp.asarray(LOGITS), **settings), axis=-1), np.float64)[0].round(4).tolist()


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
    """One token after the other, the most probable first, as the definitions say."""
    logits = np.random.default_rng(seed).normal(size=(2, 9)).astype(np.float32) * 2
    got = np.asarray(warp_logits(jnp.asarray(logits), temperature=temperature, top_k=top_k, top_p=top_p))
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


def test_tokens_are_drawn_as_often_as_they_are_probable():
    n = 20_000
    choose = sampled_choice(jax.random.split(jax.random.key(0), n), temperature=1.0, top_k=3)
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


def sampler(apply, **settings):
    """(params, inputs, mask, keys) -> texts."""

    def sample(params, inputs, mask, keys):
        choose = sampled_choice(keys, **settings)
        return generate_tokens(apply, params, inputs, mask, choose, max_new_tokens=LENGTH)

    return sample


@pytest.fixture(scope="module")
def draw(t5):
    return jax.jit(sampler(t5[0], temperature=1.5, top_p=0.9))


def test_top_1_is_greedy(t5, questions, keys, greedy_texts):
    apply, params = t5
    one = jax.jit(sampler(apply, top_k=1))(params, *questions, keys)
    assert one.tokens.tolist() == greedy_texts.tokens.tolist()
    np.testing.assert_allclose(one.log_probabilities, greedy_texts.log_probabilities, atol=1e-5)


def test_the_same_key_gives_the_same_text_in_any_batch_and_what_has_ended_stays(t5, questions, keys, draw):
    apply, params = t5
    all_rows = draw(params, *questions, keys)
    turned = draw(params, *(x[::-1] for x in questions), keys[::-1])
    assert turned.tokens[::-1].tolist() == all_rows.tokens.tolist()
    shares = [x.reshape(8, 5, *x.shape[1:]) for x in (*questions, keys)]
    on_all = jax.pmap(sampler(apply, temperature=1.5, top_p=0.9), in_axes=(None, 0, 0, 0))
    assert on_all(params, *shares).tokens.reshape(40, LENGTH).tolist() == all_rows.tokens.tolist()
    other = draw(params, *questions, keys[::-1])
    assert (other.tokens != all_rows.tokens).any()
    tokens = np.asarray(all_rows.tokens)
    ended = (tokens == 1).any(axis=1)
    assert ended.any()
    for row, log_p in zip(tokens[ended], np.asarray(all_rows.log_probabilities)[ended]):
        end = row.tolist().index(1)
        assert not row[end + 1 :].any() and not log_p[end + 1 :].any() and (log_p[: end + 1] < 0).all()


def test_the_probabilities_are_the_models_and_not_those_that_were_drawn_from(t5, questions, keys, draw):
    apply, params = t5
    hot = draw(params, *questions, keys)
    targets_in = jnp.pad(hot.tokens[:, :-1], ((0, 0), (1, 0)))
    logits = jax.jit(apply)(params, questions[0], targets_in, input_mask=questions[1])
    log_p = np.asarray(jax.nn.log_softmax(logits))
    log_p = np.take_along_axis(log_p, np.asarray(hot.tokens)[..., None], axis=2)[..., 0]
    generated = np.asarray(hot.log_probabilities) != 0
    np.testing.assert_allclose(np.asarray(hot.log_probabilities)[generated], log_p[generated], atol=1e-4)


@pytest.mark.parametrize(
    "settings, message",
    [
        (dict(num_beams=0), "--num-beams is 0: it has to be at least 1"),
        (dict(temperature=0.0), "--temperature is 0.0: it has to be above 0"),
        (dict(top_k=0), "--top-k is 0"),
        (dict(top_p=1.5), "--top-p is 1.5: it has to be above 0 and at most 1"),
        (dict(num_beams=2, length_penalty=float("nan")), "--length-penalty is nan"),
        (dict(length_penalty=0.0), "--length-penalty is for beam search: give --num-beams with it"),
        (dict(early_stopping=True), "--early-stopping is for beam search"),
        (dict(seed=-1), "--seed is -1"),
        (dict(seed=2**32), "--seed is 4294967296: it has to be at least 0 and at most"),
        (dict(seed=1), "--seed is for sampling"),
        (dict(max_new_tokens=0), "--max-new-tokens is 0: it has to be at least 1"),
        (dict(num_return_sequences=0), "--num-return-sequences is 0"),
        (dict(num_return_sequences=2), "--num-return-sequences 2 needs at least 2 beams, or a temperature"),
        (dict(num_return_sequences=5, num_beams=4), "--num-return-sequences 5 needs at least 5 beams"),
        (dict(num_beams=2, top_p=0.5), "give one or the other"),
    ],
)
def test_settings_that_cannot_be_meant(settings, message):
    with pytest.raises(UserError, match=message):
        GenerationConfig(**settings)


@pytest.mark.parametrize("early_stopping", ["nevr", 1])
def test_another_early_stopping_is_refused(early_stopping):
    config = GenerationConfig(num_beams=2, early_stopping="never")
    object.__setattr__(config, "early_stopping", early_stopping)  # as an argument, annotations refuse it in the tests
    with pytest.raises(UserError, match=f"--early-stopping is '?{early_stopping}"):
        config.__post_init__()


@pytest.mark.parametrize("seed", [0, 7, 2**32 - 1])
def test_a_seed_as_an_array_gives_the_keys_of_the_number(seed):
    rows = jnp.arange(3)
    keys = [jax.random.key_data(text_keys(rows, 2, s)).tolist() for s in (seed, jnp.uint32(seed), jnp.uint32(3))]
    assert keys[0] == keys[1] != keys[2]


def test_several_texts_of_each(t5, questions):
    apply, params = t5
    rows, seed = jnp.arange(40), jnp.uint32(0)
    config = GenerationConfig(max_new_tokens=LENGTH, num_return_sequences=3, temperature=1.0)
    generate = jax.jit(partial(generate_batch, apply, config))
    three = generate(params, *questions, rows, seed)
    assert three.tokens.shape == (40, 3, LENGTH)
    assert (three.tokens[:, 0] != three.tokens[:, 1]).any()
    assert (generate(params, *questions, rows, jnp.uint32(7)).tokens != three.tokens).any()
    again = generate(params, *(x[::-1] for x in questions), rows[::-1], seed)
    assert again.tokens[::-1].tolist() == three.tokens.tolist()  # the number of the row counts, not its place
