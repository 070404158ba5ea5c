"""Forecast the calls, tokens and hours of a round and of a job from a few measured calls.

What a round costs depends on how often votes say yes, which a short probe measures poorly. It also depends on how
strongly votes on one candidate, stages, and candidates of one prompt are correlated, which the probe does not measure.
So the forecast computes a round for several cases, and every figure is a range:

    probe ──► yes votes of each stage ──► rates: measured value, low and high end of the 90% interval
          └─► mean call of each role           │
                                               ▼
               case = (a rate for each stage) × (independent | correlated)
                                               │
                      _cascade      expected votes by stage, chance of acceptance
                          │
                      _per_prompt   expected candidates by prompt
                          │
                      _candidate    expected calls and tokens of a candidate
                          ▼
               Work of a round ──► Range: value = mean of both cases at the measured rates,
                                          low, high = least and most over all cases
                          │
                          ▼
               rounds × (Range + panel) + evaluation (held-out samples, audits, canaries) = Work of the job
                          │
                          ▼
               tokens / measured rates (+ updates) = hours

Pure arithmetic. Left out: answers that grow or shrink as the policy learns, the order of votes (`stage_major` is
assumed), audits of the cascade, and repeats of invalid votes beyond their share in the probe.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import product
from operator import attrgetter

from envs.canaries import GROSS
from svd_loop.config import Config
from svd_loop.config.stages import stage_section
from svd_loop.contracts import Asking, Role, RoleName, Selection, StageName
from svd_loop.judge_health.judge_watch import SEARCHED
from svd_loop.loop.step_choice import most_samples
from svd_loop.preflight.panel_estimate import PanelEstimate, RoundTokens, estimate_panel, panel_votes
from svd_loop.support.statistics import wilson

_CONFIDENCE = 0.9
_TRAINING = 3.0
"""Cost of training on a token, in forward passes: the backward pass costs two; checkpointing adds one more forward."""


@dataclass(frozen=True, slots=True)
class RoleMeans:
    """A role's mean call: prompt tokens, output tokens, and the number of calls per vote (or per candidate)."""

    prompt_tokens: float
    output_tokens: float
    calls: float = 1.0


@dataclass(frozen=True, slots=True)
class Measured:
    """Results of a probe.

    Attributes:
        candidates: solutions sampled.
        complete: those of them that are neither cut off nor empty.
        roles: mean calls; a role that was never called is absent.
        yes: by stage, the number of yes votes and of all votes.
        prompt_rate: tokens per second read with `rows` rows at once; None without a model.
        output_rate: tokens per second generated with `rows` rows at once; None without a model.
        rows: rows processed at once in the speed measurement.
    """

    candidates: int
    complete: int
    roles: Mapping[RoleName, RoleMeans]
    yes: Mapping[StageName, tuple[int, int]]
    prompt_rate: float | None = None
    output_rate: float | None = None
    rows: int = 0


@dataclass(frozen=True, slots=True)
class Range:
    """A figure with the lower and upper end of its uncertainty."""

    value: float
    low: float
    high: float

    def __add__(self, other: Range) -> Range:
        return Range(self.value + other.value, self.low + other.low, self.high + other.high)

    def times(self, factor: float) -> Range:
        """Return the range multiplied by a factor."""
        return Range(self.value * factor, self.low * factor, self.high * factor)


@dataclass(frozen=True, slots=True)
class Work:
    """Expected candidates, judge calls and tokens.

    `accepted` is the number of prompts with an accepted candidate, `votes` those of stages that ask a judge.
    """

    candidates: float = 0.0
    judge_calls: float = 0.0
    prompt_tokens: float = 0.0
    output_tokens: float = 0.0
    accepted: float = 0.0
    votes: float = 0.0


@dataclass(frozen=True, slots=True)
class Forecast:
    """Forecast of a round, of the whole job and of the judge's panel; `hours` are absent without a model."""

    round: Mapping[str, Range]
    job: Mapping[str, Range]
    rounds: int
    measured: Measured
    panel: PanelEstimate

    def as_dict(self) -> dict[str, object]:
        """Return JSON data."""
        return asdict(self)


