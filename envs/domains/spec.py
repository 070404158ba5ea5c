"""The shape every domain has."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from svd_loop.contracts import Outcome, Problem

Pair = tuple[str, Problem]
"""A solution's text and the problem it answers."""


class ScoreAll(Protocol):
    """Scoring in bulk: domains share work between pairs."""

    def __call__(self, pairs: Sequence[Pair], *, seconds: float) -> list[Outcome]:
        """What is found about each solution, in order; `seconds` bounds one coding solution's tests."""
        ...


@dataclass(frozen=True, slots=True)
class DomainSpec:
    """One domain.

    Attributes:
        extract: the final answer (or program) of a solution, None if it has none.
        score_all: what is found about solutions; one without an answer is wrong.
    """

    extract: Callable[[str], str | None]
    score_all: ScoreAll

    def score(self, solution: str, problem: Problem, *, seconds: float = 5.0) -> Outcome:
        """What is found about one solution; `score_all` is far cheaper for many."""
        return self.score_all([(solution, problem)], seconds=seconds)[0]
