"""A run killed with `kill -9`, again and again, and resumed each time ends bit for bit as the one left alone."""

import json
import random
import subprocess
import sys
import time

import numpy as np
import pytest

from tlqa_jax.weights.checkpoints import Checkpoints, flatten

FLAGS = [
    "--input-length", "32", "--batch-size", "8", "--steps", "400", "--warmup", "20", "--save-every", "10", "--evaluate-every", "100",
    "--log-every", "10", "--held-out", "tiny_world:pretraining_dev.txt",
]  # fmt: skip


def command(run, *flags):
    return [sys.executable, "-m", "tlqa_jax.cli", "pretrain-spans", "--out", str(run), *FLAGS, *flags]


def final_state(run):
    with Checkpoints(run) as checkpoints:
        assert checkpoints.latest().name == "400"
        return flatten(checkpoints._manager.restore(400))


@pytest.mark.slow
def test_ten_kills_change_nothing(tmp_path):
    (tmp_path / "model.json").write_text(json.dumps({"d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 1, "num_heads": 2}))
    model = ["--model", str(tmp_path / "model.json")]
    begin = time.monotonic()
    subprocess.run(command(tmp_path / "whole", *model), check=True, stdout=subprocess.DEVNULL)
    alone = time.monotonic() - begin

    rng, kills, run = random.Random(0), 0, tmp_path / "killed"
    while kills < 10:
        resume = ["--resume"] if (run / "config.json").exists() else []
        process = subprocess.Popen(command(run, *model, *resume), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            process.wait(rng.uniform(0.3, 0.9) * alone)
        except subprocess.TimeoutExpired:
            process.kill()
            kills += 1
        errors = process.communicate()[1].decode()
        assert process.returncode in (0, -9), errors
        if process.returncode == 0:
            break
    if process.returncode != 0:
        subprocess.run(command(run, *model, "--resume"), check=True, stdout=subprocess.DEVNULL)
    print(f"{kills} kills")
    assert kills >= 1
    whole, killed = final_state(tmp_path / "whole"), final_state(run)
    assert whole.keys() == killed.keys()
    assert all(np.array_equal(whole[name], killed[name]) for name in whole)
