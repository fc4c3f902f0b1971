"""The checks of lesson 3 against right solutions and against wrong ones that run and have the right shape and dtype."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tlqa_jax.lessons import NotYet, attention as check


def attend(query, key, value, *, divide_by=lambda query, key: query.shape[-1] ** 0.5, axis=-1):
    scores = jnp.einsum("lk,sk->ls", query, key) / divide_by(query, key)
    return jnp.einsum("ls,sk->lk", jax.nn.softmax(scores, axis=axis), value)


ATTENTION = {
    r"not divided by sqrt\(K\)": lambda q, k, v: attend(q, k, v, divide_by=lambda q, k: 1.0),
    "divided by K, or twice by": lambda q, k, v: attend(q, k, v, divide_by=lambda q, k: q.shape[-1]),
    "runs over the queries": lambda q, k, v: attend(q, k, v, axis=0),
    "divide after the softmax": lambda q, k, v: jax.nn.softmax(q @ k.T) / q.shape[-1] ** 0.5 @ v,
    "there is no softmax": lambda q, k, v: q @ k.T / q.shape[-1] ** 0.5 @ v,
    "wrong size": lambda q, k, v: attend(q, k, v, divide_by=lambda q, k: k.shape[0] ** 0.5),
}


@pytest.mark.parametrize("solution", [attend, lambda q, k, v: jax.nn.softmax(q @ k.T / np.sqrt(q.shape[1])) @ v])
def test_lesson_attend_right(solution, capsys):
    check.attend(solution)
    assert "Right: attend" in capsys.readouterr().out


@pytest.mark.parametrize("misconception", ATTENTION)
def test_lesson_attend_wrong(misconception):
    with pytest.raises(NotYet, match=misconception):
        check.attend(ATTENTION[misconception])


def position(length):
    return jnp.arange(length)


CAUSAL = {
    "itself and the future": lambda n: position(n)[:, None] <= position(n)[None, :],
    "no position sees itself": lambda n: position(n)[:, None] > position(n)[None, :],
    'True means "forbidden"': lambda n: position(n)[:, None] < position(n)[None, :],
    "one step into the future": lambda n: position(n)[:, None] + 1 >= position(n)[None, :],
    "as numbers": lambda n: jnp.tril(jnp.ones((n, n))),
}


@pytest.mark.parametrize("solution", [lambda n: jnp.tril(jnp.ones((n, n), bool)), lambda n: np.tri(n, dtype=bool)])
def test_lesson_causal_mask_right(solution, capsys):
    check.causal_mask(solution)
    assert "Right: causal_mask" in capsys.readouterr().out


@pytest.mark.parametrize("misconception", CAUSAL)
def test_lesson_causal_mask_wrong(misconception):
    with pytest.raises(NotYet, match=misconception):
        check.causal_mask(CAUSAL[misconception])


MASKED = {
    "masked after the softmax": lambda scores, mask: jax.nn.softmax(scores) * mask,
    "forbidden keys the score 0": lambda scores, mask: jax.nn.softmax(jnp.where(mask, scores, 0.0)),
    'True means "forbidden"': lambda scores, mask: jax.nn.softmax(jnp.where(mask, jnp.finfo(scores.dtype).min, scores)),
    "became NaN": lambda scores, mask: jax.nn.softmax(jnp.where(mask, scores, -jnp.inf)),
    "over the queries": lambda scores, mask: jax.nn.softmax(jnp.where(mask, scores, -1e30), axis=0),
    "there are lower ones": lambda scores, mask: jax.nn.softmax(jnp.where(mask, scores, -100.0)),
}


@pytest.mark.parametrize(
    "solution",
    [
        lambda scores, mask: jax.nn.softmax(jnp.where(mask, scores, jnp.finfo(scores.dtype).min)),
        lambda scores, mask: jax.nn.softmax(jnp.where(mask, scores, -1e30)),
        lambda scores, mask: jax.nn.softmax(jnp.where(mask, scores, -1e30)) * mask,  # 0 where all is forbidden
    ],
)
def test_lesson_masked_weights_right(solution, capsys):
    check.masked_weights(solution)
    assert "Right: masked_weights" in capsys.readouterr().out


@pytest.mark.parametrize("misconception", MASKED)
def test_lesson_masked_weights_wrong(misconception):
    with pytest.raises(NotYet, match=misconception):
        check.masked_weights(MASKED[misconception])
