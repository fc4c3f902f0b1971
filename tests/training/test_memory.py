"""In processes of their own: the setting cannot be taken back."""

import subprocess
import sys

import pytest

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
