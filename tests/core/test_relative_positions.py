"""The buckets against the bounds of T5's own code, and against whole-number arithmetic that no rounding can touch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tlqa_jax.core.relative_positions import relative_position_bucket, relative_positions

jitted_bucket = jax.jit(relative_position_bucket, static_argnames=("bidirectional", "num_buckets", "max_distance"))
POSITIONS = np.arange(-300, 301)


def buckets(positions, **options) -> list[int]:
    padded = np.zeros(512, np.int32)  # one shape, compiled once
    padded[: len(positions)] = positions
    return jitted_bucket(padded, **options).tolist()[: len(positions)]


def test_relative_positions_are_key_minus_query():
    assert relative_positions(jnp.array([0, 1]), jnp.array([0, 1, 2])).tolist() == [[0, 1, 2], [-1, 0, 1]]


def test_bidirectional_buckets():
    past = {0: 0, -1: 1, -7: 7, -8: 8, -11: 8, -12: 9, -15: 9, -16: 10, -22: 10, -23: 11, -31: 11, -32: 12, -45: 12}
    past |= {-46: 13, -63: 13, -64: 14, -90: 14, -91: 15, -128: 15, -10_000: 15}
    assert buckets(list(past), bidirectional=True) == list(past.values())
    assert buckets([1, 7, 8, 15, 16, 91, 128, 10_000], bidirectional=True) == [17, 23, 24, 25, 26, 31, 31, 31]
    past = POSITIONS[:300]
    assert buckets(-past, bidirectional=True) == [16 + bucket for bucket in buckets(past, bidirectional=True)]


def test_causal_buckets():
    assert buckets([1, 5, 300], bidirectional=False) == [0, 0, 0]
    assert buckets([-d for d in range(16)], bidirectional=False) == list(range(16))
    first = [16, 19, 21, 24, 27, 31, 35, 40, 46, 52, 59, 67, 77, 87, 99, 113]
    assert buckets([-d for d in first], bidirectional=False) == list(range(16, 32))
    assert buckets([1 - d for d in first], bidirectional=False) == list(range(15, 31))
    assert buckets([-128, -129, -10_000], bidirectional=False) == [31, 31, 31]


def bucket_in_whole_numbers(position: int, bidirectional: bool, num_buckets: int, max_distance: int) -> int:
    """log(d / e) / log(m / e) * n >= j, without logarithms: d^n e^j >= m^j e^n."""
    offset, distance = 0, max(-position, 0)
    if bidirectional:
        num_buckets //= 2
        offset, distance = num_buckets * (position > 0), abs(position)
    exact = num_buckets // 2
    if distance < exact:
        return offset + distance
    n = num_buckets - exact
    reached = [j for j in range(n) if distance**n * exact**j >= max_distance**j * exact**n]
    return offset + exact + reached[-1]


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(("num_buckets", "max_distance"), [(32, 128), (8, 20), (64, 512), (10, 40)])
def test_buckets_of_every_distance(num_buckets, max_distance, bidirectional):
    bucket = lambda x: relative_position_bucket(
        x, bidirectional=bidirectional, num_buckets=num_buckets, max_distance=max_distance
    )
    expected = [bucket_in_whole_numbers(int(p), bidirectional, num_buckets, max_distance) for p in POSITIONS]
    assert bucket(jnp.asarray(POSITIONS)).tolist() == expected
    assert jax.jit(bucket)(jnp.asarray(POSITIONS)).tolist() == expected
