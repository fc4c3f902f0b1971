"""`build`: the module lessons/build.py, a script beside the package and not in it; `run_python` in smoke mode."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LESSONS = ROOT / "lessons"


@pytest.fixture(scope="session")
def build():
    spec = importlib.util.spec_from_file_location("lessons_build", LESSONS / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def run_python():
    """Without the tests' checks of annotations: they would object to a blank before the exercise's check does."""

    def run(*arguments, **options):
        environment = {name: value for name, value in os.environ.items() if name != "T5_VOCABULARY"}
        environment |= {"TLQA_SMOKE": "1", "PYTHONPATH": str(ROOT)}
        ran = subprocess.run([sys.executable, *arguments], env=environment, capture_output=True, text=True, **options)
        assert ran.returncode == 0, ran.stderr[-3000:]
        return ran.stdout

    return run
