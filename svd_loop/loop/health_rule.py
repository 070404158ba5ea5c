"""Whether a round's judge can be trusted, told without a label: figures of an episode, and the rule that reads them.

The figures become the round's metrics, named `health.*`. Shares carry their 95% Wilson interval as `.low` and `.high`:

- `false_accept`, `false_accept.<stage>`, `canary.<kind>`: planted wrong candidates let through (`envs.canaries`).
- `true_positive`, `false_positive`, each also by stage: labelled answers let through, where the user has some
  (`svd_loop.judge_health.labelled`).
- `invalid.<stage>`: votes without a readable verdict.
- `agreement.<stage>`: of the candidates that got more than one vote of the stage, those whose votes were all the same.
  Under early exit a first no is a last one, so these are candidates whose first vote was a yes.
- `accepted`: candidates accepted. `distinct`: different texts among the accepted ones.
- `length_ratio`: mean length in tokens of accepted over that of generated candidates; only from `ENOUGH` accepted on.
- `entropy`: bits in the distribution of solution texts over the candidates of a prompt, averaged over prompts with more
  than one. Of texts and not of final answers, since finding those is part of scoring, which nothing that trains may
  reach.

The rule compares a share by the end of its interval that favours the judge. It is a function of the metrics and the
history alone, so a resumed job decides as an uninterrupted one. Left out: combining figures into one score.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from statistics import fmean

from svd_loop.config.health import HealthSection
from svd_loop.contracts import AlarmAction, Candidate, Episode, Estimate, RoundRecord, Stage, VoteValue
from svd_loop.support.statistics import difference_of_shares, wilson

PREFIX = "health."
ALARMS = "health.alarms"
_ALARM = "health.alarm."
_ACTION = "health.action."
ENOUGH = 20
"""Accepted candidates below which a mean length says little."""

_WORDS = {
    "false_accept": "canaries accepted by the cascade",
    "false_positive": "wrong labelled answers accepted by the cascade",
    "drift": "rise of the canaries accepted since the first round",
    "invalid": "votes without a verdict",
    "accepted": "candidates accepted",
    "length_ratio": "length of accepted over generated candidates",
    "distinct": "different texts among accepted solutions",
}


def interval_metrics(name: str, share: Estimate) -> dict[str, float]:
    """An estimate as three metrics."""
    return {f"{PREFIX}{name}": share.value, f"{PREFIX}{name}.low": share.low, f"{PREFIX}{name}.high": share.high}


def episode_figures(episode: Episode) -> dict[str, float]:
    """The figures that need no canaries, by metric name; those that an episode cannot show are left out."""
    kept = {(verdict.prompt_id, verdict.candidate) for verdict in episode.verdicts if verdict.accepted}
    accepted = [candidate for candidate in episode.candidates if (candidate.prompt_id, candidate.index) in kept]
    figures = _vote_figures(episode)
    if episode.candidates:
        figures |= interval_metrics("accepted", wilson(len(accepted), len(episode.candidates)))
    if accepted:
        different = len({candidate.text.strip() for candidate in accepted})
        figures |= interval_metrics("distinct", wilson(different, len(accepted)))
    generated_length = _mean_length(episode.candidates)
    if len(accepted) >= ENOUGH and generated_length:
        figures[f"{PREFIX}length_ratio"] = _mean_length(accepted) / generated_length
    if (bits := _entropy(episode.candidates)) is not None:
        figures[f"{PREFIX}entropy"] = bits
    return figures


class HealthRule:
    """The thresholds of the configuration's `health` section; stateless."""

    def __init__(self, settings: HealthSection) -> None:
        self.settings = settings

    def assess(self, metrics: Mapping[str, float], history: Sequence[RoundRecord]) -> dict[str, float]:
        """What the figures amount to, as further metrics.

        Args:
            metrics: the round's, with its `health.*` figures; a round without any (a control) has nothing to assess.
            history: the rounds before it.

        Returns:
            `health.drift` where there is a round to compare with, `health.alarms` (how many), and for each alarm
            `health.alarm.<figure>`, the limit that was crossed, and `health.action.<action>`.
        """
        if not any(name.startswith(PREFIX) for name in metrics):
            return {}
        drift = self._drift(metrics, history)
        crossed = self._crossed({**metrics, **drift})
        alarms = {f"{_ALARM}{name}": limit for name, limit in crossed.items()}
        action = {f"{_ACTION}{self.settings.action.value}": 1.0} if crossed else {}
        return {**drift, ALARMS: float(len(crossed)), **alarms, **action}

    def distrusts(self, record: RoundRecord) -> bool:
        """Whether nothing may be learned from a round."""
        return self.settings.action is not AlarmAction.WARN and bool(record.metrics.get(ALARMS))

    def ends(self, record: RoundRecord) -> bool:
        """Whether the job ends after a round."""
        return self.settings.action is AlarmAction.STOP and bool(record.metrics.get(ALARMS))

    def _drift(self, metrics: Mapping[str, float], history: Sequence[RoundRecord]) -> dict[str, float]:
        """How far the share of accepted canaries has moved since the first round that has one."""
        first = next((old for record in history if (old := _share(record.metrics, "false_accept"))), None)
        now = _share(metrics, "false_accept")
        return interval_metrics("drift", difference_of_shares(now, first)) if now and first else {}

    def _crossed(self, metrics: Mapping[str, float]) -> dict[str, float]:
        """Figures out of bounds, with the limit they crossed."""
        limits = self.settings
        highest = {"false_accept": limits.false_accept, "drift": limits.drift, "accepted": limits.accepted}
        highest |= {"false_positive": limits.false_positive}
        highest |= {f"false_accept.{stage.value}": limits.stage_false_accept for stage in Stage}
        highest |= {f"invalid.{stage.value}": limits.invalid for stage in Stage}
        crossed = {
            name: limit
            for name, limit in highest.items()
            if limit is not None and metrics.get(f"{PREFIX}{name}.low", -math.inf) > limit
        }
        if limits.distinct is not None and metrics.get(f"{PREFIX}distinct.high", math.inf) < limits.distinct:
            crossed["distinct"] = limits.distinct
        ratio = metrics.get(f"{PREFIX}length_ratio")
        if limits.length_band is not None and ratio is not None:
            low, high = limits.length_band
            crossed |= {"length_ratio": low} if ratio < low else {"length_ratio": high} if ratio > high else {}
        return crossed


