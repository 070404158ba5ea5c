"""History of a model: its champions, and their scores on each test set.

Scores are those the gate measured, stored with the event they decided. A score belongs to a test set (`Measured.test`);
scores on different sets are listed separately and never compared.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from svd_loop.mlflow_store.records import NOTHING_GAINED, Event, RegisteredVersion
from svd_loop.mlflow_store.registry import Registry
from svd_loop.mlflow_store.tags import tagged_value
from svd_loop.promotion.budget import budgets
from svd_loop.promotion.lookup import event_json

_DRIFTING = {"accepted_fraction": "svd_loop.accepted_fraction", "output_tokens": "svd_loop.output_tokens"}


def model_history(registry: Registry, name: str) -> dict[str, Any]:
    """Return events, champions, and the champions' scores by test set, as JSON data.

    Returns:
        `name`; `events` in order, each with its `test`, `score` and `over_score`; `champions` in the order of their
        promotion, with the job that made them, its accepted share and the length of its answers; `frozen`: by test set
        the versions that were champions and their scores, oldest first; `budgets`: by test set the rest of its error
        budget; `idle`: number of jobs since the newest champion that were refused or gained nothing.
    """
    events, versions = registry.history(name), {version.number: version for version in registry.versions(name)}
    return {
        "name": name,
        "events": [event_json(event) | _measured(event) for event in events],
        "champions": [_champion(event, versions) for event in events if _changes_champion(event)],
        "frozen": _frozen(events),
        "budgets": [budget.json() for budget in budgets(events)],
        "idle": _idle(events),
    }


def _changes_champion(event: Event) -> bool:
    return event.what not in ("refused", NOTHING_GAINED)


def _measured(event: Event) -> dict[str, Any]:
    return {"test": event.test, "score": event.score, "over_score": event.over_score, "level": event.level}


def _champion(event: Event, versions: Mapping[int, RegisteredVersion]) -> dict[str, Any]:
    """Return a champion with figures of its job; they are null for a version that was deleted."""
    tags = versions[event.version].tags if event.version in versions else {}
    figures = {name: tagged_value(tags[tag]) if tag in tags else None for name, tag in _DRIFTING.items()}
    return {"version": event.version, "since": event.at, "what": event.what, "job": tags.get("svd_loop.job"), **figures}


def _frozen(events: Sequence[Event]) -> dict[str, list[dict[str, Any]]]:
    """Return scores by test set of all versions that were champion at some time, in the order they became it."""
    order = list(dict.fromkeys(event.version for event in events if _changes_champion(event)))
    found: dict[str, dict[int, float]] = {}
    for event in events:
        for version, score in ((event.version, event.score), (event.over, event.over_score)):
            if event.test and score is not None and version in order:
                found.setdefault(event.test, {})[version] = score
    return {
        test: [{"version": version, "score": scores[version]} for version in order if version in scores]
        for test, scores in found.items()
    }


def _idle(events: Sequence[Event]) -> int:
    """Count refused versions (once each) and jobs without gain since the champion last changed."""
    newest = max((place for place, event in enumerate(events) if _changes_champion(event)), default=-1)
    since = events[newest + 1 :]
    return len({(event.version, event.what) if event.what == "refused" else event.number for event in since})
