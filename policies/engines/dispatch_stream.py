"""Requests in flight at replicas: a dispatch without an end, in a thread with an event loop of its own.

put ──> requests ──> Dispatcher.add ──> replicas ──> settled ──> queue ──> take
                          │
        drop ─────────────┘ queued rows are skipped; what waits for a running one is cancelled, which aborts it
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack
from queue import Empty, SimpleQueue

from policies.engines.dispatch import Dispatcher
from policies.engines.serving import PrefixCache
from svd_loop.contracts import Generation, GenerationRequest
from svd_loop.errors import EngineError
from svd_loop.support.progress import progress

Answer = tuple[Generation, int]
"""An answer, and how many of its prompt's tokens came from the prefix cache."""
Opener = Callable[
    [AsyncExitStack, Mapping[int, GenerationRequest], Callable[[int, Answer], None]], Awaitable[Dispatcher[Answer]]
]
"""Opens a dispatch without an end, whose replicas read the mapping; what it opens is closed by the stack."""


class DispatchStream:
    """Implements `svd_loop.contracts.GenerationStream`, but for choices of more than one token.

    Args:
        open_dispatch: opens the dispatch, in the stream's event loop.
        slots: requests open at all replicas together.
        cache: counts prompt tokens.
        label: of the progress line; empty shows none.
        total: requests to expect; 0 if not known.

    Raises:
        EngineError: the dispatch cannot be opened.
    """

    def __init__(
        self, open_dispatch: Opener, slots: int, cache: PrefixCache, *, label: str = "", total: int = 0
    ) -> None:
        self.slots = slots
        self._open_dispatch = open_dispatch
        self._cache = cache
        self._requests: dict[int, GenerationRequest] = {}
        self._answers: SimpleQueue[tuple[int, Answer] | BaseException] = SimpleQueue()
        self._began = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._dispatcher: Dispatcher[Answer] | None = None
        self._exit = ExitStack()
        self._bar = self._exit.enter_context(progress(label, total))
        self._thread = threading.Thread(target=self._run, name="dispatch", daemon=True)
        self._thread.start()
        self._began.wait()

    def put(self, requests: Sequence[tuple[int, GenerationRequest]]) -> None:
        """Queue requests.

        Raises:
            EngineError: a prompt is empty.
        """
        if any(not request.prompt_ids for _, request in requests):
            raise EngineError("a prompt has no tokens; there is nothing to continue")
        self._requests |= dict(requests)
        self._call("add", [number for number, _ in requests])

    def drop(self, numbers: Collection[int]) -> None:
        """Forget requests."""
        gone = [number for number in numbers if self._requests.pop(number, None) is not None]
        self._call("drop", gone)

    def take(self, seconds: float | None = None) -> list[tuple[int, Generation]]:
        """Wait for answers, and for `seconds` at most.

        Raises:
            EngineError: no replica is left, or one refuses a request.
        """
        found: list[tuple[int, Generation]] = []
        deadline = math.inf if seconds is None else time.monotonic() + seconds
        while self._requests and not found and (left := deadline - time.monotonic()) > 0.0:
            answers: list[tuple[int, Answer] | BaseException] = []
            try:
                answers.append(self._answers.get(timeout=None if seconds is None else left))
                while True:
                    answers.append(self._answers.get_nowait())
            except Empty:
                pass
            for answer in answers:
                if isinstance(answer, BaseException):
                    raise answer
                found += self._settle(*answer)
        return found

    def close(self) -> None:
        """Abort what is in flight and end the thread."""
        self._call("finish")
        self._thread.join()
        self._requests.clear()
        self._exit.close()

    # -------------------------------------------------------------------------------------------------------- inside

    def _settle(self, number: int, answer: Answer) -> list[tuple[int, Generation]]:
        """The answer, unless it was dropped."""
        request = self._requests.pop(number, None)
        if request is None:
            return []
        generation, cached = answer
        self._cache.prompt_tokens += len(request.prompt_ids)
        self._cache.cached_tokens += cached
        self._bar.advance(1, len(generation.token_ids))
        return [(number, generation)]

    def _call(self, name: str, *arguments: list[int]) -> None:
        if self._loop is None or self._dispatcher is None or self._loop.is_closed():
            return
        try:
            self._loop.call_soon_threadsafe(getattr(self._dispatcher, name), *arguments)
        except RuntimeError:  # the dispatch has just ended with an error, which `take` raises
            return

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:  # raised by `take`, in the caller's thread
            self._answers.put(error)
        finally:
            self._began.set()

    async def _serve(self) -> None:
        async with AsyncExitStack() as stack:
            self._dispatcher = await self._open_dispatch(
                stack, self._requests, lambda number, answer: self._answers.put((number, answer))
            )
            self._loop = asyncio.get_running_loop()
            self._began.set()
            await self._dispatcher.run()
