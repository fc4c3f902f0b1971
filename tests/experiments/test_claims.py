"""What scores say about a claim, by numbers that can be checked by hand."""

import pytest

from tlqa_jax.experiments.claims import Claim, judge

PANEL = "panel"


def seeds(*differences: float) -> list[dict]:
    """Scores of "a" and "b" at 10 and at 100; a minus b is, at both, the difference of the seed."""
    return [{"a": {10: 50.0 + d, 100: 80.0 + d}, "b": {10: 50.0, 100: 80.0}} for d in differences]


@pytest.mark.parametrize(
    "differences, margin, words",
    [
        ((2, 3, 4), 0, "holds"),  # 3 ± 4.303 / sqrt(3): from 0.52 to 5.48
        ((1, 3, 5), 0, "undecided"),  # 3 ± 4.97
        ((2, 3, 4), 1, "undecided"),
        ((-2, -3, -4), 0, "does not hold"),
        ((-2, -3, -4), -6, "holds"),  # hardly lower
        ((2, 3, 4), 6, "does not hold"),
        ((3, 3), 0, "holds"),
        ((0, 0, 0), 0, "undecided"),
        ((3,), 0, "one seed, undecided: it points to it"),
        ((0,), 0, "one seed, undecided: it points against it"),
    ],
)
def test_a_claim_is_judged_by_the_interval_of_the_difference(differences, margin, words):
    verdict = judge(Claim("a is better", "a", "b", PANEL, margin=float(margin)), seeds(*differences))
    assert verdict.words == words
    assert verdict.difference == pytest.approx(sum(differences) / len(differences))


def test_the_interval_is_students():
    verdict = judge(Claim("a is better", "a", "b", PANEL), seeds(2, 3, 4))
    assert (verdict.low, verdict.high) == pytest.approx((3 - 4.3027 / 3**0.5, 3 + 4.3027 / 3**0.5), abs=1e-3)
    alone = judge(Claim("a is better", "a", "b", PANEL), seeds(2))
    assert (alone.low, alone.high) == (None, None)


def test_spread_between_seeds_cancels_where_both_sides_share_it():
    scores = [{"a": {10: base + 2}, "b": {10: base}} for base in (20.0, 50.0, 80.0)]
    assert judge(Claim("a is better", "a", "b", PANEL), scores).words == "holds"


def test_the_columns_of_a_claim():
    scores = {"a": {10: 60.0, 100: 90.0, 1000: 99.0}, "b": {10: 50.0, 100: 86.0}}
    assert Claim("", "a", "b", PANEL).difference(scores) == 7  # of those that both have
    assert Claim("", "a", "b", PANEL, at=(100,)).difference(scores) == 4
    assert Claim("", "a", "b", PANEL, at=(1000,), worse_at=(10,)).difference(scores) == 49
