"""Batches: every example, the order a function of (seed, step), shares that add up, threads that end."""

import itertools
import threading
import time

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from tlqa_jax.data.batches import Devices, ShuffledOrder, check_division, evaluation_batches, training_batches
from tlqa_jax.errors import UserError

ALONE = {"devices": Devices(0, 1, 1), "prefetch": 0}


def build(indices: np.ndarray, rows: slice, step: int) -> dict[str, np.ndarray]:
    """Numbers that tell where a row came from; the noise is drawn for the global batch, of which `rows` are taken."""
    noise = np.random.default_rng(step).random(1000)[rows]
    return {
        "index": indices,
        "row": np.arange(rows.start, rows.stop),
        "step": np.full(len(indices), step),
        "noise": noise,
    }


def take(iterator, number: int) -> list[dict[str, np.ndarray]]:
    with_close = list(itertools.islice(iterator, number))
    iterator.close()
    return with_close


def flat(batch: dict[str, np.ndarray]) -> dict[str, list]:
    return {name: array.reshape(-1).tolist() for name, array in batch.items()}


def test_shapes():
    def two_arrays(indices, rows, step):
        return {"tokens": np.zeros((len(indices), 5, 3), np.int32), "label": indices}

    (batch,) = take(training_batches(7, 6, 0, two_arrays, devices=Devices(0, 1, 3), prefetch=0), 1)
    assert batch["tokens"].shape == (3, 2, 5, 3)
    assert batch["label"].shape == (3, 2)
    assert batch["label"].dtype == np.int64


@settings(deadline=None)
@given(st.integers(1, 30), st.integers(1, 6), st.integers(1, 4), st.integers(0, 2**40))
def test_every_epoch_is_a_permutation(num_examples, per_device, devices, seed):
    size = per_device * devices
    steps = -(-3 * num_examples // size)
    batches = training_batches(num_examples, size, seed, build, devices=Devices(0, 1, devices), prefetch=0)
    stream = [index for batch in take(batches, steps) for index in flat(batch)["index"]]
    for epoch in range(3):
        assert sorted(stream[epoch * num_examples : (epoch + 1) * num_examples]) == list(range(num_examples))


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 30), st.integers(1, 8), st.integers(0, 5), st.integers(0, 12))
def test_starting_at_a_step_gives_what_comes_there(num_examples, size, seed, start):
    arguments = (num_examples, size, seed, build)
    uninterrupted = take(training_batches(*arguments, **ALONE), start + 3)[start:]
    resumed = take(training_batches(*arguments, start=start, **ALONE | {"prefetch": 2}), 3)
    assert [flat(batch) for batch in resumed] == [flat(batch) for batch in uninterrupted]
    assert [flat(batch)["step"][0] for batch in resumed] == [start, start + 1, start + 2]


def test_a_step_far_away_costs_nothing():
    start = time.monotonic()
    take(training_batches(1000, 8, 0, build, start=10**15, **ALONE), 1)
    assert time.monotonic() - start < 5


def test_seeds_and_epochs_differ():
    order = {
        (seed, epoch): ShuffledOrder(50, seed)[np.arange(50) + 50 * epoch].tolist()
        for seed in (0, 1)
        for epoch in (0, 1)
    }
    assert len({tuple(indices) for indices in order.values()}) == 4, "also seed 0 epoch 1 and seed 1 epoch 0"


def test_each_epoch_is_another_permutation():
    order = ShuffledOrder(40, 3)
    first, second = order[np.arange(40)], order[np.arange(40, 80)]
    assert sorted(first) == sorted(second) == list(range(40))
    assert first.tolist() != second.tolist() != list(range(40))
    assert order[np.array([79, 0, 40])].tolist() == [second[39], first[0], second[0]]
    assert ShuffledOrder(40, 3)[np.arange(40)].tolist() == first.tolist()


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 20), st.integers(1, 3), st.integers(1, 3), st.integers(1, 3))
def test_shares_of_the_processes_add_up(num_examples, per_device, local_devices, processes):
    size = per_device * local_devices * processes

    def of_process(batches, size, index, **options):
        return take(batches(num_examples, size, *options.values(), build, prefetch=0,
                            devices=Devices(index, processes, local_devices)), 2)  # fmt: skip

    for batches, options in ((training_batches, {"seed": 5}), (evaluation_batches, {})):
        whole = take(batches(num_examples, size, *options.values(), build, **ALONE), 2)
        shares = [of_process(batches, size, index, **options) for index in range(processes)]
        for step, batch in enumerate(whole):
            joined = {name: sum((flat(share[step])[name] for share in shares), []) for name in batch}
            assert joined == flat(batch)


