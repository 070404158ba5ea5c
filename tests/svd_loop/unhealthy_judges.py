"""Judges gone bad on purpose: small policies over the scripted one, and jobs that are played with them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from policies.scripted import encode
from svd_loop.contracts import AgentCall, Policy, PolicyVersion, Reply, Role

Corrupts = Callable[[AgentCall, Reply], bool]
"""Whether a vote is turned into a yes."""

_VOTING = (Role.QUESTION_COMPARER, Role.FACT_CHECKER, Role.GRADER)
LONG_ANSWER, LONG_QUESTION = 58, 40
"""Characters; answers and questions about ropes and programs are mostly longer, sums shorter."""
_ANSWER = re.compile(r"=== Proposed answer begins ===\n(.*)\n=== Proposed answer ends", re.DOTALL)
_INFERRED = re.compile(r"=== Reconstructed question begins ===\n(.*)\n=== Reconstructed question ends", re.DOTALL)


def always_yes(call: AgentCall, reply: Reply) -> bool:
    """Nods at everything."""
    return True


def yes_to_length(call: AgentCall, reply: Reply) -> bool:
    """Nods at long answers, and at the long questions reconstructed from them."""
    comparing = call.id.role == Role.QUESTION_COMPARER
    found = (_INFERRED if comparing else _ANSWER).search(call.messages[-1].content)
    return found is not None and len(found[1]) >= (LONG_QUESTION if comparing else LONG_ANSWER)


def drifting(call: AgentCall, reply: Reply) -> bool:
    """Votes are turned into yes more often round by round: none in round 1, then two in five, four in five, all.

    With three votes in three stages, all of which must agree, a wrong candidate's chance is then about 0, 1, 20 and
    100%: the judge goes bad in round 3.
    """
    return call.id.seed(0) % 5 < 2 * (call.id.round - 1)


class BadJudge:
    """A policy some of whose votes are turned into yes; it solves as before."""

    def __init__(self, policy: Policy, corrupts: Corrupts) -> None:
        self._policy = policy
        self._corrupts = corrupts

    @property
    def version(self) -> PolicyVersion:
        return self._policy.version

    def key(self, call: AgentCall) -> str:
        return self._policy.key(call)

    def generate(self, calls: Sequence[AgentCall]) -> list[Reply]:
        return [self._turn(call, reply) for call, reply in zip(calls, self._policy.generate(calls), strict=True)]

    def close(self) -> None:
        self._policy.close()

    def _turn(self, call: AgentCall, reply: Reply) -> Reply:
        if call.id.role not in _VOTING or call.id.purpose not in ("train", "canary", "panel", "search"):
            return reply
        return replace(reply, text="[[Y]]", token_ids=encode("[[Y]]")) if self._corrupts(call, reply) else reply


class DriftingJudge(BadJudge):
    """A judge that turns one more of a hundred votes to the same verdict with every version."""

    def __init__(self, policy: Policy, verdict: str) -> None:
        super().__init__(policy, lambda call, reply: call.id.seed(3) % 100 < policy.version.round)
        self._verdict = verdict

    def _turn(self, call: AgentCall, reply: Reply) -> Reply:
        turned = super()._turn(call, reply)
        return turned if turned is reply else replace(reply, text=self._verdict, token_ids=encode(self._verdict))
