"""A candidate of a prompt in the flow: its votes that were cast, and which of them are recorded."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from envs.cascade.candidate_state import CandidateState
from envs.cascade.judging import Conversation
from envs.cascade.ordering import Unit
from svd_loop.contracts import Verdict, Vote, VoteValue


@dataclass(slots=True, eq=False)
class Slot:
    """A candidate.

    `units[:at]` are recorded or not wanted, `units[:begun]` begun or not wanted. With the vote of unit `doom`, which
    was cast, the candidate is rejected at the latest.
    """

    index: int
    state: CandidateState | None = None
    every_vote: bool = False
    at: int = 0
    begun: int = 0
    votes: dict[int, Vote] = field(default_factory=dict)
    doom: int | None = None
    verdict: Verdict | None = None

    def cast(self, unit: int, vote: Vote) -> None:
        """Keep a vote until it is recorded, and see whether the votes at hand are enough to reject the candidate."""
        assert self.state is not None
        self.votes[unit] = vote
        if vote.value is VoteValue.YES or not self.state.is_open:
            return
        tally = self.state.tally.copy()
        for place in sorted(self.votes):
            known = self.votes[place]
            tally.add(known.stage, known.value)
            if tally.is_failed(known.stage):
                self.doom = place
                return

    def next_unit(self, units: Sequence[Unit], start: int) -> int | None:
        """The first unit from `start` on that the verdict can depend on."""
        state = self.state
        if state is None:
            return None
        if self.every_vote:
            unfit = not state.is_open and self.at == 0
            return None if unfit or start >= len(units) else start
        if not state.is_open:
            return None
        is_settled = state.tally.is_settled
        for unit in range(start, len(units) if self.doom is None else self.doom + 1):
            if not is_settled(units[unit][0]):
                return unit
        return None

    @property
    def is_rejected(self) -> bool:
        """Whether the candidate is or will be rejected."""
        return self.doom is not None or (self.verdict is not None and not self.verdict.accepted)

    def accepting(self, passing: Sequence[float]) -> float:
        """The chance that the candidate is accepted; `passing` as of `YesRates.passing`."""
        if self.doom is not None:
            return 0.0
        return passing[-1] / passing[self.at] if self.verdict is None else float(self.verdict.accepted)


@dataclass(frozen=True, slots=True, eq=False)
class Task:
    """What waits for a reply: a candidate to be written, or a vote (`unit` is its place in the order)."""

    slot: Slot
    unit: int = -1
    conversation: Conversation | None = None
