"""The README keeps its word: its commands exist, its files and rooms are there, its Python runs."""

import ast
import importlib
import inspect
import re
import shlex
from pathlib import Path
from types import SimpleNamespace

import pytest

from tlqa_jax import cli

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(language: str, after: str = "") -> str:
    """The first fenced block of a language after some text."""
    return re.search(rf"```{language}\n(.*?)```", README[README.index(after) :], re.DOTALL)[1]


def test_it_is_short_and_what_it_links_to_is_there():
    assert len(README.splitlines()) <= 160
    for path in [*re.findall(r"\]\(([^):]+)\)", README), *re.findall(r"\| `(tlqa_jax/\w+)`", README)]:
        assert (ROOT / path).exists(), path
    rows = re.findall(r"^\| (`tlqa_jax.*?) \|", README, re.M)
    rooms = [room for row in rows for room in re.findall(r"`(?:tlqa_jax/)?(\w+)`", row)]
    files = re.findall(r"^\| `tlqa_jax/(\w+)`.*?\| `(\w+\.py)`", README, re.M)
    assert len(rooms) >= 11 and all((ROOT / "tlqa_jax" / room).is_dir() for room in rooms)
    assert len(files) >= 7 and all((ROOT / "tlqa_jax" / room / file).exists() for room, file in files)


def test_it_begins_with_the_two_commands():
    commands = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)[:2]
    ends = (".venv/bin/tlqa quickstart\n", '.venv/bin/python -m pytest -m "not slow" -n 2 --dist loadfile\n')
    for command, end in zip(commands, ends):
        assert command.count("\n") == 1 and command.endswith(end)
        assert command.startswith("python3 -m venv .venv && .venv/bin/pip install ")
    assert README.index(commands[1]) < 1000
    assert README.count("<!-- the tests -->\n```bash\n") == 1  # what .ci/run looks for


@pytest.mark.parametrize("line", block("bash", "## A tour").splitlines())
def test_its_commands_parse(line, monkeypatch):
    family = lambda name: SimpleNamespace(family="bert" if "bert" in name else "t5")
    monkeypatch.setattr(importlib.import_module("tlqa_jax.checkpoints.load"), "load", family)  # the hub is not asked
    program, *words = shlex.split(line, comments=True)
    assert program == "tlqa"
    cli.parse(*cli.split_command(words))


BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


@pytest.mark.parametrize("source", BLOCKS)
def test_its_python_names_what_there_is(source):
    import tlqa_jax

    names = set(re.findall(r"tlqa_jax\.(\w+)", source))
    assert names and names <= set(tlqa_jax.__all__)
    for call in calls(source):
        arguments = {keyword.arg: keyword.value for keyword in call.keywords}
        inspect.signature(getattr(tlqa_jax, call.func.attr)).bind(*call.args, **arguments)


def test_its_settings_can_be_meant():
    """Each record in its Python is made, as it is there."""
    import tlqa_jax

    known = {"tlqa_jax": tlqa_jax, "run": Path("runs/pretrained")}
    made = [
        eval(compile(ast.Expression(call), "README.md", "eval"), known)
        for source in BLOCKS for call in calls(source) if re.fullmatch(r"\w+Settings|TextTask", call.func.attr)
    ]  # fmt: skip
    settings = {tlqa_jax.PretrainSpansSettings, tlqa_jax.FinetuneQASettings, tlqa_jax.TextTask}
    assert {type(one) for one in made} == settings


def calls(source: str) -> list[ast.Call]:
    """The calls of what tlqa_jax has."""
    return [
        node for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("tlqa_jax.")
    ]  # fmt: skip

