"""From a few measured calls to a round and a job: calls, tokens and hours, with how far off they may be.

What a round asks depends on how often votes say yes, which a short probe measures poorly, and on how alike the votes on
one candidate, the stages, and the candidates of one prompt are, which it does not measure at all. So every figure is a
range: its ends are the least and the most over both ends of each stage's 90% interval, with votes, stages and
candidates once independent and once all alike; the value between is the mean of the two at the measured rates. Pure
arithmetic.

Left out: that answers grow or shrink as the policy learns, the order of votes (`stage_major` is assumed), audits of
the cascade, and the repeats of votes beyond their share in the probe.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from itertools import product
from operator import attrgetter

from envs.canaries import GROSS
from svd_loop.config import Config
from svd_loop.config.stages import stage_section
from svd_loop.contracts import Asking, Role, RoleName, Selection, StageName
from svd_loop.support.statistics import wilson

_CONFIDENCE = 0.9
_TRAINING = 3.0
"""Computing a token's gradient costs twice its forward pass, so training reads tokens this much slower than prefilling;
checkpointing adds one more forward pass."""


@dataclass(frozen=True, slots=True)
class RoleMeans:
    """A role's mean call: tokens in, tokens out, and how many calls a vote (or a candidate) took."""

    prompt_tokens: float
    output_tokens: float
    calls: float = 1.0


@dataclass(frozen=True, slots=True)
class Measured:
    """What a probe saw.

    Attributes:
        candidates: solutions sampled.
        complete: of them, neither cut off nor empty.
        roles: mean calls; a role that was never asked is absent.
        yes: per stage, votes that said yes and votes cast.
        prompt_rate, output_rate: tokens per second read and written with `rows` rows at once; None without a model.
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
    """A figure and the ends of its uncertainty."""

    value: float
    low: float
    high: float

    def __add__(self, other: Range) -> Range:
        return Range(self.value + other.value, self.low + other.low, self.high + other.high)

    def times(self, factor: float) -> Range:
        """The range scaled."""
        return Range(self.value * factor, self.low * factor, self.high * factor)


@dataclass(frozen=True, slots=True)
class Work:
    """Candidates, calls, tokens and seconds of generating; `accepted` are prompts with an accepted candidate."""

    candidates: float = 0.0
    judge_calls: float = 0.0
    prompt_tokens: float = 0.0
    output_tokens: float = 0.0
    accepted: float = 0.0


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a round and the whole job will take. Hours are None without a model."""

    round: Mapping[str, Range]
    job: Mapping[str, Range]
    rounds: int
    measured: Measured

    def as_dict(self) -> dict[str, object]:
        """Plain data for JSON."""
        return asdict(self)


def forecast(config: Config, measured: Measured, *, prompts: int, held_out: Mapping[str, int]) -> Forecast:
    """Extrapolate a probe.

    Args:
        config: the job.
        measured: by the probe.
        prompts: training prompts the job has.
        held_out: problems by split.
    """
    played = min(prompts, config.data.prompts_per_round or prompts)
    cases = [_round(config, measured, played, rates, alike) for rates, alike in _corners(config, measured)]
    middle = [_round(config, measured, played, _rates(config, measured, "value"), alike) for alike in (False, True)]

    def ranged(of: Callable[[Work], float]) -> Range:
        value = sum(map(of, middle)) / len(middle)
        found = [value, *map(of, cases)]
        return Range(value, min(found), max(found))

    rounds = config.job.rounds
    measuring = _evaluation(config, measured, held_out)
    names = ("candidates", "judge_calls", "prompt_tokens", "output_tokens", "accepted")
    round = {name: ranged(attrgetter(name)) for name in names}
    job = {
        name: round[name].times(rounds) + _exactly(getattr(measuring, name))
        for name in ("prompt_tokens", "output_tokens")
    } | {name: round[name].times(rounds) for name in ("candidates", "judge_calls", "accepted")}
    if measured.prompt_rate and measured.output_rate:
        generating = ranged(lambda work: _seconds(work, measured) / 3600)

        def updating(number: int) -> Range:
            return ranged(lambda work: _update_seconds(config, measured, work, number) / 3600)

        updates = [updating(number) for number in range(1, rounds + 1)]
        round["hours"] = generating + (updates[0] if updates else _exactly(0.0))
        job["hours"] = sum(updates, generating.times(rounds) + _exactly(_seconds(measuring, measured) / 3600))
    return Forecast(round, job, rounds, measured)


