"""Memory that is handed on: a child's peak should not come on top of what its parent keeps and does not use."""

import subprocess
import sys

PROGRAM = """
import ctypes, os
from svd_loop.support.torch_memory import release_memory
from svd_loop.support.allocator import keep_freed_memory

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20

kept = keep_freed_memory()
import torch
before = resident()
blocks = [torch.ones(2**18) for _ in range(200)]  # 200 MiB in pieces
full = resident()
del blocks
freed = resident()
release_memory()
print(kept, full - before, freed - before, resident() - before)
"""


def test_memory_kept_for_the_next_allocation_is_given_back_when_asked_for() -> None:
    out = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout.split()
    full, freed, released = map(float, out[1:])
    assert full > 150
    if out[0] == "True":  # glibc
        assert freed > 150 and released < 30
