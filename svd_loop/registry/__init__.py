"""From a round to production: versions and aliases in MLflow's registry, the gate between them, and lineage.

- `records`: what is told of versions and events;
- `store`: registered versions, the aliases champion, challenger and previous, and what happened to them;
- `turns`: one process at a time moves an alias;
- `gate`: pure rules that compare a challenger with the champion;
- `examination`: measures versions for the gate, paying for nothing twice;
- `promotion`: measure, decide, move the aliases, write down why; and the way back;
- `models`: versions as local folders, for serving and export;
- `history`: champions and their scores over the months;
- `lineage`: why was it trained on this?

The lower modules know nothing of the upper ones (`tests/test_layers.py`); `tracking` uses `store` alone.
"""

from svd_loop.registry.records import NOTHING_GAINED, Event, Measured, RegisteredVersion
from svd_loop.registry.store import (
    ALARMS_METRIC,
    ALARMS_TAG,
    CHALLENGER,
    CHAMPION,
    FINGERPRINT_TAG,
    GATE_TAG,
    OVER_TAG,
    PREVIOUS,
    ROLLED_BACK_TAG,
    Registry,
    manifest_tags,
    score_tags,
)

__all__ = [
    "ALARMS_METRIC",
    "ALARMS_TAG",
    "CHALLENGER",
    "CHAMPION",
    "FINGERPRINT_TAG",
    "GATE_TAG",
    "NOTHING_GAINED",
    "OVER_TAG",
    "PREVIOUS",
    "ROLLED_BACK_TAG",
    "Event",
    "Measured",
    "RegisteredVersion",
    "Registry",
    "manifest_tags",
    "score_tags",
]
