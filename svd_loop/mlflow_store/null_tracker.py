"""Tracking switched off."""

from __future__ import annotations

from collections.abc import Sequence

from svd_loop.contracts import JobResult, RoundRecord


class NullTracker:
    """Tracks nothing (`tracking.enabled: false`)."""

    def start(self) -> None:
        """Do nothing."""

    def sync(self, history: Sequence[RoundRecord]) -> None:
        """Do nothing."""

    def finish(self, result: JobResult) -> None:
        """Do nothing."""

    def pause(self) -> None:
        """Do nothing."""
