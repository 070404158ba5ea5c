"""Measure what processes spend: processor time, and idle time.

Limits apply to both, never to wall time: on a busy machine a correct program takes long because it waits *for a
processor*, and the kernel counts that separately (`/proc/<pid>/task/<tid>/schedstat`, the second number).
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Sequence

_PER_PROCESS_CLOCK = 2
"""`CPUCLOCK_SCHED` in the kernel's clock ids: all threads, user and system time."""


class Clock:
    """Measures processes from the moment it is made."""

    def __init__(self, proc: int | None, processes: Sequence[int]) -> None:
        """Start.

        Args:
            proc: descriptor of the folder `/proc`; None if there is none, idle time is then unknown.
            processes: the processes to measure, of which at most one works at a time.
        """
        self._proc, self._processes = proc, processes
        self._started = time.monotonic()
        self._queued: dict[tuple[int, str], int] = {}
        self._spent = dict.fromkeys(processes, 0.0)
        self._most_threads = 1

    @property
    def wall(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._started

    @property
    def threads(self) -> int:
        """The largest number of threads seen in one process."""
        return self._most_threads

    def processor(self, process: int) -> float:
        """Processor time of a process in seconds; the last known value if it has ended."""
        with contextlib.suppress(OSError):
            self._spent[process] = time.clock_gettime((~process << 3) | _PER_PROCESS_CLOCK)
        return self._spent[process]

    def idle(self) -> float:
        """Seconds in which no process ran and none was waiting for a processor; 0 if unknown."""
        if self._proc is None:
            return 0.0
        wall = self.wall
        for process in self._processes:
            with contextlib.suppress(OSError):  # the process, or one of its threads, has just ended
                self._look(process, self._proc)
        busy = sum(map(self.processor, self._processes)) + sum(self._queued.values()) / 1e9
        return max(0.0, wall - busy)

    def _look(self, process: int, proc: int) -> None:
        tasks = os.open(f"{process}/task", os.O_RDONLY | os.O_DIRECTORY, dir_fd=proc)
        try:
            threads = os.listdir(tasks)
            for thread in threads:
                self._queued[process, thread] = _queued(thread, tasks)
        finally:
            os.close(tasks)
        self._most_threads = max(self._most_threads, len(threads))


def _queued(thread: str, tasks: int) -> int:
    """Nanoseconds that a thread has waited for a processor so far."""
    file = os.open(f"{thread}/schedstat", os.O_RDONLY, dir_fd=tasks)
    try:
        return int(os.read(file, 256).split()[1])
    finally:
        os.close(file)
