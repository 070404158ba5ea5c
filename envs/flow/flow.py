"""The scheduler of a round: it keeps the slots of an engine filled, and waits for no wave.

    prompts ──> PromptFlow ── due calls ──> queue ──> stream.put ──> engine
                    ^  └───── calls ahead, where slots are free ──┘     │
                    └────────────── receive <── stream.take <───────────┘

Calls that are due go first, in the order in which they became due; then prompts that were not begun; then, where slots
are still free, calls ahead, those that will most likely be needed first. So prompts are finished soon after they are
begun, memory holds what is in flight, and towards the end of a round, when few prompts are open, the engine runs on
what they may need next. What a prompt does not need any more is dropped.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

from envs.flow.prompt_flow import PromptFlow
from svd_loop.contracts import AgentCall, CallId, CallStream, Reply
from svd_loop.errors import EngineError

LEAD = 16
"""Due calls are queued at the engine beyond its slots, up to 1 / LEAD of them, so that no slot waits for the next."""


class Flow:
    """Plays prompts over a stream.

    Args:
        stream: answers solver and judge.
        fill_rows: calls in flight up to which calls ahead are asked; None asks none. Never more than the slots.
    """

    def __init__(self, stream: CallStream, *, fill_rows: int | None = None) -> None:
        self._stream = stream
        self._fill_rows = fill_rows
        self._due: deque[tuple[AgentCall, PromptFlow]] = deque()
        self._in_flight: dict[CallId, PromptFlow] = {}
        # Open prompts by the chance of their next call ahead. An entry counts only if it has the prompt's last serial:
        # `_changed` holds prompts whose entry is out of date, so that a round's busy part never computes a chance.
        self._ranked: list[tuple[float, int, PromptFlow]] = []
        self._changed: dict[PromptFlow, None] = {}
        self._last: dict[PromptFlow, int] = {}
        self._serial = 0

    def play(self, prompts: Iterable[PromptFlow]) -> Iterator[PromptFlow]:
        """Play all prompts; yields each when it is done.

        Raises:
            EngineError: the policy left calls unanswered, or replied to a call that it was not asked.
        """
        rest = iter(prompts)
        while True:
            self._fill(rest)
            if not self._in_flight:
                return
            replies = self._stream.take()
            if not replies:
                raise EngineError(f"the policy left {len(self._in_flight)} calls unanswered")
            yield from self._receive(replies)

    def _receive(self, replies: Sequence[Reply]) -> Iterator[PromptFlow]:
        """Hand replies to their prompts; yields those that are done with them."""
        dropped: set[CallId] = set()
        for reply in replies:
            flow = self._in_flight.pop(reply.call, None)
            if flow is not None:
                flow.receive(reply)
                dropped.update(self._update(flow))
                if flow.is_done:
                    self._changed.pop(flow, None)
                    self._last.pop(flow, None)
                    yield flow
            elif reply.call not in dropped:
                raise EngineError(f"the policy replied to a call that is not in flight: {reply.call}")

    def _update(self, flow: PromptFlow) -> list[CallId]:
        """Queue a prompt's due calls, and drop those that it no longer needs."""
        self._due.extend((call, flow) for call in flow.due())
        self._changed[flow] = None
        dropped = [call_id for call_id in flow.take_dropped() if self._in_flight.pop(call_id, None) is not None]
        if dropped:
            self._stream.drop(dropped)
        return dropped

    def _fill(self, rest: Iterator[PromptFlow]) -> None:
        """Put calls until the slots are full or nothing is worth asking."""
        slots, calls = self._stream.slots, list[AgentCall]()
        while not slots or len(self._in_flight) < slots + slots // LEAD:
            if self._due:
                call, flow = self._due.popleft()
                if flow.is_waiting_for(call.id):
                    self._in_flight[call.id] = flow
                    calls.append(call)
            elif (begun := next(rest, None)) is not None:
                self._update(begun)
            else:
                break
        fill_rows = self._fill_rows or 0
        while (rows := len(self._in_flight)) < (min(fill_rows, slots) if slots else fill_rows):
            if (found := self._next_ahead(rows / (rows + fill_rows))) is None:
                break
            self._in_flight[found[0].id] = found[1]
            calls.append(found[0])
        if calls:
            self._stream.put(calls)

    def _next_ahead(self, least: float) -> tuple[AgentCall, PromptFlow] | None:
        """The call ahead, of all open prompts, that will most likely be needed, if its chance is more than `least`."""
        for flow in self._changed:
            self._rank(flow)
        self._changed.clear()
        while self._ranked and -self._ranked[0][0] > least:
            _, serial, flow = heapq.heappop(self._ranked)
            if self._last.get(flow) == serial and (call := flow.ahead()) is not None:
                self._rank(flow)
                return call, flow
        return None

    def _rank(self, flow: PromptFlow) -> None:
        chance = flow.chance_ahead()
        self._serial += 1
        self._last[flow] = self._serial
        if chance > 0.0:
            heapq.heappush(self._ranked, (-chance, self._serial, flow))
