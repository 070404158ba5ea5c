"""Convert a round's typed figures to JSON and back, also those of ledgers of earlier versions.

Until schema version 4 a round had one mapping of figures by dotted name, which `from_names` converts. Since then only
the typed figures are written, so no name has to be parsed again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from svd_loop.contracts import (
    BUILT_IN_ROLES,
    AlarmAction,
    Estimate,
    GainForecast,
    HealthAlarm,
    HealthFigure,
    HealthMeasure,
    HealthReport,
    PanelVotes,
    RoundRecord,
    StageName,
    StepChoice,
    StepFigure,
    StepRates,
    Usage,
    UsagePurpose,
    VerifierRates,
    VerifierReport,
    VoteFigures,
    VoteValue,
)

_COUNTS = tuple(name.name for name in fields(Usage))
_RATES = tuple(name.name for name in fields(StepRates))
_ROLES = {*BUILT_IN_ROLES, "prefilter", "reviser"}
_HEALTH, _ALARM, _ACTION, _KIND = "health.", "health.alarm.", "health.action.", "health.canary."


@dataclass(frozen=True, slots=True)
class Figures:
    """A round's typed figures; the fields are those of `RoundRecord`."""

    usage: Mapping[UsagePurpose, Mapping[str, Usage]] = field(default_factory=dict)
    votes: Mapping[StageName, Mapping[VoteValue, int]] = field(default_factory=dict)
    health: HealthReport | None = None
    audit: Mapping[str, StepRates] = field(default_factory=dict)
    verifiers: VerifierReport | None = None
    choice: StepChoice | None = None


def to_json(record: RoundRecord) -> str:
    """Return the typed figures of a record as JSON."""
    return json.dumps(
        {
            "usage": {
                purpose: {role: usage.counts() for role, usage in roles.items()}
                for purpose, roles in record.usage.items()
            },
            "votes": {stage: dict(values) for stage, values in record.votes.items()},
            "health": None if record.health is None else _health_json(record.health),
            "audit": {step: asdict(rates) for step, rates in record.audit.items()},
            **({"verifiers": asdict(record.verifiers)} if record.verifiers else {}),
            **({"choice": asdict(record.choice)} if record.choice else {}),
        }
    )


def from_json(text: str) -> Figures:
    """Parse what `to_json` returned."""
    data = json.loads(text)
    return Figures(
        usage={
            UsagePurpose(purpose): {role: Usage(**counts) for role, counts in roles.items()}
            for purpose, roles in data["usage"].items()
        },
        votes={
            stage: {VoteValue(value): count for value, count in values.items()}
            for stage, values in data["votes"].items()
        },
        health=None if data["health"] is None else _health_from(data["health"]),
        audit={step: StepRates(**rates) for step, rates in data["audit"].items()},
        verifiers=_verifiers_from(data["verifiers"]) if "verifiers" in data else None,
        choice=_choice_from(data["choice"]) if "choice" in data else None,
    )


def from_names(metrics: Mapping[str, float]) -> tuple[Figures, dict[str, float]]:
    """Split figures by dotted name, as earlier versions wrote them, into typed figures and the rest."""
    usage: dict[UsagePurpose, dict[str, dict[str, int]]] = {}
    votes: dict[StageName, dict[VoteValue, int]] = {}
    audit: dict[str, dict[str, float]] = {}
    health: dict[str, float] = {}
    rest: dict[str, float] = {}
    for name, value in metrics.items():
        head, _, tail = name.partition(".")
        *before, last = name.split(".")
        if name.startswith(_HEALTH):
            health[name] = value
        elif last in _COUNTS and before and before[-1] in _ROLES and len(before) <= 2:
            purpose = UsagePurpose(before[0]) if len(before) == 2 else UsagePurpose.ROUND
            usage.setdefault(purpose, {}).setdefault(before[-1], {})[last] = int(value)
        elif head == "votes":
            votes.setdefault(before[1], {})[VoteValue(last)] = int(value)
        elif head in _RATES:
            audit.setdefault(tail, {})[head] = value
        else:
            rest[name] = value
    typed = Figures(
        {purpose: {role: Usage(**counts) for role, counts in roles.items()} for purpose, roles in usage.items()},
        votes,
        _health_from_names(health) if health else None,
        {step: StepRates(**rates) for step, rates in audit.items()},
    )
    return typed, rest


