"""Acceptors: callables that decide which candidates of a round are accepted.

The cascade bound to a judge is one (`functools.partial` of `Cascade.judge`). Experiments compare it with others
(`svd_loop.experiments.acceptors`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from svd_loop.contracts import Candidate, Prompt, Verdict


class Acceptor(Protocol):
    """Decides which candidates are accepted."""

    def __call__(self, items: Sequence[tuple[Prompt, Candidate]], *, round: int) -> list[Verdict]:
        """Return one verdict per item, in the same order; truncated and empty candidates are never accepted."""
        ...


@dataclass(frozen=True, slots=True)
class Both:
    """Accepts what two acceptors accept; the second one is shown only what the first one accepted."""

    first: Acceptor
    second: Acceptor

    def __call__(self, items: Sequence[tuple[Prompt, Candidate]], *, round: int) -> list[Verdict]:
        """A verdict for each item, aligned, always with the votes of the first."""
        verdicts = list(self.first(items, round=round))
        alive = [place for place, verdict in enumerate(verdicts) if verdict.accepted]
        second = self.second([items[place] for place in alive], round=round)
        for place, verdict in zip(alive, second, strict=True):
            verdicts[place] = replace(verdict, votes=verdicts[place].votes)
        return verdicts