def forecast(config: Config, measured: Measured, *, prompts: int, held_out: Mapping[str, int]) -> Forecast:
    """Extrapolate a probe to a round and to the job.

    Args:
        config: the job.
        measured: results of the probe.
        prompts: number of training prompts of the job.
        held_out: number of problems by split.
    """
    played = min(prompts, config.data.prompts_per_round or prompts)
    middle = [
        _round(config, measured, played, _rates(config, measured, "value"), correlated) for correlated in (False, True)
    ]
    extremes = [_round(config, measured, played, *case) for case in _extreme_cases(config, measured)]
    whole = _Cases(_scaled(_sum(*middle), 1 / len(middle)), [*middle, *extremes])
    panel = _Cases(_panel(config, measured, whole.middle), [_panel(config, measured, case) for case in whole.others])
    rounds = config.job.rounds
    measuring = _evaluation(config, measured, held_out, played)
    names = ("candidates", "judge_calls", "prompt_tokens", "output_tokens", "accepted")
    round = {name: whole.range(attrgetter(name)) for name in names}
    job = {name: round[name].times(rounds) for name in names}
    # Evaluation and the panel add tokens only: `judge_calls` leaves out those of audits, canaries and the panel.
    for name in ("prompt_tokens", "output_tokens"):
        of = attrgetter(name)
        job[name] += panel.range(of).times(rounds) + _exactly(of(measuring))
    round["panel_tokens"] = panel.range(attrgetter("output_tokens"))
    job["panel_tokens"] = round["panel_tokens"].times(rounds)
    if measured.prompt_rate and measured.output_rate:
        round["hours"], job["hours"] = _hours(config, measured, whole, panel, measuring)
    return Forecast(round, job, rounds, measured, estimate_panel(config, _panel_basis(config, measured, whole.middle)))


@dataclass(frozen=True, slots=True)
class _Cases:
    """A round's work as expected, and in the cases that its uncertainty comes from."""

    middle: Work
    others: Sequence[Work]

    def range(self, of: Callable[[Work], float]) -> Range:
        """Return a figure with the least and the most of all cases."""
        found = [of(self.middle), *map(of, self.others)]  # the middle need not lie between the others
        return Range(found[0], min(found), max(found))


def _hours(config: Config, measured: Measured, whole: _Cases, panel: _Cases, measuring: Work) -> tuple[Range, Range]:
    """Return the hours of the first round and of the job."""

    def generating(work: Work) -> float:
        return _seconds(work, measured) / 3600

    # Replay makes each round's update longer than the last one, so updates are not a multiple of the first.
    def updating(number: int) -> Range:
        return whole.range(lambda work: _update_seconds(config, measured, work, number) / 3600)

    rounds = config.job.rounds
    updates = [updating(number) for number in range(1, rounds + 1)]
    round, asking = whole.range(generating), panel.range(generating)
    job = sum(updates, (round + asking).times(rounds) + _exactly(generating(measuring)))
    return round + (updates[0] if updates else _exactly(0.0)), job


def _round(
    config: Config, measured: Measured, prompts: int, rates: Mapping[StageName, float], correlated: bool
) -> Work:
    """Return a round's expected work at given rates of yes votes, independent or fully correlated."""
    judged, passing = _cascade(config, measured, rates, correlated)
    complete = measured.complete / measured.candidates if measured.candidates else 1.0
    chance = complete * passing
    each = _per_prompt(config, chance, correlated)
    # Share of prompts with an accepted candidate; correlated candidates of a prompt are all accepted or all rejected.
    share = chance if correlated else 1 - (1 - chance) ** each
    candidates = _scaled(_candidate(config, measured, complete, judged), prompts * each)
    shared = _scaled(_shared(config, measured, complete, judged, each), prompts)
    return replace(_sum(candidates, shared), accepted=prompts * share)


def _cascade(
    config: Config, measured: Measured, rates: Mapping[StageName, float], correlated: bool
) -> tuple[dict[StageName, float], float]:
    """Return the expected votes of each stage on a complete candidate, and the chance that it is accepted."""
    section = config.cascade
    votes: dict[StageName, float] = {}
    alive = 1.0  # chance that a candidate reaches the stage, that is passes all stages before it
    for stage in section.stage_names:
        v, needed = section.votes_of(stage), section.needed_of(stage)
        # `rates` are over all candidates, since the probe judges every candidate in every stage. If stages are fully
        # correlated, those that pass the stricter one are a subset of those that pass the other, so the rate among the
        # candidates that reached this stage is conditional. If they are independent, it is the measured one.
        rate = min(1.0, rates[stage] / alive) if correlated and alive > 0.0 else rates[stage]
        # Early exit in a unanimous stage stops at the first no. Vote j+1 is cast if the j before it were all yes: with
        # equal votes, one no means all are no, so either 1 or v votes are cast.
        cast = float(v)
        if needed == v and section.early_exit:
            cast = 1 + (v - 1) * rate if correlated else sum(rate**j for j in range(v))
        # Early exit across stages: only candidates that passed so far are judged further.
        votes[stage] = cast * (alive if section.early_exit else 1.0)
        # At least `needed` of v independent votes say yes (binomial).
        independent = sum(math.comb(v, k) * rate**k * (1 - rate) ** (v - k) for k in range(needed, v + 1))
        alive *= rate if correlated else independent
    return votes, alive


