"""Real processes that need not import everything again: forked from one server that has the imports behind it.

A test about the death of a process, its exit code or its signal handlers needs a process, but rarely a new
interpreter, whose imports cost more processor time than the small job it plays. `Process` and `run` take the command
lines that `subprocess` takes (`[sys.executable, "-m", MODULE, ...]` or `[sys.executable, "-c", CODE, ...]`) and play
them in a fork of `multiprocessing`'s fork server, each in a session of its own. None outlives the tests.

There are two servers, each started when it is first asked for: one for commands, and one with vLLM and the training
libraries (`ENGINES`), whose imports take ten seconds of processor time. When the whole suite runs in several processes,
all of these share both servers, and are forks of a third themselves (`tests.conftest`, `tests.forked_tests`).
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import runpy
import signal
import subprocess
import sys
import tempfile
import threading
import types
from collections.abc import Iterator, Mapping, Sequence
from multiprocessing import Pipe, forkserver, get_context, parent_process, resource_tracker
from multiprocessing.connection import Connection
from pathlib import Path
from subprocess import CompletedProcess
from types import TracebackType
from typing import IO, Any, TextIO
from unittest import mock

PRELOADED = (
    "tests.no_collection",
    "svd_loop.jobs",
    "svd_loop.cli.app",
    "envs.round_env",
    "policies.scripted",
    "policies.text.chat",
    "datasketch",
    "scipy.stats",
    "alembic.command",
    "mlflow.cli",
    "mlflow.store.tracking.sqlalchemy_store",
    "sqlalchemy.dialects.sqlite",
    "matplotlib.backends.backend_agg",
    "matplotlib.backends.backend_svg",
    "matplotlib.figure",
)
"""What the command line imports on the way through a scripted job; torch, which few processes need, is not among it."""

ENGINES = (
    "tests.no_collection",
    "vllm",  # first of the others: it sets environment variables that torch reads
    "vllm.v1.worker.cpu_model_runner",
    "vllm.v1.worker.cpu_worker",
    "vllm.v1.engine.core",
    "vllm.v1.executor.multiproc_executor",
    "vllm.entrypoints.openai.api_server",
    "accelerate.commands.launch",
    "policies.training.sft_trainer",
    "policies.versions.checkpoints",
    "transformers.models.qwen3.modeling_qwen3",
    "peft",
    "datasets",
)
"""What engines and training import. What is not installed is left out."""

TESTS = (
    *PRELOADED,
    "torch",
    "transformers.modeling_utils",
    "transformers.models.auto.auto_factory",
    "transformers.models.qwen3.modeling_qwen3",
    "peft",
    "policies.training.sft_trainer",
    "policies.training.grpo_run",
    "aiohttp",
    "hypothesis",  # before its random numbers are hidden from it (`gc.freeze`), of which it would warn
)
"""What the tests import when they are collected, and soon afterwards."""


class Server(forkserver.ForkServer):
    """A fork server of this process, or the one of that name that all processes of the suite share.

    Args:
        name: part of an environment variable, which has the address of a shared one.
        modules: what it imports.
    """

    def __init__(self, name: str, modules: Sequence[str]) -> None:
        super().__init__()
        self.set_forkserver_preload([__name__, *modules])
        self._variable = f"SVD_LOOP_TESTS_{name}"
        self._address: str | None = None

    def ensure_running(self) -> None:
        """Start it, or find it; it answers when it has imported everything."""
        self._address = self._address or os.environ.get(self._variable)
        if self._address is None:
            with mock.patch.dict(os.environ, {"OMP_NUM_THREADS": "1"}):  # torch reads it when it is loaded
                super().ensure_running()
        elif vars(self)["_forkserver_address"] is None:
            resource_tracker.ensure_running()
            given = {"address": self._address, "alive_fd": os.open(os.devnull, os.O_RDONLY)}
            vars(self).update({f"_forkserver_{key}": value for key, value in given.items()})

    def share(self) -> None:
        """Start it for processes that are started by this one, and end it with this one."""
        self.ensure_running()
        os.environ[self._variable] = vars(self)["_forkserver_address"]

    @contextlib.contextmanager
    def forking(self) -> Iterator[None]:
        """Processes of `multiprocessing`'s context "forkserver" are forked from this one meanwhile."""
        with mock.patch.object(forkserver, "connect_to_new_process", self.connect_to_new_process):
            yield


