"""Faults at random moments, over all training programs: nothing is lost beyond the last interval, the end is the same.

    python tests/soak.py                    # until 100 faults are through
    python tests/soak.py --minutes 3

Each program is run once undisturbed. Then a second run of the same settings is disturbed again and again, and started
again each time by the same command: kill -9, SIGTERM, Ctrl-C, changed bytes in its newest checkpoint, half a row in
metrics.jsonl, and a full disk (a tmpfs of a few MB, where mounting one is allowed). When it is complete, its parameters and
optimizer state have to be equal to the undisturbed run's bit by bit, and its metrics have neither a gap nor a double.
"""

import argparse
import collections
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from tlqa_jax.checkpoints.named_arrays import flatten
from tlqa_jax.checkpoints.resume import Checkpoints

T5 = {"d_model": 8, "d_kv": 4, "d_ff": 12, "num_layers": 1, "num_heads": 2}
BERT = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 12}
QUESTIONS = "--context-questions tiny_world:context_dev.json --held-out-context None --target-length 6"
POINTING = "--questions tiny_world:context_dev.json --held-out None --stride 8 --max-question-length 9"
PROGRAMS = {
    "pretrain-spans": (T5, ""), "pretrain-mlm": (BERT, ""), "pretrain-clm": (BERT, ""),
    "finetune-qa": (T5, QUESTIONS), "finetune-spans": (BERT, POINTING),
    "finetune": (T5, "--tasks sentiment --target-length 6"), "finetune-classifier": (BERT, ""),
}  # fmt: skip
FLAGS = "--steps 600 --input-length 32 --batch-size 8 --save-every 20 --log-every 10 --evaluate-every 300"
FAULTS = ("kill", "term", "interrupt", "bytes", "metrics", "disk")
STATUS = {"kill": -9, "term": 143, "interrupt": 130, "bytes": -9, "metrics": -9, "disk": 2}


class Run:
    """One run of a program in `folder`, started by the same command as often as it takes."""

    def __init__(self, program: str, folder: Path):
        sizes, flags = PROGRAMS[program]
        self.path, self.steps = folder / "run", 600
        (folder / "model.json").write_text(json.dumps({**sizes, "max_position_embeddings": 40} if sizes is BERT else sizes))
        words = f"{program} --model {folder}/model.json --out {self.path} {FLAGS} {flags}".split()
        self.command = [sys.executable, "-m", "tlqa_jax.cli", *words]

    def start(self) -> subprocess.Popen:
        return subprocess.Popen(self.command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)

    def checkpoints(self) -> list[Path]:
        """The checkpoints, newest first."""
        return sorted((self.path / "checkpoints").glob("[0-9]*[0-9]"), key=lambda path: -int(path.name))

    def rows(self) -> list[dict]:
        return [json.loads(line) for line in (self.path / "metrics.jsonl").read_text().splitlines()]

    def state(self) -> dict[str, np.ndarray]:
        with Checkpoints(self.path) as checkpoints:
            return flatten(checkpoints._manager.restore(self.steps))


def disturb(run: Run, fault: str, rng: random.Random) -> bool:
    """Start the run and do it some harm. Returns False if the run was complete before."""
    begin, process, metrics = time.time(), run.start(), run.path / "metrics.jsonl"
    while process.poll() is None and not (metrics.exists() and metrics.stat().st_mtime > begin):
        time.sleep(0.02)  # until it trains
    filler = run.path / "filler"
    try:
        process.wait(rng.uniform(0, 2.5))
    except subprocess.TimeoutExpired:
        if fault == "disk":
            with filler.open("wb", buffering=0) as file:
                try:
                    while True:
                        file.write(bytes(2**16))
                except OSError:
                    pass
        else:
            process.send_signal({"term": signal.SIGTERM, "interrupt": signal.SIGINT}.get(fault, signal.SIGKILL))
    asked = time.time()
    errors = process.communicate(timeout=120)[1]
    filler.unlink(missing_ok=True)
    if process.returncode == 0:
        return False
    assert process.returncode == STATUS[fault], (fault, process.returncode, errors)
    assert errors.count("\n") == (fault in ("term", "interrupt", "disk")), (fault, errors)
    assert fault not in ("term", "interrupt") or time.time() - asked < 30
    complete = json.loads((run.path / "run.json").read_text()).get("finished")  # it was killed on its way out
    if fault == "bytes" and len(run.checkpoints()) > 1 and not complete:
        for path in run.checkpoints()[0].glob("**/d/*"):
            content = bytearray(path.read_bytes())
            place = rng.randrange(max(len(content) - 40, 1))
            content[place : place + 40] = bytes(255 - byte for byte in content[place : place + 40])
            path.write_bytes(content)
    if fault == "metrics":
        with metrics.open("a") as file:
            file.write('{"step": 599, "loss": 0.1234567'[: rng.randrange(1, 32)])
    return True


def compare(disturbed: Run, whole: Run) -> None:
    """The same parameters and optimizer state to the bit, the same metrics."""
    found, expected = disturbed.state(), whole.state()
    assert found.keys() == expected.keys()
    assert all(np.array_equal(found[name], expected[name]) for name in expected)
    assert (disturbed.path / "model.safetensors").read_bytes() == (whole.path / "model.safetensors").read_bytes()
    kinds = [
        {(row["step"], kind): row for row in run.rows() for kind in [min(row.keys() & {"loss", "eval_loss"})]}
        for run in (disturbed, whole)
    ]
    assert len(kinds[0]) == len(disturbed.rows()), "a row is there twice"
    for key, row in kinds[1].items():
        same = {name: value for name, value in row.items() if name != "tokens_per_second"}
        assert same.items() <= kinds[0][key].items(), (key, row, kinds[0].get(key))


def small_disk(folder: Path) -> bool:
    """Mount a tmpfs there. False where that is not allowed."""
    folder.mkdir()
    return subprocess.run(["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", folder], capture_output=True).returncode == 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--faults", type=int, default=100)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    end, rng, done = time.time() + 60 * options.minutes, random.Random(options.seed), collections.Counter()
    root = Path(tempfile.mkdtemp())
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it, and so would the programs
    mounted, runs, whole = [], 0, {}
    try:
        while done.total() < options.faults and time.time() < end:
            program = [*PROGRAMS][runs % len(PROGRAMS)]
            if program not in whole:
                (root / program).mkdir()
                whole[program] = Run(program, root / program)
                assert whole[program].start().wait() == 0, program
            folder = root / f"disturbed-{runs}"
            if small_disk(folder):
                mounted.append(folder)
            faults = [fault for fault in FAULTS if folder in mounted or fault != "disk"]
            disturbed, runs = Run(program, folder), runs + 1
            while (
                done.total() < options.faults and time.time() < end and disturb(disturbed, fault := rng.choice(faults), rng)
            ):
                done[fault] += 1
                print(f"{done.total()} {program}: {fault}", flush=True)
            assert disturbed.start().wait() == 0, program  # to its end, or it is complete
            compare(disturbed, whole[program])
    finally:
        for folder in mounted:
            subprocess.run(["umount", folder], check=True)
        shutil.rmtree(root, ignore_errors=True)
    counts = ", ".join(f"{number} {fault}" for fault, number in done.items())
    print(f"{done.total()} faults in {runs} runs of {len(whole)} programs, nothing lost: {counts}")


if __name__ == "__main__":
    main()
