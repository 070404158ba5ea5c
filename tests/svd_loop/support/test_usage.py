"""Counting calls, tokens and votes."""

from __future__ import annotations

from collections.abc import Sequence

from svd_loop.contracts import (
    AgentCall,
    CallId,
    Episode,
    FinishReason,
    Message,
    PolicyVersion,
    Reply,
    Role,
    Stage,
    Verdict,
    Vote,
    VoteValue,
)
from svd_loop.support.usage import MeteredPolicy, usage_metrics, vote_metrics

VERSION = PolicyVersion(1, "f")


class Echo:
    version = VERSION
    closed = False

    def key(self, call: AgentCall) -> str:
        return "k"

    def generate(self, calls: Sequence[AgentCall]) -> list[Reply]:
        return [Reply(call.id, "x", FinishReason.STOP, VERSION, prompt_tokens=3, output_tokens=2) for call in calls]

    def close(self) -> None:
        self.closed = True


def calls(role: Role, count: int) -> list[AgentCall]:
    return [AgentCall(CallId("train", 1, role, f"p{n}"), (Message("user", "?"),), "t") for n in range(count)]


def test_usage_is_counted_by_role_and_taken_once() -> None:
    inner = Echo()
    policy = MeteredPolicy(inner)
    policy.generate(calls(Role.SOLVER, 2))
    policy.generate(calls(Role.GRADER, 1))
    policy.generate(calls(Role.SOLVER, 1))
    expected = {"a.solver.calls": 3, "a.solver.prompt_tokens": 9, "a.solver.output_tokens": 6}
    expected |= {"a.grader.calls": 1, "a.grader.prompt_tokens": 3, "a.grader.output_tokens": 2}
    assert usage_metrics(policy, "a.") == expected
    assert usage_metrics(policy) == {}
    assert (policy.version, policy.key(calls(Role.SOLVER, 1)[0])) == (VERSION, "k")
    policy.close()
    assert inner.closed


def test_votes_are_counted_by_stage_and_value() -> None:
    votes = tuple(
        Vote("p", 0, Stage.FACTUALITY, place, value)
        for place, value in enumerate((VoteValue.YES, VoteValue.YES, VoteValue.INVALID))
    )
    episode = Episode(1, 1, (), (Verdict("p", 0, False, votes=votes),), ())
    assert vote_metrics(episode) == {"votes.factuality.yes": 2.0, "votes.factuality.invalid": 1.0}
