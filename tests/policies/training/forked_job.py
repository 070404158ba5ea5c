"""The job's process of a launched update, whose launcher and training processes are its forks.

`python -m tests.policies.training.forked_job FOLDER CHECKPOINT SETTINGS` plays `tests.policies.updates.train_once`. As
new interpreters, launcher and processes would import torch again, twenty seconds of processor time in all.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from types import SimpleNamespace
from typing import IO, Any

from policies.training import launching
from tests.policies.training.forking_launcher import Forked
from tests.policies.updates import train_once
from tests.processes import FOR_ENGINES, Process

LAUNCHER = "tests.policies.training.forking_launcher"


def forking(command: Sequence[str]) -> list[str]:
    """The command line of a launcher with that of the one that forks in its place."""
    changed = [LAUNCHER if part == "accelerate.commands.launch" else part for part in command]
    assert changed != command
    return changed


class ForkedLauncher(Forked):
    """The part of `subprocess.Popen` that a job uses of its launcher, with a pipe as its stdin."""

    def __init__(
        self,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        stdin: int,
        stdout: IO[Any],
        stderr: IO[Any],
        **rest: Any,
    ) -> None:
        assert (rest, stdin, stderr) == ({"start_new_session": True}, subprocess.PIPE, stdout)  # as each has
        reading, writing = os.pipe()

        def redirect() -> None:
            os.close(writing)  # stdin ends when the job does, so nobody else may hold it
            for number, stream in enumerate((reading, stdout.fileno(), stdout.fileno())):
                os.dup2(stream, number)

        super().__init__(forking(command), env, redirect)
        os.close(reading)
        self.stdin = open(writing, "wb")  # noqa: SIM115, closed by the job

    def terminate(self) -> None:
        """Ask it to end."""
        os.kill(self.pid, signal.SIGTERM)

    def kill(self) -> None:
        """End it at once, if it still runs."""
        if self.poll() is None:
            os.kill(self.pid, signal.SIGKILL)


def launch(
    command: Sequence[str], *, env: Mapping[str, str], stdin: int, stdout: IO[Any], stderr: IO[Any], **rest: Any
) -> Process:
    """Start a launcher that forks, itself a fork of a process with the training libraries behind it."""
    assert rest == {"start_new_session": True}  # as each of these has
    return Process(forking(command), env=env, stdin=stdin, stdout=stdout, stderr=stderr, server=FOR_ENGINES)


LAUNCHES = SimpleNamespace(Popen=launch, PIPE=subprocess.PIPE, TimeoutExpired=subprocess.TimeoutExpired)
"""For `policies.training.launching.subprocess`."""


if __name__ == "__main__":
    popen = {name: getattr(subprocess, name) for name in ("PIPE", "TimeoutExpired")}
    launching.subprocess = SimpleNamespace(Popen=ForkedLauncher, **popen)
    train_once(*sys.argv[1:])
