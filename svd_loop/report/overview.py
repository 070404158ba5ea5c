"""The first page of a job, of the report as of the viewer: what its templates show, computed from the round records."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from svd_loop.contracts import (
    Estimate,
    HealthFigure,
    HealthMeasure,
    JobResult,
    JobState,
    RoundRecord,
    Usage,
    VoteValue,
)
from svd_loop.loop.health_rule import explain, outcome
from svd_loop.report.charts import curve
from svd_loop.report.steps import explain_choice
from svd_loop.report.summary import STOPPED, gain_sentence, votes_of
from svd_loop.report.templating import compact, count, interval, seconds

HEALTH_WORDS: Mapping[HealthMeasure, str] = {
    HealthMeasure.FALSE_ACCEPT: "canaries accepted",
    HealthMeasure.TRUE_POSITIVE: "right labelled answers accepted",
    HealthMeasure.FALSE_POSITIVE: "wrong labelled answers accepted",
    HealthMeasure.INVALID: "votes without a verdict",
    HealthMeasure.AGREEMENT: "votes that agree",
    HealthMeasure.ACCEPTED: "candidates accepted",
    HealthMeasure.DISTINCT: "different texts among the accepted",
    HealthMeasure.DRIFT: "rise of canaries accepted",
    HealthMeasure.LENGTH_RATIO: "length of accepted over generated",
    HealthMeasure.DRIFT_TO_YES: "panel votes on wrong solutions turned to yes",
    HealthMeasure.DRIFT_TO_NO: "panel votes on accepted solutions turned to no",
}
PASS = "pass@1"


@dataclass(frozen=True, slots=True)
class Tile:
    """A figure that stands out: its name, its value, and a line below it; `tone` is `good`, `bad` or empty."""

    name: str
    value: str
    below: str = ""
    tone: str = ""


@dataclass(frozen=True, slots=True)
class HealthRow:
    """One measure of the judge; `limit` is the one that an alarm crossed."""

    name: str
    stage: str
    share: Estimate
    limit: float | None


@dataclass(frozen=True, slots=True)
class RoundView:
    """A round and what its templates derive from it.

    Attributes:
        record: the round.
        title: `round 3`, or `baseline`.
        funnel: steps with the number of candidates left, and their share of the first step.
        votes: stages with the votes cast by value.
        health: measures with intervals; whole cascade first.
        cost: calls and tokens by purpose and role.
        alarm: what the judge's alarms did; empty without any.
        is_best: whether this is the job's best round so far.
    """

    record: RoundRecord
    title: str
    funnel: Sequence[tuple[str, int, float]]
    votes: Sequence[tuple[str, int, int, int]]
    health: Sequence[HealthRow]
    cost: Sequence[tuple[str, str, Usage]]
    alarm: str
    is_best: bool

    @property
    def number(self) -> int:
        """The round's number."""
        return self.record.round

    @property
    def groups(self) -> list[str]:
        """`overall` and the domains that have a pass@1."""
        return [name for name, metrics in self.record.scores.estimates.items() if PASS in metrics]

    @property
    def votes_cast(self) -> int:
        """Votes of the round, repeats included."""
        return votes_of(self.record)

    @property
    def choice(self) -> str:
        """A sentence about the checkpoint that was kept; empty if there was no choice."""
        return explain_choice(self.record)

    @property
    def seconds(self) -> float:
        """Time of all phases."""
        return sum(self.record.seconds.values())

    @property
    def panel(self) -> list[tuple[str, int, int]]:
        """Votes of yes among those on the panel's accepted solutions, and on its wrong ones; empty without a panel."""
        panel = self.record.health.panel if self.record.health else None
        if panel is None:
            return []
        halves = (("accepted", panel.right), ("wrong", panel.wrong))
        return [(name, votes.count("y"), len(votes)) for name, votes in halves]

    @property
    def canaries(self) -> Estimate | None:
        """Canaries that the cascade accepted; None without canaries."""
        shares = self.record.health.shares if self.record.health else {}
        return shares.get(HealthFigure(HealthMeasure.FALSE_ACCEPT))


@dataclass(frozen=True, slots=True)
class Overview:
    """The first page of a job."""

    job: str
    status: str
    ended: bool
    tiles: Sequence[Tile]
    notes: Sequence[str]
    panels: Sequence[tuple[str, str, Markup]]
    rounds: Sequence[RoundView]
    tests: Sequence[tuple[str, Estimate]]
    config: str

    @property
    def groups(self) -> list[str]:
        """`overall` and the domains, in the order of the columns."""
        return self.rounds[-1].groups if self.rounds else []

    @property
    def has_alarm(self) -> bool:
        """Whether the judge of any round raised an alarm."""
        return any(one.alarm for one in self.rounds)

    @property
    def has_undecided(self) -> bool:
        """Whether scoring left a sample undecided in any round."""
        return any(sum(one.record.scores.undecided) for one in self.rounds)


