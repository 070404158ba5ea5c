"""Judge health without labels: the measures of an episode, and the rule that raises alarms.

The measures form a `HealthReport`; shares are estimates with their 95% Wilson interval:

- `false_accept`, `false_accept.<stage>`, `canary.<kind>`: planted wrong candidates accepted (`envs.canaries`).
- `true_positive`, `false_positive`, each also by stage: labelled answers accepted, if the user has some
  (`svd_loop.judge_health.labelled`).
- `invalid.<stage>`: votes without a readable verdict.
- `agreement.<stage>`: of the candidates that got more than one vote of the stage, those whose votes were all the same.
  Under early exit a first no ends the votes, so these are candidates whose first vote was a yes.
- `drift_to_yes`, `drift_to_no`: votes of the panel (`envs.panel`) that turned, since the panel's first round, to yes on
  planted wrong solutions, and to no on accepted ones, less those that turned the other way.
- `accepted`: candidates accepted; the interval counts candidates of one prompt as fewer, since they are alike.
- `distinct`: different texts among the accepted ones.
- `length_ratio`: mean length in tokens of accepted over that of generated candidates; only from `ENOUGH` accepted on.
- `entropy`: bits in the distribution of solution texts over the candidates of a prompt, averaged over prompts with more
  than one. It uses texts and not final answers, because extracting those is part of scoring, which training must
  not use.

The rule compares the end of a share's interval that favours the judge. It is a function of the report and the
history alone, so a resumed job decides as an uninterrupted one. Left out: combining figures into one score.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean
from typing import NamedTuple

import numpy as np

from svd_loop.config.health import HealthSection
from svd_loop.contracts import (
    AlarmAction,
    Episode,
    Estimate,
    HealthAlarm,
    HealthFigure,
    HealthMeasure,
    HealthReport,
    PanelVotes,
    RoundRecord,
    StageName,
    VerifierRates,
    VoteValue,
)
from svd_loop.support.statistics import difference_of_shares, net_change, share_of_clusters, wilson

PANEL_LEVEL = 0.0005
"""Chance that one half of one round's panel raises its alarm though the judge does not drift. Ten rounds are nine
comparisons of two halves: 18 of these chances, less than 1% however many votes turn (docs/results/drift.md)."""

ENOUGH = 20
"""Least number of accepted candidates for a mean length."""

_WORDS = {
    HealthMeasure.FALSE_ACCEPT: "canaries accepted by the cascade",
    HealthMeasure.FALSE_POSITIVE: "wrong labelled answers accepted by the cascade",
    HealthMeasure.DRIFT: "rise of the canaries accepted since the first round",
    HealthMeasure.DRIFT_TO_YES: "panel votes on wrong solutions turned to yes",
    HealthMeasure.DRIFT_TO_NO: "panel votes on accepted solutions turned to no",
    HealthMeasure.INVALID: "votes without a verdict",
    HealthMeasure.ACCEPTED: "candidates accepted",
    HealthMeasure.LENGTH_RATIO: "length of accepted over generated candidates",
    HealthMeasure.DISTINCT: "different texts among accepted solutions",
}

FALSE_ACCEPT = HealthFigure(HealthMeasure.FALSE_ACCEPT)
DRIFT = HealthFigure(HealthMeasure.DRIFT)
DRIFT_TO_YES = HealthFigure(HealthMeasure.DRIFT_TO_YES)
DRIFT_TO_NO = HealthFigure(HealthMeasure.DRIFT_TO_NO)
_ACCEPTED = HealthFigure(HealthMeasure.ACCEPTED)
_DISTINCT = HealthFigure(HealthMeasure.DISTINCT)
_LENGTH_RATIO = HealthFigure(HealthMeasure.LENGTH_RATIO)


def episode_health(episode: Episode) -> HealthReport:
    """The measures that need no canaries; those that the episode does not provide are left out."""
    kept = {(verdict.prompt_id, verdict.candidate) for verdict in episode.verdicts if verdict.accepted}
    # One pass that keeps no text: the candidates may be read from the ledger.
    written = [
        _Written(one.prompt_id, (one.prompt_id, one.index) in kept, len(one.token_ids), _digest(one.text))
        for one in episode.candidates
    ]
    accepted = [one for one in written if one.accepted]
    shares = _vote_shares(episode)
    if written:
        passed = np.array([one.accepted for one in written], dtype=bool)
        shares[_ACCEPTED] = share_of_clusters(passed, np.array([one.prompt_id for one in written]))
    if accepted:
        shares[_DISTINCT] = wilson(len({one.digest for one in accepted}), len(accepted))
    generated_length = _mean_length(written)
    enough = len(accepted) >= ENOUGH and generated_length > 0
    return HealthReport(
        shares,
        length_ratio=_mean_length(accepted) / generated_length if enough else None,
        entropy=_entropy(written),
    )


class _Written(NamedTuple):
    """What is measured of a candidate; `digest` is that of its text."""

    prompt_id: str
    accepted: bool
    length: int
    digest: bytes


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.strip().encode("utf-8", "surrogatepass"), digest_size=16).digest()


class HealthRule:
    """The thresholds of the configuration's `health` section; stateless."""

    def __init__(self, settings: HealthSection) -> None:
        self.settings = settings

    def assess(self, report: HealthReport | None, history: Sequence[RoundRecord]) -> HealthReport | None:
        """The report with its drift, its alarms and their action.

        Args:
            report: the measurements; None for a control, which has none.
            history: the rounds before it.
        """
        if report is None:
            return None
        shares = {**report.shares, **_panel_drift(report, history)}
        report = replace(report, shares=shares, drift=self._drift(report, history))
        alarms = tuple(HealthAlarm(figure, limit) for figure, limit in self._crossed(report, history).items())
        return replace(report, alarms=alarms, action=self.settings.action if alarms else None)

    def distrusts(self, record: RoundRecord) -> bool:
        """Whether the round must not be trained on."""
        return self.settings.action is not AlarmAction.WARN and bool(alarms_of(record))

    def ends(self, record: RoundRecord) -> bool:
        """Whether the job ends after a round."""
        return self.settings.action is AlarmAction.STOP and bool(alarms_of(record))

    def finds_no_verifier(self, record: RoundRecord) -> bool:
        """Whether the verifier test shows no stage, nor the cascade, to be better than chance.

        All their intervals of J hold 0 or less and end below `health.useful_j`. So few candidates stop no job: their
        intervals are wide. Without labels there is no such finding.
        """
        limit, judges = self.settings.useful_j, _judges(record)
        return limit is not None and bool(judges) and all(one.j.low <= 0.0 and one.j.high < limit for one in judges)

    def _drift(self, report: HealthReport, history: Sequence[RoundRecord]) -> Estimate | None:
        """Change of the share of accepted canaries since the first round that has one."""
        earlier = (record.health.shares.get(FALSE_ACCEPT) for record in history if record.health)
        first = next(filter(None, earlier), None)
        now = report.shares.get(FALSE_ACCEPT)
        return difference_of_shares(now, first) if now and first else None

    def _accepted_drop(self, report: HealthReport, history: Sequence[RoundRecord]) -> dict[HealthFigure, float]:
        """The share of accepted candidates with its lowest allowed value, where it lies below that."""
        part, now = self.settings.accepted_drop, report.shares.get(_ACCEPTED)
        earlier = (record.health.shares.get(_ACCEPTED) for record in history if record.health)
        first = next(filter(None, earlier), None)
        if part is None or now is None or first is None or now.high >= part * first.low:
            return {}
        return {_ACCEPTED: part * first.low}

    def _crossed(self, report: HealthReport, history: Sequence[RoundRecord]) -> dict[HealthFigure, float]:
        """Values out of bounds, with the limit they crossed."""
        limits = self.settings
        highest: dict[HealthFigure, float | None] = {
            FALSE_ACCEPT: limits.false_accept,
            DRIFT: limits.drift,
            **(dict.fromkeys((DRIFT_TO_YES, DRIFT_TO_NO), 0.0) if limits.drift is not None else {}),
            _ACCEPTED: limits.accepted,
            HealthFigure(HealthMeasure.FALSE_POSITIVE): limits.false_positive,
        }
        by_stage = {HealthMeasure.FALSE_ACCEPT: limits.stage_false_accept, HealthMeasure.INVALID: limits.invalid}
        highest |= {
            figure: limit
            for measure, limit in by_stage.items()
            for figure in report.shares
            if figure.measure is measure and figure.stage is not None
        }
        shares = {**report.shares, **({DRIFT: report.drift} if report.drift else {})}
        crossed = {
            figure: limit
            for figure, limit in highest.items()
            if limit is not None and figure in shares and shares[figure].low > limit
        }
        distinct, ratio = shares.get(_DISTINCT), report.length_ratio
        if limits.distinct is not None and distinct is not None and distinct.high < limits.distinct:
            crossed[_DISTINCT] = limits.distinct
        crossed |= self._accepted_drop(report, history)
        if limits.length_band is not None and ratio is not None:
            low, high = limits.length_band
            crossed |= {_LENGTH_RATIO: low} if ratio < low else {_LENGTH_RATIO: high} if ratio > high else {}
        return crossed


