"""One contender, one work, one process: prepares the work, then times it when a line with a number of calls arrives.

    python contender.py tlqa|flax|torch train|greedy-1|greedy-8|beam-4|mlm-mini|mlm-base|spans-base

`compare.py` starts these and speaks with them in lines of JSON; it also sets the threads and the allocator.
"""

import importlib
import json
import os
import sys
import time
import warnings

warnings.filterwarnings("ignore")
os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error", JAX_PLATFORMS="cpu")


def timed(call) -> tuple[float, float]:
    start = time.perf_counter()
    loss = call()
    return time.perf_counter() - start, loss


def main(contender: str, work: str) -> None:
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever a library prints goes to stderr: the replies stay clean
    library = importlib.import_module(f"with_{contender}")
    kind, _, size = work.partition("-")
    call = {
        "train": lambda: library.train(),
        "greedy": lambda: library.decoding(batch=int(size)),
        "beam": lambda: library.decoding(batch=1, beams=int(size)),
        "mlm": lambda: library.masked_lm(size),
        "spans": lambda: library.span_logits(size),
    }[kind]()
    first, _ = timed(call)
    timed(call)  # a second one, before anything counts
    print(json.dumps({"versions": library.versions(), "first_call": first}), file=replies)
    for line in sys.stdin:
        seconds, losses = zip(*(timed(call) for _ in range(int(line))))
        print(json.dumps({"seconds": seconds, "loss": losses[-1]}), file=replies)


if __name__ == "__main__":
    main(*sys.argv[1:])
