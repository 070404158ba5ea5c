"""A policy that stores every answer and reads stored answers instead of generating them again.

A batch of calls is cut into chunks by position *before* anything is looked up, and a chunk is written in one
transaction. So after a kill the missing chunks have the same rows as before, and an engine whose floats depend on the
rows of a batch repeats its results bit by bit.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Protocol

from svd_loop.contracts import AgentCall, CallStream, Policy, Reply
from svd_loop.errors import EngineError, SvdError
from svd_loop.ledger.durable_stream import SECONDS, DurableStream
from svd_loop.ledger.interrupt import Interrupt
from svd_loop.support.progress import Tally, batch
from svd_loop.support.streams import stream_of
from svd_loop.support.wrapping import PolicyWrapper


class AnswerStore(Protocol):
    """The methods of a ledger that a `DurablePolicy` uses."""

    def lookup(self, keys: Iterable[str]) -> dict[str, Reply]:
        """Return the stored replies among `keys`."""
        ...

    def record(self, items: Sequence[tuple[str, AgentCall, Reply]]) -> None:
        """Store all of `items`, or none."""
        ...


class DurablePolicy(PolicyWrapper):
    """Looks up stored answers, generates the missing ones and stores them, chunk by chunk.

    With `shared`, answers that are not in the ledger are looked up there before they are generated, and generated ones
    are stored there too (`svd_loop.ledger.shared`).

    Attributes:
        seconds: time limit of one chunk; None means no limit. With a limit the engine runs in a thread of its own. A
            thread cannot be stopped, so after a timeout this policy refuses further work and the process should end.

    `write_every` is the time in seconds between two transactions of a stream (`svd_loop.ledger.durable_stream`).
    """

    def __init__(
        self,
        policy: Policy,
        ledger: AnswerStore,
        chunk_size: int,
        *,
        seconds: float | None = None,
        interrupt: Interrupt | None = None,
        shared: AnswerStore | None = None,
        write_every: float = SECONDS,
    ) -> None:
        if chunk_size < 1:
            raise ValueError(f"chunk_size must be at least 1, it is {chunk_size}")
        super().__init__(policy)
        self.seconds = seconds
        self._ledger = ledger
        self._chunk_size = chunk_size
        self._interrupt = interrupt or Interrupt()
        self._shared = shared
        self._write_every = write_every
        self._hung = False

    def generate(self, calls: Sequence[AgentCall]) -> list[Reply]:
        """Return replies to all calls, in their order, from the ledger if they are stored there.

        Raises:
            EngineError: the engine raised, exceeded the time limit, or returned replies to other calls. The current
                chunk is not written; earlier ones are.
            JobInterrupted: a stop was requested; all generated chunks are written.
            LedgerError: the ledger cannot be read or written.
        """
        replies: list[Reply] = []
        with batch(len(calls)) as tally:
            for start in range(0, len(calls), self._chunk_size):
                replies += self._answer(calls[start : start + self._chunk_size], tally)
        return replies

    def stream(self) -> CallStream:
        """Calls in flight, whose answers are stored as they come."""
        stream = stream_of(self._policy)
        # A stream of whole batches loses one of them to a kill as it is, and the time to write it is small beside it.
        store = self._store_later if stream.slots else self._store
        return DurableStream(stream, self.key, self._find, store, self._wait, self._chunk_size, self._write_every)

    def close(self) -> None:
        """Free the engine's memory; an engine that hangs is left until the process ends."""
        if not self._hung:
            super().close()

    def _answer(self, chunk: Sequence[AgentCall], tally: Tally) -> list[Reply]:
        keys = [self.key(call) for call in chunk]
        asked = dict(zip(keys, chunk, strict=True))  # each key once
        known = self._find(asked)
        missing = {key: call for key, call in asked.items() if key not in known}
        tally.known += len(chunk) - len(missing)
        tally.rows += len(chunk) - len(missing)
        if missing:
            self._interrupt.check()
            replies = self._generate(list(missing.values()))
            answered = [(key, call, reply) for (key, call), reply in zip(missing.items(), replies, strict=True)]
            self._store(answered)
            known |= {key: reply for key, _, reply in answered}
            self._interrupt.check()
        return [known[key] for key in keys]

    def _find(self, asked: Mapping[str, AgentCall]) -> dict[str, Reply]:
        """The stored replies; those of other jobs are copied into this ledger, so that it is complete by itself."""
        known = self._ledger.lookup(asked)
        missing = [key for key in asked if key not in known]
        if missing and self._shared is not None and (found := self._shared.lookup(missing)):
            self._ledger.record([(key, asked[key], reply) for key, reply in found.items()])
            known |= found
        return known

    def _store(self, answered: Sequence[tuple[str, AgentCall, Reply]]) -> None:
        self._ledger.record(answered)
        if self._shared is not None:
            self._shared.record(answered)

    def _store_later(self, answered: Sequence[tuple[str, AgentCall, Reply]]) -> None:
        """Store answers while the engine goes on, where the ledger has a thread for it."""
        getattr(self._ledger, "record_later", self._ledger.record)(answered)
        if self._shared is not None:
            self._shared.record(answered)

    def _wait(self, take: Callable[[], list[Reply]]) -> list[Reply]:
        """Take replies from the engine's stream."""
        self._interrupt.check()
        return self._guarded(take, "the calls in flight")

    def _generate(self, calls: list[AgentCall]) -> list[Reply]:
        replies = self._guarded(lambda: self._policy.generate(calls), _span(calls))
        if len(replies) != len(calls):
            raise EngineError(f"the engine gave {len(replies)} answers to {len(calls)} calls ({_span(calls)})")
        for call, reply in zip(calls, replies, strict=True):
            if reply.call != call.id:
                raise EngineError(f"the engine returned a reply to {reply.call} for the call {call.id}")
        return replies

    def _guarded(self, work: Callable[[], list[Reply]], what: str) -> list[Reply]:
        """Let the engine work, within the time limit."""
        if self._hung:
            raise EngineError("the engine has not returned from an earlier call; end this process and run again")
        try:
            return work() if self.seconds is None else self._within(work, self.seconds, what)
        except SvdError:
            raise
        except Exception as error:
            raise EngineError(f"the engine failed on {what}: {type(error).__name__}: {error}") from error

    def _within(self, work: Callable[[], list[Reply]], seconds: float, what: str) -> list[Reply]:
        answers: queue.SimpleQueue[list[Reply] | BaseException] = queue.SimpleQueue()

        def run() -> None:
            try:
                answers.put(work())
            except BaseException as error:  # passed to the caller's thread, which raises it
                answers.put(error)

        threading.Thread(target=run, name="engine", daemon=True).start()
        try:
            answer = answers.get(timeout=seconds)
        except queue.Empty:
            self._hung = True
            raise EngineError(
                f"the engine gave no answer within {seconds:g} s to {what}; its answers were not written, all "
                "earlier ones were. Run the same command again; if the engine is only slow, raise engine.chunk_seconds"
            ) from None
        except BaseException:  # a second Ctrl-C: the engine is still running, so its memory must not be freed
            self._hung = True
            raise
        if isinstance(answer, BaseException):
            raise answer
        return answer


def _span(calls: Sequence[AgentCall]) -> str:
    return f"{len(calls)} calls from {calls[0].id} to {calls[-1].id}"
