"""How much memory this process may still take, which is often less than the machine has."""

from __future__ import annotations

import os
from pathlib import Path

from svd_loop.support.processors import group_folders


def free_memory(root: Path = Path("/")) -> int:
    """Bytes that can be had without swapping, by the system and by the limits of this process's control groups.

    Memory of the page cache counts as free: the system gives it up. Control groups of versions 1 and 2 are read.

    Args:
        root: where `proc` and `sys` are found.
    """
    rooms = [room for folder in group_folders(root, "memory") if (room := _room(folder)) is not None]
    return max(0, min([_available(root), *rooms]))


def _available(root: Path) -> int:
    """`MemAvailable`; all of the machine's memory where the system does not say (no Linux)."""
    try:
        for line in (root / "proc/meminfo").read_text().splitlines():
            name, _, rest = line.partition(":")
            if name == "MemAvailable":
                return int(rest.split()[0]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _room(folder: Path) -> int | None:
    """Bytes that a group may still take; None for no limit."""
    try:
        if (folder / "memory.max").is_file():
            limit, used = ((folder / f"memory.{name}").read_text().strip() for name in ("max", "current"))
            cache = "inactive_file"
        else:
            limit, used = ((folder / f"memory.{name}_in_bytes").read_text().strip() for name in ("limit", "usage"))
            cache = "total_inactive_file"
        if limit == "max":
            return None
        lines = (line.split() for line in (folder / "memory.stat").read_text().splitlines())
        given_up = sum(int(value) for name, value in lines if name == cache)
        return int(limit) - int(used) + given_up
    except (OSError, ValueError):
        return None
