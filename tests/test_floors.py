"""The house keeps its floors: an import goes down, never up and never sideways."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tlqa_jax import cli

PACKAGE = Path(__file__).parents[1] / "tlqa_jax"
ROOMS = (
    ("errors",),
    ("fields", "examples"),
    ("core", "text", "flags"),
    ("models", "data", "metrics"),
    ("tasks", "checkpoints"),
    ("inference",),
    ("training",),
    ("experiments", "lessons"),
    ("commands",),
    ("cli",),
)
FLOOR = {room: number for number, floor in enumerate(ROOMS) for room in floor}
DOORS = {"__init__", "__main__"}  # of the whole package: may open every room
NO_JAX = ("text", "tasks", "metrics")
FORBIDDEN = {"torch", "tensorflow", "tensorflow_text", "transformers"}


def imported(source: str, module: str) -> list[str]:
    """Full names of everything a module imports, anywhere in it, functions and type checking included."""
    names = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            package = module.split(".")[: -node.level] if node.level else []
            base = ".".join([*package, *([node.module] if node.module else [])])
            names += [f"{base}.{alias.name}" for alias in node.names]
    return names


def own_imports(path: Path) -> set[str]:
    """The modules of this package that a file imports."""
    return {
        node.module for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tlqa_jax.")
    }  # fmt: skip


def offences(source: str, module: str) -> list[str]:
    """What is wrong with the imports of a module, given by its dotted name, such as "tlqa_jax.core.masks"."""
    room = module.split(".")[1]
    wrong = []
    for name in imported(source, module):
        top, *rest = name.split(".")
        if top == "tlqa_jax" and room not in DOORS and rest != ["__version__"]:
            other = rest[0] if rest else "__init__"
            if other not in FLOOR:
                wrong.append(f"{module} imports {name}, which is in no room of this house")
            elif other != room and FLOOR[other] >= FLOOR[room]:
                wrong.append(f"{module} (floor {FLOOR[room]}) imports {name} (floor {FLOOR[other]})")
        if top in FORBIDDEN:
            wrong.append(f"{module} imports {top}: the package works without it")
        if (top in ("jax", "jaxlib", "flax") or name == "jaxtyping.Array") and room in NO_JAX:
            wrong.append(f"{module} imports {top}: {room} is numpy and strings only")
    return wrong


def module_name(path: Path) -> str:
    return ".".join(["tlqa_jax", *path.relative_to(PACKAGE).with_suffix("").parts])


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_imports_go_down(path):
    name = module_name(path)
    assert name.split(".")[1] in FLOOR.keys() | DOORS, f"{name} is on no floor: give it one in this test"
    assert offences(path.read_text(), name) == []


@pytest.mark.parametrize("path", FILES, ids=module_name)
def test_a_file_fits_in_the_head(path):
    assert len(path.read_text().splitlines()) <= 400
    assert path.stem not in ("utils", "util", "common", "helpers", "misc"), "a name says what is in the room"


@pytest.mark.parametrize("room", sorted(path for path in PACKAGE.iterdir() if (path / "__init__.py").exists()), ids=str)
def test_a_room_says_what_is_in_it(room):
    """Each file of a room, and each room within it, has its line in the docstring of the room's __init__.py."""
    text = ast.get_docstring(ast.parse((room / "__init__.py").read_text())) or ""
    lines = {line.split()[0].rstrip("/").removesuffix(".py") for line in text.splitlines() if line.strip()}
    files = {path.stem for path in room.glob("*.py")} | {path.parent.name for path in room.glob("*/__init__.py")}
    missing = sorted(files - {"__init__", "__main__"} - lines)
    assert not missing, f"{room.name}/__init__.py has no line for {', '.join(missing)}"


PROGRAMS = sorted(path for pattern in ("pretrain_*.py", "finetune_*.py") for path in (PACKAGE / "training").glob(pattern))


@pytest.mark.parametrize("path", PROGRAMS, ids=module_name)
def test_a_program_is_light(path):
    """At most 12 modules of ours and 150 lines beside the settings, which are one class."""
    assert len(own_imports(path)) <= 12, sorted(own_imports(path))
    classes = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.ClassDef)]
    settings = next(node for node in classes if node.name.endswith("Settings"))
    assert len(path.read_text().splitlines()) - (settings.end_lineno - settings.lineno + 2) <= 150
    assert path.stem.replace("_", "-") in cli.COMMANDS, "a program is named like its command"


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("tlqa_jax.core.masks", "from tlqa_jax.models import t5"),
        ("tlqa_jax.core.masks", "from tlqa_jax.text import sentencepiece"),
        ("tlqa_jax.core.masks", "def f():\n    import tlqa_jax.training.finetune_qa"),
        ("tlqa_jax.core.masks", "from ..models.t5 import T5"),
        ("tlqa_jax.core.masks", "from .. import models"),
        ("tlqa_jax.metrics.squad", "from tlqa_jax.tasks.text_to_text import qa_source"),
        ("tlqa_jax.models.t5", "from tlqa_jax import inference"),
        ("tlqa_jax.models.t5", "import tlqa_jax"),
        ("tlqa_jax.models.t5", "import tlqa_jax.helpers"),
        ("tlqa_jax.models.t5", "import torch"),
        ("tlqa_jax.errors", "import tlqa_jax.core"),
        ("tlqa_jax.text.sentencepiece", "import jax.numpy as jnp"),
        ("tlqa_jax.inference.predictors", "from tlqa_jax.experiments import one"),
    ],
)
def test_the_test_sees_a_wrong_import(module, source):
    assert len(offences(source, module)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("tlqa_jax.models.t5", "from tlqa_jax.core.masks import causal_mask\nfrom tlqa_jax.models import layers"),
        ("tlqa_jax.models.t5", "from .layers import attention\nfrom ..core import masks\nimport jax"),
        ("tlqa_jax.tasks.text_to_text", "from tlqa_jax.metrics.squad import f1\nfrom tlqa_jax.errors import UserError"),
        ("tlqa_jax.cli", "from tlqa_jax import __version__, errors, inference"),
        ("tlqa_jax.__init__", "from tlqa_jax.inference.predictors import ask"),
    ],
)
def test_the_test_lets_a_right_import_pass(module, source):
    assert offences(source, module) == []


def test_text_needs_no_jax_when_it_runs():
    code = "import sys, tlqa_jax.text.sentencepiece, tlqa_jax.tasks.span_corruption; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent).returncode == 0
