"""Lock of a job: one process at a time; the operating system releases it however the process ends.

It is `flock` through `filelock`, tied to the open file, so a killed process leaves nothing to clean up. The process id
of the holder is written to a file for the error message of other processes only. Left out: breaking a lock by force,
which is never needed for a dead holder and always wrong for a live one.
"""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

from filelock import FileLock, Timeout

from svd_loop.contracts import JobPaths
from svd_loop.errors import JobConflictError, LedgerError


class JobLock:
    """Exclusive lock of a job's folder, held from construction to `release`."""

    def __init__(self, folder: Path) -> None:
        """Take the lock without waiting.

        Raises:
            JobConflictError: another process, or another object in this one, holds the lock.
            LedgerError: the folder cannot be written, or its file system does not support locks.
        """
        self._owner = JobPaths(folder).lock_owner
        self._lock = FileLock(JobPaths(folder).lock, timeout=0, thread_local=False)
        try:
            self._lock.acquire()
            self._owner.write_text(json.dumps({"pid": os.getpid(), "host": socket.gethostname()}))
        except Timeout:
            raise JobConflictError(
                f"{folder}: the job is being run by {self._holder()}; wait for it, stop it, or start another job "
                "with --job NAME"
            ) from None
        except (OSError, NotImplementedError) as error:
            self._lock.release()
            raise LedgerError(f"{folder}: the job's lock cannot be taken: {error}") from error

    def release(self) -> None:
        """Release the lock; repeated calls do nothing."""
        if self._lock.is_locked:
            self._owner.unlink(missing_ok=True)
            self._lock.release()

    def _holder(self) -> str:
        try:
            owner = json.loads(self._owner.read_text())
            return f"process {owner['pid']} on {owner['host']}"
        except (OSError, ValueError, KeyError):  # the file is being written at this moment
            return "another process"
