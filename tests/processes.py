"""Real processes that need not import everything again: forked from one server that has the imports behind it.

A test about the death of a process, its exit code or its signal handlers needs a process, but rarely a new
interpreter, whose imports cost more processor time than the small job it plays. `Process` and `run` take the command
lines that `subprocess` takes (`[sys.executable, "-m", MODULE, ...]` or `[sys.executable, "-c", CODE, ...]`) and play
them in a fork of `multiprocessing`'s fork server, each in a session of its own. None outlives the tests.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
import types
from collections.abc import Sequence
from multiprocessing import Pipe, get_context, parent_process
from multiprocessing.connection import Connection
from pathlib import Path
from subprocess import CompletedProcess
from types import TracebackType
from typing import IO, TextIO

PRELOADED = (
    "svd_loop.jobs",
    "svd_loop.cli.app",
    "envs.round_env",
    "policies.scripted",
    "policies.text.chat",
    "datasketch",
    "scipy.stats",
    "alembic.command",
    "mlflow.store.tracking.sqlalchemy_store",
    "sqlalchemy.dialects.sqlite",
    "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_svg",
    "matplotlib.figure",
)
"""What the command line imports on the way through a scripted job; torch, which few processes need, is not among it."""


class Process:
    """A running command; the part of `subprocess.Popen` that the tests use.

    Args:
        command: see the module.
        cwd: where it runs; None: where the tests do.
        stdout: a file, or `subprocess.PIPE` to read text while it runs; None: nowhere.
        stderr: likewise.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        cwd: Path | None = None,
        stdout: IO[str] | int | None = None,
        stderr: IO[str] | int | None = None,
    ) -> None:
        interpreter, kind, code, *arguments = command
        assert interpreter == sys.executable and kind in ("-m", "-c"), command
        context = get_context("forkserver")
        context.set_forkserver_preload(list(PRELOADED))
        self.stdout, out = _channel(stdout)
        self.stderr, err = _channel(stderr)
        started, starting = Pipe(duplex=False)
        target = (kind, code, arguments, dict(os.environ), str(cwd or Path.cwd()), out, err, starting)
        self._process = context.Process(target=_play, args=target)
        self._process.start()
        for theirs in (out, err, starting):
            theirs.close()
        with started, contextlib.suppress(EOFError):
            started.recv()
        assert self._process.pid is not None, "started above"
        self.pid = self._process.pid

    def __enter__(self) -> Process:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.join()
        for stream in (self.stdout, self.stderr):
            if stream is not None:
                stream.close()

    @property
    def returncode(self) -> int | None:
        """Its exit code, or minus the signal that ended it; None while it runs."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; returns its exit code.

        Raises:
            subprocess.TimeoutExpired: it still runs.
        """
        self._process.join(timeout)
        if self.returncode is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0.0)
        return self.returncode

    def read(self) -> tuple[str, str]:
        """What it prints to its end on the pipes asked for, which must be less than a pipe holds."""
        out, errors = ((stream.read() if stream is not None else "") for stream in (self.stdout, self.stderr))
        return out, errors

    def send_signal(self, number: int) -> None:
        """Nothing happens to one that has ended."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def kill_group(self) -> None:
        """End it and everything it has started, if it still runs."""
        if self.returncode is None:
            os.killpg(self.pid, signal.SIGKILL)
            self._process.join()


def run(command: Sequence[str], *, cwd: Path | None = None, timeout: float = 120.0) -> CompletedProcess[str]:
    """Play a command to its end, with everything it prints.

    Raises:
        subprocess.TimeoutExpired: it took longer, and was killed.
    """
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        process = Process(command, cwd=cwd, stdout=out, stderr=errors)
        try:
            code = process.wait(timeout)
        finally:
            process.kill_group()
        out.seek(0)
        errors.seek(0)
        return CompletedProcess(list(command), code, out.read(), errors.read())


def _channel(wanted: IO[str] | int | None) -> tuple[TextIO | None, Connection]:
    """What is read here, if anything, and what the process writes to; a `Connection` can be handed to it."""
    if wanted == subprocess.PIPE:
        reading, writing = os.pipe()
        return open(reading, encoding="utf-8"), Connection(writing, readable=False)
    if wanted is None:
        return None, Connection(os.open(os.devnull, os.O_WRONLY), readable=False)
    assert not isinstance(wanted, int), wanted
    return None, Connection(os.dup(wanted.fileno()), readable=False)


def _play(
    kind: str,
    code: str,
    arguments: list[str],
    environment: dict[str, str],
    cwd: str,
    out: Connection,
    err: Connection,
    starting: Connection,
) -> None:
    """In the fork: become the command."""
    os.setsid()
    threading.Thread(target=_end_with_tests, name="end-with-tests", daemon=True).start()
    for channel, number in ((out, 1), (err, 2)):
        os.dup2(channel.fileno(), number)
        channel.close()
    starting.send("started")
    starting.close()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    sys.path.insert(0, cwd)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        if kind == "-m":
            sys.argv = [code, *arguments]
            runpy.run_module(code, run_name="__main__", alter_sys=True)
        else:
            sys.argv = ["-c", *arguments]
            main = sys.modules["__main__"] = types.ModuleType("__main__")
            exec(code, main.__dict__)
    finally:
        atexit._run_exitfuncs()  # which multiprocessing leaves out


def _end_with_tests() -> None:
    """A watching thread of the fork, which signals do not choose: their place is the command's own thread."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    tests = parent_process()
    assert tests is not None, "called in a fork"
    tests.join()
    os.killpg(0, signal.SIGKILL)
