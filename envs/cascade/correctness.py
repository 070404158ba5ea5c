"""Correctness: check the solution's reasoning and conclusion."""

from __future__ import annotations

from envs.cascade.check import Check
from envs.cascade.stage import CallBuilder, CascadeStage, Opinion, RoleTemplate
from svd_loop.config.stages import CorrectnessSection
from svd_loop.contracts import Role

_CHECK = Check(Role.GRADER, Role.ANSWER_REVIEWER, Role.ANSWER_COMPARER)
_TEMPLATES = {
    Role.GRADER: RoleTemplate(frozenset({"question", "solution"})),
    Role.ANSWER_REVIEWER: RoleTemplate(frozenset({"question", "solution"})),
    Role.ANSWER_COMPARER: RoleTemplate(frozenset({"solution"})),
    Role.VERDICT_GIVER: RoleTemplate(frozenset()),
}


def make_stage(section: CorrectnessSection) -> CascadeStage:
    """The stage; it has no settings."""
    return CascadeStage(_ask, _TEMPLATES)


def _ask(calls: CallBuilder) -> Opinion:
    return _CHECK.ask(calls, question=calls.question, solution=calls.examined)
