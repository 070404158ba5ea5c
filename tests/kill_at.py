"""A command that kills itself at its k-th change on disk: `python -m tests.kill_at K COUNTED ROOT MODULE ARGUMENT...`.

Plays `python -m MODULE ARGUMENT...` and sends itself SIGKILL right before the k-th change below ROOT; 0 never does. One
that ends writes how many changes it made to the file COUNTED. A change is a file that is opened for writing, renamed,
copied or removed, a folder that is made or removed, and a commit of SQLite. A change that follows the opening of a file
finds half of what was written in it, as a kill in the middle of a write would.

Places are counted, not timed, so the same K is the same place on every machine. The product has no hooks for this: the
interpreter's audit events and SQLite's trace name every change.
"""

from __future__ import annotations

import os
import runpy
import signal
import sqlite3
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest import mock

_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "shutil.copyfile"}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_CONNECT = sqlite3.connect
_STATEMENTS = ("INSERT", "UPDATE", "DELETE", "REPLACE", "CREATE", "DROP", "ALTER")


class Places:
    """Counts changes below a folder, and dies before the one it was told."""

    def __init__(self, last: int, root: str) -> None:
        self.count = 0
        self._last = last
        self._root = root
        self._opened: str | None = None

    def audit(self, name: str, arguments: tuple[Any, ...]) -> None:
        """The interpreter's audit hook."""
        if name == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & _WRITING and self._counts(path) and not str(path).endswith("lock"):
                self._change()
                self._opened = str(path)
        elif name in _CHANGES and self._counts(arguments[0], *arguments[1:]):
            self._change()

    def connect(self, *arguments: Any, **options: Any) -> sqlite3.Connection:
        """As `sqlite3.connect`, with the commits of the connection counted."""
        connection = _CONNECT(*arguments, **options)

        def begins(statement: str) -> None:
            words = statement.lstrip().upper()
            if words.startswith("COMMIT") or (words.startswith(_STATEMENTS) and not connection.in_transaction):
                self._change()

        if self._root in str(arguments[0]):
            connection.set_trace_callback(begins)
        return connection

    def _counts(self, path: object, *more: object) -> bool:
        """Whether a path lies below the root, or is relative to an open folder, as in `shutil.rmtree`."""
        in_folder = (
            isinstance(path, str) and not os.path.isabs(path) and any(isinstance(x, int) and x > 2 for x in more)
        )
        return in_folder or (isinstance(path, str | os.PathLike) and os.fspath(path).startswith(self._root))

    def _change(self) -> None:
        self.count += 1
        if self.count == self._last:
            if self._opened is not None:
                with suppress(OSError):
                    os.truncate(self._opened, os.path.getsize(self._opened) // 2)
            os.kill(os.getpid(), signal.SIGKILL)
        self._opened = None


def main() -> None:
    last, counted, root, module, *arguments = sys.argv[1:]
    places = Places(int(last), root)
    sys.addaudithook(places.audit)
    sys.argv = [module, *arguments]
    code: object = 0
    # Drawings take most of the time of a small job and change nothing that is compared.
    with (
        mock.patch("svd_loop.report.figures.to_svg", lambda figure: ""),
        mock.patch("sqlite3.connect", places.connect),
        mock.patch("sqlite3.dbapi2.connect", places.connect),
    ):
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
        except SystemExit as end:
            code = end.code
    Path(counted).write_text(str(places.count))
    sys.exit(code)


if __name__ == "__main__":
    main()
