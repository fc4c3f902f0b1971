"""A third of a small model's step on a CPU can be page faults. This is how to have none."""

import ctypes
import sys

# <malloc.h> of glibc
M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX, M_ARENA_MAX = -1, -2, -4, -8


def keep_freed_memory() -> bool:
    """Tell glibc to keep what is freed for the next step, not give it back to the system. Returns whether it listens.

    XLA takes the memory for a step's intermediate results in one piece and frees it after the step. glibc gives pieces
    of that size back to the system at once, and so each step asks for the same memory again, a page fault for every
    4 KiB of it. Afterwards the process holds as much as its largest step needed, until it ends. Call it before the
    first computation; on a system without glibc it does nothing.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except AttributeError:  # another C library
        return False
    settings = {
        M_ARENA_MAX: 1,  # one heap for all threads: those of other threads cannot hold large pieces
        M_MMAP_MAX: 0,  # no piece outside the heap
        M_TRIM_THRESHOLD: 2**31 - 1,  # a heap does not shrink before 2 GiB at its end are free
        M_TOP_PAD: 64 * 2**20,
    }
    return all([mallopt(name, value) for name, value in settings.items()])
