"""Count a policy's calls and tokens by role.

Counts are taken from replies, whether the engine or the ledger gave them, so that a resumed round reports
the same usage as an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from svd_loop.contracts import (
    NO_CANDIDATE,
    AgentCall,
    CallId,
    CallStream,
    Episode,
    Policy,
    Reply,
    StageName,
    Usage,
    VoteValue,
)
from svd_loop.support.streams import WatchedStream, stream_of
from svd_loop.support.wrapping import PolicyWrapper


class MeteredPolicy(PolicyWrapper):
    """A policy that counts its calls and tokens."""

    def __init__(self, policy: Policy) -> None:
        super().__init__(policy)
        self._usage: dict[str, Usage] = {}
        self._shared: set[CallId] = set()

    def generate(self, calls: Sequence[AgentCall]) -> list[Reply]:
        """Answer all calls and count them; one that candidates share is counted when it is asked first."""
        replies = self._policy.generate(calls)
        self._count(replies)
        return replies

    def stream(self) -> CallStream:
        """Calls in flight; what is taken is counted, also calls that were asked ahead in vain."""
        return WatchedStream(stream_of(self._policy), self._count)

    def _count(self, replies: Sequence[Reply]) -> None:
        for reply in replies:
            if reply.call.candidate == NO_CANDIDATE:
                if reply.call in self._shared:
                    continue
                self._shared.add(reply.call)
            role = reply.call.role
            asked = Usage(1, reply.prompt_tokens, reply.output_tokens, reply.cached_tokens)
            self._usage[role] = self._usage.get(role, Usage()) + asked

    @property
    def output_tokens(self) -> int:
        """Tokens generated since the last call of `take_usage`."""
        return sum(usage.output_tokens for usage in self._usage.values())

    def take_usage(self) -> dict[str, Usage]:
        """Usage by role since the last call of this method."""
        usage, self._usage = self._usage, {}
        return dict(sorted(usage.items()))


def votes_cast(episode: Episode) -> dict[StageName, dict[VoteValue, int]]:
    """Votes by stage and value; under early exit only cast votes. Values without votes are left out."""
    counts: dict[StageName, dict[VoteValue, int]] = {}
    for verdict in episode.verdicts:
        for vote in verdict.votes:
            own = counts.setdefault(vote.stage, {})
            own[vote.value] = own.get(vote.value, 0) + 1
    return {stage: dict(sorted(values.items())) for stage, values in sorted(counts.items())}


def added(one: Mapping[str, Usage], other: Mapping[str, Usage]) -> dict[str, Usage]:
    """The sum of two usages, by role."""
    return {role: one.get(role, Usage()) + other.get(role, Usage()) for role in sorted({*one, *other})}