def overview(state: JobState | JobResult, config: Mapping[str, Any]) -> Overview:
    """Return the first page's contents; a `JobResult` adds the stop reason, the best round and test scores."""
    history = state.history
    best = best_round(state)
    result = state if isinstance(state, JobResult) else None
    return Overview(
        job=state.job,
        status=_status(state),
        ended=state.stop is not None,
        tiles=_tiles(history, best),
        notes=_notes(state),
        panels=_panels(history, best),
        rounds=[round_view(record, best) for record in history],
        tests=[(name, scores.pass_at_1) for name, scores in result.test.items()] if result else [],
        config=json.dumps(config, indent=2, sort_keys=True),
    )


def best_round(state: JobState | JobResult) -> int | None:
    """Return the best round: the one that a finished job named, else the one with the highest pass@1 so far."""
    if isinstance(state, JobResult):
        return state.best.round
    if not state.history:
        return None
    return max(state.history, key=lambda record: record.scores.pass_at_1.value).round


def round_view(record: RoundRecord, best: int | None = None) -> RoundView:
    """Return what the templates show of a round."""
    first = next(iter(record.funnel.values()), 0)
    return RoundView(
        record=record,
        title=f"round {record.round}" if record.round else "baseline",
        funnel=[(step, left, left / first if first else 0.0) for step, left in record.funnel.items()],
        votes=[
            (stage, values.get(VoteValue.YES, 0), values.get(VoteValue.NO, 0), values.get(VoteValue.INVALID, 0))
            for stage, values in record.votes.items()
        ],
        health=_health(record),
        cost=[(purpose, role, usage) for purpose, roles in record.usage.items() for role, usage in roles.items()],
        alarm=outcome(record),
        is_best=record.round == best,
    )


def _status(state: JobState | JobResult) -> str:
    if state.stop is not None:
        return f"Stopped because {STOPPED[state.stop]}."
    return f"{len(state.history)} rounds recorded, the base model's included; not finished."


def _notes(state: JobState | JobResult) -> list[str]:
    if isinstance(state, JobResult):
        version = state.best.version
        return [f"Best version: {version.name} ({version.fingerprint[:12]}), {gain_sentence(state)}.", *state.notes]
    return list(filter(None, map(explain, state.history)))


def _panels(history: Sequence[RoundRecord], best: int | None) -> list[tuple[str, str, Markup]]:
    """By group its name, its change in points, and its curve."""
    if not history:
        return []
    panels = []
    for name, metrics in history[-1].scores.estimates.items():
        if PASS not in metrics:
            continue
        points = {
            record.round: record.scores.estimates[name][PASS]
            for record in history
            if PASS in record.scores.estimates.get(name, {})
        }
        values = [point.value for point in points.values()]
        change = f"{100 * (values[-1] - values[0]):+.1f} points" if len(values) > 1 else ""
        panels.append((name, change, curve(points, best)))
    return panels


def _tiles(history: Sequence[RoundRecord], best: int | None) -> list[Tile]:
    """The figures at the head of the page."""
    if not history:
        return [Tile("held-out pass@1", "–", "no round is recorded yet")]
    found = next((record for record in history if record.round == best), history[-1])
    base, top = history[0].scores.pass_at_1, found.scores.pass_at_1
    gain = 100 * (top.value - base.value)
    tone = "good" if gain > 0 else "bad" if gain < 0 else ""
    played = [record for record in history if record.prompts]
    tiles = [
        Tile("held-out pass@1, %", interval(top), f"round {found.round}, {gain:+.1f} points on the base model", tone)
    ]
    if played:
        last = played[-1]
        share = f"{100 * last.accepted_prompts / last.prompts:.0f}%"
        below = f"{count(last.accepted_prompts)} of {count(last.prompts)} in round {last.round}"
        tiles.append(Tile("prompts accepted", share, below))
        tiles.append(_judge_tile(played))
    output = sum(record.output_tokens for record in history)
    tiles.append(Tile("tokens generated", compact(output), f"{compact(sum(map(votes_of, history)))} votes"))
    spent = sum(sum(record.seconds.values()) for record in history)
    tiles.append(Tile("time in phases", seconds(spent), f"{len(history)} rounds, the baseline included"))
    return tiles


def _judge_tile(played: Sequence[RoundRecord]) -> Tile:
    alarms = sum(bool(outcome(record)) for record in played)
    view = next((one for one in map(round_view, reversed(played)) if one.canaries), None)
    shown = interval(view.canaries) if view else "–"
    below = f"alarm in {alarms} of {len(played)} rounds" if alarms else "no alarm"
    where = f"canaries accepted in round {view.number}, %" if view else "canaries accepted, %"
    return Tile(where, shown, below, "bad" if alarms else "good" if view else "")


def _health(record: RoundRecord) -> list[HealthRow]:
    report = record.health
    if report is None:
        return []
    limits = {alarm.figure: alarm.limit for alarm in report.alarms}
    shares = dict(report.shares)
    if report.drift is not None:
        shares[HealthFigure(HealthMeasure.DRIFT)] = report.drift
    ordered = sorted(shares, key=lambda figure: (figure.stage is not None, list(HEALTH_WORDS).index(figure.measure)))
    return [
        HealthRow(HEALTH_WORDS[figure.measure], figure.stage or "", shares[figure], limits.get(figure))
        for figure in ordered
    ]
