"""Run many small programs in parallel, each contained (see `envs.sandbox` for how)."""

from __future__ import annotations

import base64
import functools
import logging
import os
import queue
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from envs.sandbox.child import ChannelClosed, ChannelTimeout, Child
from envs.sandbox.zygote import Limits, wall_limit
from svd_loop.contracts import Outcome
from svd_loop.errors import SandboxError
from svd_loop.support.processors import usable_processors

_BOOT = "import sys; sys.path.insert(0, sys.argv[1]); from sandbox import zygote; del sys.path[0]; zygote.main()"
_ENVIRONMENT = {"PYTHONHASHSEED": "0", "PYTHONDONTWRITEBYTECODE": "1"}
"""Fixes the order of sets, and writes no bytecode files."""
_KEPT_ENVIRONMENT = ("LD_LIBRARY_PATH",)
"""Environment variables that an interpreter may need to start."""
_START_SECONDS = 300.0
_GRACE_SECONDS = 60.0
_TRIES = 3
_DEFAULT_LIMITS = Limits(memory_bytes=1024 * 1024 * 1024, file_bytes=16 * 1024 * 1024, open_files=32)
ACCEPT_OPEN_ROOT = "SVD_LOOP_OPEN_SANDBOX"
"""Environment variable: 1 runs programs even if the file system cannot be hidden from them. It describes a machine
and not a job, so it is not a configuration key."""
_HOW_TO_ALLOW = (
    "Programs get a file system of their own by user namespaces, which this machine or container refuses. Allow them "
    "(`sysctl kernel.unprivileged_userns_clone=1`, on Ubuntu `kernel.apparmor_restrict_unprivileged_userns=0`, in "
    "Docker `--security-opt seccomp=unconfined --security-opt apparmor=unconfined`), or accept that programs read "
    f"whatever this user may read, held-out answers included: set the environment variable {ACCEPT_OPEN_ROOT}=1"
)

T = TypeVar("T")
R = TypeVar("R")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Check:
    """A program and its tests, evaluated where the program cannot reach them.

    Attributes:
        source: the program.
        held_to: the tests, as `evaluator.evaluate` takes them: `call`, or `tests` and `given`.
        usual_names: whether the names that LeetCode has in scope are available without import.
    """

    source: str
    held_to: dict[str, Any]
    usual_names: bool = False


@dataclass(frozen=True, slots=True)
class Finding:
    """The result for a program, and the reason if it is not right."""

    outcome: Outcome
    detail: str = ""


class Sandbox:
    """A pool of fork servers. Use as a context manager."""

    def __init__(
        self,
        *,
        seconds: float,
        limits: Limits = _DEFAULT_LIMITS,
        lanes: int | None = None,
        private_root: bool = True,
    ) -> None:
        """Store the settings; servers start with the first program.

        Args:
            seconds: processor time of one run of a program. Idle time (sleeping) is limited to twice that.
            limits: memory and files of one program.
            lanes: programs at a time; None is the number of processors this process may use.
            private_root: hide the file system from programs; False leaves it readable, never writable. Where the kernel
                does not allow it, nothing is run unless the environment variable `ACCEPT_OPEN_ROOT` is 1.
        """
        self._seconds = seconds
        self._limits = limits
        self._lanes = lanes or usable_processors()
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
        """End the servers and the programs that run in them."""
        while not self._idle.empty():
            self._idle.get().close()
        self._mount_point.cleanup()

    def map(self, function: Callable[[T], R], items: Sequence[T]) -> list[R]:
        """Call a function that uses this sandbox for every item, one per lane at a time; results keep the order."""
        if not items:
            return []
        with ThreadPoolExecutor(min(self._lanes, len(items))) as lanes:
            return list(lanes.map(function, items))

    def check(self, check: Check) -> Finding:
        """Run one program against its tests.

        Raises:
            SandboxError: a guard cannot be set up on this machine. No program was run without it.
        """
        request = {"source": check.source, "seconds": self._seconds, "usual": check.usual_names}
        return _finding(self._ask(request, check.held_to))

    def run_script(self, source: str, text: str) -> str | Finding:
        """The standard output of a program for a standard input, or why there is no output to compare.

        Raises:
            SandboxError: as for `check`.
        """
        answer = self._ask({"source": source, "input": text, "seconds": self._seconds})
        if isinstance(output := answer.get("output"), str):
            return base64.b64decode(output).decode("utf-8", "replace")
        return _finding(answer)

    def _ask(self, *messages: dict[str, Any]) -> dict[str, Any]:
        """Return the answer of one server.

        A server that dies or hangs is replaced. This is not the program's fault: it is run again, and is undecided
        if that happens every time.
        """
        for _ in range(_TRIES):
            server = self._take()
            try:
                for message in messages[:-1]:
                    server.tell(message)
                answer = server.ask(messages[-1], wall_limit(self._seconds) + _GRACE_SECONDS)
            except (ChannelClosed, ChannelTimeout):
                server.close()
                continue
            if answer.get("last"):
                server.close()
            else:
                self._idle.put(server)
            return answer
        return {"outcome": Outcome.UNDECIDED.value, "detail": "the sandbox's server died or hung"}

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
            raise SandboxError(
                f"coding: the sandbox's server does not start ({type(error).__name__} from {sys.executable} -P -s -S)"
            ) from None
        if "ready" not in answer:
            server.close()
            raise SandboxError(f"coding: programs cannot be contained here, so none is run: {answer['error']}")
        if reason := answer["open_root_because"]:
            self._go_on_without_root(server, reason)
        return server

    def _go_on_without_root(self, server: Child, reason: str) -> None:
        if self._private_root and os.environ.get(ACCEPT_OPEN_ROOT) != "1":
            server.close()
            raise SandboxError(f"coding: programs cannot be contained here, so none is run: {reason}. {_HOW_TO_ALLOW}")
        if self._private_root:
            _warn_open_root(reason)


def _finding(answer: dict[str, Any]) -> Finding:
    known = {outcome.value: outcome for outcome in Outcome}
    outcome = known.get(str(answer.get("outcome")), Outcome.UNDECIDED)
    return Finding(outcome, str(answer.get("detail", "")))


@functools.cache
def _warn_open_root(reason: str) -> None:
    log.warning(
        "coding: no private file system for programs (%s), as %s accepts; they can write nothing, but read what this "
        "user may read",
        reason,
        ACCEPT_OPEN_ROOT,
    )
