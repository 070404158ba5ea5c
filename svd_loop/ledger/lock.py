"""One process a job: a lock the operating system releases however its holder ends.

`flock` through `filelock`: it is tied to the open file, so a killed process leaves nothing to clean up. The
holder's process id is written beside it for the message another process gets; nothing is decided by it. Left
out: breaking a lock by force, which is never needed for a dead holder and never right for a live one.
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
    """The exclusive right to write in a job's folder, held from construction to `release`."""

    def __init__(self, folder: Path) -> None:
        """Take the lock at once.

        Raises:
            JobConflictError: another process (or this one, elsewhere) holds it.
            LedgerError: the folder cannot be written, or its file system knows no locks.
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
        """Give the lock back; repeated calls do nothing."""
        if self._lock.is_locked:
            self._owner.unlink(missing_ok=True)
            self._lock.release()

    def _holder(self) -> str:
        try:
            owner = json.loads(self._owner.read_text())
            return f"process {owner['pid']} on {owner['host']}"
        except (OSError, ValueError, KeyError):  # being written at this moment
            return "another process"
