"""Findings in free text first; then, in the same conversation, a short reply that can only be one of the two markers.

Small models whose prompt names the markers write one at once, before they have checked anything. The first template
therefore never mentions them. The findings go back as the judge's own turn, broken up like a candidate's text: they may
quote the candidate. A vote without findings (empty, or cut off) is invalid and asked again.
"""

from __future__ import annotations

from collections.abc import Generator

from envs.cascade.markers import MARKERS
from envs.cascade.stage import CallBuilder, Decision, Opinion
from envs.cascade.votes import answer_of, read_verdict, says_nothing
from svd_loop.contracts import AgentCall, FinishReason, Message, Reply, Role, RoleName, VoteValue


def ask(calls: CallBuilder, role: RoleName, **fields: str) -> Opinion:
    """A vote by findings in a role, and a verdict on them; `fields` are the texts of the role's template."""
    return (yield from decide(calls, calls.call(role, **fields)))


def decide(calls: CallBuilder, call: AgentCall) -> Generator[AgentCall, Reply, Decision]:
    """Ask a call for findings, then for the verdict."""
    findings = yield call
    if not is_usable(findings):
        return VoteValue.INVALID, findings.text
    before = continued(calls, call, findings)
    verdict = yield calls.next_turn(before, Role.VERDICT_GIVER, {}, choices=MARKERS)
    text = f"{answer_of(findings.text).strip()}\n\n{verdict.text}"
    return read_verdict(verdict.text, verdict.finish_reason), text


def is_usable(reply: Reply) -> bool:
    """Whether a reply ended by itself and has an answer behind its thought."""
    return reply.finish_reason is FinishReason.STOP and not says_nothing(answer_of(reply.text))


def continued(calls: CallBuilder, call: AgentCall, reply: Reply) -> tuple[Message, ...]:
    """A conversation with the judge's reply as its last turn: without the thought, and with markers broken up."""
    return (*call.messages, Message("assistant", calls.neutral(call.id.role, answer_of(reply.text).strip())))
