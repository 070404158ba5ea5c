"""Metrics of a round by dotted name; the names are defined here only.

They are for code that shows or tracks figures without knowing them: MLflow, `--json`, tables. Nothing reads them back.
The names are documented in docs/guides/tracking.md; names are only ever added.
"""

from __future__ import annotations

from dataclasses import asdict

from svd_loop.contracts import Estimate, HealthReport, RoundRecord, StepChoice, UsagePurpose


def metrics_of(record: RoundRecord) -> dict[str, float]:
    """Return everything measured in a round except its scores, times and numbers of prompts and rows."""
    return {
        **_usage(record),
        **{
            f"votes.{stage}.{value.value}": float(count)
            for stage, values in record.votes.items()
            for value, count in values.items()
        },
        **record.metrics,
        **(_health(record.health) if record.health else {}),
        **record.update,
        **(_choice(record.choice) if record.choice else {}),
        **{
            f"{rate}.{step}": value
            for step, rates in record.audit.items()
            for rate, value in asdict(rates).items()
            if value is not None
        },
    }


def _usage(record: RoundRecord) -> dict[str, float]:
    """Return `solver.calls`, `canary.grader.output_tokens`, `evaluation.solver.prompt_tokens` and so on."""
    return {
        f"{'' if purpose is UsagePurpose.ROUND else f'{purpose.value}.'}{role}.{name}": float(count)
        for purpose, roles in record.usage.items()
        for role, usage in roles.items()
        for name, count in usage.counts().items()
    }


def _choice(choice: StepChoice) -> dict[str, float]:
    """Return `choice.kept` and `choice.best` (steps), and the winner's confirmed difference to the last step."""
    named = {"choice.kept": float(choice.kept), "choice.best": float(choice.best)}
    if choice.confirmed is not None:
        named["choice.difference"] = choice.confirmed.value
        named |= {"choice.difference.low": choice.confirmed.low, "choice.difference.high": choice.confirmed.high}
    return named


def _health(report: HealthReport) -> dict[str, float]:
    """Return `health.<figure>`, for shares also `.low` and `.high`; an alarm has the limit that its figure crossed."""
    named: dict[str, float] = {}
    for figure, share in report.shares.items():
        named |= _interval(figure.name, share)
    if report.length_ratio is not None:
        named["health.length_ratio"] = report.length_ratio
    if report.entropy is not None:
        named["health.entropy"] = report.entropy
    named |= {f"health.canary.{kind}": share for kind, share in report.canaries.items()}
    named |= {f"health.search.{kind}": accepted / asked for kind, (asked, accepted) in report.searched.items()}
    if report.panel is not None:
        named["health.panel"] = float(len(report.panel.right) + len(report.panel.wrong))
    if report.drift is not None:
        named |= _interval("drift", report.drift)
    named["health.alarms"] = float(len(report.alarms))
    named |= {f"health.alarm.{alarm.figure.name}": alarm.limit for alarm in report.alarms}
    if report.action is not None:
        named[f"health.action.{report.action.value}"] = 1.0
    return named


def _interval(name: str, share: Estimate) -> dict[str, float]:
    return {f"health.{name}": share.value, f"health.{name}.low": share.low, f"health.{name}.high": share.high}
