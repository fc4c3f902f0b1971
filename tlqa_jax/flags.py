"""Command-line flags from the dataclasses that configure the programs: one flag per field, its help the text below it.

steps: int = 10_000
\"""Number of optimizer steps.\"""          ->    --steps INT   Number of optimizer steps. (default: 10000)
"""

import argparse
import ast
import dataclasses
import inspect
import os
import shutil
import textwrap
from pathlib import Path
from types import NoneType
from typing import Any, Literal, NoReturn, TypeVar, get_args, get_origin

from tlqa_jax.errors import UserError

Config = TypeVar("Config")


class Parser(argparse.ArgumentParser):
    """argparse with errors of one line, as all errors of the command line are, and its help from a docstring.

    Of the paragraphs of `text` the first is the summary in the list of commands, the last one is lines of examples, and
    those between describe the command. All are fitted to the terminal.
    """

    def __init__(self, prog: str, text: str):
        width = min(shutil.get_terminal_size().columns, 120)
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


def add_flags(parser: argparse.ArgumentParser, config_class: type) -> None:
    """Add a flag for every field of a dataclass: text, a number, yes-or-no, a choice; or one of these or None.

    A field of several texts (tuple[str, ...]) takes them with commas between, or the flag several times, or both.
    """
    parser.usage = f"{parser.prog} [flags]"  # dozens of them would be no help
    helps = field_texts(config_class)
    for field in dataclasses.fields(config_class):
        flag = "--" + field.name.replace("_", "-")
        kind, optional = kind_of(field.type)
        text = helps.get(field.name, "").replace("%", "%%")
        required = field.default is dataclasses.MISSING
        shown = "(required)" if required else "" if field.default is None else f"(default: {field.default})"
        if kind is bool:
            action = "store_true" if field.default is False else argparse.BooleanOptionalAction
            parser.add_argument(flag, action=action, default=field.default, help=text)
        elif get_origin(kind) is Literal:
            choices = get_args(kind)
            parser.add_argument(flag, choices=choices, default=field.default, help=f"{text} {shown}")
        elif get_origin(kind) is tuple:
            shown = f"(default: {','.join(field.default)})" if field.default else ""
            # no default here: argparse would add to it
            parser.add_argument(
                flag, action="extend", type=_several, metavar="TEXT,…", default=argparse.SUPPRESS,
                help=f"{text} {shown}",
            )  # fmt: skip
        else:
            parser.add_argument(
                flag,
                type=_optional(kind) if optional else kind,
                metavar=_metavar(kind),
                required=required,
                default=None if required else field.default,
                help=f"{text} {shown}",
            )


def read_flags(arguments: argparse.Namespace, config_class: type[Config]) -> Config:
    """The dataclass that the parsed flags describe."""
    given = {field.name: getattr(arguments, field.name, field.default) for field in dataclasses.fields(config_class)}
    return config_class(**{name: tuple(value) if isinstance(value, list) else value for name, value in given.items()})


def check_writable(out: str | None, overwrite: bool) -> None:
    """Refuse, before any work is done, a file that is already there or that cannot be written."""
    if out is None:
        return
    path = Path(out)
    if path.is_dir():
        raise UserError(f"{out} is a directory: give a file")
    if path.exists() and not overwrite:
        raise UserError(f"{out} is already there: give another file, or --overwrite it")
    if not path.parent.is_dir():
        raise UserError(f"{out}: there is no directory {path.parent}: make it first")
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UserError(f"{out} cannot be written: no permission")


def field_texts(config_class: type) -> dict[str, str]:
    """The text that stands below each field in the source of the dataclass, in one line."""
    body = ast.parse(textwrap.dedent(inspect.getsource(config_class))).body[0].body
    return {
        field.target.id: " ".join(text.value.value.split())
        for field, text in zip(body, body[1:])
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
    }


def kind_of(annotation: Any) -> tuple[Any, bool]:
    """(int, True) of `int | None`, (int, False) of `int`."""
    kinds = [kind for kind in get_args(annotation) if kind is not NoneType]
    optional = NoneType in get_args(annotation)
    return (kinds[0], True) if optional else (annotation, False)


def _optional(kind: type):
    def read(text: str):
        return None if text in ("None", "none") else kind(text)

    read.__name__ = kind.__name__  # argparse names it where the text is not of this kind
    return read


def _several(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _metavar(kind: type) -> str:
    return {str: "TEXT", int: "INT", float: "NUMBER"}.get(kind, kind.__name__.upper())
