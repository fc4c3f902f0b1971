"""A public name means one thing: no function or class of a room has the name of one in another room."""

import ast
from collections import defaultdict
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "tlqa_jax"
PROGRAMS = {
    "pretrain_spans", "pretrain_mlm", "pretrain_clm", "pretrain_vectors", "finetune_qa", "finetune_spans", "finetune_classifier", "finetune_features",
    "quickstart",
}  # fmt: skip
QUESTIONS = {"classify", "generate", "fill_mask"}
ALLOWED = {
    **{name: {"commands", "training", "experiments"} for name in PROGRAMS},  # a command has the name of its program
    **{name: {"commands", "inference"} for name in QUESTIONS},  # and of the function that it calls
    "main": {"cli", "data"},  # entry points of the command line
    "attention": {"checkpoints", "models"},  # T5's name table has a function for each module of `models.t5`
}


def rooms_of_names(sources: dict[str, str]) -> dict[str, set[str]]:
    """The rooms that define each public function or class; `sources` are the modules by their path."""
    rooms: defaultdict[str, set[str]] = defaultdict(set)
    for path, source in sources.items():
        for node in ast.parse(source).body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
                rooms[node.name].add(path.removesuffix(".py").split("/")[0])
    return rooms


def test_no_public_name_is_in_two_rooms():
    paths = {path.relative_to(PACKAGE).as_posix(): path for path in sorted(PACKAGE.rglob("*.py"))}
    rooms = rooms_of_names({name: path.read_text() for name, path in paths.items() if not name.startswith("lessons/")})
    twice = {name: found for name, found in rooms.items() if len(found) > 1}
    assert {name: found for name, found in twice.items() if not found <= ALLOWED.get(name, set())} == {}
    assert twice.keys() >= ALLOWED.keys(), "an exception that is not needed any more"


def test_a_name_in_two_rooms_is_found():
    sources = {"text/bpe.py": "def split(): ...", "core/a.py": "def split(): ...", "core/b.py": "class B: ..."}
    assert rooms_of_names(sources) == {"split": {"text", "core"}, "B": {"core"}}
    assert rooms_of_names({"text/a.py": "def _split(): ...\nclass A:\n    def split(self): ..."}) == {"A": {"text"}}
