"""Health of a schedule over many jobs: jobs in a row without a new champion, and drift of two figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import takewhile
from typing import Any

from svd_loop.schedule.state_db import JobRow


@dataclass(frozen=True, slots=True)
class Drift:
    """A figure of the newest job that has it, and its mean over all earlier jobs; None where there is no value."""

    newest: float | None
    before: float | None

    @classmethod
    def of(cls, values: Sequence[float | None]) -> Drift:
        """Compute the drift from the figure of every job, oldest first."""
        known = [value for value in values if value is not None]
        return cls(known[-1] if known else None, sum(known[:-1]) / len(known[:-1]) if len(known) > 1 else None)


@dataclass(frozen=True, slots=True)
class ScheduleHealth:
    """Health of a schedule.

    Attributes:
        idle_jobs: number of newest jobs in a row without a new champion (refused, nothing gained, or failed).
        limit: number of such jobs that raises the alarm; None means no alarm.
        accepted_fraction: accepted prompts divided by prompts played.
        output_tokens: mean length of answers to the development problems, in tokens.
    """

    idle_jobs: int
    limit: int | None
    accepted_fraction: Drift
    output_tokens: Drift

    @property
    def alarm(self) -> bool:
        """Whether too many jobs in a row brought no new champion."""
        return self.limit is not None and self.idle_jobs >= self.limit

    def as_dict(self) -> dict[str, Any]:
        """Return JSON data."""
        return {**asdict(self), "alarm": self.alarm}

    def __str__(self) -> str:
        """Return one sentence for logs and reports."""
        return f"{self.idle_jobs} jobs in a row brought no new champion (schedule.idle_jobs: {self.limit})"


def schedule_health(jobs: Sequence[JobRow], limit: int | None) -> ScheduleHealth:
    """Compute the health of a schedule.

    Args:
        jobs: all jobs, oldest first; jobs without an outcome are left out.
        limit: `schedule.idle_jobs`.
    """
    over = [job for job in jobs if job.outcome is not None]
    idle = sum(1 for _ in takewhile(lambda job: job.outcome != "promoted", reversed(over)))
    return ScheduleHealth(
        idle, limit, Drift.of([job.accepted_fraction for job in over]), Drift.of([job.output_tokens for job in over])
    )
