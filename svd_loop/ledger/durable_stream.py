"""Calls in flight whose answers are stored as they come, and taken from storage where they are there."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence

from svd_loop.contracts import AgentCall, CallId, CallStream, Reply
from svd_loop.errors import EngineError

Answered = tuple[str, AgentCall, Reply]

SECONDS, LONGEST = 0.25, 2.0
"""Times between two transactions: the first if answers come slowly beside the calls in flight, the second at most."""

SHARE, ENOUGH, MOST = 8, 128, 1024
"""Part of the calls in flight, and number, from which answers are stored after a quarter of a second; number that is
stored at once. A transaction costs as much as ten answers."""


class DurableStream:
    """Implements `svd_loop.contracts.CallStream` for `svd_loop.ledger.durable.DurablePolicy`.

    A kill costs the calls in flight, and what was taken since the last transaction: answers of a quarter of a second,
    or of up to two seconds while they are fewer than an eighth of the calls in flight (and than 128). So with fewer
    than 16 calls in flight it is a quarter of a second, and answers that come further apart are stored one by one.
    Which calls run together depends on what was stored before, so an engine whose floats depend on the rows of a batch
    may answer differently after a kill.

    Args:
        stream: answers what is not stored; closed with this one.
        key: of a call.
        find: the stored replies to calls, by their key.
        store: stores answers, or raises.
        wait: runs `stream.take`, within its time limit, and raises `JobInterrupted` when the job is to stop.
        chunk: calls asked together of a stream that answers whole batches, since a kill loses what is in flight.
        write_every: seconds between two transactions; eight times as long while answers are few.
    """

    def __init__(
        self,
        stream: CallStream,
        key: Callable[[AgentCall], str],
        find: Callable[[Mapping[str, AgentCall]], dict[str, Reply]],
        store: Callable[[Sequence[Answered]], None],
        wait: Callable[[Callable[[], list[Reply]]], list[Reply]],
        chunk: int,
        write_every: float = SECONDS,
    ) -> None:
        self._stream = stream
        self._key = key
        self._find = find
        self._store = store
        self._wait = wait
        self._chunk = chunk
        self._write_every = write_every
        self._queued: dict[CallId, AgentCall] = {}
        self._asked: dict[CallId, tuple[str, AgentCall]] = {}
        self._stored: dict[CallId, Reply] = {}
        self._pending: list[Answered] = []
        self._written = float("-inf")

    @property
    def slots(self) -> int:
        """Those of the stream."""
        return self._stream.slots

    def put(self, calls: Sequence[AgentCall]) -> None:
        """Look calls up, and queue those that are not stored."""
        keys = {self._key(call): call for call in calls}
        known = self._find(keys)
        self._stored |= {keys[key].id: reply for key, reply in known.items()}
        missing = {key: call for key, call in keys.items() if key not in known}
        self._asked |= {call.id: (key, call) for key, call in missing.items()}
        self._queued |= {call.id: call for call in missing.values()}
        if self._stream.slots:
            self._pass_on(len(self._queued))

    def drop(self, calls: Collection[CallId]) -> None:
        """Forget calls."""
        for call_id in calls:
            self._stored.pop(call_id, None)
        known = [call_id for call_id in calls if self._asked.pop(call_id, None) is not None]
        running = [call_id for call_id in known if self._queued.pop(call_id, None) is None]
        if running:
            self._stream.drop(running)

    def take(self) -> list[Reply]:
        """Return stored replies at once; else wait for new ones, and store them.

        Raises:
            EngineError: the engine raised, exceeded the time limit, or replied to other calls.
            JobInterrupted: a stop was requested.
            LedgerError: the answers cannot be written; they are asked again when the job resumes.
        """
        if self._stored:
            stored, self._stored = self._stored, {}
            return list(stored.values())
        if not self._asked:
            return []
        if not self._stream.slots:
            self._pass_on(self._chunk)
        replies = self._wait(self._stream.take)
        if not replies:
            raise EngineError(f"the engine left {len(self._asked)} calls unanswered")
        if foreign := [reply.call for reply in replies if reply.call not in self._asked]:
            raise EngineError(f"the engine returned a reply to {foreign[0]}, which is not in flight")
        self._pending += [(*self._asked.pop(reply.call), reply) for reply in replies]
        if self._is_time():
            self._write()
        return replies

    def _is_time(self) -> bool:
        """Whether what was taken is to be stored now."""
        if not self._stream.slots or len(self._pending) >= MOST:
            return True
        few = len(self._pending) < min(ENOUGH, self._stream.slots // SHARE)
        wait = self._write_every * (LONGEST / SECONDS if few else 1)
        return time.monotonic() >= self._written + wait

    def close(self) -> None:
        """Store what was taken and close the stream; what is in flight is lost."""
        self._asked.clear()
        self._stored.clear()
        self._queued.clear()
        try:
            self._write()
        finally:
            self._stream.close()

    def _write(self) -> None:
        """Store what was taken since the last transaction."""
        if self._pending:
            self._store(self._pending)
        self._pending = []
        self._written = time.monotonic()

    def _pass_on(self, count: int) -> None:
        """Put the first queued calls."""
        calls = list(self._queued.values())[:count]
        for call in calls:
            del self._queued[call.id]
        if calls:
            self._stream.put(calls)
