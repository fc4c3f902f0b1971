"""One contender and one work in a process of its own: prepares the work, then times as many calls as it is asked for.

    python contender.py tlqa|flax|torch train|greedy-1|greedy-8|beam-4|mlm-mini|mlm-base|spans-base

`compare.py` starts it, sets its threads and allocator, sends it numbers of calls, and reads its answers: lines of JSON.
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
    os.dup2(2, 1)  # what a library prints goes to stderr, not between the replies
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
    timed(call)  # a second call that is not counted
    print(json.dumps({"versions": library.versions(), "first_call": first}), file=replies)
    for line in sys.stdin:
        seconds, losses = zip(*(timed(call) for _ in range(int(line))))
        print(json.dumps({"seconds": seconds, "loss": losses[-1]}), file=replies)


if __name__ == "__main__":
    main(*sys.argv[1:])
