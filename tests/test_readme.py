"""The README keeps its word: its commands exist, its tree is the repository's, its Python runs."""

import ast
import inspect
import re
import shlex
from pathlib import Path

import pytest

from tlqa_jax import cli
from tlqa_jax.training.settings import check_settings

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def block(language: str, after: str = "") -> str:
    """The first fenced block of a language after some text."""
    return re.search(rf"```{language}\n(.*?)```", README[README.index(after) :], re.DOTALL)[1]


def tree() -> set[str]:
    """The files that the tree names, as paths."""
    paths, folders = set(), []
    for line in block("text", "## The house").splitlines():
        name = line.split()[0]
        depth = (len(line) - len(line.lstrip())) // 2
        folders[depth:] = [name]
        if not name.endswith("/"):
            paths.add("".join(folders[: depth + 1]))
    return paths


def repository() -> set[str]:
    """The files that the tree should name."""
    files = [
        *ROOT.glob("tlqa_jax/**/*.py"),
        *ROOT.glob("lessons/*.py"),
        *ROOT.glob("benchmarks/*.*"),
        *ROOT.glob("data/*"),
    ]
    return {
        str(file.relative_to(ROOT))
        for file in files
        if not (file.name == "__init__.py" and not file.read_text().strip())  # an empty one says nothing
    }


def test_the_tree_is_the_repository():
    if not (ROOT / ".git").exists() and not (ROOT / "benchmarks").exists():
        pytest.skip("no checkout")
    assert sorted(repository() - tree()) == [], "files without a line in README.md"
    assert sorted(tree() - repository()) == [], "lines in README.md without a file"


def test_it_begins_with_the_two_commands():
    commands = re.findall(r"```bash\n(.*?)```", README, re.DOTALL)[:2]
    ends = (".venv/bin/tlqa quickstart\n", '.venv/bin/python -m pytest -m "not slow" -n 2 --dist loadfile\n')
    for command, end in zip(commands, ends):
        assert command.count("\n") == 1 and command.endswith(end)
        assert command.startswith("python3 -m venv .venv && .venv/bin/pip install ")
    assert README.index(commands[1]) < 1000
    assert README.count("<!-- the tests -->\n```bash\n") == 1  # what .ci/run looks for


@pytest.mark.parametrize("line", block("bash", "On the command line").splitlines())
def test_its_commands_parse(line, monkeypatch):
    monkeypatch.setattr("tlqa_jax.checkpoints.bert_runs.is_bert", lambda name: "bert" in name)  # the hub is not asked
    program, *words = shlex.split(line)
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
    """Each record in its Python is made, as it stands there."""
    import tlqa_jax

    known = {"tlqa_jax": tlqa_jax, "run": Path("runs/pretrained")}
    made = [
        eval(compile(ast.Expression(call), "README.md", "eval"), known)
        for source in BLOCKS for call in calls(source) if re.fullmatch(r"\w+Config|TextTask", call.func.attr)
    ]  # fmt: skip
    assert {type(one) for one in made} >= {
        tlqa_jax.PretrainSpansSettings, tlqa_jax.FinetuneQASettings, tlqa_jax.FinetuneTasksSettings, tlqa_jax.TextTask
    }  # fmt: skip
    for one in made:
        if not isinstance(one, tlqa_jax.TextTask):
            check_settings(one)


def calls(source: str) -> list[ast.Call]:
    """The calls of what tlqa_jax has."""
    return [
        node for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("tlqa_jax.")
    ]  # fmt: skip

