"""A further pass over the shipped checkpoint: the judge's roles in three wordings each, and a reviser.

The options beyond the paper (`cascade.wordings`, `sampling.revise`) ask for what the shipped checkpoint was never
shown. Only this pass makes a checkpoint on which they can be measured: configs/experiments/options.yaml. The reviser is
taught to derive as seldom as the solver is, so that a second try is worth what its critique is worth and no more.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from random import Random

from envs.cascade.template_sets import TemplateSet
from svd_loop.contracts import Domain, Role
from svd_loop.nano import corpus
from svd_loop.nano.corpus import JUDGE_ROLES, Row

TEMPLATES = "nano-worded"
CONTEXT = 768
"""Tokens: a question, a solution, a critique and another solution need more than the shipped checkpoint's 512."""

_REVISED = 0.12


def rows(count: int, seed: int) -> Iterator[Row]:
    """The shipped mixture with every judge row in one of its role's wordings, and some revisions among them."""
    rng = Random(f"nano-worded/{seed}")
    usual, revised = corpus.rows(count, seed), corpus.revisions(count, seed)
    for _ in range(count):
        yield _worded(next(revised if rng.random() < _REVISED else usual), rng)


def _worded(row: Row, rng: Random) -> Row:
    templates, role = _templates(), Role(row.role)
    wording = rng.randrange(templates.wordings(role)) if row.role in JUDGE_ROLES else 0
    (message,) = templates.render(role, Domain(row.domain), wording=wording, **row.fields)
    return replace(row, user_text=message.content)


@cache
def _templates() -> TemplateSet:
    return TemplateSet.load(TEMPLATES)
