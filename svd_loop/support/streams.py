"""Streams over policies: for every policy, also for one that answers only whole batches."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
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


class WatchedStream:
    """A stream whose replies are shown to a function before they are returned.

    Args:
        stream: the stream; closed with this one.
        watch: gets the replies of every `take`.
    """

    def __init__(self, stream: CallStream, watch: Callable[[Sequence[Reply]], None]) -> None:
        self._stream = stream
        self._watch = watch

    @property
    def slots(self) -> int:
        """Those of the stream."""
        return self._stream.slots

    def put(self, calls: Sequence[AgentCall]) -> None:
        """Queue calls."""
        self._stream.put(calls)

    def drop(self, calls: Collection[CallId]) -> None:
        """Forget calls."""
        self._stream.drop(calls)

    def take(self) -> list[Reply]:
        """Wait for replies."""
        replies = self._stream.take()
        self._watch(replies)
        return replies

    def close(self) -> None:
        """Close the stream."""
        self._stream.close()


def stream_of(policy: Policy) -> CallStream:
    """The policy's own stream, or one of whole batches if it has none (policies of other packages need not)."""
    own = getattr(policy, "stream", None)
    return WaveStream(policy) if own is None else cast(CallStream, own())