def _round(config: Config, measured: Measured, prompts: int, rates: Mapping[StageName, float], alike: bool) -> Work:
    """A round's work at given chances of a yes vote, with votes and candidates independent or all alike."""
    judged, passing = _cascade(config, measured, rates, alike)
    complete = measured.complete / measured.candidates if measured.candidates else 1.0
    chance = complete * passing
    each = _per_prompt(config, chance, alike)
    share = chance if alike else 1 - (1 - chance) ** each
    candidates = _scaled(_candidate(config, measured, complete, judged), prompts * each)
    shared = _scaled(_shared(config, measured, complete, judged, each), prompts)
    return replace(_sum(candidates, shared), accepted=prompts * share)


def _cascade(
    config: Config, measured: Measured, rates: Mapping[StageName, float], alike: bool
) -> tuple[dict[StageName, float], float]:
    """Expected votes of each stage on a complete candidate, and the chance that it is accepted."""
    section = config.cascade
    votes: dict[StageName, float] = {}
    alive = 1.0
    for stage in section.stage_names:
        v, needed = section.votes_of(stage), section.needed_of(stage)
        # All alike, a right candidate passes every stage and a wrong one fails the strictest: stages nest.
        rate = min(1.0, rates[stage] / alive) if alike and alive > 0.0 else rates[stage]
        cast = float(v)
        if needed == v and section.early_exit:
            cast = 1 + (v - 1) * rate if alike else sum(rate**j for j in range(v))
        votes[stage] = cast * (alive if section.early_exit else 1.0)
        independent = sum(math.comb(v, k) * rate**k * (1 - rate) ** (v - k) for k in range(needed, v + 1))
        alive *= rate if alike else independent
    return votes, alive


def _candidate(config: Config, measured: Measured, complete: float, votes: Mapping[StageName, float]) -> Work:
    """The mean work of one candidate: sampling it and, where it is complete, judging it."""
    solver = _means(config, measured, Role.SOLVER)
    calls: dict[RoleName, float] = defaultdict(float)
    for stage, cast in votes.items():
        for role in stage_section(stage).roles_for(config.cascade.asking):
            if role != Role.REFERENCE_SOLVER:
                calls[role] += complete * cast * _means(config, measured, role).calls
    judge = {role: _means(config, measured, role) for role in calls}
    return Work(
        1.0,
        sum(calls.values()),
        solver.prompt_tokens + sum(count * judge[role].prompt_tokens for role, count in calls.items()),
        solver.output_tokens + sum(count * judge[role].output_tokens for role, count in calls.items()),
    )


def _shared(config: Config, measured: Measured, complete: float, votes: Mapping[StageName, float], each: float) -> Work:
    """The mean work on one prompt of calls that its candidates share: one for each vote that any of them gets."""
    if config.cascade.asking is not Asking.SOLVE_FIRST:
        return Work()
    solver = _means(config, measured, Role.REFERENCE_SOLVER)
    calls = sum(
        min(config.cascade.votes_of(stage), complete * cast * each)
        for stage, cast in votes.items()
        if Role.REFERENCE_SOLVER in stage_section(stage).roles_for(config.cascade.asking)
    )
    return Work(0.0, calls, calls * solver.prompt_tokens, calls * solver.output_tokens)


