"""How a schedule is doing over the months: jobs without gain, and the drift of what all jobs are measured by."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import takewhile
from typing import Any

from svd_loop.schedule.state_db import JobRow


@dataclass(frozen=True, slots=True)
class Drift:
    """A figure of the newest job that has it beside the mean of all jobs before; None where there is none."""

    newest: float | None
    before: float | None

    @classmethod
    def of(cls, values: Sequence[float | None]) -> Drift:
        """From the figure of every job, oldest first."""
        known = [value for value in values if value is not None]
        return cls(known[-1] if known else None, sum(known[:-1]) / len(known[:-1]) if len(known) > 1 else None)


@dataclass(frozen=True, slots=True)
class ScheduleHealth:
    """What months of jobs amount to.

    Attributes:
        idle_jobs: how many of the newest jobs in a row made no champion: refused, nothing gained, or failed.
        limit: at how many the alarm is raised; None is never.
        accepted_fraction: accepted prompts over prompts played.
        output_tokens: mean length of answers to the development problems.
    """

    idle_jobs: int
    limit: int | None
    accepted_fraction: Drift
    output_tokens: Drift

    @property
    def alarm(self) -> bool:
        """Whether too many jobs in a row brought nothing."""
        return self.limit is not None and self.idle_jobs >= self.limit

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**asdict(self), "alarm": self.alarm}

    def __str__(self) -> str:
        """One sentence."""
        return f"{self.idle_jobs} jobs in a row brought no new champion (schedule.idle_jobs: {self.limit})"


def schedule_health(jobs: Sequence[JobRow], limit: int | None) -> ScheduleHealth:
    """The health of a schedule.

    Args:
        jobs: all of them, oldest first; those without an outcome are not over and say nothing yet.
        limit: `schedule.idle_jobs`.
    """
    over = [job for job in jobs if job.outcome is not None]
    idle = sum(1 for _ in takewhile(lambda job: job.outcome != "promoted", reversed(over)))
    return ScheduleHealth(
        idle, limit, Drift.of([job.accepted_fraction for job in over]), Drift.of([job.output_tokens for job in over])
    )
