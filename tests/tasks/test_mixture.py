"""Mixtures of tasks: rates by hand, and a stream in which every task is seen whole before it is seen again."""

import numpy as np
import pytest
from hypothesis import given, strategies as st

from tlqa_jax.data.batches import ShuffledOrder
from tlqa_jax.errors import UserError
from tlqa_jax.tasks.mixture import Mixture, mixing_rates

SEED = 3


def test_rates_by_hand():
    assert mixing_rates([300, 100], "proportional").tolist() == [0.75, 0.25]
    assert mixing_rates([300, 100], "proportional=100").tolist() == [0.5, 0.5]
    assert mixing_rates([300, 100], "proportional=200").tolist() == pytest.approx([2 / 3, 1 / 3])
    assert mixing_rates([900, 100], "temperature=2").tolist() == pytest.approx([0.75, 0.25])
    assert mixing_rates([900, 100], "temperature=1").tolist() == pytest.approx([0.9, 0.1])
    assert mixing_rates([900, 1], "equal").tolist() == [0.5, 0.5]
    assert mixing_rates([7], "temperature=5").tolist() == [1.0]
    assert mixing_rates([900, 100], "temperature=0.0001").tolist() == [1.0, 0.0]  # 1/9 to the power 10,000
    assert mixing_rates([900, 900], "temperature=1e-9").tolist() == [0.5, 0.5]


def test_stages_work_in_their_order():
    """3 examples at a scale of 27 are 81, and 9 at temperature 2, beside a task capped at 400: SeqIO's order."""
    assert mixing_rates([10_000, 100], "proportional=400,temperature=2").tolist() == pytest.approx([2 / 3, 1 / 3])
    scaled = mixing_rates([3, 10_000], "scale=27, proportional=400, temperature=2")
    assert scaled.tolist() == pytest.approx([9 / 29, 20 / 29])
    assert mixing_rates([3, 10_000], "proportional=400,scale=27").tolist() == pytest.approx([3 / 403, 400 / 403])


@given(st.lists(st.integers(1, 10**6), min_size=1, max_size=6), st.floats(1, 100))
def test_temperature_keeps_the_order_and_evens_out(sizes, temperature):
    rates, plain = mixing_rates(sizes, f"temperature={temperature}"), mixing_rates(sizes)
    assert rates.sum() == pytest.approx(1) and (rates > 0).all()
    assert rates.max() <= plain.max() + 1e-12 and rates.min() >= plain.min() - 1e-12
    assert (np.diff(rates[np.argsort(sizes)]) >= 0).all()


@pytest.mark.parametrize(
    "mixing", ["", "even", "equal=2", "temperature", "temperature=0", "temperature=hot", "proportional=-1", "equal,hot",
               "scale", "scale=0"]
)
def test_what_is_no_mixing_is_refused(mixing):
    with pytest.raises(UserError, match="--mixing '"):
        mixing_rates([1, 2], mixing)


tasks = st.lists(st.tuples(st.integers(1, 9), st.integers(1, 50)), min_size=1, max_size=4)  # examples, weight
mixtures = st.tuples(tasks, st.integers(0, 9), st.integers(4, 40))


def built(tasks, seed, period):
    sizes, weights = np.array(tasks).T
    return Mixture([ShuffledOrder(size, SEED) for size in sizes.tolist()], weights / weights.sum(), seed, period)


@given(mixtures, st.integers(0, 5))
def test_a_period_has_each_task_as_often_as_its_rate_says(mixture, period):
    mixture = built(*mixture)
    size = int(mixture.counts.sum())
    tasks, _ = mixture.tasks_and_places(period * size + np.arange(size))
    assert np.bincount(tasks, minlength=len(mixture.orders)).tolist() == mixture.counts.tolist()
    assert mixture.counts.min() >= 1


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=6))
def test_counts_are_the_rates_to_a_row(weights):
    rates = np.array(weights) / sum(weights)
    counts = Mixture([ShuffledOrder(1, SEED)] * len(rates), rates, 0, period=2000).counts
    assert counts.sum() == 2000
    few = rates * 2000 < 1  # these have one row all the same, which the others pay
    assert (np.abs(counts - rates * 2000)[~few] < 1 + few.sum()).all() and (counts[few] == 1).all()


@given(mixtures)
def test_a_task_goes_through_all_its_examples_before_it_sees_one_again(mixture):
    """What stands in the stream, counted from its beginning, is each task's own stream without a gap."""
    mixture = built(*mixture)
    length = 4 * int(mixture.counts.sum())
    rows = mixture[np.arange(length)]
    tasks, places = mixture.tasks_and_places(np.arange(length))
    starts = np.cumsum([0, *(order.num_examples for order in mixture.orders)])
    for task, order in enumerate(mixture.orders):
        assert places[tasks == task].tolist() == list(range((tasks == task).sum()))
        own = rows[tasks == task] - starts[task]
        assert own.tolist() == order[np.arange(len(own))].tolist()
        epochs = own[: len(own) // order.num_examples * order.num_examples].reshape(-1, order.num_examples)
        assert (np.sort(epochs) == np.arange(order.num_examples)).all()


@given(mixtures, st.lists(st.integers(0, 10**6), min_size=1, max_size=20))
def test_a_position_is_the_same_whatever_was_asked_before(mixture, positions):
    """So a resumed run, and a process that builds only its share, see what one alone would."""
    mixture = built(*mixture)
    together = mixture[np.array(positions)]
    alone = [mixture[np.array([position])].item() for position in reversed(positions)]
    assert together.tolist() == alone[::-1]


def test_parts_of_the_stream_are_within_what_independent_draws_would_give():
    rates = np.array([0.7, 0.2, 0.1])
    mixture = Mixture([ShuffledOrder(5, SEED)] * 3, rates, SEED)
    tasks, _ = mixture.tasks_and_places(np.arange(40_000))
    for window in np.split(tasks, 40):  # 1000 rows each
        counts = np.bincount(window, minlength=3)
        assert (np.abs(counts - 1000 * rates) < 4.5 * np.sqrt(1000 * rates * (1 - rates))).all()
    assert len({tuple(window[:10]) for window in np.split(tasks, 40)}) > 30  # and no pattern is repeated
    other = Mixture([ShuffledOrder(5, SEED)] * 3, rates, SEED + 1).tasks_and_places(np.arange(1000))[0]
    assert (other != tasks[:1000]).any()


def test_a_mixture_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match="2 tasks, 1 rates"):
        Mixture([ShuffledOrder(1, SEED)] * 2, np.ones(1), 0)
    with pytest.raises(ValueError, match="a period of 1 rows"):
        Mixture([ShuffledOrder(1, SEED)] * 2, np.ones(2) / 2, 0, period=1)
