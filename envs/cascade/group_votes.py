"""Votes of stages that see all candidates of a prompt at once (`CascadeStage.decide`).

A prompt is decided when the first of its candidates needs the vote, and for all of its candidates then. What is decided
depends on the whole group, so a group must be complete: in a round these are the prompt's n candidates, sampled
together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from envs.cascade.agreement import AnswerComparison
from envs.cascade.stage import Ballot, Decision, stage_of
from svd_loop.config.stages import StageSection
from svd_loop.contracts import Candidate, Prompt, StageName, Vote
from svd_loop.errors import ConfigError


@dataclass(frozen=True, slots=True)
class GroupVotes:
    """The votes of one call of the cascade.

    Attributes:
        groups: the candidates of each prompt by its id, truncated and empty ones included.
        sections: the stages of the cascade.
        comparison: how final answers are found and compared; None if no stage needs it.
    """

    groups: Mapping[str, Sequence[Candidate]]
    sections: Sequence[StageSection]
    comparison: AnswerComparison | None
    _decided: dict[tuple[StageName, str], dict[int, Decision]] = field(default_factory=dict)

    def cast(self, ballots: Sequence[Ballot]) -> list[Vote]:
        """The votes, aligned with `ballots`; prompts that are new are decided together, stage by stage.

        Raises:
            ConfigError: the stage cannot decide about the prompt's domain, or there is no comparison.
        """
        missing: dict[StageName, dict[str, Prompt]] = {}
        for ballot in ballots:
            if (ballot.stage, ballot.prompt.id) not in self._decided:
                missing.setdefault(ballot.stage, {})[ballot.prompt.id] = ballot.prompt
        for stage, prompts in missing.items():
            self._decide(stage, list(prompts.values()))
        return [self._vote(ballot) for ballot in ballots]

    def _decide(self, stage: StageName, prompts: Sequence[Prompt]) -> None:
        decide = stage_of(stage, self.sections).decide
        if decide is None or self.comparison is None:
            raise ConfigError(f"cascade.stages: {stage} needs a comparison of final answers (Cascade.comparison)")
        groups = [(prompt, self.groups[prompt.id]) for prompt in prompts]
        for (prompt, candidates), decisions in zip(groups, decide(groups, self.comparison), strict=True):
            by_index = {one.index: decision for one, decision in zip(candidates, decisions, strict=True)}
            self._decided[stage, prompt.id] = by_index

    def _vote(self, ballot: Ballot) -> Vote:
        value, text = self._decided[ballot.stage, ballot.prompt.id][ballot.candidate.index]
        return Vote(ballot.prompt.id, ballot.candidate.index, ballot.stage, ballot.vote, value, text)