def _health_json(report: HealthReport) -> dict[str, Any]:
    return {
        "shares": [{"figure": _figure_json(figure), **asdict(share)} for figure, share in report.shares.items()],
        "length_ratio": report.length_ratio,
        "entropy": report.entropy,
        "canaries": dict(report.canaries),
        **({"searched": dict(report.searched)} if report.searched else {}),
        **({"panel": asdict(report.panel)} if report.panel else {}),
        "drift": None if report.drift is None else asdict(report.drift),
        "alarms": [{"figure": _figure_json(alarm.figure), "limit": alarm.limit} for alarm in report.alarms],
        "action": report.action,
    }


def _health_from(data: Mapping[str, Any]) -> HealthReport:
    return HealthReport(
        shares={_figure_from(row["figure"]): Estimate(row["value"], row["low"], row["high"]) for row in data["shares"]},
        length_ratio=data["length_ratio"],
        entropy=data["entropy"],
        canaries=data["canaries"],
        searched={kind: (asked, accepted) for kind, (asked, accepted) in data.get("searched", {}).items()},
        panel=_panel_from(data["panel"]) if "panel" in data else None,
        drift=None if data["drift"] is None else Estimate(**data["drift"]),
        alarms=tuple(HealthAlarm(_figure_from(row["figure"]), row["limit"]) for row in data["alarms"]),
        action=None if data["action"] is None else AlarmAction(data["action"]),
    )


def _panel_from(data: Mapping[str, Any]) -> PanelVotes:
    sources = tuple((prompt, candidate) for prompt, candidate in data["sources"])
    return PanelVotes(**{**data, "sources": sources})


def _verifiers_from(data: Mapping[str, Any]) -> VerifierReport:
    rates = [
        VerifierRates(**{**row, **{rate: Estimate(**row[rate]) for rate in ("tpr", "fpr", "j")}})
        for row in data["rates"]
    ]
    return VerifierReport(
        rates=tuple(rates),
        votes={stage: VoteFigures(**figures) for stage, figures in data["votes"].items()},
        canaries={kind: Estimate(**share) for kind, share in data["canaries"].items()},
        complete=data["complete"],
        candidates=data["candidates"],
        tokens=data["tokens"],
        forecasts=tuple(GainForecast(**{**row, "gain": Estimate(**row["gain"])}) for row in data["forecasts"]),
        detectable=data["detectable"],
        recommended=data["recommended"],
    )


def _choice_from(data: Mapping[str, Any]) -> StepChoice:
    return StepChoice(
        steps=tuple(StepFigure(**row) for row in data["steps"]),
        best=data["best"],
        kept=data["kept"],
        confirmed=None if data["confirmed"] is None else Estimate(**data["confirmed"]),
    )


def _figure_json(figure: HealthFigure) -> tuple[str, str | None]:
    return figure.measure, figure.stage


def _figure_from(data: Sequence[Any]) -> HealthFigure:
    measure, stage = data
    return HealthFigure(HealthMeasure(measure), None if stage is None else stage)


def _health_from_names(metrics: Mapping[str, float]) -> HealthReport:
    shares: dict[HealthFigure, Estimate] = {}
    drift: Estimate | None = None
    for name, value in metrics.items():
        if f"{name}.low" in metrics:
            share = Estimate(value, metrics[f"{name}.low"], metrics[f"{name}.high"])
            figure = _figure_named(name.removeprefix(_HEALTH))
            if figure.measure is HealthMeasure.DRIFT:
                drift = share
            else:
                shares[figure] = share
    return HealthReport(
        shares=shares,
        length_ratio=metrics.get("health.length_ratio"),
        entropy=metrics.get("health.entropy"),
        canaries={name.removeprefix(_KIND): value for name, value in metrics.items() if name.startswith(_KIND)},
        drift=drift,
        alarms=tuple(
            HealthAlarm(_figure_named(name.removeprefix(_ALARM)), limit)
            for name, limit in metrics.items()
            if name.startswith(_ALARM)
        ),
        action=next((action for action in AlarmAction if f"{_ACTION}{action.value}" in metrics), None),
    )


def _figure_named(name: str) -> HealthFigure:
    measure, _, stage = name.partition(".")
    return HealthFigure(HealthMeasure(measure), stage if stage else None)
