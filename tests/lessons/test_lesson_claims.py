"""What a lesson says about its own run: a lead with its paired interval and a verdict; a claim fails in words."""

import numpy as np
import pytest

from tlqa_jax.lessons import claims


def test_lesson_percent_has_an_interval_around_it():
    interval = claims.percent([True] * 75 + [False] * 25)
    assert interval.value == 75 and 60 < interval.low < 70 < 80 < interval.high < 90
    assert str(claims.percent(np.ones(9))) == "100.0 (95% 100.0 to 100.0)"


@pytest.mark.parametrize(
    ("ahead", "behind", "verdict"),
    [
        (90, 60, "ours is ahead, by more"),
        (60, 90, "theirs is ahead, by more"),
        (62, 60, "the interval contains 0"),
    ],
)
def test_lesson_lead_says_what_it_is_worth(capsys, ahead, behind, verdict):
    ours, theirs = (np.random.default_rng(0).permutation(100) < n for n in (ahead, behind))
    theirs = theirs if ahead != 62 else np.random.default_rng(1).permutation(100) < behind
    lead = claims.lead("ours", ours, "theirs", theirs)
    assert lead.value == ahead - behind
    said = capsys.readouterr().out
    assert said.startswith(f"ours {ahead}.0 %, theirs {behind}.0 %, of 100. Difference: ") and verdict in said


def test_lesson_lead_is_paired():
    """Two that differ in one example of 100: an unpaired interval would be 20 points wide."""
    ours = np.arange(100) % 2 == 0
    theirs = ours.copy()
    theirs[0] = False
    lead = claims.lead("ours", ours, "theirs", theirs)
    assert lead.value == pytest.approx(1) and lead.high - lead.low < 5


def test_lesson_claim_fails_in_words_and_not_in_smoke_mode(monkeypatch, capsys):
    monkeypatch.setattr(claims, "SMOKE", False)
    claims.claim("two is more than one", 2 > 1)
    assert capsys.readouterr().out == "This run agrees: two is more than one.\n"
    with pytest.raises(AssertionError, match="contradicts the lesson, which says: one is more than two"):
        claims.claim("one is more than two", 1 > 2)
    monkeypatch.setattr(claims, "SMOKE", True)
    claims.claim("one is more than two", 1 > 2)
    assert capsys.readouterr().out == ""
