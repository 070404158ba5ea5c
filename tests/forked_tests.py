"""A test process of pytest-xdist that is a fork: `python -m tests.forked_tests -u -c CODE`, as execnet starts Python.

As a new interpreter, each would import torch, transformers and MLflow to collect the tests: six seconds of processor
time. This one waits for the end of the fork, which has its standard streams.
"""

from __future__ import annotations

import signal
import sys

from tests.processes import FOR_TESTS, Process

CODE = "import sys; sys.stdin = open(0, closefd=False); "
"""`multiprocessing` has closed the object."""


def main() -> int:
    """Play the code to its end; returns its exit code."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the fork is told by the process that distributes the tests
    command = [sys.executable, "-c", CODE + sys.argv[-1]]
    fork = Process(command, stdin=sys.stdin, stdout=sys.stdout, stderr=sys.stderr, server=FOR_TESTS)
    return fork.wait()


if __name__ == "__main__":
    sys.exit(main())
