"""Metrics of a round record, as pure functions; the names are documented in docs/guides/tracking.md.

The part of a name before the slash is the section in which MLflow's interface shows it, in the order of the alphabet.
`story_metrics` are the few figures that a job's own run shows, `round_metrics` everything measured. There interval
bounds are metrics of their own (`.low`, `.high`); MLflow would draw each as one more chart, so it gets `without_bounds`
and the intervals as bands in one figure.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from svd_loop.contracts import RoundRecord, Scores, VoteValue
from svd_loop.report.figures import pass_share, stages_of
from svd_loop.report.round_metrics import metrics_of
from svd_loop.report.summary import accepted_fraction, votes_of

SCORES = "1_pass_at_1/"
"""Section of the job's charts with the held-out scores."""
_NOT_ALLOWED = re.compile(r"[^\w\-./ ]")


def round_metrics(record: RoundRecord) -> dict[str, float]:
    """Return all figures of a round by name; figures that are not finite are left out."""
    metrics = {"round": float(record.round), **score_metrics(record.scores)}
    if record.prompts:
        metrics |= _play_metrics(record)
    metrics |= {f"seconds/{phase}": seconds for phase, seconds in record.seconds.items()}
    metrics["seconds/total"] = sum(record.seconds.values())
    metrics |= {_in_section(name): value for name, value in metrics_of(record).items()}
    metrics |= _invalid_rates(record)
    metrics["cost/output_tokens"] = record.output_tokens
    return _allowed(metrics)


def story_metrics(record: RoundRecord) -> dict[str, float]:
    """Return the figures of a round for the job's charts, in numbered sections: scores first, cost last."""
    metrics = {f"{SCORES}{group}": value for group, value in _pass_at_1(record.scores).items()}
    if record.prompts:
        metrics["2_accepted/share_of_prompts"] = accepted_fraction(record) or 0.0
        metrics["2_accepted/rows"] = record.rows
        shares = {stage: pass_share(record.funnel, stage) for stage in stages_of(record.funnel)}
        metrics |= {f"2_accepted/passed_{stage}": share for stage, share in shares.items() if share is not None}
    if record.health is not None:
        whole = {figure.name: share for figure, share in record.health.shares.items() if figure.stage is None}
        metrics |= {f"3_judge/{name}": share.value for name, share in whole.items()}
        metrics["3_judge/alarms"] = len(record.health.alarms)
    if "loss" in record.update:
        metrics["4_training/loss"] = record.update["loss"]
    metrics["5_cost/output_tokens"] = record.output_tokens
    metrics["5_cost/seconds"] = sum(record.seconds.values())
    return _allowed(metrics)


def story_of_test(scores: Scores) -> dict[str, float]:
    """Return the score on the test split for the job's charts."""
    return {f"{SCORES}test": scores.pass_at_1.value}


def _pass_at_1(scores: Scores) -> dict[str, float]:
    """Return held-out pass@1 by group; all domains come first in the alphabet too."""
    return {
        "all_domains" if group == "overall" else group: metrics["pass@1"].value
        for group, metrics in scores.estimates.items()
        if "pass@1" in metrics
    }


def without_bounds(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the metrics that are no bound of an interval."""
    return {name: value for name, value in metrics.items() if not name.endswith((".low", ".high"))}


def score_metrics(scores: Scores, prefix: str = "") -> dict[str, float]:
    """Return held-out scores: `pass_at_1/overall`, `pass_at_1/overall.low`, `pass_at_1/math` and so on."""
    named: dict[str, float] = {}
    for group, estimates in scores.estimates.items():
        for metric, estimate in estimates.items():
            name = f"{prefix}{metric.replace('@', '_at_')}/{group}"
            named |= {name: estimate.value, f"{name}.low": estimate.low, f"{name}.high": estimate.high}
    return named


def flat_params(config: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    """Return the configuration with dotted keys; empty sections are left out."""
    params: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            params |= flat_params(value, f"{prefix}{key}.")
        else:
            params[f"{prefix}{key}"] = str(value)
    return params


def _play_metrics(record: RoundRecord) -> dict[str, float]:
    shares = {stage: pass_share(record.funnel, stage) for stage in stages_of(record.funnel)}
    return {
        "play/accepted_fraction": accepted_fraction(record) or 0.0,
        "play/accepted_prompts": record.accepted_prompts,
        "play/prompts": record.prompts,
        "play/rows": record.rows,
        "cost/votes": votes_of(record),
        **{f"funnel/{step}": count for step, count in record.funnel.items()},
        **{f"let_through/{stage}": share for stage, share in shares.items() if share is not None},
    }


def _allowed(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return the finite figures, under names that MLflow takes."""
    return {_NOT_ALLOWED.sub("_", name): float(value) for name, value in metrics.items() if math.isfinite(value)}


def _in_section(name: str) -> str:
    """Return the metric's name with its section: `solver.calls` is `solver/calls`, `loss` is `update/loss`."""
    return name.replace(".", "/", 1) if "." in name else f"update/{name}"


def _invalid_rates(record: RoundRecord) -> dict[str, float]:
    """Return the share of votes without a readable verdict, by stage."""
    return {
        f"invalid_rate/{stage}": values.get(VoteValue.INVALID, 0) / sum(values.values())
        for stage, values in record.votes.items()
    }
