"""A program in its own process that answers messages over a pipe.

For engines that keep hold of memory until their process ends: ending the process is the only sure way to get a GPU
back. A child is asked for one answer at a time; while it works it may send any number of notices. Messages are
pairs of a word and plain data. What the program prints goes to a file, whose end is quoted when it fails.

Three ways to end, so that no process is left behind: `close` (the pipe ends, the program should return), the end of
this process (the child's stdin ends, see `die_with_parent`), and a kill of the child's whole process group.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from multiprocessing import Pipe
from multiprocessing.connection import Connection, wait
from typing import Any

from svd_loop.errors import EngineError
from svd_loop.support.environment import without_secrets

FAILED = "failed"
"""The word of a message that says why the program failed."""

_GRACE_SECONDS = 30.0
"""Seconds for a child to return after its pipe was closed, and for its group to end after a kill."""
_TAIL_BYTES = 2000
_POLL_SECONDS = 0.5


class Child:
    """A running child program.

    Args:
        command: the program; the number of its end of the pipe is appended.
        environment: its environment variables; credentials are removed.
        name: its name in errors.

    Raises:
        EngineError: the program cannot be started.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], name: str) -> None:
        self.name = name
        self.connection, theirs = Pipe()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115, closed in `close`
        try:
            self._process = subprocess.Popen(
                [*command, str(theirs.fileno())],
                env=without_secrets(environment),
                stdin=subprocess.PIPE,
                stdout=self._log,
                stderr=self._log,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        except OSError as error:
            raise EngineError(f"{name} cannot be started: {error}") from error
        finally:
            theirs.close()

    @property
    def pid(self) -> int:
        """Its process id, which is also its process group."""
        return self._process.pid

    def send(self, word: str, data: Any) -> None:
        """Send a request.

        Raises:
            EngineError: it is gone.
        """
        try:
            self.connection.send((word, data))
        except OSError:
            raise self.failure(self._ending()) from None

    def receive(self) -> tuple[str, Any]:
        """Return the next message.

        Raises:
            EngineError: it is gone, or says that it failed.
        """
        try:
            word, data = self.connection.recv()
        except (EOFError, OSError):
            raise self.failure(self._ending()) from None
        if word == FAILED:
            raise self.failure(f"failed: {data}")
        return word, data

    def check_alive(self) -> None:
        """Raise `EngineError` if it has ended and left no message."""
        if self._process.poll() is not None and not self.connection.poll():
            raise self.failure(self._ending())

    def failure(self, what: str) -> EngineError:
        """An error that says `what` happened and quotes the end of the program's output."""
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - _TAIL_BYTES))
        tail = self._log.read().decode(errors="replace").strip()
        return EngineError(f"{self.name} {what}" + (f"; its last words:\n{tail}" if tail else ""))

    def close(self, *, at_once: bool = False) -> None:
        """End the child and everything it started, and wait for the end; may be repeated.

        Args:
            at_once: kill it instead of letting it return; for one that failed or hangs.
        """
        if self.connection.closed:
            return
        self.connection.close()
        if not at_once:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(_GRACE_SECONDS)
        _kill(self.pid)
        self._process.wait()
        deadline = time.monotonic() + _GRACE_SECONDS
        while _kill(self.pid) and time.monotonic() < deadline:
            time.sleep(0.02)
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._log.close()

    def _ending(self) -> str:
        try:
            code = self._process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            return "closed its pipe"
        if code >= 0:
            return f"ended with exit code {code}"
        hint = " (out of memory?)" if code == -signal.SIGKILL else ""
        return f"was ended by {signal.Signals(-code).name}{hint}"


def gather(children: Sequence[Child], seconds: float, notice: Callable[[Any], None] = lambda data: None) -> list[Any]:
    """Wait until every child has answered its request.

    Args:
        children: each has been sent one message.
        seconds: longest time without any message (an answer or a notice).
        notice: called with the data of every `notice` message.

    Returns:
        The answers' data, in the order of `children`.

    Raises:
        EngineError: one of them failed, ended or hangs. The others are left as they are.
    """
    answers: dict[Child, Any] = {}
    while waiting := [child for child in children if child not in answers]:
        if not (messages := next_messages(waiting, seconds)):
            raise waiting[0].failure(f"gave no sign for {seconds:g} s")
        for child, word, data in messages:
            if word == "notice":
                notice(data)
            else:
                answers[child] = data
    return [answers[child] for child in children]


def next_messages(children: Sequence[Child], seconds: float) -> list[tuple[Child, str, Any]]:
    """Wait until some of the children have sent a message.

    Args:
        children: at least one.
        seconds: longest time to wait.

    Returns:
        The first message of each that has sent one; empty if none has in that time.

    Raises:
        EngineError: one of them failed or ended. The others are left as they are.
    """
    deadline = time.monotonic() + seconds
    while True:
        left = max(deadline - time.monotonic(), 0.0)
        ready = wait([child.connection for child in children], timeout=min(left, _POLL_SECONDS))
        for child in children:
            if child.connection not in ready:
                child.check_alive()
        if ready or not left:
            return [(child, *child.receive()) for child in children if child.connection in ready]


def converse(talk: Callable[[Connection], None]) -> None:
    """In the child program: serve the pipe whose descriptor is the last argument, until either side closes.

    Args:
        talk: the conversation; it ends with `EOFError` when the parent closes the pipe. Any other error is sent as
            `FAILED` and ends the program with status 1.
    """
    die_with_parent()
    connection = Connection(int(sys.argv[1]))
    try:
        talk(connection)
    except EOFError:
        return
    except Exception as error:
        traceback.print_exc()
        connection.send((FAILED, f"{type(error).__name__}: {error}"))
        sys.exit(1)


def die_with_parent() -> None:
    """In the child program: end its whole group when the parent ends in any way (its stdin then closes)."""

    def watch() -> None:
        while os.read(0, 1024):
            pass
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, name="die-with-parent", daemon=True).start()


def _kill(group: int) -> bool:
    """Kill all processes of a group; returns whether there were any. When they have ended, their memory is free."""
    try:
        os.killpg(group, signal.SIGKILL)
    except (ProcessLookupError, PermissionError):
        return False
    return True
