"""Stop on request: the first Ctrl-C stops after the current chunk, the second one at once."""

from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Self

from svd_loop.errors import JobInterrupted

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_Handler = Callable[[int, FrameType | None], object] | int | None


class Interrupt:
    """Flag that a stop was requested; as a context manager it handles SIGINT and SIGTERM.

    The first signal sets `requested` and calls `notify`. The program calls `check` at points where stopping is cheap
    (`DurablePolicy` does so between chunks). A second signal raises `KeyboardInterrupt` at any point; data written in
    transactions and files written by renaming stay intact.
    """

    def __init__(self, notify: Callable[[], None] = lambda: None) -> None:
        """Create the flag; `notify` runs in the signal handler, on the main thread, and must be short."""
        self.requested = False
        self._notify = notify
        self._previous: dict[signal.Signals, _Handler] = {}

    def check(self) -> None:
        """Raise `JobInterrupted` if a stop was requested."""
        if self.requested:
            raise JobInterrupted(
                "stopped on request; everything so far is written; the same command continues from here"
            )

    def __enter__(self) -> Self:
        """Install the signal handlers; on the main thread only, where Python allows it."""
        self._previous = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Restore the earlier signal handlers."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            # The tracker's database may be in the middle of a statement; what it then says about its cursor is no news.
            logging.getLogger("sqlalchemy").setLevel(logging.CRITICAL)
            raise KeyboardInterrupt
        self.requested = True
        self._notify()
