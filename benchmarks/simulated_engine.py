"""An engine that only tells the time: slots, lengths of answers, speeds and failures, without a model.

Every slot of a replica writes one token a step, whatever the other slots do. This is how a large batch decodes on a
GPU: a step's time is that of reading the weights. Left out: the time of reading prompts.

Lengths are log-normal with a given mean, cut at a longest one: an answer that reaches it is truncated, as a real one
would be. Prompts differ in difficulty (the chance that a candidate is right is arcsine distributed: many easy ones,
many hard ones), and a judge says yes to right and wrong candidates with fixed chances. All of it depends on the seed of
a call alone.
"""

from __future__ import annotations

import hashlib
import heapq
import math
import random
from collections import deque
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

from svd_loop.contracts import AgentCall, CallId, FinishReason, PolicyVersion, Reply, Role

VERSION = PolicyVersion(0, "5171")
_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True)
class Traits:
    """The simulated model: lengths in tokens, and chances of a yes vote."""

    mean: float = 6_000.0
    longest: int = 28_672
    sigma: float = 0.6
    true_positive: float = 0.97
    false_positive: float = 0.15
    invalid: float = 0.01

    def answer(self, call: CallId) -> tuple[int, str]:
        """The length of an answer, and its text."""
        named = repr((call.role, call.prompt_id, call.candidate, call.vote, call.attempt))
        digest = hashlib.sha256(named.encode()).digest()
        one, two = int.from_bytes(digest[:7], "big"), int.from_bytes(digest[7:14], "big")
        normal = _NORMAL.inv_cdf((one + 0.5) / 2**56)
        length = int(self.mean * math.exp(self.sigma * normal - self.sigma**2 / 2)) + 1
        return min(length, self.longest), self._text(call, two / 2**56)

    def _text(self, call: CallId, draw: float) -> str:
        if call.role in (Role.SOLVER, Role.QUESTION_INFERRER):
            return "a text"
        if draw < self.invalid:
            return "no verdict"
        yes = self.true_positive if is_right(call.prompt_id, call.candidate) else self.false_positive
        return "[[Y]]" if draw < self.invalid + (1.0 - self.invalid) * yes else "[[N]]"


@lru_cache(maxsize=100_000)
def is_right(prompt_id: str, candidate: int) -> bool:
    """Whether a candidate is right."""
    skill = math.sin(math.pi / 2 * random.Random(prompt_id).random()) ** 2
    return random.Random(f"{prompt_id}/{candidate}").random() < skill


@dataclass(frozen=True, slots=True)
class Fleet:
    """The replicas.

    Attributes:
        replicas: how many.
        slots: calls that each answers side by side.
        step: seconds that a token takes.
        slow: share of the replicas that are four times slower.
        lives: mean seconds until a replica dies; 0 never. What it was answering is asked again elsewhere.
        away: seconds until a dead one is back.
        seed: draws which are slow, and when they die.
    """

    replicas: int = 8
    slots: int = 256
    step: float = 0.02
    slow: float = 0.0
    lives: float = 0.0
    away: float = 300.0
    seed: int = 0


