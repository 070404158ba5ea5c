"""Servers that end with the tests, in whatever way those end.

A server that a test starts has processes of its own and would go on for ever beside a machine's other work if the
tests were ended by a signal. Whoever starts one starts `guarded(command)`, in a session of its own: this module, run
as a program, which runs the command and kills the whole process group when the process that runs the tests is gone.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

TESTS = "SVD_LOOP_TESTS"
"""Environment variable: the process that runs the tests, where it is not the one that starts the server."""


def guarded(command: Sequence[str]) -> list[str]:
    """The command, tied to the tests' process."""
    return [sys.executable, "-S", str(Path(__file__)), os.environ.get(TESTS, str(os.getpid())), *command]


def run(tests: int, command: Sequence[str]) -> int:
    """Run a command until it ends, for its exit code, or until process `tests` is gone, with no way back."""
    with suppress(ProcessLookupError):
        watched = os.pidfd_open(tests)
        server = subprocess.Popen(command)
        poller = select.poll()
        for descriptor in (watched, os.pidfd_open(server.pid)):
            poller.register(descriptor, select.POLLIN)
        if all(descriptor != watched for descriptor, _ in poller.poll()):
            return server.wait()
    os.killpg(0, signal.SIGKILL)
    raise AssertionError("the group, this process with it, was killed")


if __name__ == "__main__":
    sys.exit(run(int(sys.argv[1]), sys.argv[2:]))
