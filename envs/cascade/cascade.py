"""The verification cascade: every vote of every stage must say yes.

The unit asked is one vote of one stage. With early exit the candidates go through the units in waves: everybody still
alive is asked the first unit in one batch, the survivors the second, and so on, so that the first vote that is not
yes is the last one paid for. Without it everything is asked in a single wave, which is what the method states
literally and what measurements of the judge need.

A slice of the candidates is judged to the end for the sake of measurement where `audit_share` asks for it
(`envs.cascade.audit_slice`).

Both accept the same candidates, and reject the others at the same vote: what a vote is asked, and with which seed,
depends on its own place alone (`CallId`), never on the wave it is in. For the same reason the order of the units
(`stage_major` is the paper's, `measured` comes from `envs.cascade.ordering`) decides cost and which vote is named for a
rejection, never who is accepted.

Late waves hold few candidates. `fill_rows` lets such a wave ask several of the next units at once
(`envs.cascade.look_ahead`): fewer waves for a few more votes. A candidate's votes are recorded in the order of the
units, so a rejection still names the first that decided, and what was asked beyond it is only paid for.

A `rule` other than `unanimous` asks for k yes votes of v in every stage, an approximation of the method
(`envs.cascade.tally`). Early exit then leaves a stage as soon as its outcome is settled either way, and a rejection
names the vote that settled it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from envs.cascade.audit_slice import audit_metrics, in_slice
from envs.cascade.judging import Ballot, cast_votes
from envs.cascade.look_ahead import reach
from envs.cascade.ordering import Unit, paper_order
from envs.cascade.tally import Tally
from envs.cascade.template_sets import TemplateSet
from envs.cascade.votes import answer_of, is_blank
from svd_loop.config.sections import CascadeSection
from svd_loop.contracts import (
    Candidate,
    FinishReason,
    Policy,
    Prompt,
    Rejection,
    Stage,
    Verdict,
    Vote,
    VoteValue,
)


@dataclass(slots=True)
class _Trial:
    """A candidate on its way through the cascade."""

    prompt: Prompt
    candidate: Candidate
    stages: Sequence[Stage]
    tally: Tally
    rejection: Rejection | None
    votes: list[Vote] = field(default_factory=list)
    refusal: Vote | None = None

    @property
    def is_open(self) -> bool:
        return self.rejection is None

    def wants(self, stage: Stage) -> bool:
        """Whether a further vote of the stage can change anything."""
        return self.is_open and not self.tally.is_settled(stage)

    def record(self, vote: Vote) -> None:
        """Count a vote; the one that makes a stage fail, and no later one, rejects."""
        self.votes.append(vote)
        self.tally.add(vote.stage, vote.value)
        if self.is_open and self.tally.is_failed(vote.stage):
            self.rejection, self.refusal = Rejection.VOTE, vote

    def verdict(self) -> Verdict:
        accepted = self.is_open and all(map(self.tally.is_passed, self.stages))
        verdict = Verdict(self.prompt.id, self.candidate.index, accepted, self.rejection, votes=tuple(self.votes))
        refusal = self.refusal
        return verdict if refusal is None else replace(verdict, stage=refusal.stage, vote=refusal.vote)


@dataclass(frozen=True, slots=True)
class Cascade:
    """Judges candidates with a policy.

    Attributes:
        templates: The judge's instructions.
        settings: How candidates are judged.
        seed: The job's; it draws the audit slice.
        order_of: The measured order of the units in a round, where `settings.order` is `measured`; it must give the
            same at every call. None keeps the paper's.
    """

    templates: TemplateSet
    settings: CascadeSection = field(default_factory=CascadeSection)
    seed: int = 0
    order_of: Callable[[int], tuple[Unit, ...]] | None = None

    def units(self, round: int) -> tuple[Unit, ...]:
        """Every (stage, vote) in the order in which it is asked in a round."""
        if self.settings.order == "measured" and self.order_of is not None:
            return self.order_of(round)
        return paper_order(self.settings.stages, self.settings.votes)

    def metrics(self, round: int, verdicts: Sequence[Verdict]) -> dict[str, float]:
        """What a round shows beside its verdicts, each part where its setting is on.

        `order.<stage>.<vote>` is the place of a unit, from 0, in the measured order; `audit.*` see
        `envs.cascade.audit_slice`; `ahead.votes` are those that `fill_rows` had asked beyond the one that rejected a
        candidate.
        """
        metrics: dict[str, float] = {}
        if self.settings.order == "measured":
            units = enumerate(self.units(round))
            metrics |= {f"order.{stage}.{vote}": float(place) for place, (stage, vote) in units}
        audited = [v for v in verdicts if self._is_audited(v, round)]
        if self.settings.audit_share > 0.0:
            metrics |= audit_metrics(audited, self.settings.stages, self.settings.needed)
        if self.settings.fill_rows is not None:
            ahead = sum(votes_beyond(v) for v in verdicts if not self._is_audited(v, round))
            metrics["ahead.votes"] = float(ahead)
        return metrics

    def _is_audited(self, of: Candidate | Verdict, round: int) -> bool:
        """Whether a candidate, or whom a verdict is about, belongs to the audit slice."""
        index = of.index if isinstance(of, Candidate) else of.candidate
        return in_slice(self.settings.audit_share, self.seed, round, of.prompt_id, index)

    def judge(
        self, judge: Policy, items: Sequence[tuple[Prompt, Candidate]], *, round: int, purpose: str = "train"
    ) -> list[Verdict]:
        """A verdict for each candidate.

        Args:
            judge: The policy that votes.
            items: Candidates with their prompts, length C, of any prompts in any order.
            round: The round being played, part of every vote's seed.
            purpose: Namespace of the calls (`CallId.purpose`).

        Returns:
            Verdicts aligned with `items`. A rejection names the vote, in the order of the units, that decided it: under
            unanimity the first that was not yes. Truncated and empty candidates are rejected without a vote. The audit
            slice is drawn from purpose `train` alone.

        Raises:
            EngineError: The judge left a call unanswered.
        """
        trials = [self._trial(*item) for item in items]
        open_trials = [trial for trial in trials if trial.is_open]
        audited = [t for t in open_trials if purpose == "train" and self._is_audited(t.candidate, round)]
        self._ask(judge, audited, self.units(round), round, purpose)
        others = [trial for trial in open_trials if trial.is_open and not trial.votes]
        if not self.settings.early_exit:
            self._ask(judge, others, self.units(round), round, purpose)
        else:
            self._ask_in_waves(judge, others, round, purpose)
        return [trial.verdict() for trial in trials]

    def _trial(self, prompt: Prompt, candidate: Candidate) -> _Trial:
        tally = Tally(self.settings.votes, self.settings.needed)
        return _Trial(prompt, candidate, self.settings.stages, tally, unfit(candidate))

    def _ask_in_waves(self, judge: Policy, trials: Sequence[_Trial], round: int, purpose: str) -> None:
        """Ask the units in order, of those that still want them; several at once where `fill_rows` leaves room."""
        units = rest = self.units(round)
        while rest and (alive := [trial for trial in trials if any(trial.wants(stage) for stage, _ in rest)]):
            count = reach(self.settings.fill_rows, len(alive), len(units) - len(rest), len(rest))
            self._ask(judge, alive, rest[:count], round, purpose)
            rest = rest[count:]

    def _ask(self, judge: Policy, trials: Sequence[_Trial], wave: Sequence[Unit], round: int, purpose: str) -> None:
        """Ask every trial the units of a wave that it wants, all in one batch."""
        asked = [(t, stage, vote) for t in trials for stage, vote in wave if not t.tally.is_settled(stage)]
        ballots = [Ballot(t.prompt, t.candidate, stage, vote, round, purpose) for t, stage, vote in asked]
        votes = cast_votes(
            judge,
            ballots,
            self.templates,
            invalid_retries=self.settings.invalid_retries,
            show_thought=self.settings.show_thought,
        )
        for (trial, _, _), vote in zip(asked, votes, strict=True):
            trial.record(vote)


def unfit(candidate: Candidate) -> Rejection | None:
    """Why a candidate is rejected before anybody is asked, or None: cut off, or without an answer."""
    if candidate.finish_reason is FinishReason.LENGTH:
        return Rejection.TRUNCATED
    return Rejection.EMPTY if is_blank(answer_of(candidate.text)) else None


def funnel(verdicts: Sequence[Verdict], stages: Sequence[Stage]) -> dict[str, int]:
    """How many candidates were generated, complete, still alive after each stage, and accepted, in that order.

    A candidate leaves at the stage of the vote that rejected it. Pass no stages for acceptors that have none.
    """
    left_at = Counter(verdict.stage for verdict in verdicts)
    unfit_count = sum(verdict.rejection in (Rejection.TRUNCATED, Rejection.EMPTY) for verdict in verdicts)
    alive = len(verdicts) - unfit_count
    counts = {"generated": len(verdicts), "complete": alive}
    for stage in stages:
        alive -= left_at[stage]
        counts[stage.value] = alive
    return counts | {"accepted": sum(verdict.accepted for verdict in verdicts)}


def votes_beyond(verdict: Verdict) -> int:
    """Votes cast on a candidate after the one that rejected it, in the order of the units."""
    if verdict.vote is None:
        return 0
    cast = [(vote.stage, vote.vote) for vote in verdict.votes]
    return len(cast) - 1 - cast.index((verdict.stage, verdict.vote)) if verdict.stage else 0


def vote_counts(verdicts: Sequence[Verdict], stages: Sequence[Stage]) -> dict[Stage, dict[VoteValue, int]]:
    """Votes cast per stage by value; the share of INVALID is a judge's health.

    Under early exit these are counts of what was asked, so yes votes are rarer in late stages than they would be if
    everything were asked.
    """
    counts = Counter((vote.stage, vote.value) for verdict in verdicts for vote in verdict.votes)
    return {stage: {value: counts[stage, value] for value in VoteValue} for stage in stages}
