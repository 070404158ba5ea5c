"""Digest of all contents of a ledger, to compare two jobs."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from svd_loop.ledger.reader import LedgerReader
from svd_loop.ledger.views import VIEWS, rows_of

_TIMING = ("second", "runtime")
_LEFT_OUT = {"updates": ("path",), "rounds": ("seconds",)}


def content_digest(reader: LedgerReader) -> str:
    """Return SHA-256 over all rows, in an order that depends on their contents only.

    Left out is what may differ between two runs of the same job: times and speeds (metrics whose name contains second
    or runtime), prompt tokens that engines did not have to read, the order and batches in which answers were written,
    their compression, the path of the weights, and the configuration (which has a digest of its own).
    """
    digest = hashlib.sha256()
    for view in VIEWS:
        for number, row in enumerate(rows_of(reader, view, ordered=True)):
            if not number:  # a table without rows adds nothing, nor does one that an older program did not have
                digest.update(f"\n# {view.name}\n".encode())
            kept = {name: value for name, value in row.items() if name not in _LEFT_OUT.get(view.name, ())}
            if kept.get("figures"):
                kept["figures"] = _without_cached(kept["figures"])
            if "metrics" in kept:
                kept["metrics"] = _without_timing(json.loads(kept["metrics"]))
            digest.update(json.dumps(kept, sort_keys=True).encode() + b"\n")
    return digest.hexdigest()


def _without_timing(metrics: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in metrics.items() if not any(word in name for word in _TIMING)}


def _without_cached(text: str) -> str:
    figures = json.loads(text)
    for roles in figures["usage"].values():
        for counts in roles.values():
            counts.pop("cached_tokens", None)
    return json.dumps(figures)
