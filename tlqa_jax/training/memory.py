"""What cannot fit into memory is refused; freed memory is kept: a third of a small step on a CPU can be page faults."""

import ctypes
import sys

import jax

from tlqa_jax.core.devices import host_memory
from tlqa_jax.errors import UserError
from tlqa_jax.models.bert import BertConfig
from tlqa_jax.models.t5 import T5Config

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


def check_memory(config: BertConfig | T5Config, rows: int, length: int) -> None:
    """Raise UserError if a run needs more memory than a device has, by an estimate that is too low rather than too high.

    Counted are float32 parameters, gradients and optimizer state (16 bytes for each parameter), and one layer's vectors
    of the `rows` of a micro-batch.
    """
    if isinstance(config, BertConfig):
        width, layers, attention = config.hidden_size, config.num_hidden_layers, 4 * config.hidden_size**2
        tables, feed_forward = config.vocab_size + config.max_position_embeddings, config.intermediate_size
    else:
        width, tables, feed_forward = config.d_model, config.vocab_size, config.d_ff
        attention, layers = 4 * width * config.num_heads * config.d_kv, config.num_layers + config.decoder_layers
    parameters = tables * width + layers * (attention + 2 * width * feed_forward)
    needed = 16 * parameters + 4 * rows * length * width
    device = jax.local_devices()[0]
    there = (device.memory_stats() or {}).get("bytes_limit") or host_memory()
    if there and needed > there:
        what = f"{parameters:,} parameters, and {rows:,} rows of {length:,} tokens"
        raise UserError(
            f"{what}: they need {needed / 2**30:,.0f} GiB of memory, and there are {there / 2**30:,.0f}: choose a smaller "
            "--model, --batch-size or --input-length"
        )
