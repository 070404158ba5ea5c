"""The tracker a job talks to: strict at the start, forgiving afterwards."""

from __future__ import annotations

import functools
import logging
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from svd_loop.config.sections import TrackingSection
from svd_loop.contracts import JobResult, RootPaths, RoundRecord
from svd_loop.errors import ConfigError, SvdError
from svd_loop.mlflow_store.connection import Store, open_store
from svd_loop.mlflow_store.datasets import DataSummary
from svd_loop.mlflow_store.records import RegisteredVersion
from svd_loop.mlflow_store.registry import ALARMS_METRIC, ALARMS_TAG, Registry, manifest_tags, score_tags
from svd_loop.mlflow_store.runs import JobRuns

logger = logging.getLogger(__name__)


class MlflowTracker:
    """Logs a job to MLflow and registers its best version, unless that is the one it started from.

    A store that cannot be used when a job starts is a `ConfigError`: who asks for tracking wants it. From then on, also
    when the job is run again, a store that fails is a logged warning; whatever it missed is logged at the next `sync`
    or `finish`, or when the job is run again, since rounds are looked up in the store and never remembered here.

    Args:
        settings: The configuration's `tracking` section.
        root: `job.root`: the default store, artifacts and the job's folder lie below it.
        job: Job name.
        config: The resolved configuration as plain data.
        data: Summaries of the job's splits.
        prepare: Called with the folder of a version before it is registered.
    """

    def __init__(
        self,
        settings: TrackingSection,
        root: Path,
        job: str,
        config: Mapping[str, Any],
        *,
        data: Sequence[DataSummary] = (),
        prepare: Callable[[Path], None] = lambda folder: None,
    ) -> None:
        self._settings = settings
        self._root = root
        self._job = job
        self._config = config
        self._data = tuple(data)
        self._paths = RootPaths(root).job(job)
        self._prepare = prepare

    def start(self) -> None:
        """Open the job's run, or the one an earlier process left.

        Raises:
            ConfigError: The store cannot be reached or used, and this job was never tracked before.
        """
        from mlflow.exceptions import MlflowException

        if self._paths.tracking_id.exists():
            with self._forgiving("nothing is tracked for now"):
                _ = self._runs
            return
        try:
            _ = self._runs
        except (MlflowException, OSError) as error:
            self._paths.tracking_id.unlink(missing_ok=True)  # not tracked yet, so the next start is strict too
            raise ConfigError(
                f"tracking.uri: the MLflow store {self._store.uri} cannot be written to: {error}\n"
                "Correct tracking.uri, or set tracking.enabled: false"
            ) from None

    def sync(self, history: Sequence[RoundRecord]) -> None:
        """Log the rounds of `history` that the store does not have yet."""
        with self._forgiving("the newest rounds are not tracked yet"):
            self._runs.log_rounds(history)

    def finish(self, result: JobResult) -> None:
        """Log the end and register the best version; may be repeated."""
        with self._forgiving("the job's end is not tracked yet"):
            self._runs.log_rounds(result.history)
            self._runs.log_result(result)
            self._runs.end(result.stop)
        with self._forgiving("the best version is not registered yet"):
            self._register(result)

    def pause(self) -> None:
        """Mark the run as killed, for a job that was interrupted and will go on later."""
        with self._forgiving("the interruption is not tracked"):
            self._runs.end(None)

    @functools.cached_property
    def _store(self) -> Store:
        return open_store(self._settings.uri, self._root, self._settings.experiment)

    @functools.cached_property
    def _runs(self) -> JobRuns:
        return JobRuns(self._store, self._job, self._identity(), self._config, self._data)

    def _identity(self) -> str:
        """The job's own id, kept in its folder, so that a new job under an old name is not taken for the old one."""
        path = self._paths.tracking_id
        self._paths.folder.mkdir(parents=True, exist_ok=True)
        known = path.read_text(encoding="utf-8").strip() if path.exists() else ""
        if not known:
            known = uuid.uuid4().hex
            temporary = path.with_name(f".{path.name}.tmp")
            temporary.write_text(known, encoding="utf-8")
            temporary.replace(path)
        return known

    def register(self, record: RoundRecord, result: JobResult) -> RegisteredVersion:
        """Register the version of one round of an ended job, for whatever use; no alias moves.

        Raises:
            MlflowException: the store failed.
            WeightsError: the version is not stored any more.
        """
        try:
            return self._add(Registry(self._store.client), record, result)
        finally:
            self._runs.end(result.stop)

    def _register(self, result: JobResult) -> None:
        if result.best.version.round == 0:
            logger.info("no round was better than the start: nothing is registered")
            return
        registry = Registry(self._store.client)
        registry.nominate(self._add(registry, result.best, result))

    def _add(self, registry: Registry, record: RoundRecord, result: JobResult) -> RegisteredVersion:
        source = self._paths.version(record.version.round)
        tags = {
            "svd_loop.job": self._job,
            "svd_loop.round": str(record.version.round),
            "svd_loop.stop_reason": result.stop.value,
            "svd_loop.problems": str(len(record.scores.problem_ids)),
            "svd_loop.accepted_fraction": f"{_accepted_fraction(result):.4f}",
            ALARMS_TAG: f"{record.metrics.get(ALARMS_METRIC, 0.0):g}",
            **manifest_tags(source),
            **score_tags(record.scores, "svd_loop."),
        }
        self._prepare(source)
        return registry.register(
            self._settings.register_as or self._job,
            source,
            fingerprint=record.version.fingerprint,
            run_id=self._runs.run_id,
            tags=tags,
        )

    @contextmanager
    def _forgiving(self, consequence: str) -> Iterator[None]:
        from mlflow.exceptions import MlflowException

        try:
            yield
        except (MlflowException, SvdError, OSError) as error:
            reason = str(error).partition("\n")[0]
            logger.warning("MLflow failed (%s): %s; running the job again catches up", reason, consequence)


def _accepted_fraction(result: JobResult) -> float:
    """Accepted prompts over prompts played, of all rounds of a job."""
    accepted = sum(record.accepted_prompts for record in result.history)
    return accepted / max(1, sum(record.prompts for record in result.history))
