"""The records of a job's rounds, and of the job as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from svd_loop.contracts.figures import HealthReport, StepChoice, StepRates, Usage, VerifierReport
from svd_loop.contracts.records import PolicyVersion, Scores
from svd_loop.contracts.words import StageName, StopReason, UsagePurpose, VoteValue


@dataclass(frozen=True, slots=True)
class RoundRecord:
    """The record of a round. Round 0 is the baseline: no prompts, no update.

    Attributes:
        round: its number.
        version: the version in force after it.
        scores: held-out scores of that version.
        accepted_prompts: prompts with an accepted candidate.
        prompts: prompts played.
        rows: rows trained on, replayed ones included.
        usage: calls and tokens by purpose and role.
        votes: votes cast, by stage and value.
        health: judge-health measurements; None if there are none.
        audit: quality of the judge on held-out candidates, by step of the funnel.
        verifiers: result of the verifier test, in round 0.
        update: metrics of the trainer, such as the loss, under its own names.
        choice: choice among the checkpoints of the update; None where there was none.
        metrics: further values by dotted name, for display only.
        seconds: time by phase.
        funnel: candidates by what happened to them, as in `Episode`.
    """

    round: int
    version: PolicyVersion
    scores: Scores
    accepted_prompts: int = 0
    prompts: int = 0
    rows: int = 0
    usage: Mapping[UsagePurpose, Mapping[str, Usage]] = field(default_factory=dict)
    votes: Mapping[StageName, Mapping[VoteValue, int]] = field(default_factory=dict)
    health: HealthReport | None = None
    audit: Mapping[str, StepRates] = field(default_factory=dict)
    verifiers: VerifierReport | None = None
    update: Mapping[str, float] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)
    funnel: Mapping[str, int] = field(default_factory=dict)
    choice: StepChoice | None = None

    @property
    def output_tokens(self) -> int:
        """Tokens generated, judging and evaluation included."""
        return sum(usage.output_tokens for roles in self.usage.values() for usage in roles.values())


@dataclass(frozen=True, slots=True)
class JobState:
    """The state of a job, read from its ledger."""

    job: str
    history: tuple[RoundRecord, ...] = ()
    stop: StopReason | None = None

    @property
    def next_round(self) -> int:
        """The round to play next."""
        return len(self.history)

    @property
    def last(self) -> RoundRecord:
        """The newest round (round 0 after the baseline)."""
        return self.history[-1]


@dataclass(frozen=True, slots=True)
class JobResult:
    """The end of a job: the reason, and the best round (which may not be the last)."""

    job: str
    stop: StopReason
    best: RoundRecord
    history: tuple[RoundRecord, ...]
    test: Mapping[str, Scores] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