def alarms_of(record: RoundRecord) -> tuple[HealthAlarm, ...]:
    """The alarms of a round."""
    return record.health.alarms if record.health else ()


def alarm_action(record: RoundRecord) -> AlarmAction | None:
    """The action of this round's alarms; None without alarms."""
    return record.health.action if record.health else None


def outcome(record: RoundRecord) -> str:
    """A short text on the effect of the alarms; empty without alarms."""
    match alarm_action(record):
        case AlarmAction.WARN:
            return "alarm, went on"
        case AlarmAction.STOP:
            return "stopped, nothing learned"
        case AlarmAction.ROLLBACK:
            return f"rolled back to {record.version.name}"
        case None:
            return ""


def explain(record: RoundRecord) -> str:
    """A sentence on a round's alarms, with their values; empty without alarms."""
    if record.health is None or not record.health.alarms:
        return ""
    figures = "; ".join(_told(record.health, alarm) for alarm in record.health.alarms)
    return f"Round {record.round}, {outcome(record)}: {figures}."


def explain_verifiers(record: RoundRecord) -> str:
    """A sentence on the verifiers of a job that ended because none was better than chance."""
    judges = "; ".join(f"{one.name.replace('_', ' ')} {_interval(one.j)}" for one in _judges(record))
    others = [one for one in _labelled(record) if one not in _judges(record) and one.j.low > 0.0]
    best = max(others, key=lambda one: one.j.value, default=None)
    found = f"J (true minus false positive rate) of what judges: {judges}. "
    if best is None:
        return f"{found}Agreement among candidates was no better"
    return f"{found}{best.name.replace('_', ' ').capitalize()} has {_interval(best.j)}: use agreement as a stage"


