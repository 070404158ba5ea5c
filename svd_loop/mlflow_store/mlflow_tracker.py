"""Log a job's rounds as MLflow runs: a failure at the first start is an error, a later one a warning."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from svd_loop.config.tracking import MlflowTrackerSection
from svd_loop.contracts import JobResult, RoundRecord
from svd_loop.errors import ConfigError
from svd_loop.ledger import LedgerReader
from svd_loop.ledger.sample import SampledCandidate, sampled_candidates
from svd_loop.mlflow_store.connection import Store, open_store, warn_on_failure
from svd_loop.mlflow_store.runs import JobRuns
from svd_loop.mlflow_store.trackers import TrackedJob


class MlflowTracker:
    """Logs a job to MLflow.

    A store that cannot be used when a job starts is a `ConfigError`, because the user requested tracking. Later, also
    when the job is run again, a store that fails is a logged warning. Rounds that are missing then are logged at the
    next `sync` or `finish`, or when the job is run again: which rounds are logged is always read from the store.

    Args:
        job: the job, and the store it is tracked in.
        traces: candidates of each round to log as traces.
    """

    def __init__(self, job: TrackedJob, traces: int = 0) -> None:
        self._job = job
        self._traces = traces

    def start(self) -> None:
        """Open the job's run: a new one, or the one of an earlier process.

        Raises:
            ConfigError: the store cannot be reached or used, and this job was never tracked before.
        """
        from mlflow.exceptions import MlflowException

        if self._job.paths.tracking_id.exists():
            with warn_on_failure("nothing is tracked for now"):
                _ = self._runs
            return
        try:
            _ = self._runs
        except (MlflowException, OSError) as error:
            self._job.paths.tracking_id.unlink(
                missing_ok=True
            )  # not tracked yet: a failure of the next start is an error too
            raise ConfigError(
                f"tracking.uri: the MLflow store {self._store.uri} cannot be written to: {error}\n"
                "Correct tracking.uri, or set tracking.enabled: false"
            ) from None

    def sync(self, history: Sequence[RoundRecord]) -> None:
        """Log the rounds of `history` that are not in the store yet."""
        with warn_on_failure("the newest rounds are not tracked yet"):
            self._runs.log_rounds(history)

    def finish(self, result: JobResult) -> None:
        """Log the end of the job; may be called again."""
        with warn_on_failure("the job's end is not tracked yet"):
            self._runs.log_rounds(result.history)
            self._runs.log_result(result)
            self._runs.end(result.stop)

    def pause(self) -> None:
        """Mark the run as killed, for a job that was interrupted and will continue later."""
        with warn_on_failure("the interruption is not tracked"):
            self._runs.end(None)

    @functools.cached_property
    def _store(self) -> Store:
        tracking = self._job.tracking
        return open_store(tracking.uri, self._job.root, tracking.experiment)

    @functools.cached_property
    def _runs(self) -> JobRuns:
        job = self._job
        return JobRuns(self._store, job.name, job.identity(), job.config, job.data, self._sampled)

    def _sampled(self, round: int) -> list[SampledCandidate]:
        if not self._traces or not self._job.paths.ledger.exists():
            return []
        with LedgerReader.open_for_reading(self._job.paths.folder) as reader:
            return sampled_candidates(reader, round, self._traces)


def make_tracker(settings: MlflowTrackerSection, job: TrackedJob) -> MlflowTracker:
    """Make the tracker of `{type: mlflow}`; it uses the store of the section `tracking`, as the registry does."""
    return MlflowTracker(job, settings.traces)
