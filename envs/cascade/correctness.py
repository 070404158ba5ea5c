"""Correctness: check the solution's reasoning and conclusion."""

from __future__ import annotations

from functools import partial

from envs.cascade.stage import CascadeStage, RoleTemplate, single_call
from svd_loop.config.stages import CorrectnessSection
from svd_loop.contracts import Role


def make_stage(section: CorrectnessSection) -> CascadeStage:
    """The stage; it has no settings."""
    templates = {Role.GRADER: RoleTemplate(frozenset({"question", "solution"}))}
    return CascadeStage(partial(single_call, role=Role.GRADER), templates)