def alarm_action(record: RoundRecord) -> AlarmAction | None:
    """What an alarm of this round did; None without one."""
    return next((action for action in AlarmAction if f"{_ACTION}{action.value}" in record.metrics), None)


def alarm_names(record: RoundRecord) -> list[str]:
    """The figures of a round that were out of bounds, such as `false_accept.correctness`."""
    return [name.removeprefix(_ALARM) for name in record.metrics if name.startswith(_ALARM)]


def outcome(record: RoundRecord) -> str:
    """What became of a round with an alarm, in a few words; empty without one."""
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
    """One sentence on a round's alarms, with the figures; empty without one."""
    figures = "; ".join(_figure(record.metrics, name) for name in alarm_names(record))
    return f"Round {record.round}, {outcome(record)}: {figures}." if figures else ""


def _figure(metrics: Mapping[str, float], name: str) -> str:
    head, _, stage = name.partition(".")
    words = "canaries let through" if stage and head == "false_accept" else _WORDS[head]
    share, limit = _share(metrics, name), metrics[f"{_ALARM}{name}"]
    interval = f"{share.low:.2f} to {share.high:.2f}; " if share else ""
    place = f" ({stage.replace('_', ' ')})" if stage else ""
    return f"{words}{place} {metrics[PREFIX + name]:.2f} ({interval}limit {limit:g})"


def _share(metrics: Mapping[str, float], name: str) -> Estimate | None:
    names = [f"{PREFIX}{name}{end}" for end in ("", ".low", ".high")]
    return Estimate(*(metrics[name] for name in names)) if all(name in metrics for name in names) else None


def _vote_figures(episode: Episode) -> dict[str, float]:
    """Invalid votes and agreement by stage."""
    values: defaultdict[Stage, list[list[VoteValue]]] = defaultdict(list)
    for verdict in episode.verdicts:
        for stage in dict.fromkeys(vote.stage for vote in verdict.votes):
            values[stage].append([vote.value for vote in verdict.votes if vote.stage is stage])
    figures: dict[str, float] = {}
    for stage, votes_C_V in values.items():
        cast = [value for votes_V in votes_C_V for value in votes_V]
        figures |= interval_metrics(f"invalid.{stage.value}", wilson(cast.count(VoteValue.INVALID), len(cast)))
        several = [len(set(votes_V)) == 1 for votes_V in votes_C_V if len(votes_V) > 1]
        if several:
            figures |= interval_metrics(f"agreement.{stage.value}", wilson(sum(several), len(several)))
    return figures


def _mean_length(candidates: Sequence[Candidate]) -> float:
    return fmean(len(candidate.token_ids) for candidate in candidates) if candidates else 0.0


def _entropy(candidates: Sequence[Candidate]) -> float | None:
    """Mean over prompts with several candidates of -sum p log2 p over their texts (Shannon 1948); None without any."""
    texts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for candidate in candidates:
        texts[candidate.prompt_id][candidate.text.strip()] += 1
    bits = [
        -sum(count / total * math.log2(count / total) for count in counts.values())
        for counts in texts.values()
        if (total := counts.total()) > 1
    ]
    return fmean(bits) + 0.0 if bits else None
