"""The fork server: started once, then one fork for every run of a program, and one for its tests.

Starting Python takes some fifteen milliseconds, forking this small process about one. It is started bare (no
site-packages, clean environment, fixed hash seed), imports what programs commonly need, moves into a private root if
it can, tests its guards on itself and serves one request after the other on standard input and output.

Tests never pass through this process, because a program's process is a copy of it: the process that evaluates them,
forked after the program's, reads them itself from the source of the requests.

    caller --request--> zygote --fork--> program <--calls, values--> evaluator <--tests-- caller
"""

from __future__ import annotations

import _functools
import _sitebuiltins
import base64
import builtins
import ctypes
import fcntl
import functools
import gc
import importlib
import math
import os
import random
import resource
import select
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from . import evaluator, runner
from .clock import Clock
from .evaluator import RIGHT, UNDECIDED, WRONG
from .frames import ChannelClosed, read_frame, write_frame
from .private_root import PrivateRoot
from .remote import ENDED
from .seccomp import SyscallFilter, UnsupportedMachine, supported_machine

_PRELOADED: Final = ("asyncio", "contextlib", "dataclasses", "decimal", "enum", "fractions", "inspect", "threading")
"""Modules imported before forking, as are `runner`'s usual modules, so that programs need not wait for them."""

_POLL_SECONDS: Final = 0.02
_MOST_THREADS: Final = 64
_STACK_BYTES: Final = 112 * 1024 * 1024
"""The kernel leaves at least 128 MiB below a main stack, whatever its limit was at the start."""
_READ: Final = b"R"
"""Sent by an evaluator once it has its tests. Idle time counts only from then on: before, the caller may be slow."""
_LONGEST_DETAIL: Final = 300
_FIRST_SPARE: Final = 64
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_DUMPABLE: Final = 4

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
PROBES = [
    lambda: refused(fork),
    lambda: refused(socket.socket),
    lambda: refused(lambda: os.kill(os.getppid(), 0)),
    lambda: refused(lambda: open(OUTSIDE, 'w')),
]
"""
_PROBED: Final = ("start a process", "open a socket", "signal another process", "write outside its folder")


@dataclass(frozen=True, slots=True)
class Limits:
    """The resource limits of one program.

    Attributes:
        memory_bytes: of address space.
        file_bytes: of one file, standard output included.
        open_files: at a time.
    """

    memory_bytes: int
    file_bytes: int
    open_files: int


class Zygote:
    """The fork server with its guards set up and tested."""

    def __init__(self, limits: Limits, mount_point: str) -> None:
        """Set up.

        Args:
            limits: of each program.
            mount_point: an empty folder to build the private root on; empty text means no private root.

        Raises:
            UnsupportedMachine: this operating system or processor offers no filter.
        """
        supported_machine()
        self._limits = limits
        self._null = os.open(os.devnull, os.O_RDWR)
        self._proc = _open_proc()
        self.open_root_because = "" if mount_point else "not wanted"
        self._root: PrivateRoot | None = None
        try:
            self._root = PrivateRoot(mount_point) if mount_point else None
        except OSError as error:
            self.open_root_because = str(error)
        self._filter = SyscallFilter(may_change_files=self._root is not None)
        self._libc = ctypes.CDLL(None)
        _let_caches_recurse()
        for name in _PRELOADED:
            importlib.import_module(name)
        self._usual_names = runner.usual_names()
        for name in ("exit", "quit"):  # names that `site` would define; it was not imported
            setattr(builtins, name, _sitebuiltins.Quitter(name, "Ctrl-D"))
        sys.set_int_max_str_digits(0)  # time is limited, so the number of digits need not be
        gc.collect()
        gc.freeze()

    def holes(self) -> list[str]:
        """Try forbidden actions; return those that are possible."""
        source = f"OUTSIDE = {'/probe' if self._root else os.devnull!r}\n{_PROBE}"
        found = []
        for place, name in enumerate(_PROBED):
            tests_out, tests_in = os.pipe()
            write_frame(tests_in, {"tests": [f"assert PROBES[{place}]() is True"], "given": ""})
            answer = self.serve_tests({"source": source, "seconds": 10.0, "usual": False}, tests_out)
            os.close(tests_out)
            os.close(tests_in)
            if answer["outcome"] != RIGHT:
                detail = answer["detail"]
                found.append(name if detail.startswith("AssertionError") else f"not run at all ({detail})")
        return found

    def serve_tests(self, request: dict[str, Any], tests_from: int) -> dict[str, Any]:
        """Run a program against tests read from a descriptor; `last` in the answer: they were not read."""
        ours: list[int] = []
        for _ in range(3):
            ours += os.pipe()
        ask_out, ask_in, reply_out, reply_in, found_out, found_in = ours
        seconds = request["seconds"]
        names = self._usual_names if request["usual"] else {}
        null = [self._null] * 3

        def hold() -> int:
            tests = read_frame(3)
            os.write(6, _READ)
            write_frame(6, evaluator.evaluate(tests, 4, 5))
            return 0

        def serve() -> int:
            runner.serve(request["source"], names, 3, 4)
            return 0

        program = self._fork([*null, ask_out, reply_in], seconds, serve)
        judge = self._fork([*null, tests_from, ask_in, reply_out, found_in], 2 * seconds + 1, hold)
        for descriptor in (ask_out, ask_in, reply_out, reply_in, found_in):
            os.close(descriptor)
        limits = {program: seconds, judge: 2 * seconds + 1}
        stopped = _watch(Clock(None, [program, judge]), found_out, limits, seconds)
        if in_step := stopped is None and os.read(found_out, 1) == _READ:
            stopped = _watch(Clock(self._proc, [program, judge]), found_out, limits, seconds)
        answer = stopped or _read_found(found_out)
        os.close(found_out)
        used, status = _end(program), _end(judge, kill=stopped is not None)
        self._clean()
        if answer is None:
            answer = _broken(status)
        if answer["outcome"] == RIGHT and used.seconds > seconds:
            answer = _too_slow(seconds)
        if answer["detail"] == ENDED and used.signal not in (0, signal.SIGKILL):
            answer = _broken(used)
        return {**answer, "last": not in_step}

    def serve_main(self, request: dict[str, Any]) -> dict[str, Any]:
        """Run one program as a script; `output` in the answer is what it wrote, in base64."""
        files = [os.memfd_create(name) for name in ("input", "output", "errors")]
        os.write(files[0], request["input"].encode("utf-8", "surrogatepass"))
        os.lseek(files[0], 0, os.SEEK_SET)
        seconds = request["seconds"]
        program = self._fork(files, seconds, lambda: runner.run_main(request["source"]))
        ended = os.pidfd_open(program)
        stopped = _watch(Clock(self._proc, [program]), ended, {program: seconds}, seconds)
        os.close(ended)
        used = _end(program)
        output, errors = (_content(file) for file in files[1:])
        for file in files:
            os.close(file)
        self._clean()
        if stopped is None and used.signal == signal.SIGKILL and used.seconds <= seconds:
            stopped = _broken(used)
        if stopped is None and used.seconds > seconds:
            stopped = _too_slow(seconds)
        if stopped is None and (used.signal or used.code):
            last = errors.decode("ascii", "replace").strip().rpartition("\n")[2][-_LONGEST_DETAIL:]
            stopped = {"outcome": WRONG, "detail": last or f"ended by {_how(used)}"}
        return stopped or {"output": base64.b64encode(output).decode("ascii")}

    def _clean(self) -> None:
        if self._root:
            self._root.renew_scratch()

    def _fork(self, descriptors: Sequence[int], seconds: float, work: Callable[[], int]) -> int:
        """Fork a process that keeps only these descriptors (as 0, 1, 2 and so on), does the work and ends."""
        process = os.fork()
        if process:
            return process
        status = 1
        try:
            self._libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
            self._libc.prctl(_PR_SET_DUMPABLE, 0)
            os.setsid()
            spares = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, _FIRST_SPARE) for descriptor in descriptors]
            for number, spare in enumerate(spares):
                os.dup2(spare, number)
            os.closerange(len(descriptors), resource.getrlimit(resource.RLIMIT_NOFILE)[0])
            random.seed(0)
            self._set_limits(seconds)
            self._filter.install()
            gc.enable()
            status = work()
        finally:
            os._exit(status & 0xFF)

    def _set_limits(self, seconds: float) -> None:
        processor = (
            math.ceil(seconds) + 1
        )  # above the limit of `_watch`, in case the server itself gets no processor time
        stack = resource.getrlimit(resource.RLIMIT_STACK)[1]
        stack = _STACK_BYTES if stack == resource.RLIM_INFINITY else min(stack, _STACK_BYTES)
        for kind, soft, hard in (
            (resource.RLIMIT_AS, self._limits.memory_bytes, self._limits.memory_bytes),
            (resource.RLIMIT_CPU, processor, processor + 1),
            (resource.RLIMIT_FSIZE, self._limits.file_bytes, self._limits.file_bytes),
            (resource.RLIMIT_NOFILE, self._limits.open_files, self._limits.open_files),
            (resource.RLIMIT_STACK, stack, stack),
            (resource.RLIMIT_CORE, 0, 0),
        ):
            resource.setrlimit(kind, (soft, hard))


@dataclass(frozen=True, slots=True)
class _Used:
    """How a process ended and the resources it used."""

    seconds: float
    signal: int
    code: int


def _end(process: int, *, kill: bool = True) -> _Used:
    """Kill a process if it is alive, and wait for its end."""
    if kill:
        os.kill(process, signal.SIGKILL)
    _, status, usage = os.wait4(process, 0)
    number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
    return _Used(usage.ru_utime + usage.ru_stime, number, os.WEXITSTATUS(status) if os.WIFEXITED(status) else 0)


def _watch(clock: Clock, descriptor: int, processor: dict[int, float], seconds: float) -> dict[str, Any] | None:
    """Wait until a descriptor can be read; returns the answer if a limit is reached first.

    Reaching the limit on processor time or on idle time is the program's fault. The wall limit is a last resort, for a
    machine so loaded that the program stays undecided.
    """
    poller = select.poll()
    poller.register(descriptor, select.POLLIN)
    while not poller.poll(_POLL_SECONDS * 1000):
        if any(clock.processor(process) > limit for process, limit in processor.items()):
            return _too_slow(seconds)
        if clock.idle() > max(2 * seconds, 2.0):
            return {"outcome": WRONG, "detail": f"it waited {max(2 * seconds, 2.0):g} s for nothing"}
        if clock.threads > _MOST_THREADS:
            return {"outcome": WRONG, "detail": f"it started more than {_MOST_THREADS} threads"}
        if clock.wall > wall_limit(seconds):
            return {"outcome": UNDECIDED, "detail": f"no end after {wall_limit(seconds):g} s on a busy machine"}
    return None


def wall_limit(seconds: float) -> float:
    """Seconds of wall time after which a program with a limit of `seconds` of processor time is given up."""
    return 20 * seconds + 60


def _too_slow(seconds: float) -> dict[str, Any]:
    return {"outcome": WRONG, "detail": f"no end after {seconds:g} s of processor time"}


def _read_found(descriptor: int) -> dict[str, Any] | None:
    try:
        return read_frame(descriptor)
    except ChannelClosed:
        return None


def _broken(used: _Used) -> dict[str, Any]:
    """The finding about a process that ended without an answer: undecided if it was killed from outside."""
    outside = used.signal == signal.SIGKILL
    return {"outcome": UNDECIDED if outside else WRONG, "detail": f"ended by {_how(used)} before the tests were done"}


def _how(used: _Used) -> str:
    return f"signal {used.signal}" if used.signal else f"exit status {used.code}"


def _content(file: int) -> bytes:
    return os.pread(file, os.fstat(file).st_size, 0)


def _let_caches_recurse() -> None:
    """Make `functools.cache` recurse as deeply on Python 3.12 as on others.

    3.12 limits recursion through C apart, to some hundred calls in its first releases, whatever `sys.setrecursionlimit`
    says: right programs with memoised recursion would fail. The module then has its own cache, written in Python.
    """
    if sys.version_info[:2] == (3, 12) and hasattr(_functools, "_lru_cache_wrapper"):
        del _functools._lru_cache_wrapper
        importlib.reload(functools)


def _open_proc() -> int | None:
    try:
        return os.open("/proc", os.O_RDONLY | os.O_DIRECTORY)
    except OSError:
        return None


def main() -> None:
    """Serve requests until standard input closes."""
    requests, answers = os.dup(0), os.dup(1)  # keep these descriptors out of the range that programs inherit
    first = read_frame(requests)
    try:
        zygote = Zygote(Limits(**first["limits"]), first["mount_point"])
        holes = zygote.holes()
    except (UnsupportedMachine, OSError) as error:
        write_frame(answers, {"error": str(error)})
        return
    if holes:
        write_frame(answers, {"error": f"a program could {', '.join(holes)}"})
        return
    write_frame(answers, {"ready": True, "open_root_because": zygote.open_root_because})
    while True:
        try:
            request = read_frame(requests)
            answer = zygote.serve_main(request) if "input" in request else zygote.serve_tests(request, requests)
            write_frame(answers, answer)
        except ChannelClosed:
            sys.exit(0)
        if answer.get("last"):
            sys.exit(0)
