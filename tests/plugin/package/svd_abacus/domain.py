"""The domain `sums`."""

from __future__ import annotations

import re
from collections.abc import Sequence

from envs.domains import DomainSpec, Pair
from svd_abacus.rows import SumsSection
from svd_loop.contracts import Outcome


def total_of(text: str) -> str | None:
    """The last stated total; None if there is none."""
    found = re.findall(r"total = (-?\d+)", text)
    return found[-1] if found else None


def make_domain(section: SumsSection) -> DomainSpec:
    """Totals are right within the slack."""

    def score_all(pairs: Sequence[Pair], *, seconds: float) -> list[Outcome]:
        totals = [(total_of(text), int(problem.answer)) for text, problem in pairs]
        return [Outcome.of(total is not None and abs(int(total) - gold) <= section.slack) for total, gold in totals]

    return DomainSpec(total_of, score_all)