def _per_prompt(config: Config, chance: float, alike: bool) -> float:
    """Candidates sampled for a prompt on average, blocks ending at the first accepted one."""
    n, block = config.sampling.n, min(config.sampling.block or config.sampling.n, config.sampling.n)
    if config.cascade.selection is not Selection.FIRST_VALID or block == n:
        return float(n)
    sizes = [min(block, n - start) for start in range(0, n, block)]
    if alike:
        return block + (1 - chance) * (n - block)
    return sum(size * (1 - chance) ** (block * place) for place, size in enumerate(sizes))


def _evaluation(config: Config, measured: Measured, held_out: Mapping[str, int]) -> Work:
    """Held-out samples of all rounds, the audits of the judge, and the canaries; the latter two as upper bounds."""
    solver = _means(config, measured, Role.SOLVER)
    measurements = config.job.rounds + 1
    solved = config.evaluation.samples * (held_out.get("development", 0) * measurements + 2 * held_out.get("test", 0))
    work = Work(0, 0, solved * solver.prompt_tokens, solved * solver.output_tokens)
    votes, _ = _cascade(config, measured, _rates(config, measured, "value"), alike=True)
    judged = replace(_candidate(config, measured, 1.0, votes), candidates=0.0)
    audited = min(config.evaluation.audit, held_out.get("development", 0)) * measurements
    planted = len(GROSS) * config.health.canaries * config.job.rounds
    extra = _scaled(judged, audited + planted)
    return Work(
        0,
        extra.judge_calls,
        work.prompt_tokens + max(0.0, extra.prompt_tokens - (audited + planted) * solver.prompt_tokens),
        work.output_tokens + max(0.0, extra.output_tokens - (audited + planted) * solver.output_tokens),
    )


def _update_seconds(config: Config, measured: Measured, work: Work, round: int) -> float:
    """A round's update, by the speed of prefilling; replay of all earlier rounds makes each longer than the last."""
    solver, update = _means(config, measured, Role.SOLVER), config.update
    replayed = round - 1 if update.replay.rounds is None else min(round - 1, update.replay.rounds)
    rows = work.accepted * (1 + replayed)
    rows *= 1 + (0.0 if update.replay.anchor == "none" else update.replay.anchor_ratio)
    drawn = update.steps * update.batch_size if update.steps is not None else rows * update.epochs
    slowdown = _TRAINING + (1.0 if update.gradient_checkpointing else 0.0)
    return drawn * (solver.prompt_tokens + solver.output_tokens) * slowdown / (measured.prompt_rate or math.inf)


def _means(config: Config, measured: Measured, role: RoleName) -> RoleMeans:
    """A role's mean call; one that was never asked is taken at its longest answer, about a mean solution."""
    if role in measured.roles:
        return measured.roles[role]
    solver = measured.roles[Role.SOLVER]
    longest = config.cascade.sampling_of(role).max_tokens
    return RoleMeans(solver.prompt_tokens + solver.output_tokens, longest)


def _rates(config: Config, measured: Measured, end: str) -> dict[StageName, float]:
    """Chances of a yes vote: the measured ones (`value`, pulled a little towards a half), or bounds."""
    rates = {}
    for stage in config.cascade.stage_names:
        yes, votes = measured.yes.get(stage, (0, 0))
        if end == "value":
            rates[stage] = (yes + 0.5) / (votes + 1)
        else:
            rates[stage] = getattr(wilson(yes, votes, confidence=_CONFIDENCE), end) if votes else float(end == "high")
    return rates


def _corners(config: Config, measured: Measured) -> list[tuple[dict[StageName, float], bool]]:
    """Every combination of the stages' bounds, with votes independent and alike."""
    low, high = (_rates(config, measured, end) for end in ("low", "high"))
    stages = config.cascade.stage_names
    picks = product(*((low[stage], high[stage]) for stage in stages))
    return [(dict(zip(stages, pick, strict=True)), alike) for pick in picks for alike in (False, True)]


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
