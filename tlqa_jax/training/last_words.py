"""The standard error of a training process, with one line in the place of what JAX says when another process is lost.

JAX then ends the process from a thread of C++, where no Python runs, with ten or more lines. So a child reads what the
process writes to its standard error, and passes on all but these. This file is the child. It has the standard library
only, and ends with the process, however that ends. TLQA_DEBUG=1 shows JAX's words as well.
"""

import os
import re
import signal
import sys

OF_JAX = re.compile(rb"(coordination_service\w*\.cc|preemption_sync_manager\.cc|client\.h):\d+\] ")
OF_PYTHON = (b"tlqa: ", b"Traceback ")  # the first line after some of JAX's
FATAL = b"JAX distributed service detected fatal errors"
REGISTERING = b"RegisterTask"  # what the process was doing if it never found the others


def copy_errors(lost: str, not_found: str) -> None:
    """Copy standard input to standard error, without what JAX says of other processes.

    If JAX ends the process, say `lost`, unless the process has, or `not_found`.
    """
    for number in (signal.SIGINT, signal.SIGTERM):  # a cluster sends it to all processes of a job
        signal.signal(number, signal.SIG_IGN)
    said = hiding = False
    hidden = b""
    for line in sys.stdin.buffer:
        hiding = (hiding or OF_JAX.search(line) is not None) and not line.startswith(OF_PYTHON)
        if hiding or said:
            hidden += line
            continue
        said = lost.encode() in line
        sys.stderr.buffer.write(line)
        sys.stderr.buffer.flush()
    if os.environ.get("TLQA_DEBUG", "0") not in ("", "0"):
        sys.stderr.write(hidden.decode(errors="replace"))
    if FATAL in hidden and not said:
        print(f"tlqa: {not_found if REGISTERING in hidden else lost}", file=sys.stderr)


if __name__ == "__main__":
    copy_errors(*sys.argv[1:])
