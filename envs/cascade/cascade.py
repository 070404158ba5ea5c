"""The verification cascade: a candidate is accepted if every vote of every stage says yes.

    candidates ──> unfit? ── truncated, empty, malformed ────────> rejected without a vote
                     │
                     ├──> audit slice ──> all units in one batch ──────────────┐
                     │                                                         │
                     └──> others ──> unit 1 ──> unit 2 ──> ... ──> unit S*V ───┤
                              (one batch per unit, survivors only)             │
                                      │ a stage cannot reach k yes votes       v
                                      └────────────────> rejected by it     verdict

A unit is one vote of one stage. With early exit, all candidates that are still undecided are asked the first unit in
one batch, the survivors the second, and so on: the first vote that is not yes is the last one paid for. Without early
exit everything is asked in one batch, as the method is published and as measurements of the judge need it.

Both modes accept the same candidates and name the same rejecting vote, because the text and the seed of a vote depend
only on its `CallId`, never on the batch it is in. For the same reason the order of the units (`stage_major` is the
paper's, `measured` comes from `envs.cascade.ordering`) changes the cost and the vote named for a rejection, never who
is accepted.

- `audit_share` gives every vote to a random slice of candidates, as a measurement (`envs.cascade.audit_slice`).
- `fill_rows` lets a batch of few candidates ask several of the next units at once (`envs.cascade.look_ahead`): fewer
  batches for a few more votes. Votes are recorded in the order of the units, so a rejection still names the first vote
  that decided; votes after it only cost.
- A stage that `sees_all` candidates of a prompt (`envs.cascade.group_votes`) casts one vote on each, decided when the
  first of them gets that far. With a measured order such stages come first, since they cost no call.
- A `rule` other than `unanimous` asks for k yes votes of v in every stage, an approximation of the method
  (`envs.cascade.tally`). Early exit then leaves a stage as soon as its outcome is settled, and a rejection names the
  vote that settled it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from envs.cascade.agreement import AnswerComparison
from envs.cascade.audit_slice import audit_metrics, in_slice
from envs.cascade.candidate_state import CandidateState
from envs.cascade.group_votes import GroupVotes
from envs.cascade.judging import Conversation, JudgeSettings, cast_votes, converse
from envs.cascade.look_ahead import reach
from envs.cascade.ordering import Unit, paper_order
from envs.cascade.stage import Ballot
from envs.cascade.static_check import malformed
from envs.cascade.tally import Tally
from envs.cascade.template_sets import TemplateSet
from envs.cascade.votes import unfit
from svd_loop.config.sections import CascadeSection
from svd_loop.contracts import (
    CallId,
    Candidate,
    Policy,
    Prompt,
    Rejection,
    Reply,
    StageName,
    Verdict,
    Vote,
    VoteValue,
)

Cast = Callable[[Sequence[Ballot]], list[Vote]]
"""Casts ballots and returns their votes, aligned."""


@dataclass(frozen=True, slots=True)
class Cascade:
    """Judges candidates with a policy.

    Attributes:
        templates: The judge's instructions.
        settings: How candidates are judged.
        seed: The job's seed; it draws the audit slice.
        order_of: The measured order of the units in a round, used when `settings.order` is `measured`; it must return
            the same order at every call, without stages that see all candidates. None keeps the paper's order.
        comparison: How final answers are found and compared, for stages that see all candidates of a prompt.
    """

    templates: TemplateSet
    settings: CascadeSection = field(default_factory=CascadeSection)
    seed: int = 0
    order_of: Callable[[int], tuple[Unit, ...]] | None = None
    comparison: AnswerComparison | None = None

    def units(self, round: int) -> tuple[Unit, ...]:
        """Every (stage, vote) in the order in which it is asked in the round."""
        if self.settings.order == "measured" and self.order_of is not None:
            free = [stage.type for stage in self.settings.stages if stage.sees_all]
            return (*paper_order(free, 1), *self.order_of(round))
        return paper_order(self.settings.stage_names, self.settings.votes, self.settings.deciding_stages)

    def metrics(self, round: int, verdicts: Sequence[Verdict]) -> dict[str, float]:
        """Metrics of a round beside its verdicts, each only where its setting is on.

        `order.<stage>.<vote>` is the place of a unit, from 0, in the measured order; for `audit.*` see
        `envs.cascade.audit_slice`; `ahead.votes` counts the votes that `fill_rows` asked after the one that rejected
        the candidate.
        """
        metrics: dict[str, float] = {}
        if self.settings.order == "measured":
            units = enumerate(self.units(round))
            metrics |= {f"order.{stage}.{vote}": float(place) for place, (stage, vote) in units}
        audited = [v for v in verdicts if self.is_audited(v, round)]
        if self.settings.audit_share > 0.0:
            metrics |= audit_metrics(audited, self.settings.stage_names, self.settings.needed_of)
        if self.settings.fill_rows is not None:
            ahead = sum(votes_beyond(v) for v in verdicts if not self.is_audited(v, round))
            metrics["ahead.votes"] = float(ahead)
        return metrics

    def is_audited(self, of: Candidate | Verdict, round: int) -> bool:
        """Whether a candidate, or the candidate of a verdict, belongs to the audit slice."""
        index = of.index if isinstance(of, Candidate) else of.candidate
        return in_slice(self.settings.audit_share, self.seed, round, of.prompt_id, index)

    def judge(
        self,
        judge: Policy,
        items: Sequence[tuple[Prompt, Candidate]],
        *,
        round: int,
        purpose: str = "train",
        groups: Mapping[str, Sequence[Candidate]] | None = None,
    ) -> list[Verdict]:
        """Return a verdict for each candidate.

        Args:
            judge: The policy that votes.
            items: C candidates with their prompts, in any order.
            round: The round being played, part of every vote's seed.
            purpose: Namespace of the calls (`CallId.purpose`).
            groups: All candidates of each prompt by its id, for stages that see all of them; None takes those in
                `items`.

        Returns:
            Verdicts aligned with `items`. A rejection names the vote that decided it, in the order of the units: under
            unanimity the first that was not yes. Truncated, empty and malformed (`cascade.static`) candidates are
            rejected without a vote. The audit
            slice is drawn from purpose `train` alone.

        Raises:
            EngineError: The judge left a call unanswered.
            ConfigError: A stage that sees all candidates cannot decide about a prompt's domain.
        """
        group_votes = self.group_votes(groups or _grouped(items))
        cast = partial(self._cast, judge, group_votes, {})
        states = [self.begin(*item) for item in items]
        open_states = [state for state in states if state.is_open]
        # The audit slice goes first and gets every unit: its rates would be biased if early exit could skip any of
        # them. Canaries and experiments (other purposes) are not part of the measured population.
        audited = [t for t in open_states if purpose == "train" and self.is_audited(t.candidate, round)]
        self._ask(cast, audited, self.units(round), round, purpose)
        # `_ask` has changed the audited states: only those that are open and have no votes are still to be asked.
        others = [state for state in open_states if state.is_open and not state.votes]
        if not self.settings.early_exit:
            self._ask(cast, others, self.units(round), round, purpose)
        else:
            self._ask_in_waves(cast, others, round, purpose)
        return [state.verdict() for state in states]

    def begin(self, prompt: Prompt, candidate: Candidate) -> CandidateState:
        """The state of a candidate before its first vote; truncated, empty and malformed ones are rejected in it."""
        tally = Tally(self.settings.votes, self.settings.needed, self.settings.deciding_stages)
        reason = unfit(candidate) or malformed(self.settings.static, prompt.domain, candidate.text)
        return CandidateState(prompt, candidate, self.settings.stage_names, tally, reason)

    def conversation(self, ballot: Ballot) -> Conversation:
        """The calls of one vote, as a generator."""
        s = self.settings
        return converse(ballot, JudgeSettings(self.templates, s.invalid_retries, s.show_thought, s.stages, s.asking))

    def group_votes(self, groups: Mapping[str, Sequence[Candidate]]) -> GroupVotes:
        """The votes of stages that see all candidates of a prompt."""
        return GroupVotes(groups, self.settings.stages, self.comparison)

    def _ask_in_waves(self, cast: Cast, states: Sequence[CandidateState], round: int, purpose: str) -> None:
        """Ask one unit per batch of the candidates that are still undecided; several where `fill_rows` leaves room."""
        units = rest = self.units(round)
        # `rest` shrinks from the front, and `record` relies on it: votes reach a candidate in the order of the units. A
        # candidate that is settled in this stage may still need votes of a later one (rules other than unanimity).
        while rest and (alive := [state for state in states if any(state.wants(stage) for stage, _ in rest)]):
            # All of them stand at the same unit (earlier ones were asked or settled): one count serves for the batch.
            count = reach(self.settings.fill_rows, len(alive), len(units) - len(rest), len(rest))
            self._ask(cast, alive, rest[:count], round, purpose)
            rest = rest[count:]

    def _ask(
        self, cast: Cast, states: Sequence[CandidateState], wave: Sequence[Unit], round: int, purpose: str
    ) -> None:
        """Ask all units of a wave that can still change each candidate's outcome, in one batch."""
        # States outside, units inside: `record` below sees the votes of one candidate in the order of the units.
        asked = [(t, stage, vote) for t in states for stage, vote in wave if not t.tally.is_settled(stage)]
        ballots = [Ballot(t.prompt, t.candidate, stage, vote, round, purpose, t.rendered) for t, stage, vote in asked]
        for (state, _, _), vote in zip(asked, cast(ballots), strict=True):
            state.record(vote)

    def _cast(
        self, judge: Policy, group_votes: GroupVotes, shared: dict[CallId, Reply], ballots: Sequence[Ballot]
    ) -> list[Vote]:
        """Cast all ballots: those of stages that see all candidates without the judge."""
        deciding = self.settings.deciding_stages
        free = [ballot for ballot in ballots if ballot.stage in deciding]
        asked = [ballot for ballot in ballots if ballot.stage not in deciding]
        settings = self.settings
        judged = cast_votes(
            judge,
            asked,
            self.templates,
            invalid_retries=settings.invalid_retries,
            show_thought=settings.show_thought,
            stages=settings.stages,
            asking=settings.asking,
            shared=shared,
        )
        votes = {False: iter(judged), True: iter(group_votes.cast(free))}
        return [next(votes[ballot.stage in deciding]) for ballot in ballots]


