"""Several processes joined by jax.distributed train as one process with as many devices."""

import dataclasses
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from .comparing import assert_leaves_close, metrics, saved_state
from .programs import BERT_SIZES, T5_SIZES
from .test_equal_gradients import BERT_CONFIG, KEY_BIAS, T5_CONFIG, uneven_batch, uneven_texts

JOIN = """
import json, sys
from functools import partial
import jax
import numpy as np
import optax
from flax import nnx
folder, processes, index, port = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
out = f"{folder}/{processes}"
jax.config.update("jax_num_cpu_devices", 4 // processes)
if processes > 1:
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(f"127.0.0.1:{port}", processes, index)
assert jax.device_count() == 4 and jax.local_device_count() == 4 // processes
"""
STEP = """
from comparing import flatten, train, with_biases
from tlqa_jax.models.bert import BertConfig
from tlqa_jax.models.bert_heads import BertForPreTraining
from tlqa_jax.models.functional import as_function
from tlqa_jax.models.t5 import T5, T5Config
from tlqa_jax.training import pretrain_mlm as mlm
from tlqa_jax.training.sequence_loss import sequence_loss, target_tokens
sizes = json.loads(open(f"{folder}/sizes.json").read())
t5, t5_params = as_function(T5(T5Config(**sizes["t5"]), rngs=nnx.Rngs(0)))
bert, bert_params = as_function(BertForPreTraining(BertConfig(**sizes["mlm"]), rngs=nnx.Rngs(0)))
losses = partial(mlm.pretraining_losses, partial(mlm.pretraining_logits, bert, 0))
for name, *program in (
    ("t5", partial(sequence_loss, t5), target_tokens, t5_params),
    ("mlm", losses, mlm.pretraining_weights, with_biases(bert_params)),
):
    trained = train(*program, dict(np.load(f"{folder}/{name}.npz")), devices=4, optimizer=optax.sgd(0.1))
    arrays = {"gradients": trained.gradients, "params": trained.params, "loss": np.array(trained.losses)}
    np.savez(f"{out}_{index}_{name}.npz", **flatten(arrays))
"""
RUNS = """
from tlqa_jax.training import pretrain_mlm as mlm
from tlqa_jax.training.finetune_qa import FinetuneQASettings, finetune_qa
from tlqa_jax.training.pretrain_spans import PretrainSpansSettings, pretrain_spans
short = dict(batch_size=16, steps=20, dropout=0.0, log_every=1, evaluate_every=5, save_every=5, keep=9)
run = pretrain_spans(PretrainSpansSettings(
    out=out + "/pretrained", texts="tiny_world:pretraining_spans.jsonl", model=folder + "/t5.json",
    salient_share=0.25, questions_share=0.25, questions="tiny_world:context_dev.json", input_length=56, warmup=1,
    **short
), quiet=True)
finetune_qa(FinetuneQASettings(
    out=out + "/finetuned", start_from=str(run), context_questions="tiny_world:context_dev.json",
    held_out_context="tiny_world:context_dev.json", input_length=56, target_length=6, warmup=0, **short
), quiet=True)
mlm.pretrain_mlm(mlm.PretrainMLMSettings(
    out=out + "/mlm", texts="tiny_world:pretraining_dev.txt", model=folder + "/bert.json", input_length=32, warmup=1,
    **short
), quiet=True)
"""


def free_port() -> int:
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        return listening.getsockname()[1]


def start(folder, script, processes):
    """Run the script in so many processes; it finds the folder and their number, and `comparing` beside this file."""
    paths = [str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]
    port, environment = free_port(), os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", JOIN + script, str(folder), str(processes), str(index), str(port)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment,
        )
        for index in range(processes)
    ]  # fmt: skip
    for worker in workers:
        output = worker.communicate(timeout=1200)[0].decode()
        assert worker.returncode == 0, output[-3000:]


@pytest.mark.slow
def test_a_step_of_several_processes_is_that_of_one(tmp_path):
    sizes = {"t5": dataclasses.asdict(T5_CONFIG), "mlm": dataclasses.asdict(BERT_CONFIG)}
    (tmp_path / "sizes.json").write_text(json.dumps(sizes))
    np.savez(tmp_path / "t5.npz", **uneven_batch())
    np.savez(tmp_path / "mlm.npz", **uneven_texts("pretrain_mlm"))
    for processes in (1, 2, 4):
        start(tmp_path, STEP, processes)
    for processes in (2, 4):
        for name, zero in (("t5", []), ("mlm", [f"gradients/{KEY_BIAS}"])):
            one, first, last = (
                dict(np.load(tmp_path / f"{who}_{name}.npz"))
                for who in ("1_0", f"{processes}_0", f"{processes}_{processes - 1}")
            )
            assert {path.split("/")[0] for path in one} == {"gradients", "params", "loss"}
            assert_leaves_close(first, one, 1e-6, zero)
            assert all(np.array_equal(last[path], first[path]) for path in first)


@pytest.mark.slow
def test_two_processes_agree_with_one(tmp_path):
    (tmp_path / "t5.json").write_text(json.dumps(T5_SIZES))
    (tmp_path / "bert.json").write_text(json.dumps(BERT_SIZES))
    for processes in (1, 2):
        start(tmp_path, RUNS, processes)
    for run in ("pretrained", "finetuned", "mlm"):
        for a, b in zip(metrics(tmp_path / "1" / run), metrics(tmp_path / "2" / run), strict=True):
            assert a.keys() == b.keys()
            for name in a.keys():
                assert b[name] == pytest.approx(a[name], rel=1e-4), (run, a["step"], name)
        one, two = (saved_state(tmp_path / n / run, 5) for n in ("1", "2"))
        # Adam divides a gradient by its own size, so rounding shows where the true gradient is nearly zero
        for name in (name for name in one if name.startswith("params/") and not name.endswith("key_bias")):
            np.testing.assert_allclose(two[name], one[name], atol=2e-4, err_msg=name)
    answers = [json.loads((tmp_path / n / "finetuned/predictions_context_qa.json").read_text()) for n in ("1", "2")]
    assert len(answers[0]) == 300 and answers[0] == answers[1]
