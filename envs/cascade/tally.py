"""Count the votes of a candidate: how many yes votes a stage needs, and when its outcome is settled.

The method asks for all of them. Fewer (`majority`, `at_least`) is an approximation of the method: it accepts more
candidates, wrong ones among them. An unreadable vote counts as not yes under every rule.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from svd_loop.contracts import StageName, VoteValue


@dataclass(slots=True)
class Tally:
    """The votes on one candidate, counted.

    Attributes:
        votes: votes per stage (v).
        needed: yes votes a stage needs (k), from 1 to `votes`; k = v is unanimity, the method's rule.
        once: stages that cast a single vote, whatever `votes` is.
    """

    votes: int
    needed: int
    once: frozenset[StageName] = frozenset()
    _yes: dict[StageName, int] = field(default_factory=dict)
    _other: dict[StageName, int] = field(default_factory=dict)

    def add(self, stage: StageName, value: VoteValue) -> None:
        """Count one vote."""
        counts = self._yes if value is VoteValue.YES else self._other
        counts[stage] = counts.get(stage, 0) + 1

    def copy(self) -> Tally:
        """A tally with the same votes that counts on its own."""
        return Tally(self.votes, self.needed, self.once, self._yes.copy(), self._other.copy())

    def is_passed(self, stage: StageName) -> bool:
        """Whether the stage has its k yes votes; later votes cannot change this."""
        return self._yes.get(stage, 0) >= (1 if stage in self.once else self.needed)

    def is_failed(self, stage: StageName) -> bool:
        """Whether so many votes were not yes that k cannot be reached any more."""
        return self._other.get(stage, 0) > (0 if stage in self.once else self.votes - self.needed)

    def is_settled(self, stage: StageName) -> bool:
        """Whether no further vote of the stage can change its outcome."""
        return self.is_passed(stage) or self.is_failed(stage)
