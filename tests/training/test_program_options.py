"""What every program does with its options: which parameters it freezes, with which optimizer, in which type."""

import gc
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tlqa_jax.checkpoints.load import load
from tlqa_jax.checkpoints.named_arrays import flatten
from tlqa_jax.models.functional import as_function
from tlqa_jax.training import initial_model
from tlqa_jax.training.freezing import partition

from .comparing import metrics, saved_state
from .programs import PROGRAMS, Stop, short

EVERY_PROGRAM = pytest.mark.parametrize("name", PROGRAMS)
OTHER = {"adamw": "adafactor", "adafactor": "adamw"}  # than in the run of test_programs
slow = lambda name: pytest.param(name, marks=pytest.mark.slow)


def unflatten(arrays):
    tree = {}
    for path, value in arrays.items():
        *above, name = path.split("/")
        inner = tree
        for one in above:
            inner = inner.setdefault(one, {})
        inner[name] = value
    return tree


@pytest.mark.parametrize("optimizer", ["other", slow("same")])
@pytest.mark.parametrize("name", ["pretrain_spans", *map(slow, list(PROGRAMS)[1:])])
def test_what_is_frozen_stays_bit_identical_and_the_rest_moves(name, optimizer, files, tmp_path):
    """Weight decay included. If the run of `test_programs` starts from a model, this one does not, and the reverse."""
    program = PROGRAMS[name]
    settings = short(program, files, out=str(tmp_path / "run"), freeze=program.freeze, weight_decay=0.1, save_every=1)
    start = None if settings.start_from else str(files / program.family)
    kind = OTHER[settings.optimizer] if optimizer == "other" else settings.optimizer
    program.run(replace(settings, start_from=start, optimizer=kind), quiet=True)
    first, last = saved_state(tmp_path / "run", 1), saved_state(tmp_path / "run")
    of_model = {path.removeprefix("params/"): array for path, array in last.items() if path.startswith("params/")}
    frozen = flatten(partition(unflatten(of_model), program.freeze)[1])
    moving = of_model.keys() - frozen.keys()
    assert frozen and moving
    assert all(np.array_equal(first[f"params/{path}"], array) for path, array in frozen.items())
    assert not any(np.array_equal(first[f"params/{path}"], of_model[path]) for path in moving)
    kept = {path for path in last if path.startswith("opt_state/")}  # of the optimizer
    assert all(any(path.endswith(f"/{one}") for path in kept) for one in moving)
    assert not any(path.endswith(f"/{one}") for one in frozen for path in kept)
    if start:
        started = flatten(as_function(load(start).model())[1])
        started = started if program.family == "t5" else {f"encoder/{path}": array for path, array in started.items()}
        there = frozen.keys() & started.keys()
        assert there and all(np.array_equal(frozen[path], started[path]) for path in there)


@EVERY_PROGRAM
def test_the_first_device_holds_no_second_copy_of_the_parameters(name, files, tmp_path, monkeypatch):
    program = PROGRAMS[name]

    def first_batch(*_, **__):
        gc.collect()  # on a CPU, jax lets go of the numpy arrays that it was given only then
        of_one_device = [x for x in jax.live_arrays() if len(x.devices()) == 1 and id(x) not in before]
        raise Stop(*(x.shape for x in of_one_device if x.size > 20))

    monkeypatch.setattr(program.module, "training_batches", first_batch)
    there = jax.live_arrays()  # held, so that no other array gets the id of one
    before = {id(x) for x in there}
    settings = short(program, files, out=str(tmp_path / "run"), start_from=str(files / program.family))
    with pytest.raises(Stop) as stopped:
        program.run(settings, quiet=True)
    assert stopped.value.args == ()


@pytest.mark.slow
@EVERY_PROGRAM
def test_a_program_computes_in_bfloat16_and_keeps_float32(name, files, tmp_path, monkeypatch):
    program, computed_in, as_function_ = PROGRAMS[name], [], initial_model.as_function

    def noted(module):
        computed_in.append(getattr(module, "encoder", module).dtype)
        return as_function_(module)

    monkeypatch.setattr(initial_model, "as_function", noted)
    settings = program.make(files, out=str(tmp_path / "run"), dtype="bfloat16", steps=2, epochs=None, evaluate_every=2)
    run = program.run(replace(settings, warmup=0.0), quiet=True)
    assert computed_in[-1] == jnp.bfloat16
    found = metrics(run)
    assert [row["step"] for row in found if "loss" in row] == [1, 2] and "eval_loss" in found[-1]
    assert all(np.isfinite(value) for row in found for value in row.values())
    arrays = {path: x for path, x in saved_state(run).items() if path != "checksum"}
    whole = {path for path, x in arrays.items() if np.issubdtype(x.dtype, np.integer)}
    assert whole and all(path.endswith(("step", "count")) for path in whole)
    assert {x.dtype for path, x in arrays.items() if path not in whole} == {np.dtype("float32")}
    assert load(run).usage["dtype"] == "bfloat16"
