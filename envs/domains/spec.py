"""The interface of a domain."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from svd_loop.contracts import Outcome, Problem

Pair = tuple[str, Problem]
"""A solution's text and the problem it answers."""


class ScoreAll(Protocol):
    """Scores many solutions at once, so that a domain can share work between them."""

    def __call__(self, pairs: Sequence[Pair], *, seconds: float) -> list[Outcome]:
        """Return a finding for each solution, in order; `seconds` limits the tests of one coding solution."""
        ...


@dataclass(frozen=True, slots=True)
class DomainSpec:
    """One domain.

    Attributes:
        extract: the final answer (or program) of a solution, None if it has none.
        score_all: scores solutions; one without an answer is wrong.
    """

    extract: Callable[[str], str | None]
    score_all: ScoreAll

    def score(self, solution: str, problem: Problem, *, seconds: float = 5.0) -> Outcome:
        """Score one solution; `score_all` is far cheaper for many."""
        return self.score_all([(solution, problem)], seconds=seconds)[0]
