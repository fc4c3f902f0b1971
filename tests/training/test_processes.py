"""Two processes joined by jax.distributed train as one process with as many devices."""

import json
import socket
import subprocess
import sys

import numpy as np
import pytest

from tlqa_jax.weights.checkpoints import Checkpoints, flatten

WORKER = """
import sys, jax
out, model, processes, index, port = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
jax.config.update("jax_num_cpu_devices", 4 // processes)
if processes > 1:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"127.0.0.1:{port}", processes, index)
assert jax.device_count() == 4 and jax.local_device_count() == 4 // processes
from tlqa_jax.training.span_corruption import SpanCorruptionConfig, pretrain
pretrain(SpanCorruptionConfig(
    out=out, texts="tiny_world:pretraining_spans.jsonl", model=model, salient_share=0.25, questions_share=0.25,
    questions="tiny_world:context_dev.json", input_length=56, batch_size=16, steps=5, warmup=1, dropout=0.0,
    log_every=1, evaluate_every=5, save_every=5,
), quiet=True)
"""


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def train(out, model, processes):
    port = free_port()
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(out), str(model), str(processes), str(index), str(port)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        for index in range(processes)
    ]  # fmt: skip
    for worker in workers:
        output = worker.communicate(timeout=1200)[0].decode()
        assert worker.returncode == 0, output[-3000:]
    with Checkpoints(out) as checkpoints:
        state = flatten(checkpoints._manager.restore(5))
    return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()], state


@pytest.mark.slow
def test_two_processes_agree_with_one(tmp_path):
    model = tmp_path / "model.json"
    model.write_text(json.dumps({"d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 1, "num_heads": 2}))
    (rows_of_one, one), (rows_of_two, two) = (train(tmp_path / f"{n}", model, n) for n in (1, 2))
    for a, b in zip(rows_of_one, rows_of_two, strict=True):
        assert a.keys() == b.keys()
        for name in a.keys() - {"tokens_per_second"}:
            assert b[name] == pytest.approx(a[name], rel=1e-4), (a["step"], name)
    # Adam divides a gradient by its own size, so rounding shows where the true gradient is nearly zero
    for name in (name for name in one if name.startswith("params/")):
        np.testing.assert_allclose(two[name], one[name], atol=2e-4, err_msg=name)
