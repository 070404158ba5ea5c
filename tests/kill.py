"""Killing a job again and again until it is done: the harness behind every kill test and `benchmarks/kills.py`."""

from __future__ import annotations

import random
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.processes import FOR_COMMANDS, Process, Server, run


@dataclass(frozen=True)
class KillReport:
    """`kills` processes were killed, `runs` were started; the last one ended with exit code 0."""

    kills: int
    runs: int


def run_with_kills(
    command: Sequence[str],
    *,
    kills: int,
    seed: int,
    window: float,
    ready: str | None = None,
    finished: Callable[[], bool] = lambda: False,
    timeout: float = 120.0,
    cwd: Path | None = None,
    server: Server = FOR_COMMANDS,
) -> KillReport:
    """Start `command` until it ends by itself, sending SIGKILL to its process group at random instants.

    Args:
        command: continues its work when started again, and exits with 0 when all is done.
        kills: at most so many; then it may finish in peace.
        seed: of the instants.
        window: a kill comes after 0 to `window` seconds of work (uniformly).
        ready: work begins when this line appears on its standard output; None: when the process starts.
        finished: whether the work is done; then the next run is left in peace. Without it a job that is done but
            takes its time to say so goes on being killed, which proves nothing.
        timeout: seconds one run may take.
        cwd: where it runs.
        server: what it is forked from.

    Raises:
        AssertionError: a run failed by itself; its standard error is in the message.
    """
    instants = random.Random(seed)
    done = 0
    while done < kills and not finished():
        if not _run(command, instants.uniform(0.0, window), ready, timeout, cwd, server):
            return KillReport(done, done + 1)
        done += 1
    _run(command, None, ready, timeout, cwd, server)
    return KillReport(done, done + 1)


def run_until_it_kills_itself(
    command: Sequence[str], *, timeout: float = 120.0, cwd: Path | None = None, server: Server = FOR_COMMANDS
) -> None:
    """Run a command that is to die of its own SIGKILL, and insist that it did."""
    outcome = run(command, timeout=timeout, cwd=cwd, server=server)
    assert outcome.returncode == -signal.SIGKILL, f"exit code {outcome.returncode}\n{outcome.stderr}"


def _run(
    command: Sequence[str], delay: float | None, ready: str | None, timeout: float, cwd: Path | None, server: Server
) -> bool:
    """One run; whether it was killed (False: it ended well by itself)."""
    with tempfile.TemporaryFile("w+") as errors:
        output = subprocess.PIPE if ready is not None else None
        process = Process(command, stdout=output, stderr=errors, cwd=cwd, server=server)
        try:
            if process.stdout is not None:
                with process.stdout:
                    while (line := process.stdout.readline()) and line.strip() != ready:
                        pass
            if delay is not None:
                time.sleep(delay)
                if process.returncode is None:
                    return True
            code = process.wait(timeout)
        finally:
            process.kill_group()
        errors.seek(0)
        assert code == 0, f"{' '.join(command)} exited with {code}\n{errors.read()}"
        return False
