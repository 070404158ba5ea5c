"""A version's manifest and scores as tags of a registered version."""

from __future__ import annotations

import json
from pathlib import Path

from policies.versions.stored import read_manifest
from svd_loop.contracts import Scores

_DIGITS = {"output_tokens": 1}
"""Decimals of figures that are not shares."""


def manifest_tags(folder: Path) -> dict[str, str]:
    """Return the contents of a version's manifest as tags: kind, parent, digests of files, data and configuration.

    Raises:
        WeightsError: the folder contains no version.
    """
    manifest = read_manifest(folder)
    return {
        "svd_loop.kind": manifest.kind,
        "svd_loop.parent": "" if manifest.parent is None else str(manifest.parent),
        "svd_loop.data_digest": manifest.data_digest,
        "svd_loop.config_digest": manifest.config_digest,
        "svd_loop.files": json.dumps(dict(manifest.files), sort_keys=True),
        "svd_loop.base_files": json.dumps(dict(manifest.base_files), sort_keys=True),
    }


def score_tags(scores: Scores, prefix: str) -> dict[str, str]:
    """Return held-out figures with their intervals as tags.

    Overall pass@1 is three tags, for comparisons by other programs: `<prefix>pass_at_1`, `.low` and `.high`. Every
    other figure is one tag, `value (low to high)`, since each tag is a request to the store; domains are `/math`.
    """
    tags: dict[str, str] = {}
    for group, metrics in scores.estimates.items():
        where = "" if group == "overall" else f"/{group}"
        for metric, found in metrics.items():
            name, digits = f"{prefix}{metric.replace('@', '_at_')}{where}", _DIGITS.get(metric, 4)
            value, low, high = (f"{number:.{digits}f}" for number in (found.value, found.low, found.high))
            if name == f"{prefix}pass_at_1":
                tags |= {name: value, f"{name}.low": low, f"{name}.high": high}
            else:
                tags[name] = f"{value} ({low} to {high})"
    return tags


def tagged_value(tag: str) -> float:
    """Return the figure in a tag of `score_tags`, without its interval."""
    return float(tag.partition(" ")[0])
