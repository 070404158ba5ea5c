"""Derived figures and sentences that table, JSON, page and tracking all show."""

from __future__ import annotations

from collections.abc import Mapping

from svd_loop.config.stages import roles_before_the_verdict
from svd_loop.contracts import JobResult, Role, RoundRecord, StopReason, UsagePurpose
from svd_loop.loop.plateau import paired_rates
from svd_loop.support.statistics import paired_difference

STOPPED: Mapping[StopReason, str] = {
    StopReason.PLATEAU: "held-out pass@1 stopped rising",
    StopReason.REGRESSION: "held-out pass@1 fell clearly below the best round",
    StopReason.NOTHING_ACCEPTED: "the judges accepted no candidate, so there was nothing to train on",
    StopReason.ROUND_LIMIT: "the configured number of rounds was played",
    StopReason.BUDGET: "the budget of time or tokens is used up",
    StopReason.JUDGE_UNHEALTHY: "the judge accepted canaries it should reject, or its votes disagreed",
    StopReason.NO_VERIFIER: "no verifier was better than chance, so nothing was trained",
    StopReason.INTERRUPTED: "it was interrupted",
}
"""Each stop reason in words, as continuation of "stopped because"."""

_FEW, _WIDE = 30, 0.2
"""Number of problems too small for an interval, and the interval width at which the gain counts as uncertain."""


def votes_of(record: RoundRecord) -> int:
    """Return the number of judge calls in a round, including repeats after invalid votes.

    Calls that infer a question are not counted, because they are not votes.
    """
    asked = record.usage.get(UsagePurpose.ROUND, {})
    before = {Role.SOLVER, *roles_before_the_verdict()}
    return sum(usage.calls for role, usage in asked.items() if role not in before)


def accepted_fraction(record: RoundRecord) -> float | None:
    """Return the share of the round's prompts with an accepted candidate; None if no prompts were played."""
    return record.accepted_prompts / record.prompts if record.prompts else None


def gain_sentence(result: JobResult) -> str:
    """Return the gain, e.g. `pass@1 41.0% -> 60.0% (+19.0 points) at round 3 of 3`, with a remark if it is uncertain.

    It is uncertain if its paired 90% interval is wide or contains zero, or if there are too few problems for an
    interval.
    """
    base, best = result.history[0].scores.pass_at_1.value, result.best.scores.pass_at_1.value
    place = f"round {result.best.round} of {result.history[-1].round}"
    sentence = f"pass@1 {base:.1%} -> {best:.1%} ({100 * (best - base):+.1f} points) at {place}"
    return f"{sentence}{_uncertainty(result)}" if result.best.round else sentence


def _uncertainty(result: JobResult) -> str:
    new_M, old_M = paired_rates(result.best, result.history[0])
    if new_M.size < _FEW:
        return f"; {new_M.size} problems are too few to tell a gain from chance"
    gain = paired_difference(new_M, old_M, confidence=0.9)
    if gain.low > 0.0 and gain.high - gain.low <= _WIDE:
        return ""
    interval = f"; 90% interval {100 * gain.low:+.1f} to {100 * gain.high:+.1f} points"
    return interval if gain.low > 0.0 else f"{interval}, so it may be chance"
