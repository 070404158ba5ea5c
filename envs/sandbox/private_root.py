"""A private file system for a program: only the interpreter's library, read-only, and a small empty `/tmp`.

A network namespace would be slow to make and slower to remove, and is not needed: the system call filter refuses
all sockets.

Needs no privileges where the kernel lets users make namespaces (`user_namespaces(7)`); containers often do not.
"""

from __future__ import annotations

import ctypes
import os
import sysconfig
import zoneinfo
from typing import Final

_CLONE_NEWNS, _CLONE_NEWUSER = 0x20000, 0x10000000
_MS_NOSUID, _MS_NODEV, _MS_BIND, _MS_REC, _MS_PRIVATE = 2, 4, 4096, 16384, 1 << 18
_MNT_DETACH = 2
_SYS_MOUNT_SETATTR = 442  # these numbers are the same on every architecture
_AT_FDCWD, _AT_RECURSIVE, _MOUNT_ATTR_RDONLY = -100, 0x8000, 1

SCRATCH: Final = "/tmp"
_SCRATCH_OPTIONS: Final = b"size=32m,nr_inodes=1024,mode=0700"
_LIBRARIES: Final = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib")
_NOBODY: Final = 65534


class PrivateRoot:
    """A mount namespace that the calling process enters when the object is made, and cannot leave."""

    def __init__(self, mount_point: str) -> None:
        """Enter.

        Args:
            mount_point: an empty folder of the outer file system; nothing is written into it.

        Raises:
            OSError: the kernel refuses one of the steps. The process then still sees the files it saw before.
        """
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._enter_namespaces()
        self._mount(None, "/", None, _MS_REC | _MS_PRIVATE)
        self._mount("tmpfs", mount_point, "tmpfs", _MS_NOSUID | _MS_NODEV, b"size=1m,mode=0755")
        os.mkdir(mount_point + SCRATCH)
        for folder in _visible_folders():
            os.makedirs(mount_point + folder, exist_ok=True)
            self._mount(folder, mount_point + folder, None, _MS_BIND | _MS_REC)
        self._make_read_only(mount_point)
        self._mount_scratch(mount_point + SCRATCH)
        os.chroot(mount_point)
        os.chdir(SCRATCH)

    def renew_scratch(self) -> None:
        """Replace `/tmp` by an empty one."""
        os.chdir("/")
        self._check(self._libc.umount2(SCRATCH.encode(), _MNT_DETACH), "umount")
        self._mount_scratch(SCRATCH)
        os.chdir(SCRATCH)

    def _enter_namespaces(self) -> None:
        user, group = os.getuid(), os.getgid()
        self._check(self._libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNS), "unshare")
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{_NOBODY} {user} 1"),
            ("gid_map", f"{_NOBODY} {group} 1"),
        ):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as file:
                file.write(text)

    def _mount_scratch(self, target: str) -> None:
        self._mount("tmpfs", target, "tmpfs", _MS_NOSUID | _MS_NODEV, _SCRATCH_OPTIONS)

    def _mount(self, source: str | None, target: str, kind: str | None, flags: int, options: bytes = b"") -> None:
        names = (None if name is None else name.encode() for name in (source, target, kind))
        self._check(self._libc.mount(*names, ctypes.c_ulong(flags), options or None), f"mount {target}")

    def _make_read_only(self, target: str) -> None:
        attributes = (ctypes.c_uint64 * 4)(_MOUNT_ATTR_RDONLY, 0, 0, 0)
        result = self._libc.syscall(
            ctypes.c_long(_SYS_MOUNT_SETATTR),
            ctypes.c_int(_AT_FDCWD),
            target.encode(),
            ctypes.c_uint(_AT_RECURSIVE),
            ctypes.byref(attributes),
            ctypes.c_size_t(ctypes.sizeof(attributes)),
        )
        self._check(result, "mount_setattr")

    def _check(self, result: int, step: str) -> None:
        if result != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"{step}: {os.strerror(number)}")


def _visible_folders() -> list[str]:
    """The standard library, the shared libraries of its extensions, and time zones; no folder inside another."""
    folders = {*_LIBRARIES, *zoneinfo.TZPATH, sysconfig.get_path("stdlib"), sysconfig.get_path("platstdlib")}
    present = sorted(folder for folder in folders if os.path.isdir(folder))
    return [folder for folder in present if not any(folder.startswith(f"{other}/") for other in present)]