def _grouped(items: Sequence[tuple[Prompt, Candidate]]) -> dict[str, list[Candidate]]:
    """The candidates of each prompt, by its id."""
    groups: dict[str, list[Candidate]] = {}
    for prompt, candidate in items:
        groups.setdefault(prompt.id, []).append(candidate)
    return groups


def funnel(verdicts: Sequence[Verdict], stages: Sequence[StageName], *, static: bool = False) -> dict[str, int]:
    """Count the candidates generated, complete, still alive after each stage, and accepted, in this order.

    A candidate leaves at the stage of the vote that rejected it.

    Args:
        verdicts: One for each candidate.
        stages: The cascade's; none for acceptors that have none.
        static: Whether candidates were checked by `cascade.static`, which is then the step after `complete`.
    """
    left_at = Counter(verdict.stage for verdict in verdicts)
    unfit_count = sum(verdict.rejection in (Rejection.TRUNCATED, Rejection.EMPTY) for verdict in verdicts)
    alive = len(verdicts) - unfit_count
    counts = {"generated": len(verdicts), "complete": alive}
    if static:
        alive -= sum(verdict.rejection is Rejection.STATIC for verdict in verdicts)
        counts["static"] = alive
    for stage in stages:
        alive -= left_at[stage]
        counts[stage] = alive
    return counts | {"accepted": sum(verdict.accepted for verdict in verdicts)}


def votes_beyond(verdict: Verdict) -> int:
    """Votes cast on a candidate after the one that rejected it, in the order of the units."""
    if verdict.vote is None:
        return 0
    cast = [(vote.stage, vote.vote) for vote in verdict.votes]
    return len(cast) - 1 - cast.index((verdict.stage, verdict.vote)) if verdict.stage else 0


def vote_counts(verdicts: Sequence[Verdict], stages: Sequence[StageName]) -> dict[StageName, dict[VoteValue, int]]:
    """Votes cast per stage and value; the share of INVALID shows the judge's health.

    Under early exit only cast votes count, so yes votes are rarer in late stages than they would be if
    everything were asked.
    """
    counts = Counter((vote.stage, vote.value) for verdict in verdicts for vote in verdict.votes)
    return {stage: {value: counts[stage, value] for value in VoteValue} for stage in stages}
