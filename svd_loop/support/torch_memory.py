"""Running out of memory, as torch reports it: recognised in one place for generating and training."""

from __future__ import annotations

import ctypes
import gc


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch ran out of GPU or CPU memory."""
    import torch

    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)


def release_gpu_memory() -> None:
    """Collect garbage and give cached blocks back to the GPU; cheap without one."""
    import torch

    if torch.cuda.is_available():
        gc.collect()
        torch.cuda.empty_cache()


def release_memory() -> None:
    """Give everything that is free back to the GPU and to the system, for another process to use.

    Needed on a CPU because `svd_loop.support.allocator` keeps freed blocks; where the C library cannot trim, they stay.
    """
    gc.collect()
    release_gpu_memory()
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (AttributeError, OSError):  # not glibc
        return
    trim(0)
