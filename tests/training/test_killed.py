"""A run killed with `kill -9`, again and again, and resumed each time ends bit for bit as the one left alone."""

import json
import random
import subprocess
import sys
import time

import pytest

from .comparing import assert_same_arrays, final_state

T5 = {"d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 1, "num_heads": 2}
BERT = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
PRETRAIN = "--steps 1200 --warmup 20 --evaluate-every 400 --held-out tiny_world:pretraining_dev.txt"
FINETUNE = "--steps 600 --evaluate-every 600"
PROGRAMS = {  # sizes, flags, kills
    "pretrain-spans": (T5, PRETRAIN, 10),
    "pretrain-mlm": (BERT, PRETRAIN, 10),
    "finetune-qa": (
        T5,
        f"{FINETUNE} --context-questions tiny_world:context_dev.json --held-out-context tiny_world:context_dev.json "
        "--closed-book-questions tiny_world:closed_book_train.json --target-length 6", 3,
    ),
    "finetune": (T5, f"{FINETUNE} --tasks sentiment,closed_book_qa --mixing temperature=2 --target-length 6", 3),
    "finetune-classifier": (BERT, FINETUNE, 3),
    "finetune-spans": (
        BERT, f"{FINETUNE} --questions tiny_world:context_dev.json --stride 8 --max-question-length 9", 3,
    ),
}
FLAGS = "--input-length 32 --batch-size 8 --save-every 20 --log-every 20"


def command(program, run, *flags):
    words = f"{FLAGS} {PROGRAMS[program][1]}".split()
    return [sys.executable, "-m", "tlqa_jax.cli", program, "--out", str(run), *words, *flags]


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS)
def test_kills_change_nothing(program, tmp_path):
    sizes, _, wanted = PROGRAMS[program]
    (tmp_path / "model.json").write_text(json.dumps(sizes))
    model = ["--model", str(tmp_path / "model.json")]
    subprocess.run(command(program, tmp_path / "whole", *model), check=True, stdout=subprocess.DEVNULL)

    rng, kills, run = random.Random(0), 0, tmp_path / "killed"
    while kills < wanted:
        resume = ["--resume"] if (run / "config.json").exists() else []
        begin = time.time()
        process = subprocess.Popen(
            command(program, run, *model, *resume), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
        )
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
    assert_same_arrays(final_state(run), final_state(tmp_path / "whole"))
