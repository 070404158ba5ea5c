"""Three settings of the C runtime for models on a CPU.

*Memory.* By default glibc gives most blocks back to the kernel when they are freed, and asks for them again, page by
page, at the next step. Keeping them gained up to a tenth in a bare training loop on a quiet machine
(docs/results/updates.md); in return a process keeps its peak memory. Blocks of 32 MiB or more, such as the logits of a
vocabulary of 150,000, still go back: kept ones break into pieces that the next one does not fit, which took up to 1.7
times the memory, by chance more or less. Other C libraries have no `mallopt` and are not changed.

*Threads.* OpenMP threads wait for one another by spinning, which on a busy machine takes the core
from the thread that is waited for. Sleeping costs a few per cent on an idle machine.

*Kernels.* In bfloat16, oneDNN and torch's layer above it each keep 1,024 compiled products by shape, some with a copy
of the weights. Rows of every length then fill a machine's memory (docs/results/engines.md); 64 hold what a step needs.
"""

from __future__ import annotations

import ctypes
import functools
import os

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
"""Parameter numbers of glibc's `mallopt(3)`."""
_NEVER = 2**31 - 1
_LARGE = 2**25
"""Bytes: the most that `mallopt` takes as a threshold."""


@functools.cache
def keep_freed_memory() -> bool:
    """Keep freed blocks under 32 MiB for the next allocation; returns whether the C library accepted the setting."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # not glibc
        return False
    return bool(mallopt(_M_MMAP_THRESHOLD, _LARGE)) and bool(mallopt(_M_TRIM_THRESHOLD, _NEVER))


def let_threads_sleep() -> None:
    """Let OpenMP threads sleep while they wait, unless the user set otherwise; call before importing torch."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def bound_kernel_caches() -> None:
    """Keep few compiled products, unless the user set otherwise; call before the first product."""
    for name in ("LRU_CACHE_CAPACITY", "ONEDNN_PRIMITIVE_CACHE_CAPACITY"):
        os.environ.setdefault(name, "64")
