"""In processes of their own: what they hold is measured, and the setting of the allocator cannot be taken back."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from .programs import BERT_SIZES, T5_SIZES

FAULTS = """
import ctypes, resource, sys, threading
from tlqa_jax.training.memory import keep_freed_memory

if sys.argv[1] == "keep":
    assert keep_freed_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_size_t], [ctypes.c_void_p]

def steps():
    for _ in range(5):
        piece = libc.malloc(100 * 2**20)
        ctypes.memset(piece, 1, 100 * 2**20)
        libc.free(piece)

for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    thread = threading.Thread(target=steps)  # XLA works in threads
    thread.start()
    thread.join()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(how: str) -> int:
    """Of 5 steps that take and free 100 MiB, after 5 that do not count."""
    return int(subprocess.run([sys.executable, "-c", FAULTS, how], check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="of glibc")
@pytest.mark.slow
def test_later_steps_find_their_memory_in_place():
    assert page_faults("keep") < 100
    assert page_faults("leave") >= 250  # 25,600 a step; 50 where the system gives pages of 2 MiB


QUESTIONS = "--questions tiny_world:context_dev.json --held-out tiny_world:context_dev.json"
PROGRAMS = {
    "pretrain-spans": (T5_SIZES, "--held-out tiny_world:pretraining_dev.txt"),
    "finetune-spans": (BERT_SIZES, f"{QUESTIONS} --stride 8 --max-question-length 9"),
}
FLAGS = "--input-length 32 --batch-size 8 --steps 5100 --log-every 100 --evaluate-every 500 --save-every 250"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.slow
@pytest.mark.parametrize("program", PROGRAMS)
def test_5000_steps_need_no_more_memory_than_1000(program, tmp_path):
    """With evaluations and checkpoints between them."""
    sizes, flags = PROGRAMS[program]
    (tmp_path / "model.json").write_text(json.dumps(sizes))
    words = f"{program} --model {tmp_path}/model.json --out {tmp_path}/run {FLAGS} {flags}".split()
    command, resident = [sys.executable, "-u", "-m", "tlqa_jax.cli", *words], {}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            for step in (1000, 5000):
                if f" {step}/5100  held out" in line:
                    pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
                    resident[step] = pages * resource.getpagesize() / 2**20
    print(f"{program}: {resident} MiB")
    assert process.returncode == 0
    assert resident[5000] < 1.02 * resident[1000]
