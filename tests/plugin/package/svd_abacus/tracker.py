"""The tracker `lines`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from svd_abacus.rows import LinesSection
from svd_loop.contracts import JobResult, RoundRecord
from svd_loop.mlflow_store.trackers import TrackedJob


@dataclass(frozen=True)
class Lines:
    """Writes the whole story after every round."""

    job: str
    path: Path

    def start(self) -> None:
        """The file is written by `sync`."""

    def sync(self, history: Sequence[RoundRecord]) -> None:
        """A line for each round."""
        lines = [f"{self.job} {one.round} {one.scores.pass_at_1.value:.2f} {one.accepted_prompts}" for one in history]
        self.path.write_text("\n".join(lines) + "\n")

    def finish(self, result: JobResult) -> None:
        """One more line."""
        with self.path.open("a") as file:
            file.write(f"{self.job} stopped: {result.stop}\n")

    def pause(self) -> None:
        """Nothing is open."""


def make_tracker(settings: LinesSection, job: TrackedJob) -> Lines:
    """The tracker for a job."""
    return Lines(job.name, settings.path)
