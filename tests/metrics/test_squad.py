"""The scores against cases with published results and figures that can be checked by hand."""

import json

import numpy as np
import pytest
from hypothesis import given, strategies as st

from tlqa_jax.examples import QAExample
from tlqa_jax.metrics.squad import (
    best_threshold,
    bootstrap_interval,
    exact_match,
    f1,
    normalize_answer,
    official_report,
    score_answers,
    with_threshold,
    write_predictions,
)


def gold(id, answers):
    return QAExample(id, "?", answers)


@pytest.mark.parametrize(
    ("text", "normalized"),
    [
        ("The Eiffel Tower!", "eiffel tower"),
        ("  a\tb \n c ", "b c"),
        ("U.S.A.", "usa"),
        ("t.h.e end", "end"),  # punctuation goes before the articles
        ("theory of an atom", "theory of atom"),
        ("a-b", "ab"),  # so this "a" is no article
        ("‘a’ café", "‘ ’ café"),  # quotes outside ASCII stay, and set the article apart
        ("The", ""),
        ("$$$$", ""),
    ],
)
def test_normalization(text, normalized):
    assert normalize_answer(text) == normalized


@pytest.mark.parametrize(
    ("prediction", "answers", "em", "overlap"),
    [
        ("in the Paris", ["Paris"], 0, 2 / 3),  # precision 1/2, recall 1
        ("Paris", ["paris, France", "The Paris."], 1, 1),  # the best gold answer counts
        ("b b c", ["b d"], 0, 2 / 5),  # b is shared once: P 1/3, R 1/2
        ("b b", ["b b b"], 0, 4 / 5),  # b is shared twice: P 1, R 2/3
        ("c b", ["b c"], 0, 1),  # F1 does not see the order
        ("abd", ["abc abd", "$$$$"], 0, 2 / 3),
        ("", ["$$$$", "b"], 0, 0),  # a gold answer of nothing but punctuation is none
        ("", [], 1, 1),  # unanswerable
        ("the", [""], 1, 1),
        ("b", [], 0, 0),
        ("", ["b"], 0, 0),
    ],
)
def test_single_answers(prediction, answers, em, overlap):
    assert exact_match(prediction, answers) == em
    assert f1(prediction, answers) == pytest.approx(overlap)


def test_four_cases_with_known_scores():
    examples = [
        gold("1", ("big moose", "hippo")),
        gold("2", ("correct1",)),
        gold("3", ("correct2.1", "correct2.2")),
        gold("4", ("a", "b")),
    ]
    predictions = {"1": "‘a big  Moose!‘", "2": "wrong", "3": "correct2.2", "4": "c"}
    score = score_answers(predictions, examples)
    assert (score.exact_match, score.f1, score.n, score.missing) == (25.0, pytest.approx(35.0), 4, 0)
    assert score.exact_match_per_example.tolist() == [0, 0, 100, 0]
    assert score.f1_per_example.tolist() == pytest.approx([40, 0, 100, 0])


def test_a_missing_prediction_is_wrong_even_where_the_right_answer_is_none():
    examples = [gold("1", ("b",)), gold("2", ()), gold("3", ())]
    score = score_answers({"1": "b", "2": "", "unknown": "c"}, examples)
    assert score.exact_match_per_example.tolist() == score.f1_per_example.tolist() == [100, 100, 0]
    assert score.exact_match == score.f1 == pytest.approx(200 / 3)
    assert score.missing == 1


def test_no_examples_is_an_error():
    with pytest.raises(ValueError, match="no examples"):
        score_answers({"1": "b"}, [])


answers = st.text(st.sampled_from("abct the.'‘$\tİΣ\u0307"), max_size=8) | st.text(max_size=8)


@given(answers)
def test_normalization_is_done_after_one_pass(text):
    assert normalize_answer(normalize_answer(text)) == normalize_answer(text)


@given(answers, st.lists(answers, max_size=3))
def test_f1_is_at_least_exact_match_and_both_are_bounded(prediction, golds):
    assert 0 <= exact_match(prediction, golds) <= f1(prediction, golds) <= 1


@given(answers, st.lists(answers, min_size=1, max_size=3))
def test_scores_see_normalized_texts_only(prediction, golds):
    normalized = [normalize_answer(gold) for gold in golds]
    assert exact_match(normalize_answer(prediction), normalized) == exact_match(prediction, golds)
    assert f1(normalize_answer(prediction), normalized) == f1(prediction, golds)


@given(answers, answers)
def test_prediction_and_gold_may_change_places(one, other):
    assert f1(one, [other]) == f1(other, [one])
    assert exact_match(one, [other]) == exact_match(other, [one])


