"""Command-line flags from the dataclasses that configure the programs: one flag per field, its help the text below it.

steps: int = 10_000
\"""Number of optimizer steps.\"""          ->    --steps INT   Number of optimizer steps. (default: 10000)
"""

import argparse
import dataclasses
import os
import shutil
import textwrap
from pathlib import Path
from typing import Literal, NoReturn, TypeVar, get_args, get_origin

from tlqa_jax.errors import UserError
from tlqa_jax.fields import check_local, flag, help_texts, unwrap_optional

Config = TypeVar("Config")


class Parser(argparse.ArgumentParser):
    """argparse with errors of one line, as all errors of the command line are, and its help from a docstring.

    Of the paragraphs of `text` the first is the summary in the list of commands, the last one is lines of examples, and
    those between describe the command. All are fitted to the terminal.
    """

    def __init__(self, prog: str, text: str):
        width = terminal_width()
        _, *paragraphs, examples = text.split("\n\n")
        fill = lambda text, indent="": textwrap.fill(
            text, width - 2, initial_indent=indent, subsequent_indent=2 * indent, break_on_hyphens=False
        )
        super().__init__(
            prog=prog,
            description="\n\n".join(map(fill, paragraphs)),
            epilog="examples:\n" + "\n".join(fill(line, "    ") for line in examples.splitlines()),
            formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=32, width=width),
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message} (see {self.prog} --help)")


def terminal_width() -> int:
    """The columns that help is fitted to: those of the terminal, from 40 to 120."""
    return min(max(shutil.get_terminal_size().columns, 40), 120)


def add_flags(
    parser: argparse.ArgumentParser, config_class: type, *, shared: type | None = None,
    heading: str = "settings that all training programs share",
) -> None:  # fmt: skip
    """Add a flag for every field of a dataclass: text, a number, yes-or-no, a choice; or one of these or None.

    A field of several texts (tuple[str, ...]) takes them with commas between, or the flag several times, or both. The
    fields of `shared`, a base of the class or the class itself, come last, under a heading of their own.
    """
    parser.usage = f"{parser.prog} [flags]"  # dozens of them would be no help
    texts = help_texts(config_class)
    for name, default in getattr(config_class, "default_length", {}).items():  # the length of a training run
        texts[name] += f" (default: {default:g})"
    common = {field.name for field in dataclasses.fields(shared)} if shared else set()
    last = parser.add_argument_group(heading) if shared else parser
    for field in dataclasses.fields(config_class):
        add_flag(last if field.name in common else parser, field, texts.get(field.name, "").replace("%", "%%"))


def add_flag(parser: argparse._ActionsContainer, field: dataclasses.Field, text: str) -> None:
    type_, optional = unwrap_optional(field.type)
    required = field.default is dataclasses.MISSING
    default = None if required else field.default
    shown = "(required)" if required else "" if default is None or "(default:" in text else f"(default: {default})"
    if type_ is bool:
        action = "store_true" if default is False else argparse.BooleanOptionalAction
        parser.add_argument(flag(field.name), action=action, default=default, help=text)
    elif get_origin(type_) is Literal:
        choices = get_args(type_)
        parser.add_argument(flag(field.name), choices=choices, default=default, help=f"{text} {shown}")
    elif get_origin(type_) is tuple:
        shown = f"(default: {','.join(default)})" if default else ""
        parser.add_argument(
            flag(field.name), action="extend", type=_several, metavar="TEXT,…",
            default=argparse.SUPPRESS,  # argparse would add to a default
            help=f"{text} {shown}",
        )  # fmt: skip
    else:
        parser.add_argument(
            flag(field.name), type=_optional(type_) if optional else type_, metavar=_metavar(type_), required=required,
            default=default, help=f"{text} {shown}",
        )  # fmt: skip


def read_flags(arguments: argparse.Namespace, config_class: type[Config]) -> Config:
    """The dataclass that the parsed flags describe."""
    given = {field.name: getattr(arguments, field.name, field.default) for field in dataclasses.fields(config_class)}
    return config_class(**{name: tuple(value) if isinstance(value, list) else value for name, value in given.items()})


def check_writable(out: str | None, overwrite: bool) -> None:
    """Refuse, before any work is done, a file that is already there or that cannot be written."""
    if out is None:
        return
    check_local(out)
    path = Path(out)
    if path.is_dir():
        raise UserError(f"{out} is a directory: give a file")
    if path.exists() and not overwrite:
        raise UserError(f"{out} is already there: give another file, or --overwrite it")
    if not path.parent.is_dir():
        raise UserError(f"{out}: there is no directory {path.parent}: make it first")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UserError(f"{out} cannot be written: no permission")


def _optional(kind: type):
    def read(text: str):
        return None if text in ("None", "none") else kind(text)

    read.__name__ = kind.__name__  # argparse names it where the text is not of this kind
    return read


def _several(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _metavar(kind: type) -> str:
    return {str: "TEXT", int: "INT", float: "NUMBER"}.get(kind, kind.__name__.upper())