def _candidate(config: Config, measured: Measured, complete: float, votes: Mapping[StageName, float]) -> Work:
    """Return the expected work of one candidate: sampling it and, if it is complete, judging it."""
    solver = _means(config, measured, Role.SOLVER)
    calls: dict[RoleName, float] = defaultdict(float)
    asked = 0.0
    for stage, cast in votes.items():
        roles = stage_section(stage).roles_for(config.cascade.asking)
        asked += complete * cast * bool(roles)
        for role in roles:
            if role != Role.REFERENCE_SOLVER:
                calls[role] += complete * cast * _means(config, measured, role).calls
    judge = {role: _means(config, measured, role) for role in calls}
    return Work(
        1.0,
        sum(calls.values()),
        solver.prompt_tokens + sum(count * judge[role].prompt_tokens for role, count in calls.items()),
        solver.output_tokens + sum(count * judge[role].output_tokens for role, count in calls.items()),
        votes=asked,
    )


def _shared(config: Config, measured: Measured, complete: float, votes: Mapping[StageName, float], each: float) -> Work:
    """Return the expected work of calls that a prompt's candidates share: one for each vote that any of them gets."""
    if config.cascade.asking is not Asking.SOLVE_FIRST:
        return Work()
    solver = _means(config, measured, Role.REFERENCE_SOLVER)
    calls = sum(
        min(config.cascade.votes_of(stage), complete * cast * each)
        for stage, cast in votes.items()
        if Role.REFERENCE_SOLVER in stage_section(stage).roles_for(config.cascade.asking)
    )
    return Work(0.0, calls, calls * solver.prompt_tokens, calls * solver.output_tokens)


def _per_prompt(config: Config, chance: float, correlated: bool) -> float:
    """Return the expected candidates per prompt; `first_valid` stops after the first block with an accepted one."""
    n, block = config.sampling.n, min(config.sampling.block or config.sampling.n, config.sampling.n)
    if config.cascade.selection is not Selection.FIRST_VALID or block == n:
        return float(n)
    sizes = [min(block, n - start) for start in range(0, n, block)]
    # Correlated: if the first block has no accepted candidate, no block has. Independent: a block is sampled if no
    # candidate of the blocks before it was accepted.
    if correlated:
        return block + (1 - chance) * (n - block)
    return sum(size * (1 - chance) ** (block * place) for place, size in enumerate(sizes))


def _evaluation(config: Config, measured: Measured, held_out: Mapping[str, int], prompts: int) -> Work:
    """Return the work of held-out samples in all rounds, and upper bounds of that of audits, canaries and judge rows.

    A verdict of a judge row costs at most what a candidate costs that gets every vote.
    """
    solver = _means(config, measured, Role.SOLVER)
    measurements = config.job.rounds + 1  # the base model is measured too
    # The test split is measured twice: base and best version.
    solved: float = config.evaluation.samples * (
        held_out.get("development", 0) * measurements + 2 * held_out.get("test", 0)
    )
    compared = most_samples(config.update.choose_from, config.evaluation.samples) * config.job.rounds
    solved += compared * held_out.get("development", 0) / 2  # each half of the problems has its part of them
    work = Work(0, 0, solved * solver.prompt_tokens, solved * solver.output_tokens)
    # At equal rates, correlated votes are the case with more votes cast: rate >= rate**j.
    votes, _ = _cascade(config, measured, _rates(config, measured, "value"), correlated=True)
    judged = replace(_candidate(config, measured, 1.0, votes), candidates=0.0)
    audited = min(config.evaluation.audit, held_out.get("development", 0)) * measurements
    planted = (len(GROSS) + SEARCHED) * config.health.canaries * config.job.rounds
    planted += math.ceil(config.update.judge_rows.share * prompts) * config.job.rounds
    # `_candidate` counts sampling, but audited answers and canaries are only judged: subtract the solver's tokens.
    extra = _scaled(judged, audited + planted)
    return Work(
        0,
        extra.judge_calls,
        work.prompt_tokens + max(0.0, extra.prompt_tokens - (audited + planted) * solver.prompt_tokens),
        work.output_tokens + max(0.0, extra.output_tokens - (audited + planted) * solver.output_tokens),
    )


