"""Limits of a job, and the clock that measures its phases."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from svd_loop.contracts import RoundRecord


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits at which a job ends. None means no limit.

    Attributes:
        rounds: largest number of rounds.
        hours: total time of all processes of the job, in hours.
        tokens: generated tokens, judging and evaluation included.
    """

    rounds: int
    hours: float | None = None
    tokens: int | None = None

    def spent(self, history: Sequence[RoundRecord], hours: float) -> bool:
        """Whether the limit of hours is reached, or that of tokens by the recorded rounds."""
        tokens = sum(record.output_tokens for record in history)
        return (self.hours is not None and hours >= self.hours) or (self.tokens is not None and tokens >= self.tokens)


class Stopwatch:
    """Measures seconds by phase with the monotonic clock, because the wall clock may jump."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Time the body and add it to phase `name`."""
        start = time.monotonic()
        try:
            yield
        finally:
            self._seconds[name] = self._seconds.get(name, 0.0) + time.monotonic() - start

    def take(self) -> dict[str, float]:
        """Seconds by phase since the last call."""
        seconds, self._seconds = self._seconds, {}
        return seconds
