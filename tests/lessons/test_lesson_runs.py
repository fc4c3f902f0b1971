"""Lessons do not disturb each other: each writes to places of its own, and only reads the runs that they share."""

import ast
import hashlib
import itertools
from pathlib import Path

import pytest

LESSONS = sorted((Path(__file__).resolve().parents[2] / "lessons").glob("[0-9][0-9]_*.py"))
SHARED = {"street", "pretrained", "masked_lm"}  # the same call in all lessons: the first one makes it, the others read
TRAINING = [lesson for lesson in LESSONS if "street.write_street" in lesson.read_text(encoding="utf-8")]


def beginning(node: ast.expr) -> str | None:
    """The text of a literal; of an f-string what stands before its first brace, and a *."""
    if isinstance(node, ast.JoinedStr):
        first = node.values[0]
        return (first.value if isinstance(first, ast.Constant) else "") + "*"
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def written(source: str) -> set[str]:
    """What a lesson writes below its folder of runs: `runs / NAME`, `write_rows(files / NAME)`, `learn(NAME)`."""
    tree, places = ast.parse(source), []
    with_out = {f.name for f in ast.walk(tree) if isinstance(f, ast.FunctionDef) and f.args.args[:1]
                and f.args.args[0].arg == "out"}  # fmt: skip
    for node in ast.walk(tree):
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and ast.unparse(node.left) == "runs":
            choices = [node.right.body, node.right.orelse] if isinstance(node.right, ast.IfExp) else [node.right]
            places += map(beginning, choices)
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "write_rows":
            places.append("street/" + beginning(node.args[0].right))
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in with_out:
            places.append(beginning(node.args[0]))
    return {place for place in places if place}


def test_lesson_places_are_found_in_a_source():
    source = """
def learn(out, steps): ...
a = learn("kind", 3), learn(f"alone_{task}", 3)
street.write_rows(files / "told.jsonl", rows)
b = runs / ("squad" if PUBLIC else "own") / "x", runs / "pretrained"
"""
    assert written(source) == {"kind", "alone_*", "street/told.jsonl", "squad", "own", "pretrained"}


def test_lessons_write_to_places_of_their_own():
    places = {lesson.stem: written(lesson.read_text(encoding="utf-8")) - SHARED for lesson in TRAINING}
    assert sum(map(len, places.values())) > 20
    for (one, its), (other, their) in itertools.combinations(places.items(), 2):
        for a, b in itertools.product(its, their):
            length = min(len(a.rstrip("*")), len(b.rstrip("*")))
            same = a == b or ("*" in a + b and a[:length] == b[:length])
            assert not same, f"{one} and {other} both write {a}"


def contents(folder: Path) -> dict[str, str]:
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.slow
def test_lessons_run_from_last_to_first_and_change_nothing_of_others(run_python, tmp_path):
    """As scripts with the solutions; the notebooks run from first to last. So of every two lessons each one has run before
    the other. Lesson 5 trains on eight devices, others on one."""
    before = {}
    for lesson in TRAINING[::-1]:
        assert run_python(lesson, cwd=tmp_path).count("Right: ") >= 2
        after = contents(tmp_path / "runs/lessons/smoke")
        changed = sorted(path for path, content in before.items() if after.get(path) != content)
        assert changed == [], f"{lesson.stem} changed what was there"
        before = after
