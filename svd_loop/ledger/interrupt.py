"""Stopping on request: the first Ctrl-C finishes the batch in flight, the second one stops at once."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Self

from svd_loop.errors import JobInterrupted

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_Handler = Callable[[int, FrameType | None], object] | int | None


class Interrupt:
    """Whether the user asked to stop. As a context manager it listens to SIGINT and SIGTERM.

    The first signal sets `requested` and calls `notify`; whoever holds the object calls `check` where
    stopping is cheap (`DurablePolicy` does so between chunks). A second signal raises `KeyboardInterrupt`
    wherever the program is: what is written in transactions and by renaming survives that too.
    """

    def __init__(self, notify: Callable[[], None] = lambda: None) -> None:
        """`notify` runs inside the signal handler, on the main thread: let it be short."""
        self.requested = False
        self._notify = notify
        self._previous: dict[signal.Signals, _Handler] = {}

    def check(self) -> None:
        """Raise `JobInterrupted` if a stop was requested."""
        if self.requested:
            raise JobInterrupted("stopped on request; everything so far is written, the same command goes on from here")

    def __enter__(self) -> Self:
        """Start to listen; main thread only, as Python allows handlers nowhere else."""
        self._previous = {number: signal.signal(number, self._handle) for number in _SIGNALS}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Put the earlier handlers back."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        self._notify()
