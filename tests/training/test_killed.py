"""A run killed with `kill -9`, again and again, and resumed each time ends bit for bit as the one left alone."""

import json
import random
import subprocess
import sys
import time

import numpy as np
import pytest

from tlqa_jax.weights.checkpoints import Checkpoints, flatten

SIZES = {
    "pretrain-spans": {"d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 1, "num_heads": 2},
    "pretrain-mlm": {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24},
}
FLAGS = [
    "--input-length", "32", "--batch-size", "8", "--steps", "1200", "--warmup", "20", "--save-every", "20", "--evaluate-every", "400",
    "--log-every", "20", "--held-out", "tiny_world:pretraining_dev.txt",
]  # fmt: skip


def command(program, run, *flags):
    return [sys.executable, "-m", "tlqa_jax.cli", program, "--out", str(run), *FLAGS, *flags]


def final_state(run):
    with Checkpoints(run) as checkpoints:
        assert checkpoints.latest().name == "1200"
        return flatten(checkpoints._manager.restore(1200))


@pytest.mark.slow
@pytest.mark.parametrize("program", SIZES)
def test_ten_kills_change_nothing(program, tmp_path):
    (tmp_path / "model.json").write_text(json.dumps(SIZES[program]))
    model = ["--model", str(tmp_path / "model.json")]
    subprocess.run(command(program, tmp_path / "whole", *model), check=True, stdout=subprocess.DEVNULL)

    rng, kills, run = random.Random(0), 0, tmp_path / "killed"
    while kills < 10:
        resume = ["--resume"] if (run / "config.json").exists() else []
        begin = time.time()
        process = subprocess.Popen(command(program, run, *model, *resume), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        metrics = run / "metrics.jsonl"
        while process.poll() is None and not (metrics.exists() and metrics.stat().st_mtime > begin):
            time.sleep(0.05)  # until it compiles
        try:
            process.wait(rng.uniform(0, 4))  # it dies compiling, training, or writing a checkpoint
        except subprocess.TimeoutExpired:
            process.kill()
            kills += 1
        errors = process.communicate()[1].decode()
        assert process.returncode in (0, -9), errors
        if process.returncode == 0:
            break
    if process.returncode != 0:
        subprocess.run(command(program, run, *model, "--resume"), check=True, stdout=subprocess.DEVNULL)
    print(f"{kills} kills")
    assert kills >= 1
    whole, killed = final_state(tmp_path / "whole"), final_state(run)
    assert whole.keys() == killed.keys()
    assert all(np.array_equal(whole[name], killed[name]) for name in whole)
