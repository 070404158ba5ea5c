"""Report of `svd-loop judge`: accepted candidates, rejections by stage, votes and cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from envs.cascade.cascade import funnel, vote_counts
from svd_loop.contracts import StageName, Usage, Verdict, VoteValue

if TYPE_CHECKING:
    from rich.console import Console


def judged_json(
    verdicts: Sequence[Verdict], stages: Sequence[StageName], usage: Mapping[str, Usage], *, static: bool = False
) -> dict[str, Any]:
    """Return the report as JSON data (docs/reference/json.md).

    Args:
        verdicts: one for each candidate.
        stages: the stages of the cascade.
        usage: calls and tokens by role, including those the ledger recorded in an interrupted run.
        static: whether candidates were checked by `cascade.static`.
    """
    accepted = sum(verdict.accepted for verdict in verdicts)
    return {
        "candidates": len(verdicts),
        "accepted": accepted,
        "accepted_share": accepted / len(verdicts) if verdicts else 0.0,
        "undecided": sum(_is_undecided(verdict) for verdict in verdicts),
        "rejected": dict(Counter(str(v.stage or v.rejection) for v in verdicts if not v.accepted)),
        "funnel": funnel(verdicts, stages, static=static),
        "stages": {stage: _stage(verdicts, stage) for stage in stages},
        "usage": {role: counts.counts() for role, counts in usage.items()},
    }


def render_judged(console: Console, report: Mapping[str, Any]) -> None:
    """Print two tables and one line."""
    from rich.table import Table

    from svd_loop.report.tables import print_whole

    votes = Table(title="votes", title_justify="left")
    for heading in ("stage", "yes", "no", "invalid", "invalid %", "agree %", "rejected here"):
        votes.add_column(heading, justify="left" if heading == "stage" else "right")
    for stage, figures in report["stages"].items():
        counts = [f"{figures[value.value]:,}" for value in VoteValue]
        shares = [_percent(figures["invalid_share"]), _percent(figures["agreement"])]
        votes.add_row(stage, *counts, *shares, f"{report['rejected'].get(stage, 0):,}")
    cost = Table(title="cost", title_justify="left")
    for heading in ("role", "calls", "prompt tokens", "output tokens"):
        cost.add_column(heading, justify="left" if heading == "role" else "right")
    for role, counts in report["usage"].items():
        read = counts["prompt_tokens"] - counts.get("cached_tokens", 0)
        asked = f"{counts['prompt_tokens']:,}" + (f" ({read:,} read)" if "cached_tokens" in counts else "")
        cost.add_row(role, f"{counts['calls']:,}", asked, f"{counts['output_tokens']:,}")
    print_whole(console, votes)
    print_whole(console, cost)
    unvoted = {why: n for why, n in report["rejected"].items() if why not in report["stages"]}
    without = "".join(f"; {count:,} {why}" for why, count in unvoted.items())
    if report["undecided"]:
        without += f"; {report['undecided']:,} undecided (the judge's last reply held no verdict)"
    line = (
        f"{report['accepted']:,} of {report['candidates']:,} accepted ({_percent(report['accepted_share'])}%){without}"
    )
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def _stage(verdicts: Sequence[Verdict], stage: StageName) -> dict[str, Any]:
    """Return votes by value, the share of invalid ones, and the share of candidates whose votes all agree (or None)."""
    counts = {value.value: count for value, count in vote_counts(verdicts, (stage,))[stage].items()}
    total = sum(counts.values())
    own = [[v.value for v in w.votes if v.stage == stage and v.candidate == w.candidate] for w in verdicts]
    several = [len(set(values)) == 1 for values in own if len(values) > 1]
    return {
        **counts,
        "invalid_share": counts[VoteValue.INVALID.value] / total if total else None,
        "agreement": sum(several) / len(several) if several else None,
    }


def _is_undecided(verdict: Verdict) -> bool:
    """Return whether the rejecting vote was invalid rather than a no."""
    deciding = (verdict.stage, verdict.vote)
    return any(v.value is VoteValue.INVALID and (v.stage, v.vote) == deciding for v in verdict.votes)


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.1f}"
