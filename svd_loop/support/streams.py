"""Streams over policies: for every policy, also for one that answers only whole batches."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import cast

from svd_loop.contracts import AgentCall, CallId, CallStream, Policy, Reply


class WaveStream:
    """A stream over a policy without one: everything that was put since the last `take` is one batch.

    Args:
        policy: answers the batches.
    """

    slots = 0

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._queued: dict[CallId, AgentCall] = {}

    def put(self, calls: Sequence[AgentCall]) -> None:
        """Add calls to the next batch."""
        self._queued |= {call.id: call for call in calls}

    def drop(self, calls: Collection[CallId]) -> None:
        """Remove calls from the next batch."""
        for call_id in calls:
            self._queued.pop(call_id, None)

    def take(self) -> list[Reply]:
        """Answer the batch.

        Raises:
            EngineError: the policy failed.
        """
        calls, self._queued = list(self._queued.values()), {}
        return self._policy.generate(calls) if calls else []

    def close(self) -> None:
        """Forget the batch."""
        self._queued = {}


def stream_of(policy: Policy) -> CallStream:
    """The policy's own stream, or one of whole batches if it has none (policies of other packages need not)."""
    own = getattr(policy, "stream", None)
    return WaveStream(policy) if own is None else cast(CallStream, own())
