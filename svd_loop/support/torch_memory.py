"""Detect torch's out-of-memory errors and free memory, for generating and training."""

from __future__ import annotations

import ctypes
import gc


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch ran out of GPU or CPU memory."""
    import torch

    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def release_gpu_memory() -> None:
    """Collect garbage and return cached blocks to the GPU; fast without a GPU."""
    import torch

    if torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()


def release_memory() -> None:
    """Return all free memory to the GPU and to the system, for use by another process.

    Needed on a CPU because `svd_loop.support.allocator` keeps freed blocks; if the C library cannot trim, they stay.
    """
    gc.collect()
    release_gpu_memory()
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):  # not glibc
        return
    trim(0)
