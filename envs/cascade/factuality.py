"""Factuality: check the solution for clearly false statements."""

from __future__ import annotations

from functools import partial

from envs.cascade.stage import CascadeStage, RoleTemplate, single_call
from svd_loop.config.stages import FactualitySection
from svd_loop.contracts import Role


def make_stage(section: FactualitySection) -> CascadeStage:
    """The stage; it has no settings."""
    templates = {Role.FACT_CHECKER: RoleTemplate(frozenset({"question", "solution"}))}
    return CascadeStage(partial(single_call, role=Role.FACT_CHECKER), templates)
