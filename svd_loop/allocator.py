"""Telling the C library to keep the memory it was given.

By default glibc gives every large block back to the kernel when it is freed, and asks for it again, page by
page, at the next step of training or generation. With tensors of some megabytes, allocated and freed hundreds
of times a second, the page faults cost more than the arithmetic: on two cores, training the embedded model ran
at 2,000 tokens/s without this and at 16,000 to 20,000 with it. The price is that a process keeps its peak.

A setting of the C library and not of torch, hence this one call into it. Other C libraries have no `mallopt` and
are left alone.
"""

from __future__ import annotations

import ctypes
import functools

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
