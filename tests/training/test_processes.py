"""Two processes joined by jax.distributed train as one process with as many devices."""

import json
import socket
import subprocess
import sys

import numpy as np
import pytest

from .test_extractive_qa import final_state

WORKER = """
import sys, jax
out, model, processes, index, port = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), sys.argv[5]
jax.config.update("jax_num_cpu_devices", 4 // processes)
if processes > 1:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"127.0.0.1:{port}", processes, index)
assert jax.device_count() == 4 and jax.local_device_count() == 4 // processes
from tlqa_jax.training.qa import QAConfig, finetune
from tlqa_jax.training.span_corruption import SpanCorruptionConfig, pretrain
run = pretrain(SpanCorruptionConfig(
    out=out + "/pretrained", texts="tiny_world:pretraining_spans.jsonl", model=model,
    salient_share=0.25, questions_share=0.25, questions="tiny_world:context_dev.json",
    input_length=56, batch_size=16, steps=5, warmup=1, dropout=0.0,
    log_every=1, evaluate_every=5, save_every=5,
), quiet=True)
finetune(QAConfig(
    out=out + "/finetuned", start_from=str(run), context_questions="tiny_world:context_dev.json",
    held_out_context="tiny_world:context_dev.json", input_length=56, target_length=6, batch_size=16, steps=3, warmup=0,
    dropout=0.0, log_every=1, evaluate_every=3, save_every=3,
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


def metrics(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_two_processes_agree_with_one(tmp_path):
    model = tmp_path / "model.json"
    model.write_text(json.dumps({"d_model": 16, "d_kv": 4, "d_ff": 24, "num_layers": 1, "num_heads": 2}))
    for n in (1, 2):
        train(tmp_path / f"{n}", model, n)
    for run in ("pretrained", "finetuned"):
        for a, b in zip(metrics(tmp_path / "1" / run), metrics(tmp_path / "2" / run), strict=True):
            assert a.keys() == b.keys()
            for name in a.keys() - {"tokens_per_second"}:
                assert b[name] == pytest.approx(a[name], rel=1e-4), (run, a["step"], name)
        one, two = (final_state(tmp_path / n / run) for n in ("1", "2"))
        # Adam divides a gradient by its own size, so rounding shows where the true gradient is nearly zero
        for name in (name for name in one if name.startswith("params/")):
            np.testing.assert_allclose(two[name], one[name], atol=2e-4, err_msg=name)
    answers = [json.loads((tmp_path / n / "finetuned/predictions_context.json").read_text()) for n in ("1", "2")]
    assert len(answers[0]) == 300 and answers[0] == answers[1]
