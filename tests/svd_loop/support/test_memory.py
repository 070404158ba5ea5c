"""Free memory by the system and by control groups, read from made-up files."""

from __future__ import annotations

from pathlib import Path

import pytest

from svd_loop.support.memory import free_memory

GIB = 2**30


def machine(root: Path, groups: str, **files: str) -> Path:
    """A root with 8 GiB available of 16, the given groups, and files below `sys/fs/cgroup`."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/meminfo").write_text(f"MemTotal: {16 * 2**20} kB\nMemAvailable: {8 * 2**20} kB\n")
    (root / "proc/self/cgroup").write_text(groups)
    for name, text in files.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_what_is_free_counts_and_not_what_is_there(tmp_path: Path) -> None:
    assert free_memory(machine(tmp_path, "0::/\n")) == 8 * GIB


@pytest.mark.parametrize(("limit", "free"), [("max", 8 * GIB), (str(4 * GIB), 2 * GIB), (str(100 * GIB), 8 * GIB)])
def test_a_limit_above_this_group_counts_with_its_cache(tmp_path: Path, limit: str, free: int) -> None:
    files = {
        "outer/memory.max": limit,
        "outer/memory.current": str(3 * GIB),
        "outer/memory.stat": f"anon 1\ninactive_file {GIB}\n",
        "outer/inner/memory.max": "max",
    }
    assert free_memory(machine(tmp_path, "0::/outer/inner\n", **files)) == free


def test_version_one_is_read(tmp_path: Path) -> None:
    files = {
        "memory/job/memory.limit_in_bytes": str(2 * GIB),
        "memory/job/memory.usage_in_bytes": str(GIB),
        "memory/job/memory.stat": "total_inactive_file 0\n",
    }
    assert free_memory(machine(tmp_path, "5:memory:/job\n4:cpu,cpuacct:/job\n", **files)) == GIB


def test_a_group_over_its_limit_leaves_nothing(tmp_path: Path) -> None:
    files = {"memory.max": "10", "memory.current": "20", "memory.stat": ""}
    assert free_memory(machine(tmp_path, "0::/\n", **files)) == 0


def test_this_machine_has_some() -> None:
    assert free_memory() > 2**20