@given(answers, st.lists(answers, min_size=1, max_size=3))
def test_f1_is_the_harmonic_mean_of_precision_and_recall(prediction, golds):
    def slow(right):
        left, said = right.split(), normalize_answer(prediction).split()
        wanted = len(left)
        if not said:
            return 0.0
        shared = 0
        for word in said:
            if word in left:
                left.remove(word)
                shared += 1
        precision, recall = shared / len(said), shared / wanted
        return 2 * precision * recall / (precision + recall) if shared else 0.0

    worded = [gold for gold in map(normalize_answer, golds) if gold]
    if worded:
        assert f1(prediction, golds) == pytest.approx(max(map(slow, worded)))


def test_threshold_and_breakdown_by_hand():
    examples = [gold("a", ("x",)), gold("b", ("x y",)), gold("c", ()), gold("d", ("x",))]
    predictions = {"a": "x", "b": "x", "c": "x", "d": "y"}  # F1 of b is 2 / 3
    no_answer = {"a": -2.0, "b": -1.0, "c": 0.5, "d": 0.0}
    assert with_threshold(predictions, no_answer, 0.0) == {"a": "x", "b": "x", "c": "", "d": "y"}
    # a and b said, c and d not: (100 + 66.7 + 100 + 0) / 4; d may be said as well, but the lowest threshold is taken
    assert best_threshold(predictions, no_answer, examples) == (pytest.approx(200 / 3), -1.0)
    assert best_threshold(predictions, no_answer, examples, metric="exact") == (50.0, -2.0)
    assert official_report(with_threshold(predictions, no_answer, 0.0), examples) == {
        "exact": 50.0, "f1": pytest.approx(200 / 3), "total": 4,
        "HasAns_exact": pytest.approx(100 / 3), "HasAns_f1": pytest.approx(500 / 9), "HasAns_total": 3,
        "NoAns_exact": 100.0, "NoAns_f1": 100.0, "NoAns_total": 1,
    }  # fmt: skip
    assert official_report({"a": "x"}, examples[:1]).keys() == {
        "exact", "f1", "total", "HasAns_exact", "HasAns_f1", "HasAns_total"
    }  # fmt: skip


def test_equal_no_answer_scores_stand_on_one_side_of_a_threshold():
    examples = [gold("a", ("x",)), gold("b", ())]
    assert best_threshold({"a": "x", "b": "x"}, {"a": 3.0, "b": 3.0}, examples) == (50.0, 2.0)  # none said, not a alone


def test_saying_nothing_at_all_can_be_best_and_a_missing_prediction_is_wrong_at_any_threshold():
    examples = [gold("a", ()), gold("b", ()), gold("c", ("x",))]
    assert best_threshold({"a": "x", "c": "y"}, {"a": 1.0, "c": 0.5}, examples) == (pytest.approx(100 / 3), -0.5)
    assert best_threshold({}, {}, examples) == (0.0, 0.0)


@given(
    st.lists(
        st.tuples(st.sampled_from(["", "b", "b c"]), st.sampled_from([(), ("b",), ("b c", "d")]), st.integers(-2, 2)),
        min_size=1,
    )
)
def test_the_best_threshold_is_that_of_a_sweep_over_all(rows):
    examples = [gold(str(i), golds) for i, (_, golds, _) in enumerate(rows)]
    predictions = {str(i): text for i, (text, _, _) in enumerate(rows)}
    scores = {str(i): score / 2 for i, (_, _, score) in enumerate(rows)}
    for metric, mean in (("exact", "exact_match"), ("f1", "f1")):
        at = lambda threshold: getattr(score_answers(with_threshold(predictions, scores, threshold), examples), mean)
        best, threshold = best_threshold(predictions, scores, examples, metric=metric)
        assert best == pytest.approx(at(threshold))
        assert best == pytest.approx(max(map(at, np.arange(-1.5, 1.5, 0.5))))  # below all scores, and each


def test_bootstrap_interval_of_a_fair_coin():
    # The mean of 400 fair coins of 0 and 100 has a standard error of 100 * sqrt(.25 / 400) = 2.5.
    low, high = bootstrap_interval([0.0, 100.0] * 200)
    assert low == pytest.approx(50 - 1.96 * 2.5, abs=0.8)
    assert high == pytest.approx(50 + 1.96 * 2.5, abs=0.8)


def test_bootstrap_interval_is_a_function_of_the_seed():
    values = np.arange(10.0)
    assert bootstrap_interval(values, seed=1) == bootstrap_interval(values, seed=1)
    assert bootstrap_interval(values, seed=1) != bootstrap_interval(values, seed=2)


def test_bootstrap_interval_of_equal_values_is_a_point():
    assert bootstrap_interval([70.0, 70.0, 70.0], resamples=5) == (70.0, 70.0)
    with pytest.raises(ValueError, match="no values"):
        bootstrap_interval([])


def test_predictions_are_written_as_the_official_json(tmp_path):
    path = tmp_path / "predictions.json"
    write_predictions(path, {"56be": "Zürich", "57ab": ""})
    assert json.loads(path.read_text(encoding="utf-8")) == {"56be": "Zürich", "57ab": ""}
    assert "Zürich" in path.read_text(encoding="utf-8")  # readable, not escaped
