"""The `--json` output. Its schema is documented in docs/reference/json.md; fields are only ever added."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from svd_loop.contracts import JobResult, JobState, RoundRecord, Scores
from svd_loop.loop.health_rule import alarm_action, alarms_of
from svd_loop.report.round_metrics import metrics_of
from svd_loop.report.steps import choice_json
from svd_loop.report.summary import accepted_fraction, votes_of
from svd_loop.report.verifiers import verifiers_json


def result_json(result: JobResult) -> dict[str, Any]:
    """Return a finished job as JSON data. Shares and scores are fractions, times are seconds."""
    return {
        "job": result.job,
        "stop_reason": result.stop.value,
        "best_round": result.best.round,
        "best_version": _version(result.best),
        "rounds": [round_json(record) for record in result.history],
        "test": {name: scores_json(scores) for name, scores in result.test.items()},
        "notes": list(result.notes),
    }


def history_json(state: JobState) -> dict[str, Any]:
    """Return a job, finished or not, as JSON data; `stop_reason` is null while it runs."""
    return {
        "job": state.job,
        "stop_reason": state.stop.value if state.stop else None,
        "rounds": [round_json(record) for record in state.history],
    }


def round_json(record: RoundRecord) -> dict[str, Any]:
    """Return one round as JSON data."""
    return {
        "round": record.round,
        "version": _version(record),
        "scores": scores_json(record.scores),
        "prompts": record.prompts,
        "accepted_prompts": record.accepted_prompts,
        "accepted_fraction": accepted_fraction(record),
        "rows": record.rows,
        "votes": votes_of(record),
        "output_tokens": record.output_tokens,
        "funnel": dict(record.funnel),
        "seconds": dict(record.seconds),
        "metrics": metrics_of(record),
        "alarms": [alarm.figure.name for alarm in alarms_of(record)],
        "alarm_action": alarm_action(record),
        **(verifiers_json(record.verifiers) if record.verifiers else {}),
        **({"choice": choice_json(record.choice)} if record.choice else {}),
    }


def scores_json(scores: Scores) -> dict[str, Any]:
    """Return held-out scores by group (`overall` or a domain) and metric, each with its interval."""
    return {
        "split": scores.split,
        "problems": len(scores.problem_ids),
        "samples_per_problem": scores.samples,
        "undecided": sum(scores.undecided),
        "estimates": {
            group: {name: {"value": e.value, "low": e.low, "high": e.high} for name, e in metrics.items()}
            for group, metrics in scores.estimates.items()
        },
    }


def outcomes_json(scores: Scores, origins: Mapping[str, tuple[str, str]]) -> list[dict[str, Any]]:
    """Return the outcomes of each problem's samples, without gold.

    Args:
        scores: scores of one split.
        origins: by problem id, the id in its file (empty if there is none) and its place, `file:line`.
    """
    undecided = scores.undecided or (0,) * len(scores.correct)
    rows = zip(scores.problem_ids, scores.domains, scores.correct, undecided, strict=True)
    return [
        {
            "id": origins[problem][0] or problem,
            "problem": problem,
            "source": origins[problem][1],
            "domain": domain,
            "right": right,
            "wrong": scores.samples - right - unsure,
            "undecided": unsure,
        }
        for problem, domain, right, unsure in rows
    ]


def _version(record: RoundRecord) -> dict[str, Any]:
    return {"name": record.version.name, "round": record.version.round, "fingerprint": record.version.fingerprint}