def _labelled(record: RoundRecord) -> list[VerifierRates]:
    return [one for one in record.verifiers.rates if one.labelled] if record.verifiers else []


def _judges(record: RoundRecord) -> list[VerifierRates]:
    """The labelled rates of what the job uses: its stages and its cascade, which are the first of them."""
    names = [*record.verifiers.votes, "cascade"] if record.verifiers else []
    return [one for one in _labelled(record) if one.name in names]


def _interval(figure: Estimate) -> str:
    return f"{figure.value:.2f} ({figure.low:.2f} to {figure.high:.2f})"


def _told(report: HealthReport, alarm: HealthAlarm) -> str:
    measure, stage = alarm.figure.measure, alarm.figure.stage
    words = "canaries let through" if stage and measure is HealthMeasure.FALSE_ACCEPT else _WORDS[measure]
    share = report.drift if alarm.figure == DRIFT else report.shares.get(alarm.figure)
    value = share.value if share else report.length_ratio or 0.0
    interval = f"{share.low:.2f} to {share.high:.2f}; " if share else ""
    place = f" ({stage.replace('_', ' ')})" if stage else ""
    return f"{words}{place} {value:.2f} ({interval}limit {alarm.limit:g})"


def first_panel(history: Sequence[RoundRecord], digest: str | None = None) -> PanelVotes | None:
    """The votes of the first round that has a panel (with these questions, if a digest is given), or None."""
    panels = (record.health.panel for record in history if record.health and record.health.panel)
    return next((panel for panel in panels if digest in (None, panel.digest)), None)


def _panel_drift(report: HealthReport, history: Sequence[RoundRecord]) -> dict[HealthFigure, Estimate]:
    """Net share of the panel's votes that turned the wrong way since its first round; empty in that round."""
    now = report.panel
    first = first_panel(history, now.digest) if now else None
    if now is None or first is None:
        return {}
    halves = {DRIFT_TO_YES: (first.wrong, now.wrong, True), DRIFT_TO_NO: (first.right, now.right, False)}
    drift: dict[HealthFigure, Estimate] = {}
    for figure, (before, after, to_yes) in halves.items():
        turned = [(b == "y", a == "y") for b, a in zip(before, after, strict=True)]
        gained, lost = turned.count((not to_yes, to_yes)), turned.count((to_yes, not to_yes))
        if turned:
            drift[figure] = net_change(gained, lost, len(turned), level=PANEL_LEVEL)
    return drift


def _vote_shares(episode: Episode) -> dict[HealthFigure, Estimate]:
    """Invalid votes and agreement by stage."""
    values: defaultdict[StageName, list[list[VoteValue]]] = defaultdict(list)
    for verdict in episode.verdicts:
        for stage in dict.fromkeys(vote.stage for vote in verdict.votes):
            values[stage].append([vote.value for vote in verdict.votes if vote.stage == stage])
    shares: dict[HealthFigure, Estimate] = {}
    for stage, votes_C_V in values.items():
        cast = [value for votes_V in votes_C_V for value in votes_V]
        shares[HealthFigure(HealthMeasure.INVALID, stage)] = wilson(cast.count(VoteValue.INVALID), len(cast))
        several = [len(set(votes_V)) == 1 for votes_V in votes_C_V if len(votes_V) > 1]
        if several:
            shares[HealthFigure(HealthMeasure.AGREEMENT, stage)] = wilson(sum(several), len(several))
    return shares


def _mean_length(candidates: Sequence[_Written]) -> float:
    return fmean(candidate.length for candidate in candidates) if candidates else 0.0


def _entropy(candidates: Sequence[_Written]) -> float | None:
    """Mean over prompts with several candidates of -sum p log2 p over their texts (Shannon 1948); None without any."""
    texts: defaultdict[str, Counter[bytes]] = defaultdict(Counter)
    for candidate in candidates:
        texts[candidate.prompt_id][candidate.digest] += 1
    bits = [
        -sum(count / total * math.log2(count / total) for count in counts.values())
        for counts in texts.values()
        if (total := counts.total()) > 1
    ]
    return fmean(bits) + 0.0 if bits else None
