"""The number of processors this process may use, which is often lower than that of the machine."""

from __future__ import annotations

import math
import os
from pathlib import Path


def usable_processors(root: Path = Path("/")) -> int:
    """Processors by affinity and by the quotas of this process's control groups (versions 1 and 2), at least 1.

    Args:
        root: where `proc` and `sys` are found.
    """
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [quota for folder in group_folders(root, "cpu") if (quota := _quota(folder)) is not None]
    return max(1, min([affinity, *(math.ceil(quota) for quota in quotas)]))


def group_folders(root: Path, controller: str) -> list[Path]:
    """The folders of this process's groups of a controller and of all above them; in a container, its own root."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return []
    folders = []
    for line in lines:
        _, controllers, group = line.split(":", 2)
        mounts = (
            ["sys/fs/cgroup"] if not controllers else [f"sys/fs/cgroup/{controllers}", f"sys/fs/cgroup/{controller}"]
        )
        if controllers and controller not in controllers.split(","):
            continue
        parts = [part for part in group.split("/") if part]
        folders += [root.joinpath(mount, *parts[:depth]) for mount in mounts for depth in range(len(parts) + 1)]
    return folders


def _quota(folder: Path) -> float | None:
    """Processors a group may use; None for no limit."""
    try:
        if (file := folder / "cpu.max").is_file():
            quota, period = file.read_text().split()[:2]
        else:
            quota, period = ((folder / f"cpu.cfs_{name}_us").read_text() for name in ("quota", "period"))
        return float(quota) / float(period) if quota.strip() != "max" and float(quota) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        return None
