"""A run that is killed again and again (kill -9), and continued each time, ends bit for bit as one left alone."""

import json
import random
import subprocess
import sys
import time

import pytest

from .comparing import assert_same_arrays, saved_state
from .programs import BERT_SIZES, T5_SIZES

PRETRAIN = "--steps 600 --warmup 20 --evaluate-every 300 --held-out tiny_world:pretraining_dev.txt"
FINETUNE = "--steps 600 --evaluate-every 600"
KILLS = 3  # of each program; tests/soak.py does more, and other harm
PROGRAMS = {  # sizes, flags
    "pretrain-spans": (T5_SIZES, PRETRAIN),
    "pretrain-mlm": (BERT_SIZES, PRETRAIN),
    "pretrain-clm": (BERT_SIZES, PRETRAIN),
    "finetune-qa": (
        T5_SIZES,
        f"{FINETUNE} --context-questions tiny_world:context_dev.json --held-out-context tiny_world:context_dev.json "
        "--closed-book-questions tiny_world:closed_book_train.json --target-length 6",
    ),
    "finetune": (T5_SIZES, f"{FINETUNE} --tasks sentiment,closed_book_qa --mixing temperature=2 --target-length 6"),
    "finetune-classifier": (BERT_SIZES, FINETUNE),
    "finetune-spans": (
        BERT_SIZES, f"{FINETUNE} --questions tiny_world:context_dev.json --stride 8 --max-question-length 9",
    ),
}  # fmt: skip
FLAGS = "--input-length 32 --batch-size 8 --save-every 20 --log-every 20"


@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS)
def test_kills_change_nothing(program, tmp_path):
    sizes, flags = PROGRAMS[program]
    (tmp_path / "model.json").write_text(json.dumps(sizes))
    words = f"{FLAGS} {flags} --model {tmp_path}/model.json".split()
    command = lambda out: [sys.executable, "-m", "tlqa_jax.cli", program, "--out", str(tmp_path / out), *words]
    subprocess.run(command("whole"), check=True, stdout=subprocess.DEVNULL)

    rng, kills, metrics = random.Random(0), 0, tmp_path / "killed" / "metrics.jsonl"
    while kills < KILLS:
        begin = time.time()
        process = subprocess.Popen(command("killed"), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
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
    subprocess.run(command("killed"), check=True, stdout=subprocess.DEVNULL)  # or it says that the run is complete
    print(f"{kills} kills")
    assert kills >= 1
    assert_same_arrays(saved_state(tmp_path / "killed"), saved_state(tmp_path / "whole"))
    weights = [(tmp_path / run / "model.safetensors").read_bytes() for run in ("killed", "whole")]
    assert weights[0] == weights[1]
