"""A candidate in the cascade: the votes recorded on it so far, and what they decide."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from envs.cascade.tally import Tally
from svd_loop.contracts import Candidate, Message, Prompt, Rejection, StageName, Verdict, Vote


@dataclass(slots=True)
class CandidateState:
    """A candidate with the votes cast on it so far."""

    prompt: Prompt
    candidate: Candidate
    stages: Sequence[StageName]
    tally: Tally
    rejection: Rejection | None
    votes: list[Vote] = field(default_factory=list)
    refusal: Vote | None = None
    rendered: dict[tuple[str, ...], tuple[Message, ...]] = field(default_factory=dict)
    """Messages shown to the judge so far, for further votes (`envs.cascade.stage.Ballot`)."""

    @property
    def is_open(self) -> bool:
        """Whether nothing has rejected it."""
        return self.rejection is None

    def wants(self, stage: StageName) -> bool:
        """Whether a further vote of the stage can change the verdict."""
        return self.is_open and not self.tally.is_settled(stage)

    def record(self, vote: Vote) -> None:
        """Count a vote; the vote that makes a stage fail, and no later one, sets the rejection."""
        self.votes.append(vote)
        self.tally.add(vote.stage, vote.value)
        # The first failure wins. Votes that were asked ahead are recorded after it, in the order of the units, and must
        # not change which vote the rejection names.
        if self.is_open and self.tally.is_failed(vote.stage):
            self.rejection, self.refusal = Rejection.VOTE, vote

    def verdict(self) -> Verdict:
        """The verdict by the votes recorded so far."""
        accepted = self.is_open and all(map(self.tally.is_passed, self.stages))
        by = self.refusal
        stage, vote = (None, None) if by is None else (by.stage, by.vote)
        return Verdict(self.prompt.id, self.candidate.index, accepted, self.rejection, stage, vote, tuple(self.votes))
