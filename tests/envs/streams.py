"""A stream for tests of the flow: few slots, and replies in any order."""

from __future__ import annotations

import random
from collections.abc import Collection, Sequence

from svd_loop.contracts import AgentCall, CallId, Reply
from tests.envs.judges import RulePolicy


class ShuffledStream:
    """Answers by a rule; which of the running calls finish first is drawn from `seed`."""

    def __init__(self, policy: RulePolicy, slots: int, seed: int) -> None:
        self.slots = slots
        self.asked: list[CallId] = []
        self.dropped: list[CallId] = []
        self.most = 0
        self._policy = policy
        self._random = random.Random(seed)
        self._open: dict[CallId, AgentCall] = {}

    def put(self, calls: Sequence[AgentCall]) -> None:
        for call in calls:
            assert call.id not in self._open
            self._open[call.id] = call
            self.asked.append(call.id)
        self.most = max(self.most, len(self._open))

    def drop(self, calls: Collection[CallId]) -> None:
        for call_id in calls:
            self.dropped.append(call_id)
            self._open.pop(call_id, None)  # it may be among the replies that were just taken

    def take(self) -> list[Reply]:
        running = list(self._open)[: self.slots or None]
        finished = self._random.sample(running, self._random.randint(min(1, len(running)), len(running)))
        return [self._policy.reply(self._open.pop(call_id)) for call_id in finished]

    def close(self) -> None:
        self._open.clear()
