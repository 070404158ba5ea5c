"""Many small programs, run side by side and contained (see `envs.sandbox` for how)."""

from __future__ import annotations

import functools
import logging
import os
import queue
import secrets
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal

from envs.sandbox.child import ChannelClosed, ChannelTimeout, Child
from envs.sandbox.values import Json
from envs.sandbox.zygote import Limits
from svd_loop.errors import SandboxError

_BOOT = "import sys; sys.path.insert(0, sys.argv[1]); from sandbox import zygote; del sys.path[0]; zygote.main()"
_ENVIRONMENT = {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
"""The same order of sets in every run, and no files written."""
_KEPT_ENVIRONMENT = ("LD_LIBRARY_PATH",)
"""What an interpreter may need to start at all."""
_START_SECONDS = 60.0
_GRACE_SECONDS = 10.0
_DEFAULT_LIMITS = Limits(memory_bytes=512 * 1024 * 1024, file_bytes=16 * 1024 * 1024, open_files=32)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Program:
    """Python source and what to do with it, in order.

    A step `("value", expression)` evaluates and hands the value out, to be judged by the caller: nothing the program
    does can make a wrong value right. A step `("statement", code)` is executed and fails by raising. The program runs
    in the same interpreter, so one that goes looking for it can forge success there.
    """

    source: str
    steps: tuple[tuple[Literal["value", "statement"], str], ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a program ended: `values` of its value steps (see `values.decode`), or why there are none."""

    values: tuple[Json, ...] = ()
    error: str | None = None


class Sandbox:
    """A few fork servers. Use as a context manager."""

    def __init__(
        self,
        *,
        seconds: float,
        limits: Limits = _DEFAULT_LIMITS,
        lanes: int | None = None,
        private_root: bool = True,
    ) -> None:
        """Nothing is started before the first program.

        Args:
            seconds: wall time of one program and all its steps.
            limits: memory and files of one program.
            lanes: programs at a time; None is the number of processors.
            private_root: hide the file system where the kernel lets us; False leaves it readable, never writable.
        """
        self._seconds = seconds
        self._limits = limits
        self._lanes = lanes or os.cpu_count() or 1
        self._private_root = private_root
        self._mount_point = tempfile.TemporaryDirectory(prefix="svd-sandbox-")
        self._idle: queue.SimpleQueue[Child] = queue.SimpleQueue()

    def __enter__(self) -> Sandbox:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the servers and whatever runs in them."""
        while not self._idle.empty():
            self._idle.get().close()
        self._mount_point.cleanup()

    def run(self, programs: Sequence[Program]) -> list[Outcome]:
        """Run all programs; outcomes in their order.

        Raises:
            SandboxError: a guard cannot be set up on this machine. No program was run without it.
        """
        if not programs:
            return []
        with ThreadPoolExecutor(min(self._lanes, len(programs))) as lanes:
            return list(lanes.map(self._run_one, programs))

    def _run_one(self, program: Program) -> Outcome:
        token = secrets.token_hex(16)
        request = {"source": program.source, "steps": program.steps, "token": token, "seconds": self._seconds}
        server = self._take()
        try:
            answer = server.ask(request, self._seconds + _GRACE_SECONDS)
        except (ChannelClosed, ChannelTimeout):  # a server that died or hangs is replaced, its program has failed
            server.close()
            return Outcome(error="its server died or hung")
        self._idle.put(server)
        if "error" in answer:
            return Outcome(error=str(answer["error"]))
        if not secrets.compare_digest(str(answer.get("token")).encode(), token.encode()):
            return Outcome(error="it did not get to the end of its tests")
        values = answer.get("values")
        expected = sum(kind == "value" for kind, _ in program.steps)
        if not isinstance(values, list) or len(values) != expected:
            return Outcome(error="its report is not what the tests ask for")
        return Outcome(values=tuple(values))

    def _take(self) -> Child:
        try:
            return self._idle.get_nowait()
        except queue.Empty:
            return self._start()

    def _start(self) -> Child:
        folder = str(Path(__file__).resolve().parent.parent)
        kept = {name: os.environ[name] for name in _KEPT_ENVIRONMENT if name in os.environ}
        server = Child([sys.executable, "-P", "-s", "-S", "-c", _BOOT, folder], {**_ENVIRONMENT, **kept})
        mount_point = self._mount_point.name if self._private_root else ""
        hello = {"limits": asdict(self._limits), "mount_point": mount_point}
        try:
            answer = server.ask(hello, _START_SECONDS)
        except (ChannelClosed, ChannelTimeout) as error:
            server.close()
            raise SandboxError(f"coding: the sandbox's server does not start ({type(error).__name__})") from None
        if "ready" not in answer:
            server.close()
            raise SandboxError(f"coding: programs cannot be contained here, so none is run: {answer['error']}")
        if self._private_root and (reason := answer["open_root_because"]):
            _warn_open_root(reason)
        return server


@functools.cache
def _warn_open_root(reason: str) -> None:
    log.warning(
        "coding: no private file system for programs (%s); they can write nothing, but read what this user may read",
        reason,
    )
