"""The base of policies that wrap another one: everything is passed on, and a subclass changes what it is about.

A job wraps its engine's policy as metered(durable(recording(lent(model)))): counting sees every reply, also one the
ledger knew; recording sees only what was asked.
"""

from __future__ import annotations

from collections.abc import Sequence

from svd_loop.contracts import AgentCall, Policy, PolicyVersion, Reply


class PolicyWrapper:
    """Passes everything on to the policy it holds."""

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

    def close(self) -> None:
        """Close the wrapped policy."""
        self._policy.close()
