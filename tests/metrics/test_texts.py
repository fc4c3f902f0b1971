"""Scores of texts, each against values by hand, scipy, or a count by brute force."""

import itertools

import numpy as np
import pytest
from hypothesis import given, strategies as st
from scipy import stats

from tlqa_jax.metrics import texts


def gold(*answers):
    return [(answer,) for answer in answers]


def test_accuracy_is_to_the_letter_and_any_right_text_counts():
    assert texts.accuracy(["a", "b", "A", ""], [("a",), ("c", "b"), ("a",), ("a",)]) == 50


def test_squads_metrics_are_squads():
    said, right = ["the Oss", "in Oss", "Ull"], gold("Oss", "Oss", "Oss")
    assert texts.METRICS["exact_match"](said, right) == pytest.approx(100 / 3)
    assert texts.METRICS["f1"](said, right) == pytest.approx(100 * (1 + 2 / 3 + 0) / 3)


def test_matthews_of_two_classes_by_its_formula():
    said = list("yyyynnnnnn")  # true positives 3, false positives 1, false negatives 2, true negatives 4
    right = list("yyynyynnnn")
    assert texts.matthews(said, gold(*right)) == pytest.approx(100 * (3 * 4 - 1 * 2) / np.sqrt(4 * 5 * 5 * 6))


def test_matthews_gives_nothing_for_guessing_always_the_same():
    assert texts.matthews(list("yyyy"), gold(*"yyyn")) == 0  # 75% of them are right
    assert texts.matthews(list("yyyn"), gold(*"yyyn")) == pytest.approx(100)
    assert texts.matthews(list("nnny"), gold(*"yyyn")) == pytest.approx(-100)


@given(st.lists(st.tuples(*[st.sampled_from("abc")] * 2), min_size=2, max_size=12))
def test_matthews_of_many_classes_is_the_correlation_of_their_indicators(pairs):
    """Gorodkin's definition: covariances of one-hot columns, added over the classes."""
    said, right = zip(*pairs)
    one_hot = lambda column: np.array([[one == name for name in "abc"] for one in column], float)
    covariance = lambda x, y: ((x - x.mean(0)) * (y - y.mean(0))).sum()
    x, y = one_hot(said), one_hot(right)
    spread = np.sqrt(covariance(x, x) * covariance(y, y))
    expected = 100 * covariance(x, y) / spread if spread else 0
    assert texts.matthews(said, gold(*right)) == pytest.approx(expected, abs=1e-9)


numbers = st.lists(st.tuples(*[st.integers(0, 25)] * 2), min_size=2, max_size=15)


@given(numbers)
def test_correlations_are_scipys(pairs):
    said, right = np.array(pairs).T / 5
    for name, expected in (("pearson", stats.pearsonr), ("spearman", stats.spearmanr)):
        got = texts.METRICS[name]([f"{x:.1f}" for x in said], gold(*(f"{x:.1f}" for x in right)))
        if len(set(said)) == 1 or len(set(right)) == 1:
            assert got == 0
        else:
            assert got == pytest.approx(100 * expected(said, right).statistic, abs=1e-6)


def test_a_text_that_is_no_number_counts_as_minus_one():
    assert [texts.parse_number(text) for text in ("2.6", " 3 ", "two", "", "nan", "inf")] == [2.6, 3, *[None] * 4]
    with_text = texts.pearson(["1.0", "two", "3.0"], gold("1", "2", "3"))
    assert with_text == pytest.approx(100 * stats.pearsonr([1, -1, 3], [1, 2, 3]).statistic)


def test_metrics_are_found_by_name():
    got = texts.score_texts(["accuracy", "f1"], ["a"], gold("b"))
    assert got == {"accuracy": 0, "f1": 0}
    with pytest.raises(ValueError, match="0 predictions for 0 examples"):
        texts.score_texts(["accuracy"], [], [])


def longest_common(a, b):
    """The longest common subsequence, by trying them all."""
    return max(
        n for n in range(len(a) + 1)
        if set(itertools.combinations(a, n)) & set(itertools.combinations(b, n))
    )  # fmt: skip


def test_rouge_by_hand():
    pytest.importorskip("rouge_score")
    said, right = "the cat sat on a mat", "a cat on the mat"
    f = lambda shared, a, b: 100 * 2 * shared / (a + b)
    assert texts.rouge("rouge1", [said], gold(right)) == pytest.approx(f(5, 6, 5))
    assert texts.rouge("rouge2", [said], gold(right)) == 0
    longest = longest_common(said.split(), right.split())
    assert texts.METRICS["rougeL"]([said], gold(right)) == pytest.approx(f(longest, 6, 5))
    assert texts.rouge("rouge1", [said, said], [("no", said), (right,)]) == pytest.approx((100 + f(5, 6, 5)) / 2)


def test_bleu_by_hand():
    pytest.importorskip("sacrebleu")
    said, right = "a b c d e", "a b c d f"
    expected = 100 * (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** (1 / 4)  # of 1-, 2-, 3- and 4-grams; no brevity penalty
    assert texts.bleu([said], gold(right)) == pytest.approx(expected)
    assert texts.bleu([said, "x"], [("no", said), ("x",)]) == pytest.approx(100)
