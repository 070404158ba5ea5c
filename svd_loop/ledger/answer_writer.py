"""Write answers in a thread while the engine and the round go on.

    record_later ──> batches in the order in which they came ──> thread: one transaction each
         lookup <──┘ (answers that wait are found here)

Compressing answers and SQLite's work leave the interpreter to other threads, and a commit waits for the disk. The
thread writes batch after batch, so the file has the same rows as if each batch had been written at once.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Collection, Sequence

from svd_loop.contracts import AgentCall, Reply
from svd_loop.errors import LedgerError

Answered = tuple[str, AgentCall, Reply]

MOST = 1024
"""Answers that may wait, in memory and for a kill to lose; a larger batch waits alone."""


class AnswerWriter:
    """A queue of answers and the thread that stores them, which is started with the first batch.

    An error of the thread is raised by the next call, and by every one after it: what was queued behind it is not
    stored, and a round must not be committed without it.

    Args:
        store: stores a batch, completely or not at all.
        most: answers that may wait; `put` waits for the thread when there are more.
    """

    def __init__(self, store: Callable[[Sequence[Answered]], None], most: int = MOST) -> None:
        self._store = store
        self._most = most
        self._changed = threading.Condition()
        self._batches: deque[Sequence[Answered]] = deque()
        self._waiting: dict[str, Reply] = {}
        self._error: BaseException | None = None
        self._told = False
        self._closed = False
        self._thread: threading.Thread | None = None

    @property
    def is_idle(self) -> bool:
        """Whether everything is stored."""
        return not self._batches and self._error is None

    def put(self, items: Sequence[Answered]) -> None:
        """Queue a batch.

        Raises:
            LedgerError: an earlier batch was not stored, or the writer is closed.
        """
        with self._changed:
            if self._closed:
                raise LedgerError("the ledger is closed, so answers cannot be stored in it")
            self._changed.wait_for(lambda: not self._batches or len(self._waiting) + len(items) <= self._most)
            self._raise()
            self._batches.append(items)
            self._waiting |= {key: reply for key, _, reply in items}
            if self._thread is None:
                # The process need not wait for it: whoever ends in order closes the writer.
                self._thread = threading.Thread(target=self._run, name="answers", daemon=True)
                self._thread.start()
            self._changed.notify_all()

    def waiting(self, keys: Collection[str]) -> dict[str, Reply]:
        """Return the answers among `keys` that are not stored yet.

        Raises:
            LedgerError: a batch was not stored.
        """
        with self._changed:
            self._raise()
            return {key: self._waiting[key] for key in keys if key in self._waiting}

    def flush(self) -> None:
        """Wait until everything is stored.

        Raises:
            LedgerError: a batch was not stored.
        """
        if self.is_idle:
            return
        with self._changed:
            self._changed.wait_for(lambda: not self._batches)
            self._raise()

    def close(self) -> None:
        """Store what waits and end the thread.

        Raises:
            LedgerError: a batch was not stored, and no call has said so.
        """
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
        if not self._told:
            self._raise()

    def _raise(self) -> None:
        if self._error is not None:
            self._told = True
            raise self._error

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._batches or self._closed)
                if not self._batches:
                    return
                items = self._batches[0]
            try:
                self._store(items)
            except BaseException as error:  # passed to the caller's thread, which raises it
                with self._changed:
                    self._error = error
                    self._batches.clear()
                    self._waiting.clear()
                    self._changed.notify_all()
                return
            with self._changed:
                self._batches.popleft()
                for key, *_ in items:
                    self._waiting.pop(key, None)
                self._changed.notify_all()
