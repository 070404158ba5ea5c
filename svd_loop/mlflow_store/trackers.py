"""Run all trackers of a job, and the data they get."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from svd_loop.config.tracking import TRACKERS, TrackingSection
from svd_loop.contracts import JobPaths, JobResult, RootPaths, RoundRecord, Tracker
from svd_loop.mlflow_store.datasets import DataSummary

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class TrackedJob:
    """A job as trackers and the registrar get it.

    Attributes:
        tracking: the configuration's `tracking` section.
        root: `job.root`; the default store, its artifacts and the job's folder are below it.
        name: the job's name.
        config: the resolved configuration as plain data.
        data: summaries of the job's splits.
    """

    tracking: TrackingSection
    root: Path
    name: str
    config: Mapping[str, Any]
    data: tuple[DataSummary, ...] = ()

    @property
    def paths(self) -> JobPaths:
        """The job's files and folders."""
        return RootPaths(self.root).job(self.name)

    def identity(self) -> str:
        """Return the job's own id, stored in its folder; so a new job with an old name is not taken for the old job."""
        path = self.paths.tracking_id
        path.parent.mkdir(parents=True, exist_ok=True)
        known = path.read_text(encoding="utf-8").strip() if path.exists() else ""
        if not known:
            known = uuid.uuid4().hex
            temporary = path.with_name(f".{path.name}.tmp")
            temporary.write_text(known, encoding="utf-8")
            temporary.replace(path)
        return known


class Trackers:
    """Calls several trackers in order; is itself a `svd_loop.contracts.Tracker`.

    Any tracker may refuse to start. Later a failure of one is a logged warning and affects neither the others nor the
    job.

    Args:
        trackers: trackers with their names for warnings; may be empty.
    """

    def __init__(self, trackers: Sequence[tuple[str, Tracker]]) -> None:
        self._trackers = tuple(trackers)

    def start(self) -> None:
        """Start all trackers; raises `ConfigError` if one cannot work."""
        for _, tracker in self._trackers:
            tracker.start()

    def sync(self, history: Sequence[RoundRecord]) -> None:
        """Log the rounds that are not logged yet."""
        for name, tracker in self._trackers:
            with _guarded(name):
                tracker.sync(history)

    def finish(self, result: JobResult) -> None:
        """Log the end of the job."""
        for name, tracker in self._trackers:
            with _guarded(name):
                tracker.finish(result)

    def pause(self) -> None:
        """Mark the job as interrupted."""
        for name, tracker in self._trackers:
            with _guarded(name):
                tracker.pause()


def make_trackers(job: TrackedJob) -> Trackers:
    """Make the trackers of `tracking.trackers`; none if `tracking.enabled` is false.

    Raises:
        ConfigError: a plug-in is broken.
    """
    sections = job.tracking.trackers if job.tracking.enabled else ()
    return Trackers([(section.type, TRACKERS.builder(section.type)(section, job)) for section in sections])


@contextmanager
def _guarded(name: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # a plug-in may raise any class, and none may stop a job
        logger.warning("tracker %s failed: %r; running the job again catches up", name, error)
