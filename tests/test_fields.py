"""Settings as dataclasses: types, limits and help texts stand at the field, and a subclass inherits them."""

import dataclasses
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from tlqa_jax.errors import UserError
from tlqa_jax.fields import Settings, flag, help_texts, input_file, number, settings_class, unwrap_optional


@settings_class
class Given(Settings):
    """What a program is given."""

    steps: int = number(3, at_least=1)
    """How many
    steps."""
    rate: float = number(0.5, above=0, below=1)
    limit: int | None = number(None, at_least=0, at_most=9)
    offset: float = number(0.0)
    out: str = "runs"
    """Where to."""
    source: str | None = input_file(None)
    freeze: tuple[str, ...] = ()
    loud: bool = False
    decay: Literal["linear", "none"] = "linear"
    look: Literal["ahead", "back"] | None = None

    def check(self) -> None:
        if self.steps == 7 and self.loud:
            raise UserError("seven loud steps do not go together")


@settings_class
class More(Given):
    """With another default."""

    steps: int = 5
    rate: float = number(2.0, above=1)
    decay: Literal["linear", "none"] = "none"


@pytest.mark.parametrize("wrong, message", [
    (dict(steps=1e4), "--steps is 10000.0: it has to be a whole number$"),
    (dict(steps=True), "--steps is True: it has to be a whole number$"),
    (dict(steps=None), "--steps is None: it has to be a whole number$"),
    (dict(limit="3"), "--limit is '3': it has to be a whole number or None$"),
    (dict(rate="1e-3"), "--rate is '1e-3': it has to be a number$"),
    (dict(loud="no"), "--loud is 'no': it has to be True or False$"),
    (dict(out=None), "--out is None: it has to be a text$"),
    (dict(source=3), "--source is 3: it has to be a text or None$"),
    (dict(freeze="encoder"), "--freeze is 'encoder': it has to be a tuple of texts$"),
    (dict(freeze=["encoder", 3]), r"--freeze is \('encoder', 3\): it has to be a tuple of texts$"),
    (dict(out="gs://bucket/run"), r"^gs://bucket/run: paths in buckets cannot be opened: mount the bucket \(gcsfuse\)"),
    (dict(freeze=("qa=gs://bucket/a.json",)), "^qa=gs://bucket/a.json: paths in buckets cannot be opened"),
    (dict(steps=0), "--steps is 0: it has to be at least 1$"),
    (dict(steps=2**31), "--steps is 2147483648: it has to be at least 1 and at most 2,147,483,647$"),
    (dict(steps=10**400), "--steps is 10+: it has to be at least 1 and at most 2,147,483,647$"),
    (dict(rate=1.0), "--rate is 1.0: it has to be above 0 and below 1$"),
    (dict(rate=float("nan")), "--rate is nan: it has to be above 0 and below 1$"),
    (dict(offset=float("inf")), "--offset is inf: it has to be a finite number$"),
    (dict(limit=10), "--limit is 10: it has to be at least 0 and at most 9$"),
    (dict(decay="cosine"), "--decay is 'cosine': known are linear, none$"),
    (dict(look="bakc"), "--look is 'bakc': known are ahead, back$"),
    (dict(steps=7, loud=True), "seven loud steps do not go together"),
])  # fmt: skip
def test_what_cannot_be_meant_is_refused_by_name(wrong, message):
    with pytest.raises(UserError, match=message):
        Given(**wrong)


def test_paths_lists_and_numpys_numbers_will_do():
    given = Given(steps=np.int64(7), rate=np.float32(0.25), out=Path("x"), source=Path("y"), freeze=["a", Path("b")])
    assert given == Given(steps=7, rate=0.25, out="x", source="y", freeze=("a", "b"))
    types = [type(value) for value in vars(given).values()]
    assert types == [int, float, type(None), float, str, str, tuple, bool, str, type(None)]
    assert Given(limit=9, offset=-1e300).limit == 9 and Given(offset=3).offset == 3
    with pytest.raises(dataclasses.FrozenInstanceError):
        given.steps = 3


def test_a_subclass_inherits_limits_and_help_texts():
    assert (More().steps, More().rate, More().decay) == (5, 2.0, "none")
    assert help_texts(More) == help_texts(Given) == {"steps": "How many steps.", "out": "Where to."}
    with pytest.raises(UserError, match="--steps is 0: it has to be at least 1$"):
        More(steps=0)
    with pytest.raises(UserError, match="--rate is 0.5: it has to be above 1$"):  # its own limits
        More(rate=0.5)
    with pytest.raises(UserError, match="seven loud"):
        More(steps=7, loud=True)
    assert [field.name for field in dataclasses.fields(More)] == [field.name for field in dataclasses.fields(Given)]
    assert {field.name for field in dataclasses.fields(More) if field.metadata.get("input")} == {"source"}


@pytest.mark.parametrize("type_", [int, float, int | None, float | None])
def test_a_number_without_limits_cannot_be_declared(type_):
    with pytest.raises(TypeError, match=r"Loose.count is a number without limits: write number\(default, at_le"):
        settings_class(type("Loose", (Settings,), {"__annotations__": {"count": type_}, "count": 3}))


def test_the_flag_of_a_field_and_the_type_within_an_optional_one():
    assert flag("batch_size") == "--batch-size"
    assert unwrap_optional(int | None) == (int, True) and unwrap_optional(str) == (str, False)
