"""The checks of lesson 4 against right solutions and against wrong ones that run."""

import jax.numpy as jnp
import numpy as np
import pytest

from tlqa_jax.core.relative_positions import relative_position_bucket
from tlqa_jax.lessons import NotYet, t5 as check


def package_buckets(relative, bidirectional):
    return np.array(relative_position_bucket(jnp.array(relative), bidirectional=bidirectional))


def all_32_each_way(relative, bidirectional):
    both = package_buckets(-np.abs(relative), False)
    return both + 32 * (relative > 0) if bidirectional else package_buckets(relative, False)


def beyond_the_table(relative, bidirectional):
    number = 16 if bidirectional else 32
    distance = np.abs(relative) if bidirectional else np.maximum(-relative, 0)
    exact = number // 2
    far = exact + (np.log(np.maximum(distance, 1) / exact) / np.log(128 / exact) * (number - exact) + 1e-4).astype(int)
    return 16 * (relative > 0) * bidirectional + np.where(distance < exact, distance, far)


def linear(relative, bidirectional):
    number = 16 if bidirectional else 32
    distance = np.abs(relative) if bidirectional else np.maximum(-relative, 0)
    exact = number // 2
    far = np.minimum(exact + (distance - exact) * (number - exact) // (128 - exact), number - 1)
    return 16 * (relative > 0) * bidirectional + np.where(distance < exact, distance, far)


def rounded(relative, bidirectional):
    number = 16 if bidirectional else 32
    distance = np.abs(relative) if bidirectional else np.maximum(-relative, 0)
    exact = number // 2
    far = exact + np.log(np.maximum(distance, 1) / exact) / np.log(128 / exact) * (number - exact)
    far = np.minimum(np.round(far).astype(int), number - 1)
    return 16 * (relative > 0) * bidirectional + np.where(distance < exact, distance, far)


BUCKETS = {
    "past and future are exchanged": lambda relative, both_ways: package_buckets(-relative, both_ways),
    "before and after share": lambda relative, both_ways: package_buckets(
        -np.abs(relative) if both_ways else relative, both_ways
    ),
    "each direction all 32": all_32_each_way,
    "run over the last bucket": beyond_the_table,
    "equally wide": linear,
    "round to the nearest": rounded,
}  # fmt: skip


def test_lesson_buckets_right(capsys):
    check.buckets(package_buckets)
    assert "Right: buckets" in capsys.readouterr().out


@pytest.mark.parametrize("misconception", BUCKETS)
def test_lesson_buckets_wrong(misconception):
    with pytest.raises(NotYet, match=misconception):
        check.buckets(BUCKETS[misconception])


def size(x, axis=-1):
    return jnp.sqrt(jnp.mean(x**2, axis=axis, keepdims=True) + 1e-6)


NORMS = {
    "subtract the mean": lambda x, scale: (
        (x - x.mean(-1, keepdims=True)) / jnp.sqrt(x.var(-1, keepdims=True) + 1e-6) * scale
    ),
    "epsilon inside the square root": lambda x, scale: x / (jnp.sqrt(jnp.mean(x**2, -1, keepdims=True)) + 1e-6) * scale,
    "no epsilon": lambda x, scale: x / jnp.sqrt(jnp.mean(x**2, -1, keepdims=True)) * scale,
    "over the positions": lambda x, scale: x / size(x, 0) * scale,
    "not by its root": lambda x, scale: x / (jnp.mean(x**2, -1, keepdims=True) + 1e-6) * scale,
    "sum the squares": lambda x, scale: x / jnp.sqrt(jnp.sum(x**2, -1, keepdims=True) + 1e-6) * scale,
    "scale is not applied": lambda x, scale: x / size(x),
    "scale before you normalise": lambda x, scale: x * scale / size(x * scale),
}  # fmt: skip


def test_lesson_rms_norm_right(capsys):
    check.rms_norm(lambda x, scale: x / size(x) * scale)
    assert "Right: rms_norm" in capsys.readouterr().out


@pytest.mark.parametrize("misconception", NORMS)
def test_lesson_rms_norm_wrong(misconception):
    with pytest.raises(NotYet, match=misconception):
        check.rms_norm(NORMS[misconception])


def right_corrupt(tokens, mask, sentinels):
    inputs, targets, left = [], [], list(sentinels)
    for before, token, hidden in zip([False, *mask], tokens, mask, strict=False):
        if hidden and not before:
            inputs.append(left[0])
            targets.append(left.pop(0))
        (targets if hidden else inputs).append(token)
    return [*inputs, 1], [*targets, 1]


def each_token(tokens, mask, sentinels):
    """A sentinel for every hidden token, as [MASK] is one for every token."""
    left = iter(sentinels)
    its = {i: next(left) for i, hidden in enumerate(mask) if hidden}
    inputs = [its.get(i, token) for i, token in enumerate(tokens)]
    return [*inputs, 1], [x for i in its for x in (its[i], tokens[i])] + [1]


def without(unwanted, tokens, mask, sentinels, places=(0, 1)):
    pair = list(right_corrupt(tokens, mask, sentinels))
    for place in places:
        pair[place] = [x for x in pair[place] if x not in unwanted]
    return tuple(pair)


def sentinel_last(tokens, mask, sentinels):
    inputs, targets = right_corrupt(tokens, mask, sentinels)
    moved, waiting = [], []
    for x in targets:
        if x in sentinels or x == 1:
            moved += waiting
            waiting = [x]
        else:
            moved.append(x)
    return inputs, moved + waiting


def with_the_last(tokens, mask, sentinels):
    """mask[i - 1], also where i is 0."""
    inputs, targets, number = [], [], 0
    for i, token in enumerate(tokens):
        if mask[i] and not mask[i - 1]:
            inputs.append(sentinels[number])
            targets.append(sentinels[number])
            number += 1
        (targets if mask[i] else inputs).append(token)
    return [*inputs, 1], [*targets, 1]


def pops(tokens, mask, sentinels):
    row = right_corrupt(tokens, mask, sentinels)
    for _ in set(row[0]) & set(sentinels):
        sentinels.pop(0)
    return row


CORRUPTIONS = {
    "mask\\[i - 1\\] is mask\\[-1\\]": with_the_last,
    "you changed a list": pops,
    "one sentinel for each hidden token": each_token,
    "same sentinel": lambda tokens, mask, sentinels: right_corrupt(tokens, mask, sentinels[:1] * 9),
    "no end token": lambda *row: without([1], *row),
    "leave the hidden tokens out": lambda tokens, mask, s: without(s, tokens, mask, s, places=[0]),
    "hidden tokens alone": lambda tokens, mask, s: without(s, tokens, mask, s, places=[1]),
    "comes after its span": sentinel_last,
    "True means hidden": lambda tokens, mask, s: right_corrupt(tokens, [not hidden for hidden in mask], s),
    "the whole text": lambda tokens, mask, s: (right_corrupt(tokens, mask, s)[0], [*tokens, 1]),
}


def test_lesson_corrupt_right(capsys):
    check.corrupt(right_corrupt)
    assert "Right: corrupt" in capsys.readouterr().out


@pytest.mark.parametrize("misconception", CORRUPTIONS)
def test_lesson_corrupt_wrong(misconception):
    with pytest.raises(NotYet, match=misconception):
        check.corrupt(CORRUPTIONS[misconception])
