"""The checks of lesson 5 against right solutions and against wrong ones that run."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.lax import axis_index, pmean, psum

from tlqa_jax.lessons import NotYet, pretraining_with_pmap as check

AXIS = "devices"


def mean(losses, weights):
    return (losses * weights).sum() / weights.sum()


MEANS = {
    "mean of the devices' means": lambda losses, weights: pmean(mean(losses, weights), AXIS),
    "did not communicate": mean,
    "sum of the devices' means": lambda losses, weights: psum(mean(losses, weights), AXIS),
    "padding counts as a token": lambda losses, weights: pmean(losses.mean(), AXIS),
    "not by the number of places": lambda losses, weights: pmean((losses * weights).mean(), AXIS),
    "only of this one": lambda losses, weights: psum((losses * weights).sum(), AXIS) / weights.sum(),
    "not yet divided": lambda losses, weights: psum((losses * weights).sum(), AXIS),
}


def test_lesson_global_mean_right(capsys):
    check.global_mean(lambda losses, weights: psum((losses * weights).sum(), AXIS) / psum(weights.sum(), AXIS))
    check.global_mean(lambda losses, weights: pmean((losses * weights).sum(), AXIS) / pmean(weights.sum(), AXIS))
    assert capsys.readouterr().out == "Right: global_mean\n" * 2


@pytest.mark.parametrize("misconception", MEANS)
def test_lesson_global_mean_wrong(misconception):
    with pytest.raises(NotYet, match=misconception):
        check.global_mean(MEANS[misconception])


def gradient_of(loss):
    """`loss(sum of this device's losses, their weight)` -> a function as in the exercise, nothing done afterwards."""
    return lambda loss_sum, w, rows: jax.grad(lambda w: loss(loss_sum(w, rows), rows["weights"].sum()))(w)


def then(collective, gradients):
    return lambda *arguments: collective(gradients(*arguments), AXIS)


local_mean = gradient_of(lambda total, weight: total / weight)
share = gradient_of(lambda total, weight: total / psum(weight, AXIS))
through_psum = gradient_of(lambda total, weight: psum(total, AXIS) / psum(weight, AXIS))
GRADIENTS = {
    "mean of the gradients of local means": then(pmean, local_mean),
    "took the mean over the devices": then(pmean, share),
    "gradient of its own share": share,
    "then summed the gradients again": then(psum, through_psum),
    "not the global one": through_psum,
    "sum of the gradients of local means": then(psum, local_mean),
    "gradient of the sum, not of the mean": then(psum, gradient_of(lambda total, weight: total)),
    "gradient of its own mean": local_mean,
    "params is a dictionary": lambda loss_sum, params, rows: (
        psum(jax.grad(loss_sum)(params, rows), AXIS) / psum(rows["weights"].sum(), AXIS)
    ),
    "the blank is still empty": lambda *_: ...,
}


def test_lesson_gradients_right(capsys):
    check.gradients(then(psum, share))
    assert "Right: gradients" in capsys.readouterr().out


@pytest.mark.parametrize("misconception", GRADIENTS)
def test_lesson_gradients_wrong(misconception):
    with pytest.raises(NotYet, match=misconception):
        check.gradients(GRADIENTS[misconception])


def test_lesson_gradients_are_the_same_through_pmap():
    """The check has rows for devices, by vmap. That `grad` of a `psum` is too large by the number holds in pmap too."""
    devices, x = jax.local_device_count(), np.ones((jax.local_device_count(), 2), np.float32)
    gradient = jax.grad(lambda w, x: psum((w * x).sum(), AXIS))
    for transform in (jax.pmap, jax.vmap):
        gradients = transform(gradient, in_axes=(None, 0), axis_name=AXIS)(3.0, x)
        assert np.array(gradients).tolist() == [2.0 * devices] * devices


def fold(*numbers):
    key = jax.random.key(numbers[0])
    for number in numbers[1:]:
        key = jax.random.fold_in(key, number)
    return key


memory = itertools.count()
KEYS = {
    "all devices have the same key": lambda seed, step: fold(seed, step),
    "the same at every step": lambda seed, step: fold(seed, axis_index(AXIS)),
    "the seed changes nothing": lambda seed, step: fold(0, step, axis_index(AXIS)),
    "when step and device are added": lambda seed, step: fold(seed, step + axis_index(AXIS)),
    "you gave two keys": lambda seed, step: fold(next(memory), step, axis_index(AXIS)),
    "that is no key": lambda seed, step: jnp.float32(seed) + step + axis_index(AXIS),
}


@pytest.mark.parametrize("make", [jax.random.key, jax.random.PRNGKey])
def test_lesson_dropout_key_right(make, capsys):
    check.dropout_key(lambda seed, step: jax.random.fold_in(jax.random.fold_in(make(seed), axis_index(AXIS)), step))
    assert "Right: dropout_key" in capsys.readouterr().out


@pytest.mark.parametrize("misconception", KEYS)
def test_lesson_dropout_key_wrong(misconception):
    with pytest.raises(NotYet, match=misconception):
        check.dropout_key(KEYS[misconception])
