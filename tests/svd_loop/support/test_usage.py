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
    RoleName,
    Stage,
    Usage,
    Verdict,
    Vote,
    VoteValue,
)
from svd_loop.support.usage import MeteredPolicy, added, votes_cast

VERSION = PolicyVersion(1, "f")


class Echo:
    version = VERSION
    closed = False

    def key(self, call: AgentCall) -> str:
        return "k"

    def generate(self, calls: Sequence[AgentCall]) -> list[Reply]:
        counts = {"prompt_tokens": 3, "output_tokens": 2, "cached_tokens": 1}
        return [Reply(call.id, "x", FinishReason.STOP, VERSION, **counts) for call in calls]

    def close(self) -> None:
        self.closed = True


def calls(role: RoleName, count: int) -> list[AgentCall]:
    return [AgentCall(CallId("train", 1, role, f"p{n}"), (Message("user", "?"),), "t") for n in range(count)]


def test_usage_is_counted_by_role_and_taken_once() -> None:
    inner = Echo()
    policy = MeteredPolicy(inner)
    policy.generate(calls(Role.SOLVER, 2))
    policy.generate(calls(Role.GRADER, 1))
    policy.generate(calls(Role.SOLVER, 1))
    usage = policy.take_usage()
    assert usage == {"grader": Usage(1, 3, 2), "solver": Usage(3, 9, 6)}
    assert {role: used.read_tokens for role, used in usage.items()} == {"grader": 2, "solver": 6}
    assert policy.take_usage() == {}
    assert (policy.version, policy.key(calls(Role.SOLVER, 1)[0])) == (VERSION, "k")
    policy.close()
    assert inner.closed


def test_votes_are_counted_by_stage_and_value() -> None:
    votes = tuple(
        Vote("p", 0, Stage.FACTUALITY, place, value)
        for place, value in enumerate((VoteValue.YES, VoteValue.YES, VoteValue.INVALID))
    )
    episode = Episode(1, 1, (), (Verdict("p", 0, False, votes=votes),), ())
    assert votes_cast(episode) == {Stage.FACTUALITY: {VoteValue.YES: 2, VoteValue.INVALID: 1}}


def test_the_usage_of_two_policies_adds_up_by_role() -> None:
    one, other = {"solver": Usage(1, 2, 3)}, {"solver": Usage(10, 20, 30), "grader": Usage(5, 6, 7)}
    assert added(one, other) == {"grader": Usage(5, 6, 7), "solver": Usage(11, 22, 33)}
    assert added({}, {}) == {}