@settings(deadline=None)
@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 5), st.integers(1, 3))
def test_evaluation_sees_every_example_once(num_examples, size, local_devices, processes):
    seen, shapes = [], set()
    for index in range(processes):
        devices = Devices(index, processes, local_devices)
        batches = evaluation_batches(num_examples, size, build, devices=devices, prefetch=0)
        for batch in batches:
            shapes.add(batch["index"].shape)
            assert batch["weight"].dtype == np.float32
            assert batch["weight"].shape == batch["index"].shape
            rows = flat(batch)
            seen += [i for i, weight in zip(rows["index"], rows["weight"], strict=True) if weight == 1]
            assert all(i == 0 for i, weight in zip(rows["index"], rows["weight"], strict=True) if weight != 1)
    assert sorted(seen) == list(range(num_examples))
    assert len(shapes) == 1, "one shape: nothing is compiled twice"


def test_evaluation_by_hand():
    first, second = (flat(batch) for batch in evaluation_batches(5, 3, build, devices=Devices(0, 1, 2), prefetch=0))
    assert (first["index"], first["weight"]) == ([0, 1, 2, 3], [1, 1, 1, 1])
    assert (second["index"], second["weight"]) == ([4, 0, 0, 0], [1, 0, 0, 0])


def batch_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("batches")]


def test_threads_end_with_the_iterator():
    def ended() -> bool:
        deadline = time.monotonic() + 10
        while batch_threads() and time.monotonic() < deadline:
            time.sleep(0.01)
        return not batch_threads()

    assert ended()
    batches = training_batches(10, 2, 0, build, devices=Devices(0, 1, 1))
    next(batches)
    assert batch_threads(), "the next batches are built in the background"
    batches.close()
    assert ended()
    batches = training_batches(10, 2, 0, build, devices=Devices(0, 1, 1))
    next(batches)
    del batches
    assert ended()
    assert len(list(evaluation_batches(10, 2, build, devices=Devices(0, 1, 1)))) == 5
    assert ended()


def test_building_is_a_few_batches_ahead():
    built = []

    def noted(indices, rows, step):
        built.append(step)
        return build(indices, rows, step)

    batches = training_batches(10, 2, 0, noted, devices=Devices(0, 1, 1), prefetch=2)
    next(batches)
    deadline = time.monotonic() + 10
    while len(built) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    batches.close()
    assert built == [0, 1, 2]


@pytest.mark.parametrize("prefetch", [0, 2])
def test_an_error_in_build_arrives_where_the_batch_is_asked_for(prefetch):
    def broken(indices, rows, step):
        if step == 1:
            raise UserError("row 3 of a.jsonl is broken")
        return build(indices, rows, step)

    batches = training_batches(10, 2, 0, broken, devices=Devices(0, 1, 1), prefetch=prefetch)
    next(batches)
    with pytest.raises(UserError) as error:
        next(batches)
    assert str(error.value) == "row 3 of a.jsonl is broken"


def test_the_machine_is_asked_where_nothing_is_said():
    import jax

    devices = jax.local_device_count()
    (batch,) = take(training_batches(10, 2 * devices, 0, build), 1)
    assert batch["index"].shape == (devices, 2)


@pytest.mark.parametrize(
    ("size", "processes", "devices", "message"),
    [
        (30, 1, 8, "a batch of 30 cannot be divided equally between 8 devices: use 24 or 32"),
        (30, 2, 4, "a batch of 30 cannot be divided equally between 8 devices: use 24 or 32"),
        (3, 1, 8, "a batch of 3 cannot be divided equally between 8 devices: use 8"),
        (0, 1, 2, "a batch of 0 cannot be divided equally between 2 devices: use 2"),
    ],
)
def test_a_batch_that_devices_do_not_divide(size, processes, devices, message):
    with pytest.raises(UserError, match=f"^{message}$"):
        training_batches(10, size, 0, build, devices=Devices(0, processes, devices))
    check_division(24, Devices(0, processes, devices))


def test_other_errors_come_at_once():
    for batches in (training_batches, evaluation_batches):
        arguments = (0, 2, 0, build) if batches is training_batches else (0, 2, build)
        with pytest.raises(UserError, match="there are no examples"):
            batches(*arguments, **ALONE)
    with pytest.raises(UserError, match="seed -1"):
        training_batches(4, 2, -1, build, **ALONE)
    with pytest.raises(UserError, match="batch size 0"):
        evaluation_batches(4, 0, build, **ALONE)


def test_a_build_that_breaks_its_promise():
    with pytest.raises(ValueError, match="build gave 1 rows of 'a', not 2"):
        next(training_batches(4, 2, 0, lambda *_: {"a": np.zeros(1)}, **ALONE))
    with pytest.raises(ValueError, match='build gave an array "weight"'):
        next(evaluation_batches(4, 2, lambda *_: {"weight": np.zeros(2)}, **ALONE))