FOR_COMMANDS = Server("COMMANDS", PRELOADED)
FOR_ENGINES = Server("ENGINES", ENGINES)
FOR_TESTS = Server("TESTS", TESTS)


class Process:
    """A running command; the part of `subprocess.Popen` that the tests use.

    Args:
        command: see the module.
        cwd: where it runs; None: where the tests do.
        env: its environment variables, with those that the imports have set; None: those of the tests.
        stdin: a file, or `subprocess.PIPE` to write to it while it runs; None: nothing.
        stdout: a file, or `subprocess.PIPE` to read text while it runs; None: nowhere.
        stderr: likewise.
        pass_fds: descriptors for it; an argument that names one names its own after the start.
        server: what it is forked from.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        stdin: IO[Any] | int | None = None,
        stdout: IO[Any] | int | None = None,
        stderr: IO[Any] | int | None = None,
        pass_fds: Sequence[int] = (),
        server: Server = FOR_COMMANDS,
    ) -> None:
        interpreter, kind, code, *arguments = command
        assert interpreter == sys.executable and kind in ("-m", "-c"), command
        reading, writing = os.pipe()
        self.stdin = open(writing, "wb")  # noqa: SIM115, closed by whoever asked for it
        if stdin != subprocess.PIPE:
            self.stdin.close()
        if stdin is not None and not isinstance(stdin, int):
            os.dup2(stdin.fileno(), reading)
        self.stdout, out = _channel(stdout)
        self.stderr, err = _channel(stderr)
        started, starting = Pipe(duplex=False)
        channels = [Connection(reading, writable=False), out, err]
        passed = {number: Connection(os.dup(number)) for number in pass_fds}
        environment = dict(os.environ if env is None else env)
        target = (kind, code, arguments, environment, str(cwd or Path.cwd()), channels, passed, starting)
        self._process = get_context("forkserver").Process(target=_play, args=target)
        with server.forking():
            self._process.start()
        for theirs in (*channels, *passed.values(), starting):
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

    def poll(self) -> int | None:
        """As `returncode`."""
        return self.returncode

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
        """Nothing happens to one that has ended, or ends meanwhile."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it at once; what it has started goes on."""
        self.send_signal(signal.SIGKILL)

    def kill_group(self) -> None:
        """End it and everything it has started, if it still runs."""
        if self.returncode is None:
            with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
                os.killpg(self.pid, signal.SIGKILL)
            self._process.join()


def run(
    command: Sequence[str], *, cwd: Path | None = None, timeout: float = 120.0, server: Server = FOR_COMMANDS
) -> CompletedProcess[str]:
    """Play a command to its end, with everything it prints; `server` as in `Process`.

    Raises:
        subprocess.TimeoutExpired: it took longer, and was killed.
    """
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
        process = Process(command, cwd=cwd, stdout=out, stderr=errors, server=server)
        try:
            code = process.wait(timeout)
        finally:
            process.kill_group()
        out.seek(0)
        errors.seek(0)
        return CompletedProcess(list(command), code, out.read(), errors.read())


_GIVEN = frozenset(os.environ)
"""The environment variables that a fork server was started with: it imports this module first."""


def _channel(wanted: IO[Any] | int | None) -> tuple[TextIO | None, Connection]:
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
    channels: list[Connection],
    passed: dict[int, Connection],
    starting: Connection,
) -> None:
    """In the fork: become the command."""
    os.setsid()
    threading.Thread(target=_end_with_tests, name="end-with-tests", daemon=True).start()
    for number, channel in enumerate(channels):
        os.dup2(channel.fileno(), number)
        channel.close()
    starting.send("started")
    starting.close()
    names = {str(number): str(connection.fileno()) for number, connection in passed.items()}
    arguments = [names.get(argument, argument) for argument in arguments]
    imported = {name: value for name, value in os.environ.items() if name not in _GIVEN}
    os.environ.clear()
    os.environ.update({**imported, **environment})
    os.chdir(cwd)
    sys.path.insert(0, cwd)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    gc.freeze()
    gc.enable()
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
