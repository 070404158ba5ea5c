"""Counting what a policy was asked and what it answered, by role.

Counts are taken from replies, whether the engine or the ledger gave them, so that a resumed round reports
the same usage as an uninterrupted one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from svd_loop.contracts import AgentCall, Episode, Policy, Reply
from svd_loop.contracts import MeteredPolicy as Metered
from svd_loop.support.wrapping import PolicyWrapper


@dataclass(slots=True)
class Usage:
    """Calls and tokens of one role."""

    calls: int = 0
    prompt_tokens: int = 0
    output_tokens: int = 0

    def add(self, reply: Reply) -> None:
        """Count one reply."""
        self.calls += 1
        self.prompt_tokens += reply.prompt_tokens
        self.output_tokens += reply.output_tokens

    def as_dict(self) -> dict[str, int]:
        """Plain numbers for records."""
        return {"calls": self.calls, "prompt_tokens": self.prompt_tokens, "output_tokens": self.output_tokens}


class MeteredPolicy(PolicyWrapper):
    """A policy that keeps count."""

    def __init__(self, policy: Policy) -> None:
        super().__init__(policy)
        self._usage: dict[str, Usage] = {}

    def generate(self, calls: Sequence[AgentCall]) -> list[Reply]:
        """Answer and count."""
        replies = self._policy.generate(calls)
        for reply in replies:
            self._usage.setdefault(reply.call.role.value, Usage()).add(reply)
        return replies

    def take_usage(self) -> Mapping[str, Mapping[str, int]]:
        """Counts by role since the last call of this method."""
        usage, self._usage = self._usage, {}
        return {role: counts.as_dict() for role, counts in sorted(usage.items())}


def vote_metrics(episode: Episode) -> dict[str, float]:
    """Votes cast, as `votes.<stage>.<yes|no|invalid>` (under early exit, of what was asked), and the episode's own."""
    votes = Counter((vote.stage, vote.value) for verdict in episode.verdicts for vote in verdict.votes)
    counts = {f"votes.{stage.value}.{value.value}": float(count) for (stage, value), count in sorted(votes.items())}
    return {**counts, **episode.metrics}


def usage_metrics(policy: Metered, prefix: str = "") -> dict[str, float]:
    """What a policy was asked since the last time, as `<prefix><role>.<calls|prompt_tokens|output_tokens>`."""
    usage = policy.take_usage()
    return {f"{prefix}{role}.{name}": float(value) for role, counts in usage.items() for name, value in counts.items()}
