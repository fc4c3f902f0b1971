"""tlqa_jax beside Transformers on the same work: a table of ratios, all measured in one run.

    python benchmarks/compare.py --torch-python .../bin/python --flax-python .../bin/python
    python benchmarks/compare.py --tlqa . ../tlqa-before        # two checkouts of this repository: now and before

README.md says how to make the two environments and what is held equal. A contender without a Python is left out.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import works

from tlqa_jax.tasks import span_corruption

HERE = Path(__file__).parent
# glibc keeps freed memory and asks for huge pages: without this, each contender returns its memory to the system in
# each step and pays page faults for it in the next
TUNED_ALLOCATOR = (
    "glibc.malloc.hugetlb=1:glibc.malloc.mmap_max=0:glibc.malloc.arena_max=1:"
    "glibc.malloc.trim_threshold=1000000000000:glibc.malloc.top_pad=268435456"
)


class Contender:
    """A running `contender.py` of a checkout of this repository. `library` is tlqa, torch or flax."""

    def __init__(self, name: str, library: str, python: str, checkout: Path, work: str, threads: int, allocator: str):
        self.name, self.turns = name, []
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
        if library == "tlqa":
            environment["PYTHONPATH"] = str(checkout.resolve())
        environment.pop("GLIBC_TUNABLES", None)
        if allocator == "tuned":
            environment["GLIBC_TUNABLES"] = TUNED_ALLOCATOR
        cores = sorted(os.sched_getaffinity(0))[:threads]
        self.process = subprocess.Popen(
            [python, checkout / "benchmarks" / "contender.py", library, work], env=environment, text=True, bufsize=1,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
        self.ready = self._reply()

    def _reply(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.name} stopped with exit code {self.process.wait()}: see above")
        return json.loads(line)

    def take_turn(self, calls: int) -> None:
        print(calls, file=self.process.stdin)
        self.turns.append(statistics.median(self._reply()["seconds"]))

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def compare(work: str, started: list[tuple], rounds: int, threads: int, allocator: str) -> dict:
    """The contenders' seconds on one work. They take turns, A B C A B C …, so that noise affects all alike.

    `started` are the first four arguments of each `Contender`.
    """
    contenders = [Contender(*which, work, threads, allocator) for which in started]
    for _ in range(rounds):
        for contender in contenders:
            contender.take_turn(works.CALLS_A_TURN[work])
    for contender in contenders:
        contender.close()
    return {
        "work": work, "allocator": allocator, "threads": threads,
        "contenders": {c.name: {**c.ready, "seconds": c.turns} for c in contenders},
    }


def span_corruption_speed(rounds: int, batch: int = 128) -> list[float]:
    """Source tokens a second, on one core: drawing masks, building inputs and targets, at an input length of 512."""
    all_cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(all_cores)})
    rng = np.random.default_rng(0)
    length, targets_length = span_corruption.tokens_length_for(512)
    tokens = rng.integers(2, 32000, (batch, length)).astype(np.int32)
    sentinels = np.arange(32099, 31999, -1, dtype=np.int32)
    speeds = []
    for _ in range(rounds):
        start = time.perf_counter()
        for _ in range(20):
            mask = span_corruption.random_spans_mask(rng, batch, length)
            span_corruption.corrupt(tokens, mask, sentinels=sentinels, inputs_length=512, targets_length=targets_length)
        speeds.append(20 * tokens.size / (time.perf_counter() - start))
    os.sched_setaffinity(0, all_cores)
    return speeds


def table(results: list[dict]) -> str:
    """Markdown: the median turn and the median ratio of a round, each with the smallest and the largest.

    Ratios are to the first contender.
    """
    lines = [
        "| work | contender | ms (smallest–largest) | times the first contender's | first call, s |",
        "|---|---|---|---|---|",
    ]
    spread = lambda values, form: f"{statistics.median(values):{form}} ({min(values):{form}}–{max(values):{form}})"
    for result in results:
        first = next(iter(result["contenders"]))
        ours = result["contenders"][first]["seconds"]
        title = works.TITLES[result["work"]] + (", allocator tuned for all" if result["allocator"] == "tuned" else "")
        for name, contender in result["contenders"].items():
            milliseconds = spread([1000 * s for s in contender["seconds"]], ".0f")
            ratios = [theirs / our for theirs, our in zip(contender["seconds"], ours)]
            ratio = "" if name == first else f"{spread(ratios, '.2f')}"
            versions = contender["versions"] + (f", {name}" if name.startswith("tlqa ") else "")
            lines.append(f"| {title} | {versions} | {milliseconds} | {ratio} | {contender['first_call']:.1f} |")
            title = ""
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument(
        "--tlqa", nargs="+", type=Path, default=[HERE.parent], metavar="DIR", help="checkouts of this repository"
    )
    parser.add_argument("--torch-python", help="a Python that has Transformers and PyTorch")
    parser.add_argument("--flax-python", help="a Python that has Transformers 4.57 and Flax")
    parser.add_argument("--works", nargs="+", default=list(works.TITLES), choices=works.TITLES, help="what to measure")
    parser.add_argument(
        "--allocators", nargs="+", default=["default", "tuned"], choices=["default", "tuned"], help="of every contender"
    )
    parser.add_argument("--rounds", type=int, default=7, help="turns of each contender")
    parser.add_argument("--threads", type=int, default=2, help="threads and cores of each contender")
    parser.add_argument(
        "--out", type=Path, default=Path("runs/benchmarks"), help="folder for table.md and results.json"
    )
    flags = parser.parse_args()

    names = ["tlqa"] if len(flags.tlqa) == 1 else [f"tlqa {checkout}" for checkout in flags.tlqa]
    started = [(name, "tlqa", sys.executable, checkout) for name, checkout in zip(names, flags.tlqa)]
    peers = {"torch": flags.torch_python, "flax": flags.flax_python}
    started += [(name, name, python, HERE.parent) for name, python in peers.items() if python]
    results = []
    for work in flags.works:
        for allocator in flags.allocators:
            print(f"{works.TITLES[work]} ({allocator} allocator) …", file=sys.stderr)
            results.append(compare(work, started, flags.rounds, flags.threads, allocator))
    speeds = span_corruption_speed(flags.rounds)

    text = (
        f"{platform.system()}, {platform.machine()}, {flags.threads} threads, {flags.rounds} rounds\n\n"
        f"{table(results)}\n\n"
        f"Span corruption on one core: {statistics.median(speeds) / 1e6:.0f} million tokens/s "
        f"({min(speeds) / 1e6:.0f}–{max(speeds) / 1e6:.0f}).\n"
    )
    print(text)
    flags.out.mkdir(parents=True, exist_ok=True)
    (flags.out / "table.md").write_text(text)
    numbers = {"works": results, "span_corruption_tokens_per_second": speeds}
    (flags.out / "results.json").write_text(json.dumps(numbers, indent=1) + "\n")


if __name__ == "__main__":
    main()
