"""Factuality: check the solution for clearly false statements."""

from __future__ import annotations

from envs.cascade.check import Check
from envs.cascade.stage import CallBuilder, CascadeStage, Opinion, RoleTemplate
from svd_loop.config.stages import FactualitySection
from svd_loop.contracts import Role

_CHECK = Check(Role.FACT_CHECKER, Role.FACT_REVIEWER, Role.FACT_COMPARER)
_TEMPLATES = {
    Role.FACT_CHECKER: RoleTemplate(frozenset({"question", "solution"})),
    Role.FACT_REVIEWER: RoleTemplate(frozenset({"question", "solution"})),
    Role.FACT_COMPARER: RoleTemplate(frozenset({"solution"})),
    Role.VERDICT_GIVER: RoleTemplate(frozenset()),
}


def make_stage(section: FactualitySection) -> CascadeStage:
    """The stage; it has no settings."""
    return CascadeStage(_ask, _TEMPLATES)


def _ask(calls: CallBuilder) -> Opinion:
    return _CHECK.ask(calls, question=calls.question, solution=calls.examined)
