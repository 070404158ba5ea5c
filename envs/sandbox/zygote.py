"""The fork server: started once, then one fork per program.

Starting Python takes some fifteen milliseconds, forking this small process about one. It is started bare (no
site-packages, clean environment, fixed hash seed), imports what programs commonly need, moves into a private root if
it can, tests its guards on itself and serves one request after the other on standard input and output.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import math
import os
import random
import resource
import select
import signal
import sys
import time
from dataclasses import dataclass
from typing import Any, Final

from . import runner
from .frames import ChannelClosed, read_frame, write_frame
from .private_root import PrivateRoot
from .seccomp import SyscallFilter, UnsupportedMachine, supported_machine

_PRELOADED: Final = (
    "bisect",
    "collections",
    "copy",
    "dataclasses",
    "datetime",
    "decimal",
    "enum",
    "fractions",
    "functools",
    "heapq",
    "itertools",
    "operator",
    "re",
    "statistics",
    "string",
    "typing",
)
"""Imported before forking: a program that needs them waits for nothing."""

_MAX_REPORT: Final = 1 << 20
_REPORT, _TOKEN = 3, 4
_PR_SET_PDEATHSIG: Final = 1

_PROBE: Final = """
import os, socket
def refused(action):
    try:
        action()
    except OSError:
        return True
    return False
def fork():
    if os.fork() == 0:
        os._exit(0)
"""
_PROBES: Final = {
    "start a process": "refused(fork)",
    "open a socket": "refused(socket.socket)",
    "signal another process": "refused(lambda: os.kill(os.getppid(), 0))",
    "write outside its folder": "refused(lambda: open({outside!r}, 'w'))",
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What one program may use."""

    memory_bytes: int
    file_bytes: int
    open_files: int


class Zygote:
    """Guards set up and tested, ready to serve."""

    def __init__(self, limits: Limits, mount_point: str) -> None:
        """Set up.

        Args:
            limits: of each program.
            mount_point: an empty folder to build the private root on; empty text goes without one.

        Raises:
            UnsupportedMachine: this operating system or processor offers no filter.
        """
        supported_machine()
        self._limits = limits
        self._null = os.open(os.devnull, os.O_RDWR)
        self.open_root_because = "" if mount_point else "not wanted"
        self._root: PrivateRoot | None = None
        try:
            self._root = PrivateRoot(mount_point) if mount_point else None
        except OSError as error:
            self.open_root_because = str(error)
        self._filter = SyscallFilter(may_change_files=self._root is not None)
        self._libc = ctypes.CDLL(None)
        for name in _PRELOADED:
            importlib.import_module(name)
        gc.collect()
        gc.freeze()

    def holes(self) -> list[str]:
        """What a program can do although it must not, by trying."""
        outside = "/probe" if self._root else os.devnull
        steps = [["value", expression.format(outside=outside)] for expression in _PROBES.values()]
        result = self.serve({"source": _PROBE, "steps": steps, "token": "", "seconds": 10.0})
        if "values" not in result:
            return [f"run at all ({result.get('error')})"]
        return [name for name, refused in zip(_PROBES, result["values"], strict=True) if refused is not True]

    def serve(self, request: dict[str, Any]) -> dict[str, Any]:
        """Run one program to its end or to its deadline; returns the program's report, or `error`."""
        report_out, report_in = os.pipe()
        token_out, token_in = os.pipe()
        os.write(token_in, request.pop("token").encode())
        child = os.fork()
        if child == 0:
            self._become_program(request, report_in, token_out)
        for descriptor in (report_in, token_out, token_in):
            os.close(descriptor)
        report, timed_out = _collect(report_out, time.monotonic() + request["seconds"])
        os.close(report_out)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if self._root:
            self._root.renew_scratch()
        if timed_out:
            return {"error": f"no end after {request['seconds']:g} s"}
        return _parse(report, status)

    def _become_program(self, request: dict[str, Any], report: int, token: int) -> None:
        """In the child: give everything up, run, and end."""
        try:
            self._libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            os.setsid()
            spare = os.dup(token)  # neither may lie where the other belongs
            os.dup2(report, _REPORT)
            os.dup2(spare, _TOKEN)
            for standard in (0, 1, 2):
                os.dup2(self._null, standard)
            os.closerange(_TOKEN + 1, resource.getrlimit(resource.RLIMIT_NOFILE)[0])
            random.seed(0)
            self._set_limits(request["seconds"])
            self._filter.install()
            gc.enable()
            runner.run(request, _REPORT, _TOKEN)
        finally:
            os._exit(0)

    def _set_limits(self, seconds: float) -> None:
        processor = math.ceil(seconds) + 1  # behind the wall clock, in case the server itself is starved
        for kind, soft, hard in (
            (resource.RLIMIT_AS, self._limits.memory_bytes, self._limits.memory_bytes),
            (resource.RLIMIT_CPU, processor, processor + 1),
            (resource.RLIMIT_FSIZE, self._limits.file_bytes, self._limits.file_bytes),
            (resource.RLIMIT_NOFILE, self._limits.open_files, self._limits.open_files),
            (resource.RLIMIT_CORE, 0, 0),
        ):
            resource.setrlimit(kind, (soft, hard))


def _collect(descriptor: int, deadline: float) -> tuple[bytes, bool]:
    """What the program wrote until it closed the pipe, and whether the deadline came first."""
    data = bytearray()
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    while len(data) <= _MAX_REPORT:
        if not poller.poll(max(0.0, deadline - time.monotonic()) * 1000):
            return bytes(data), True
        chunk = os.read(descriptor, 1 << 16)
        if not chunk:
            break
        data += chunk
    return bytes(data), False


def _parse(report: bytes, status: int) -> dict[str, Any]:
    if len(report) > _MAX_REPORT:
        return {"error": f"its values are larger than {_MAX_REPORT} bytes"}
    if not report:
        how = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else "an exit of its own"
        return {"error": f"ended by {how} before the tests were done"}
    try:
        outcome = json.loads(report)
    except (ValueError, RecursionError) as error:
        return {"error": f"its report is not readable: {error}"}
    return outcome if isinstance(outcome, dict) else {"error": "its report is not readable"}


def main() -> None:
    """Serve until standard input closes."""
    requests, answers = os.dup(0), os.dup(1)  # out of the way of what programs inherit
    first = read_frame(requests)
    try:
        zygote = Zygote(Limits(**first["limits"]), first["mount_point"])
    except (UnsupportedMachine, OSError) as error:
        write_frame(answers, {"error": str(error)})
        return
    if holes := zygote.holes():
        write_frame(answers, {"error": f"a program could {', '.join(holes)}"})
        return
    write_frame(answers, {"ready": True, "open_root_because": zygote.open_root_because})
    while True:
        try:
            write_frame(answers, zygote.serve(read_frame(requests)))
        except ChannelClosed:
            sys.exit(0)
