"""A worker of Ray that is a fork, in place of Ray's `setup_worker.py`: `python forked_worker.py WORKER ARGUMENT...`.

Ray starts two interpreters for each worker, of which the second imports torch and transformers for what it is asked:
eight seconds of processor time. Here the program WORKER, which is Ray's own, runs in a fork that has them behind it.
This process, which Ray's node has started, waits for its end.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[3]))  # Ray starts a file, not a module

from tests.processes import FOR_TESTS, Process

WORKER = "import runpy, sys; runpy.run_path(sys.argv.pop(1), run_name='__main__')"


def main() -> int:
    """Play the worker to its end; returns its exit code."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--serialized-runtime-env-context", default="{}")
    parser.add_argument("--language")
    options, command = parser.parse_known_args()
    environment = json.loads(options.serialized_runtime_env_context)
    assert not environment.get("env_vars") and not environment.get("command_prefix"), environment  # nobody asks for one
    fork = Process([sys.executable, "-c", WORKER, *command], stdout=sys.stdout, stderr=sys.stderr, server=FOR_TESTS)
    return fork.wait()


if __name__ == "__main__":
    sys.exit(main())
