"""Base class of policies that wrap another one: it passes everything on, and a subclass overrides one part.

A job wraps its engine's policy as metered(durable(recording(borrowed(model)))): metering counts every reply, also one
from the ledger; recording sees only new ones.
"""

from __future__ import annotations

from collections.abc import Sequence

from svd_loop.contracts import AgentCall, CallStream, Policy, PolicyVersion, Reply
from svd_loop.support.streams import WaveStream, stream_of


class PolicyWrapper:
    """Passes every method on to the wrapped policy."""

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    @property
    def version(self) -> PolicyVersion:
        """The weights that answer."""
        return self._policy.version

    def key(self, call: AgentCall) -> str:
        """Content key of the answer."""
        return self._policy.key(call)

    def generate(self, calls: Sequence[AgentCall]) -> list[Reply]:
        """Answer all calls, in their order."""
        return self._policy.generate(calls)

    def stream(self) -> CallStream:
        """Calls in flight at the wrapped policy; whole batches if the subclass answers them in a way of its own."""
        return stream_of(self._policy) if type(self).generate is PolicyWrapper.generate else WaveStream(self)

    def close(self) -> None:
        """Close the wrapped policy."""
        self._policy.close()
