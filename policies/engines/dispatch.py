"""Distribute rows to replicas that may fail and return: no row is lost, and no row is settled twice.

Each replica has a queue of rows that share prefixes. It works on its own queue first, then takes rows of others.
A replica that cannot be used is drained: its open rows go to the next free replica, and it is tried again until it
is back or every row is settled. This module is independent of HTTP and tokens; rows are numbers.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter, deque
from collections.abc import Callable, Coroutine, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from svd_loop.errors import EngineError, ModelError

_log = logging.getLogger(__name__)

_TRIES_OF_A_ROW = 3
"""Failures of one row on replicas after which the row is considered the cause."""
_MISSES = 3
"""Failed heartbeats in succession after which a replica is unavailable."""

AnswerT = TypeVar("AnswerT")
AnswerT_co = TypeVar("AnswerT_co", covariant=True)


class Unavailable(Exception):
    """A replica cannot be used for now.

    Attributes:
        by_row: it failed on this row, and is not simply away.
    """

    def __init__(self, reason: str, *, by_row: bool = False) -> None:
        super().__init__(reason)
        self.by_row = by_row


class Replica(Protocol[AnswerT_co]):
    """A copy of the model. Any error other than `Unavailable` ends the dispatch."""

    @property
    def name(self) -> str:
        """The name used in messages."""
        ...

    async def ready(self) -> None:
        """Make sure it serves the wanted version; raises `Unavailable`, or `ModelError` if it serves another."""
        ...

    async def alive(self) -> None:
        """Ask for its health; raises `Unavailable`."""
        ...

    async def answer(self, row: int) -> AnswerT_co:
        """Answer one row; raises `Unavailable`."""
        ...


@dataclass(frozen=True, slots=True)
class Timeouts:
    """Limits in seconds; `concurrency` is the number of rows open at one replica at once."""

    concurrency: int
    heartbeat_seconds: float
    recovery_seconds: float


class Dispatcher(Generic[AnswerT]):
    """Sends one set of rows through the replicas.

    Args:
        replicas: at least one.
        shards: the rows of each replica, every row in exactly one.
        timeouts: time limits, and rows open per replica.
        settled: called once for every row, with its answer.
        none_left: makes the error for when no replica is left, from the reason of each and the number of open rows.
        open_ended: rows may be added and dropped until `finish`; else it ends when every row is settled.
    """

    def __init__(
        self,
        replicas: Sequence[Replica[AnswerT]],
        shards: Sequence[Sequence[int]],
        timeouts: Timeouts,
        settled: Callable[[int, AnswerT], None],
        none_left: Callable[[dict[str, str], int], EngineError],
        *,
        open_ended: bool = False,
    ) -> None:
        self._replicas = replicas
        self._open_ended = open_ended
        self._running: dict[int, asyncio.Future[AnswerT]] = {}
        self._queues = {replica.name: deque(shard) for replica, shard in zip(replicas, shards, strict=True)}
        self._returned: deque[int] = deque()
        self._unsettled = {row for shard in shards for row in shard}
        self._timeouts = timeouts
        self._settled = settled
        self._none_left = none_left
        self._failures: Counter[int] = Counter()
        self._away: dict[str, str] = {}
        self._draining: set[str] = set()
        self._loading = 0
        self._finished = asyncio.Event()
        self._rows_back = asyncio.Event()

    async def run(self) -> None:
        """Return when every row is settled.

        Raises:
            EngineError: no replica is left, or a row failed on all that were tried.
            SvdError: what a replica raised that is not `Unavailable`.
        """
        if self._unsettled or self._open_ended:
            await run_all([self._keep(replica) for replica in self._replicas] + [self._give_up_when_alone()])

    def add(self, rows: Sequence[int]) -> None:
        """Add rows to a dispatch without an end, each to the shortest queue; within the event loop."""
        self._unsettled.update(rows)
        for row in rows:
            min(self._queues.values(), key=len).append(row)
        self._rows_back.set()

    def drop(self, rows: Sequence[int]) -> None:
        """Settle rows without an answer: queued ones are skipped, open ones aborted; within the event loop."""
        for row in rows:
            self._unsettled.discard(row)
            if (running := self._running.get(row)) is not None:
                running.cancel()

    def finish(self) -> None:
        """End a dispatch without an end; open rows are dropped."""
        self.drop(list(self._unsettled))
        self._finished.set()
        self._rows_back.set()

    async def _keep(self, replica: Replica[AnswerT]) -> None:
        """Use a replica while there are rows, and try it again after each failure."""
        while not self._finished.is_set():
            try:
                await self._make_ready(replica)
                workers = self._timeouts.concurrency
                workers = workers if self._open_ended else min(workers, len(self._unsettled))
                await run_all([*(self._work(replica) for _ in range(workers)), self._watch(replica)])
            except (Unavailable, ModelError) as error:
                if replica.name not in self._away:
                    _log.warning("%s is out of service: %s", replica.name, error)
                self._away[replica.name] = str(error)
                if isinstance(error, ModelError):  # it came back with another model: not used until the next dispatch
                    return
                await self._pause()

    async def _make_ready(self, replica: Replica[AnswerT]) -> None:
        """Make a replica ready; while one loads, the limit for having no replica does not apply."""
        self._loading += 1
        try:
            await replica.ready()
        finally:
            self._loading -= 1
        self._draining.discard(replica.name)
        if self._away.pop(replica.name, None) is not None:
            _log.warning("%s is back", replica.name)

    async def _work(self, replica: Replica[AnswerT]) -> None:
        """Answer one row after the other."""
        while (row := await self._next(replica)) is not None:
            running = self._running[row] = asyncio.ensure_future(replica.answer(row))
            try:
                self._settle(row, await running)
            except BaseException as error:  # also after cancellation with the replica: another one must answer the row
                if running.done() and not running.cancelled() and running.exception() is None:
                    self._settle(row, running.result())  # cancelled when its answer was there
                    raise
                if row not in self._unsettled and running.cancelled() and not _is_cancelled():
                    continue  # dropped
                if isinstance(error, Unavailable) and error.by_row:
                    self._count_failure(row, replica, error)
                self._draining.add(replica.name)  # other workers of this replica must not take the row again
                self._returned.append(row)
                self._rows_back.set()
                raise
            finally:
                self._running.pop(row, None)

    def _settle(self, row: int, answer: AnswerT) -> None:
        if row not in self._unsettled:
            return  # dropped when its answer was there
        self._unsettled.remove(row)
        self._settled(row, answer)
        if not self._unsettled and not self._open_ended:
            self._finished.set()
            self._rows_back.set()

    async def _next(self, replica: Replica[AnswerT]) -> int | None:
        """The next row: a returned one, the replica's own next, or the last of the longest queue; None at the end.

        The last one is taken because its owner reaches it last; its neighbours, which share its prefix, are taken next.
        """
        while not self._finished.is_set() and replica.name not in self._draining:
            if (row := self._queued(replica)) is not None:
                if row in self._unsettled:  # else it was dropped
                    return row
                continue
            self._rows_back.clear()  # all rows are open elsewhere; one of them may be returned
            await self._rows_back.wait()
        return None

    def _queued(self, replica: Replica[AnswerT]) -> int | None:
        if self._returned:
            return self._returned.popleft()
        if own := self._queues[replica.name]:
            return own.popleft()
        longest = max(self._queues.values(), key=len)
        return longest.pop() if longest else None

    def _count_failure(self, row: int, replica: Replica[AnswerT], error: Unavailable) -> None:
        self._failures[row] += 1
        if self._failures[row] >= _TRIES_OF_A_ROW:
            raise EngineError(
                f"one request failed {self._failures[row]} times, each time after all retries; last at {replica.name}: "
                f"{error}. Nothing of the chunk was written; the same command continues with it"
            ) from error

    async def _watch(self, replica: Replica[AnswerT]) -> None:
        """Poll a replica's health until the end, because a hanging one would keep its rows for ever."""
        misses = 0
        while not await self._pause():
            try:
                await replica.alive()
                misses = 0
            except Unavailable:
                misses += 1
                if misses == _MISSES:
                    raise

    async def _give_up_when_alone(self) -> None:
        """Raise an error when every replica has been away for `recovery_seconds`."""
        loop = asyncio.get_running_loop()
        heard = loop.time()
        while not await self._pause():
            if len(self._away) < len(self._replicas):
                heard = loop.time()
            elif self._unsettled and not self._loading and loop.time() - heard >= self._timeouts.recovery_seconds:
                raise self._none_left(self._away, len(self._unsettled))

    async def _pause(self) -> bool:
        """Wait for one heartbeat interval or the end; returns whether it is the end."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._finished.wait(), self._timeouts.heartbeat_seconds)
        return self._finished.is_set()


def _is_cancelled() -> bool:
    """Whether this task itself is to end, and not only what it waits for."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def run_all(coroutines: Sequence[Coroutine[Any, Any, None]]) -> None:
    """Run all coroutines; the first error cancels the others and is raised after they have ended."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
        errors = [error for task in done if not task.cancelled() and (error := task.exception()) is not None]
        if errors:  # an error that ends the dispatch before one that only ends a replica
            raise min(errors, key=lambda error: isinstance(error, Unavailable))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
