"""Cycle consistency: infer the question from the solution alone, then compare it with the original question."""

from __future__ import annotations

from envs.cascade.check import Check
from envs.cascade.stage import CallBuilder, CascadeStage, Opinion, RoleTemplate
from envs.cascade.votes import answer_of, says_nothing
from svd_loop.config.stages import CycleConsistencySection
from svd_loop.contracts import FinishReason, Role, VoteValue

_CHECK = Check(Role.QUESTION_COMPARER, Role.QUESTION_REVIEWER)
_TEMPLATES = {
    Role.QUESTION_INFERRER: RoleTemplate(frozenset({"solution"})),
    Role.QUESTION_COMPARER: RoleTemplate(frozenset({"question", "inferred"})),
    Role.QUESTION_REVIEWER: RoleTemplate(frozenset({"question", "inferred"})),
    Role.VERDICT_GIVER: RoleTemplate(frozenset()),
}
"""The inferrer's template has no place for the question: this is how it is kept from seeing it."""


def make_stage(section: CycleConsistencySection) -> CascadeStage:
    """The stage; it has no settings."""
    return CascadeStage(_ask, _TEMPLATES)


def _ask(calls: CallBuilder) -> Opinion:
    inference = yield calls.call(Role.QUESTION_INFERRER, solution=calls.solution)
    inferred = answer_of(inference.text).strip()
    if inference.finish_reason is FinishReason.LENGTH or says_nothing(inferred):
        return VoteValue.INVALID, inference.text
    value, text = yield from _CHECK.ask(calls, question=calls.question, inferred=inferred)
    return value, f"{inferred}\n\n{text}"
