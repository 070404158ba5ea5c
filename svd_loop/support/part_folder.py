"""Folders that appear complete or not at all, and leave nothing behind when their process is killed."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def part_folder(target: Path) -> Iterator[Path]:
    """A new, empty folder beside `target`, to be filled and renamed to it; removed if the block does not rename it.

    Folders that killed processes have left beside the same target are removed first. The maker of a folder holds a lock
    on it, which ends with its process; on a file system without locks nothing is removed.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    leftover = re.compile(rf"\.{re.escape(target.name)}\.[0-9a-f]{{32}}")
    for path in target.parent.iterdir():
        if leftover.fullmatch(path.name) and (held := _locked(path)) is not None:
            shutil.rmtree(path, ignore_errors=True)
            os.close(held)
    while True:
        part = target.with_name(f".{target.name}.{uuid.uuid4().hex}")
        part.mkdir()
        held = _locked(part)
        if part.exists():  # no other process took it for a leftover before it was locked
            break
    try:
        yield part
    finally:
        shutil.rmtree(part, ignore_errors=True)
        if held is not None:
            os.close(held)


def _locked(folder: Path) -> int | None:
    """An open descriptor of a folder with its lock; None if another process holds it, or there are no locks here."""
    descriptor = None
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return descriptor
    if descriptor is not None:
        os.close(descriptor)
    return None
