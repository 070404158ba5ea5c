"""The system calls a sandboxed program may make: an allow-list, enforced by the kernel (seccomp-BPF).

An allow-list and not a deny-list, because the kernel gets new ways to do old things (io_uring opens files and sockets
without `open` or `socket`). What is not listed fails with EACCES, which Python shows as `PermissionError`. No process
can be made, so a program stays the one process that the server can kill; threads die with it. Of sockets only
connected pairs are allowed, which reach no other process (event loops use one to wake up).

Numbers are from the kernel's `asm/unistd_64.h` (x86-64) and `asm-generic/unistd.h` (arm64); the layout of a filter is
in the kernel's `Documentation/userspace-api/seccomp_filter.rst`.
"""

from __future__ import annotations

import ctypes
import os
import platform
from collections.abc import Iterable
from typing import Final

_ARCHITECTURES: Final = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
"""Machine to its column in the tables below and its AUDIT_ARCH value."""

Table = dict[str, tuple[int | None, int | None]]

_COMPUTE: Final[Table] = {
    "read": (0, 63),
    "readv": (19, 65),
    "pread64": (17, 67),
    "write": (1, 64),
    "writev": (20, 66),
    "close": (3, 57),
    "close_range": (436, 436),
    "fstat": (5, 80),
    "newfstatat": (262, 79),
    "stat": (4, None),
    "lstat": (6, None),
    "statx": (332, 291),
    "lseek": (8, 62),
    "getdents": (78, None),
    "getdents64": (217, 61),
    "getcwd": (79, 17),
    "chdir": (80, 49),
    "fchdir": (81, 50),
    "readlink": (89, None),
    "readlinkat": (267, 78),
    "access": (21, None),
    "faccessat": (269, 48),
    "faccessat2": (439, 439),
    "statfs": (137, 43),
    "fstatfs": (138, 44),
    "fadvise64": (221, 223),
    "umask": (95, 166),
    "dup": (32, 23),
    "dup2": (33, None),
    "dup3": (292, 24),
    "pipe": (22, None),
    "pipe2": (293, 59),
    "poll": (7, None),
    "ppoll": (271, 73),
    "epoll_create1": (291, 20),
    "epoll_ctl": (233, 21),
    "epoll_wait": (232, None),
    "epoll_pwait": (281, 22),
    "eventfd2": (290, 19),
    "recvfrom": (45, 207),
    "shutdown": (48, 210),
    "getsockname": (51, 204),
    "getsockopt": (55, 209),
    "select": (23, None),
    "pselect6": (270, 72),
    "mmap": (9, 222),
    "munmap": (11, 215),
    "mprotect": (10, 226),
    "mremap": (25, 216),
    "madvise": (28, 233),
    "brk": (12, 214),
    "rt_sigaction": (13, 134),
    "rt_sigprocmask": (14, 135),
    "rt_sigreturn": (15, 139),
    "sigaltstack": (131, 132),
    "futex": (202, 98),
    "set_robust_list": (273, 99),
    "rseq": (334, 293),
    "sched_yield": (24, 124),
    "sched_getaffinity": (204, 123),
    "membarrier": (324, 283),
    "getrandom": (318, 278),
    "clock_gettime": (228, 113),
    "clock_getres": (229, 114),
    "clock_nanosleep": (230, 115),
    "nanosleep": (35, 101),
    "gettimeofday": (96, 169),
    "time": (201, None),
    "times": (100, 153),
    "getrusage": (98, 165),
    "getrlimit": (97, 163),
    "getpid": (39, 172),
    "gettid": (186, 178),
    "getppid": (110, 173),
    "getuid": (102, 174),
    "geteuid": (107, 175),
    "getgid": (104, 176),
    "getegid": (108, 177),
    "getpgrp": (111, None),
    "uname": (63, 160),
    "sysinfo": (99, 179),
    "alarm": (37, None),
    "setitimer": (38, 103),
    "getitimer": (36, 102),
    "pause": (34, None),
    "restart_syscall": (219, 128),
    "exit": (60, 93),
    "exit_group": (231, 94),
    "arch_prctl": (158, None),
}

_CHANGE_FILES: Final[Table] = {
    "pwrite64": (18, 68),
    "pwritev": (296, 70),
    "mkdir": (83, None),
    "mkdirat": (258, 34),
    "rmdir": (84, None),
    "unlink": (87, None),
    "unlinkat": (263, 35),
    "rename": (82, None),
    "renameat": (264, 38),
    "renameat2": (316, 276),
    "truncate": (76, 45),
    "ftruncate": (77, 46),
    "fsync": (74, 82),
    "fdatasync": (75, 83),
    "fallocate": (285, 47),
    "chmod": (90, None),
    "fchmod": (91, 52),
    "fchmodat": (268, 53),
    "utimensat": (280, 88),
}

_OPEN: Final[dict[int, Table]] = {1: {"open": (2, None)}, 2: {"openat": (257, 56)}}
"""By the position of the argument that holds the flags."""

_FCNTL: Final = (72, 25)
_FCNTL_COMMANDS: Final = (*range(8), 1030)
"""Duplicate, flags, locks. Not F_SETOWN and F_SETSIG, with which a process makes the kernel send signals to others."""

_CLONE: Final = (56, 220)
_CLONE3: Final = (435, 435)
_THREAD_FLAGS: Final = (0x3D0F00, 0x7D0F00)
"""What glibc and musl make a thread with. `clone3` hides its flags in memory; refused as unknown, they take `clone`."""
_SOCKETPAIR: Final = (53, 199)
_SENDTO: Final = (44, 206)
_IOCTL: Final = (16, 29)
_FIONBIO: Final = 0x5421
_AF_UNIX: Final = 1
_STREAMS: Final = tuple(1 | flags for flags in (0, 0o4000, 0o2000000, 0o2004000))
"""SOCK_STREAM alone, perhaps SOCK_NONBLOCK and SOCK_CLOEXEC."""