def _panel(config: Config, measured: Measured, work: Work) -> Work:
    """Return the work of the judge's panel in every round, if its first round is this one; a vote has a mean price."""
    votes = 2 * panel_votes(config, _panel_basis(config, measured, work))
    if not votes:
        return Work()
    solver, share = _means(config, measured, Role.SOLVER), votes / work.votes
    return Work(
        0.0,
        share * work.judge_calls,
        share * (work.prompt_tokens - work.candidates * solver.prompt_tokens),
        share * (work.output_tokens - work.candidates * solver.output_tokens),
    )


def _panel_basis(config: Config, measured: Measured, work: Work) -> RoundTokens:
    """Return the figures of a round that the panel's size depends on."""
    sampling = work.candidates * _means(config, measured, Role.SOLVER).output_tokens
    return RoundTokens(work.output_tokens, work.output_tokens - sampling, work.votes, work.accepted)


def _update_seconds(config: Config, measured: Measured, work: Work, round: int) -> float:
    """Return the duration of a round's update, derived from the speed of reading; it grows with the replayed rows.

    For preferences it is what the round's candidates can give at most: every one that was not selected was refused.
    """
    solver, update = _means(config, measured, Role.SOLVER), config.update
    replayed = round - 1 if update.replay.rounds is None else min(round - 1, update.replay.rounds)
    rows = work.accepted * (1 + replayed)  # assumes one row per accepted prompt
    rows *= 1 + (0.0 if update.replay.anchor == "none" else update.replay.anchor_ratio) + update.judge_rows.share
    examples = update.algorithm.examples(work.accepted, work.candidates - work.accepted)
    items = rows + examples
    # With `update.steps` the number of items seen is fixed; otherwise each is seen once per epoch.
    drawn = update.steps * update.batch_size if update.steps is not None else items * update.epochs
    slowdown = _TRAINING + (1.0 if update.gradient_checkpointing else 0.0)
    of_example = update.algorithm.sequences_per_row * slowdown + update.algorithm.unlearned_passes
    passes = drawn * (rows * slowdown + examples * of_example) / items if items else 0.0
    return passes * (solver.prompt_tokens + solver.output_tokens) / (measured.prompt_rate or math.inf)


def _means(config: Config, measured: Measured, role: RoleName) -> RoleMeans:
    """Return a role's mean call; a role the probe never called gets its longest answer, on a mean solution."""
    if role in measured.roles:
        return measured.roles[role]
    solver = measured.roles[Role.SOLVER]
    longest = config.cascade.sampling_of(role).max_tokens
    return RoleMeans(solver.prompt_tokens + solver.output_tokens, longest)


def _rates(config: Config, measured: Measured, end: str) -> dict[StageName, float]:
    """Return each stage's rate of yes votes: the measured one (`value`), or an end (`low`, `high`) of its interval."""
    rates = {}
    for stage in config.cascade.stage_names:
        yes, votes = measured.yes.get(stage, (0, 0))
        if end == "value":
            rates[stage] = (yes + 0.5) / (votes + 1)  # towards 1/2: a few equal votes give neither 0 nor 1
        else:  # a stage without votes may have any rate
            rates[stage] = getattr(wilson(yes, votes, confidence=_CONFIDENCE), end) if votes else float(end == "high")
    return rates


def _extreme_cases(config: Config, measured: Measured) -> list[tuple[dict[StageName, float], bool]]:
    """Return every combination of interval ends of the stages, each with votes independent and correlated."""
    low, high = (_rates(config, measured, end) for end in ("low", "high"))
    stages = config.cascade.stage_names
    picks = product(*((low[stage], high[stage]) for stage in stages))
    return [(dict(zip(stages, pick, strict=True)), correlated) for pick in picks for correlated in (False, True)]


def _seconds(work: Work, measured: Measured) -> float:
    return work.prompt_tokens / (measured.prompt_rate or math.inf) + work.output_tokens / (
        measured.output_rate or math.inf
    )


def _scaled(work: Work, factor: float) -> Work:
    return Work(*(getattr(work, name) * factor for name in Work.__slots__))


def _sum(one: Work, other: Work) -> Work:
    return Work(*(getattr(one, name) + getattr(other, name) for name in Work.__slots__))


def _exactly(value: float) -> Range:
    return Range(value, value, value)
