"""An actor of the Ray engine as a replica of the dispatcher, for batches and for requests in flight.

    Dispatcher ── answer(row) ──> new ──┐                       ┌── put, drop
        ^                               ├── one call at a time ─┤                (policies.engines.ray.Server.advance)
        └──── future of the row <───────┘                       └── take, for a moment

A stream is one call of the actor after the other. Each brings what is new and what was dropped since the last one,
waits until rows are finished, but not for long, and returns their answers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from policies.cluster.parcel import Parcel
from policies.engines.dispatch import Unavailable
from svd_loop.contracts import Generation, GenerationRequest
from svd_loop.errors import EngineError, SvdError, first_line

_REFILL_SECONDS = 0.01
"""For new rows in the places of finished ones, before the actor is asked to go on without them."""


@dataclass(frozen=True, slots=True)
class Answers:
    """The answers to a batch, and how many prompt tokens it had and had cached."""

    generations: list[Generation]
    prompt_tokens: int
    cached_tokens: int


class NotLoaded(Exception):
    """The actor was started again since its version was loaded."""


Load = Callable[[Any], tuple[Parcel, Any]]
"""Starts to load an actor; returns what must exist until it is loaded, and the reference to wait for."""


class Replica:
    """An actor as `policies.engines.dispatch.Replica`, whose rows are batches.

    Args:
        name: for messages.
        actor: a handle of `policies.engines.ray.Server`.
        load: starts to load it.
        batches: by number.
    """

    def __init__(self, name: str, actor: Any, load: Load, batches: Sequence[list[GenerationRequest]]) -> None:
        self.name = name
        self._actor = actor
        self._load = load
        self._batches = batches

    async def ready(self) -> None:
        """Load the version, unless it is loaded; raises `Unavailable` while Ray starts the actor again."""
        if await _result(self.name, self._actor.loaded.remote()):
            return
        held, reference = self._load(self._actor)
        await _result(self.name, reference)
        del held

    async def alive(self) -> None:
        """Nothing to ask: Ray reports the death of an actor or a node to whoever waits for it."""

    async def answer(self, row: int) -> Answers:
        """Answer batch number `row`."""
        answers: Answers = await _result(self.name, self._actor.generate.remote(self._batches[row]), by_row=True)
        return answers


class StreamedReplica:
    """An actor as `policies.engines.dispatch.Replica`, whose rows are single requests that come and go.

    Args:
        name: for messages.
        actor: a handle of `policies.engines.ray.Server`.
        load: starts to load it.
        requests: by number, as long as they are in flight.
    """

    def __init__(self, name: str, actor: Any, load: Load, requests: Mapping[int, GenerationRequest]) -> None:
        self.name = name
        self._actor = actor
        self._requests = requests
        self._whole = Replica(name, actor, load, [])
        self._open: dict[int, asyncio.Future[tuple[Generation, int]]] = {}
        self._new: dict[int, None] = {}
        self._dropped: list[int] = []
        self._asked = asyncio.Event()
        self._calls: asyncio.Task[None] | None = None

    async def ready(self) -> None:
        """Load the version, unless it is loaded, and drop what the actor still has in flight.

        Rows that were given back because Ray lost sight of an actor may still run on it.
        """
        self._new.clear()
        self._dropped.clear()
        await self._whole.ready()
        await _result(self.name, self._actor.end_stream.remote())

    async def alive(self) -> None:
        """Nothing to ask, as with batches."""

    async def answer(self, row: int) -> tuple[Generation, int]:
        """Answer request number `row`; a cancelled one is aborted.

        Returns:
            The answer, and how many prompt tokens came from the prefix cache.
        """
        answer: asyncio.Future[tuple[Generation, int]] = asyncio.get_running_loop().create_future()
        self._open[row] = answer
        self._new[row] = None
        self._asked.set()
        if self._calls is None:
            self._calls = asyncio.create_task(self._call())
        try:
            return await answer
        finally:
            del self._open[row]
            if answer.cancelled() and row not in self._new:
                self._dropped.append(row)
            self._new.pop(row, None)

    async def advance(
        self, put: Sequence[tuple[int, GenerationRequest]], dropped: Sequence[int]
    ) -> list[tuple[int, tuple[Generation, int]]]:
        """One call of the actor: what is new, what was dropped; the answers that were there soon."""
        answers: list[tuple[int, tuple[Generation, int]]]
        answers = await _result(self.name, self._actor.advance.remote(put, dropped), by_row=True)
        return answers

    async def close(self) -> None:
        """Drop what is in flight; the actor does so before its next call."""
        if self._calls is not None:
            self._calls.cancel()
        self._actor.end_stream.remote()

    async def _call(self) -> None:
        """Call the actor as long as anything is in flight; its failure is that of all rows."""
        try:
            while self._open or self._dropped:
                rows, dropped = list(self._new), list(self._dropped)
                self._new.clear()
                self._dropped.clear()
                # A dropped request is gone before its row is cancelled.
                put = [(row, request) for row in rows if (request := self._requests.get(row)) is not None]
                for row, answer in await self.advance(put, dropped):
                    if row in self._open and not self._open[row].done():
                        self._open[row].set_result(answer)
                self._asked.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._asked.wait(), _REFILL_SECONDS)
        except (Unavailable, SvdError) as error:
            for waiting in self._open.values():
                if not waiting.done():
                    waiting.set_exception(error)
        finally:
            self._calls = None


async def _result(name: str, reference: Any, *, by_row: bool = False) -> Any:
    """The result of an actor's call.

    Raises:
        Unavailable: the actor died, is being started again, or its engine failed.
        SvdError: what else it raised.
    """
    from ray.exceptions import RayError, RayTaskError

    try:
        return await reference
    except RayTaskError as error:
        cause = error.cause
    except RayError as error:  # it died, its node did, or it is being started again
        raise Unavailable(first_line(error), by_row=by_row) from None
    if isinstance(cause, NotLoaded):
        raise Unavailable("was started again")
    if isinstance(cause, EngineError):
        raise Unavailable(str(cause), by_row=by_row)
    if isinstance(cause, SvdError):
        raise cause
    raise EngineError(f"{name}: {type(cause).__name__}: {cause}") from cause
