"""The stage `nines`."""

from __future__ import annotations

from functools import partial

from envs.cascade.stage import CascadeStage, RoleTemplate, single_call
from svd_abacus.rows import NinesSection

TEMPLATE = "Cast out nines.\n$question\n$solution\nReply [[Y]] if the total agrees, else [[N]]."


def make_stage(section: NinesSection) -> CascadeStage:
    """One call of the role `abacist`."""
    template = RoleTemplate(frozenset({"question", "solution"}), TEMPLATE)
    return CascadeStage(partial(single_call, role="abacist"), {"abacist": template})
