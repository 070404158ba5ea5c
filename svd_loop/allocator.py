"""Two settings of the C runtime that decide how fast small models are on a CPU.

*Memory.* By default glibc gives every large block back to the kernel when it is freed, and asks for it again, page by
page, at the next step of training or generation. With tensors of some megabytes, allocated and freed hundreds
of times a second, the page faults cost more than the arithmetic: on two cores, training the embedded model ran
at 2,000 tokens/s without this and at 16,000 to 20,000 with it. The price is that a process keeps its peak.

A setting of the C library and not of torch, hence this one call into it. Other C libraries have no `mallopt` and
are left alone.

*Threads.* OpenMP threads wait for one another by spinning. On a machine with anything else to do, the thread that is
waited for is not running, because the spinning one holds its core: with two busy processes beside it, training ran at
1,000 tokens/s spinning and at 9,000 sleeping.
"""

from __future__ import annotations

import ctypes
import functools
import os

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
"""Parameter numbers of glibc's `mallopt(3)`."""
_NEVER = 2**31 - 1


@functools.cache
def keep_freed_memory() -> bool:
    """Keep freed blocks for the next allocation; returns whether the C library took the setting."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError):  # not glibc
        return False
    return bool(mallopt(_M_MMAP_MAX, 0)) and bool(mallopt(_M_TRIM_THRESHOLD, _NEVER))


def let_threads_sleep() -> None:
    """Have OpenMP threads sleep while they wait, unless the user says otherwise; before torch is first imported."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
