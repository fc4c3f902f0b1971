"""Flags from a dataclass: kinds, defaults, texts, and what is refused."""

from dataclasses import dataclass
from typing import Literal

import pytest

from tlqa_jax.errors import UserError
from tlqa_jax.fields import help_texts
from tlqa_jax.flags import Parser, add_flags, check_writable, read_flags


@dataclass(frozen=True)
class Settings:
    count: int
    """How
    many, in 100% of cases."""
    rate: float = 0.5
    name: str | None = "x"
    """A name."""
    limit: int | None = None
    mode: Literal["fast", "slow"] = "fast"
    quick: bool = False
    loud: bool = True
    parts: tuple[str, ...] = ("a", "b")


def flags(line: str) -> Settings:
    parser = Parser("tlqa test", "summary\n\nWhat it does.\n\ntlqa test")
    add_flags(parser, Settings)
    return read_flags(parser.parse_args(line.split()), Settings)


def test_flags_become_the_dataclass():
    assert flags("--count 3") == Settings(3)
    given = flags("--count 1_000 --rate 1e-3 --name None --limit 7 --mode slow --quick --no-loud")
    assert given == Settings(1000, 1e-3, None, 7, "slow", True, False)
    assert help_texts(Settings) == {"count": "How many, in 100% of cases.", "name": "A name."}


def test_a_flag_of_several_takes_commas_or_comes_again():
    assert flags("--count 3 --parts c").parts == ("c",)  # in the place of the default, not behind it
    assert flags("--count 3 --parts c,d=e --parts f").parts == ("c", "d=e", "f")


@pytest.mark.parametrize(
    "line", ["", "--count x", "--count 1 --mode other", "--count 1 --cou 2", "--count 1 --limit x"]
)
def test_flags_refuse_the_rest(line):
    with pytest.raises(UserError, match="see tlqa test --help"):
        flags(line)


def test_a_file_that_is_there_is_written_only_if_told(tmp_path):
    (tmp_path / "there.json").write_text("old")
    check_writable(str(tmp_path / "new.json"), False)
    check_writable(str(tmp_path / "there.json"), True)
    check_writable(None, False)
    for name, message in (
        ("there.json", "is already there: give another file, or --overwrite it"),
        ("", "is a directory: give a file"),
        ("no/such.json", "there is no directory .*no: make it first"),
    ):
        with pytest.raises(UserError, match=message):
            check_writable(str(tmp_path / name), False)