_WRITING: Final = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

_LOAD, _EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
_ALLOW, _REFUSE, _UNKNOWN, _KILL = 0x7FFF0000, 0x00050000 | 13, 0x00050000 | 38, 0x80000000
_NUMBER_AT, _ARCH_AT, _ARGUMENTS_AT = 0, 4, 16
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _MODE_FILTER = 22, 38, 2

Instruction = tuple[int, int, int, int]


class UnsupportedMachine(Exception):
    """There is no table of system calls for this operating system and processor."""


def supported_machine() -> str:
    """The processor's name as the tables have it.

    Raises:
        UnsupportedMachine: not Linux, or neither x86-64 nor arm64.
    """
    system, machine = platform.system(), platform.machine()
    if system != "Linux" or machine not in _ARCHITECTURES:
        raise UnsupportedMachine(f"programs can be contained on Linux x86_64 and aarch64, not on {system} {machine}")
    return machine


class _SockFilter(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint16), ("jt", ctypes.c_uint8), ("jf", ctypes.c_uint8), ("k", ctypes.c_uint32))


class _SockProgram(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.POINTER(_SockFilter)))


class SyscallFilter:
    """A compiled allow-list, built once by the server and installed by each program's process on itself."""

    def __init__(self, *, may_change_files: bool) -> None:
        """Compile.

        Args:
            may_change_files: allow opening for writing, renaming, deleting and so on.

        Raises:
            UnsupportedMachine: not Linux, or neither x86-64 nor arm64.
        """
        instructions = _compile(*_ARCHITECTURES[supported_machine()], may_change_files=may_change_files)
        self._array = (_SockFilter * len(instructions))(*(_SockFilter(*row) for row in instructions))
        self._program = _SockProgram(len(instructions), self._array)
        self._libc = ctypes.CDLL(None, use_errno=True)

    def install(self) -> None:
        """Apply the filter to the calling process permanently.

        Raises:
            OSError: the kernel refuses filters.
        """
        for call in (
            (_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
            (_PR_SET_SECCOMP, _MODE_FILTER, ctypes.byref(self._program), 0, 0),
        ):
            if self._libc.prctl(*call) != 0:
                raise OSError(ctypes.get_errno(), "the kernel refuses a system call filter (seccomp)")


def _compile(column: int, architecture: int, *, may_change_files: bool) -> list[Instruction]:
    rows: list[Instruction] = [
        (_LOAD, 0, 0, _ARCH_AT),
        (_EQUAL, 1, 0, architecture),  # the 32-bit entry points use other numbers for the calls
        (_RETURN, 0, 0, _KILL),
        (_LOAD, 0, 0, _NUMBER_AT),
    ]
    plain = _numbers(_COMPUTE, column) + (_numbers(_CHANGE_FILES, column) if may_change_files else [])
    for argument, table in _OPEN.items():
        for number in _numbers(table, column):
            if may_change_files:
                plain.append(number)
            else:
                rows += _guarded(number, argument, [(_ANY_BIT, 0, 1, _WRITING), (_RETURN, 0, 0, _REFUSE)], _ALLOW)
    for number in plain:
        rows += [(_EQUAL, 0, 1, number), (_RETURN, 0, 0, _ALLOW)]
    rows += [(_EQUAL, 0, 1, _CLONE3[column]), (_RETURN, 0, 0, _UNKNOWN)]
    for numbers, argument, values in (
        (_FCNTL, 1, _FCNTL_COMMANDS),
        (_CLONE, 0, _THREAD_FLAGS),
        (_IOCTL, 1, (_FIONBIO,)),
    ):
        rows += _guarded(numbers[column], argument, _one_of(values), _REFUSE)
    not_unix = [(_EQUAL, 1, 0, _AF_UNIX), (_RETURN, 0, 0, _REFUSE), (_LOAD, 0, 0, _ARGUMENTS_AT + 8)]
    rows += _guarded(_SOCKETPAIR[column], 0, [*not_unix, *_one_of(_STREAMS)], _REFUSE)
    upper_half = [(_EQUAL, 1, 0, 0), (_RETURN, 0, 0, _REFUSE), (_LOAD, 0, 0, _ARGUMENTS_AT + 8 * 4 + 4)]
    rows += _guarded(
        _SENDTO[column], 4, [*upper_half, *_one_of((0,))], _REFUSE
    )  # without an address: to the other end of the pair
    return [*rows, (_RETURN, 0, 0, _REFUSE)]


def _one_of(values: Iterable[int]) -> list[Instruction]:
    """Allow the call if the loaded value is one of these."""
    return [row for value in values for row in ((_EQUAL, 0, 1, value), (_RETURN, 0, 0, _ALLOW))]


def _guarded(number: int, argument: int, checks: list[Instruction], otherwise: int) -> list[Instruction]:
    """For one call, look at the low half of an argument (flags and commands are 32-bit), then decide."""
    body = [(_LOAD, 0, 0, _ARGUMENTS_AT + 8 * argument), *checks, (_RETURN, 0, 0, otherwise)]
    return [(_EQUAL, 0, len(body), number), *body]


def _numbers(table: Table, column: int) -> list[int]:
    values: Iterable[int | None] = (row[column] for row in table.values())
    return [number for number in values if number is not None]
