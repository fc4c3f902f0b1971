"""The standard error of a training process, with one line in the place of what JAX says when another process is lost.

JAX then ends the process from a thread of C++, where no Python runs, with ten or more lines. So a child reads what the
process writes to its standard error: it passes everything on, until JAX ends the process. This file is the child. It has
the standard library only, and ends with the process, however that ends. TLQA_DEBUG=1 shows JAX's words as well.
"""

import os
import re
import signal
import sys

LAST_WORDS = re.compile(  # each may be the first, and all mean the same
    b"Use error polling to propagate|Polled an error from coordination service|JAX distributed service detected fatal"
)
LOGGED = b"preemption_sync_manager.cc"  # what it logs when it is closed without the others
REGISTERING = b"RegisterTask"  # what the process was doing if it never found the others


def copy_errors(lost: str, not_found: str) -> None:
    """Copy standard input to standard error. At JAX's last words say `lost` instead, unless it has been said, or
    `not_found`."""
    for number in (signal.SIGINT, signal.SIGTERM):  # a cluster sends it to all processes of a job
        signal.signal(number, signal.SIG_IGN)
    said, logged, last_words = False, b"", b""
    for line in sys.stdin.buffer:
        if last_words or LAST_WORDS.search(line):
            last_words += line
        elif LOGGED in line:
            logged += line
        elif not said:
            said = lost.encode() in line
            sys.stderr.buffer.write(line)
            sys.stderr.buffer.flush()
    if os.environ.get("TLQA_DEBUG", "0") not in ("", "0"):
        sys.stderr.write((logged + last_words).decode(errors="replace"))
    if last_words and not said:
        print(f"tlqa: {not_found if REGISTERING in last_words else lost}", file=sys.stderr)


if __name__ == "__main__":
    copy_errors(*sys.argv[1:])