class SimulatedEngine:
    """A policy over a fleet: it streams, and answers whole batches in chunks as a job does without a stream.

    Attributes:
        now: seconds since the start.
        busy: seconds that slots were occupied, all together.
        tokens: written, those of dropped calls included.
        answered: calls.
    """

    version = VERSION

    def __init__(self, fleet: Fleet, traits: Traits, chunk: int = 2048) -> None:
        self.now = self.busy = 0.0
        self.tokens = self.answered = 0
        self._fleet = fleet
        self._traits = traits
        self._chunk = chunk
        self._random = random.Random(fleet.seed)
        draws = [self._random.random() for _ in range(fleet.replicas)]
        self._step = [fleet.step * (4 if draw < fleet.slow else 1) for draw in draws]
        self._epoch = [0] * fleet.replicas
        self._up = fleet.replicas
        self._free = deque((replica, 0) for _ in range(fleet.slots) for replica in range(fleet.replicas))
        self._queue: deque[AgentCall] = deque()
        self._running: dict[CallId, tuple[float, int, int, AgentCall, str]] = {}
        self._events: list[tuple[float, int, CallId | None, int]] = []
        self._serial = 0
        self._cancelled: set[CallId] = set()
        if fleet.lives:
            for replica in range(fleet.replicas):
                self._at(self._random.expovariate(1 / fleet.lives), None, replica)

    # ------------------------------------------------------------------------------------------------------ policy

    def key(self, call: AgentCall) -> str:
        """The call's id."""
        return repr(call.id)

    def generate(self, calls: Sequence[AgentCall]) -> list[Reply]:
        """Answer chunk after chunk, each to its end."""
        replies: dict[CallId, Reply] = {}
        for start in range(0, len(calls), self._chunk):
            self.put(calls[start : start + self._chunk])
            while taken := self.take():
                replies |= {reply.call: reply for reply in taken}
        return [replies[call.id] for call in calls]

    def stream(self) -> SimulatedEngine:
        """The engine is its own stream."""
        return self

    def close(self) -> None:
        """Do nothing."""

    # ------------------------------------------------------------------------------------------------------ stream

    @property
    def slots(self) -> int:
        """Slots of the replicas that are up."""
        return max(self._up, 1) * self._fleet.slots

    def put(self, calls: Sequence[AgentCall]) -> None:
        """Queue calls."""
        self._queue.extend(calls)
        self._start()

    def drop(self, calls: Collection[CallId]) -> None:
        """Forget calls; running ones free their slots."""
        for call_id in calls:
            if (row := self._running.pop(call_id, None)) is not None:
                self._leave(row)
            else:
                self._cancelled.add(call_id)
        self._start()

    def take(self) -> list[Reply]:
        """The replies of the next instant at which there are any."""
        replies: list[Reply] = []
        while self._running or self._queued():
            if replies and self._events[0][0] > self.now:
                break
            self.now, serial, call_id, replica = heapq.heappop(self._events)
            if call_id is None:
                self._fail_or_return(replica)
            elif (row := self._running.get(call_id)) is not None and row[2] == serial:
                del self._running[call_id]
                self._leave(row)
                replies.append(self._reply(row))
            self._start()
        return replies

    # ------------------------------------------------------------------------------------------------------ inside

    def _queued(self) -> bool:
        while self._queue and self._queue[0].id in self._cancelled:
            self._cancelled.discard(self._queue.popleft().id)
        if not self._queue:
            self._cancelled.clear()
        return bool(self._queue)

    def _start(self) -> None:
        """Give free slots to queued calls."""
        while self._free and self._queued():
            replica, epoch = self._free.popleft()
            if epoch != self._epoch[replica]:
                continue
            call = self._queue.popleft()
            length, text = self._traits.answer(call.id)
            serial = self._at(self.now + length * self._step[replica], call.id, replica)
            self._running[call.id] = (self.now, replica, serial, call, text)

    def _at(self, time: float, call_id: CallId | None, replica: int) -> int:
        self._serial += 1
        heapq.heappush(self._events, (time, self._serial, call_id, replica))
        return self._serial

    def _leave(self, row: tuple[float, int, int, AgentCall, str]) -> None:
        began, replica, *_ = row
        self.busy += self.now - began
        self.tokens += round((self.now - began) / self._step[replica])
        self._free.append((replica, self._epoch[replica]))

    def _reply(self, row: tuple[float, int, int, AgentCall, str]) -> Reply:
        self.answered += 1
        began, replica, _, call, text = row
        length = round((self.now - began) / self._step[replica])
        reason = FinishReason.LENGTH if length >= self._traits.longest else FinishReason.STOP
        return Reply(call.id, text, reason, VERSION, output_tokens=length)

    def _fail_or_return(self, replica: int) -> None:
        self._epoch[replica] += 1
        if self._epoch[replica] % 2 == 0:
            self._up += 1
            self._free.extend((replica, self._epoch[replica]) for _ in range(self._fleet.slots))
            self._at(self.now + self._random.expovariate(1 / self._fleet.lives), None, replica)
            return
        self._up -= 1
        for call_id, row in [item for item in self._running.items() if item[1][1] == replica]:
            del self._running[call_id]
            self._leave(row)
            self._free.pop()
            self._queue.appendleft(row[3])
        self._at(self.now + self._fleet.away, None, replica)
