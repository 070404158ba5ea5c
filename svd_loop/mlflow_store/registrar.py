"""Register versions of an ended job in MLflow's registry, whichever trackers the job has."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from svd_loop.contracts import JobResult, RoundRecord
from svd_loop.loop.health_rule import alarms_of
from svd_loop.mlflow_store.connection import open_store, warn_on_failure
from svd_loop.mlflow_store.logged_versions import LoggedVersions
from svd_loop.mlflow_store.model_card import as_description, model_card
from svd_loop.mlflow_store.records import RegisteredVersion
from svd_loop.mlflow_store.registry import ALARMS_TAG, Registry
from svd_loop.mlflow_store.runs import JobRuns, find_run
from svd_loop.mlflow_store.tags import manifest_tags, score_tags
from svd_loop.mlflow_store.trackers import TrackedJob

_SNIPPET = """import mlflow

model = mlflow.pyfunc.load_model("{version}")
model.predict({{"question": "What is 17 + 25?"}})

pipeline = mlflow.transformers.load_model("{version}")"""

logger = logging.getLogger(__name__)


class Registrar:
    """Registers versions by reference, each once.

    A version belongs to the job's run. If no MLflow tracker has made that run, the registrar makes it: MLflow uploads a
    version's files to a run, and the run stores the configuration the version came from.

    Args:
        job: the job, and the store in which its versions are registered.
        prepare: called with the folder of a version before it is registered.
    """

    def __init__(self, job: TrackedJob, prepare: Callable[[Path], None] = lambda folder: None) -> None:
        self._job = job
        self._prepare = prepare

    def register_best(self, result: JobResult) -> None:
        """Register the best version as challenger; may be called again. A store that fails is a logged warning.

        Does nothing if tracking is switched off, or if no round was better than the start.
        """
        if not self._job.tracking.enabled:
            return
        if result.best.version.round == 0:
            logger.info("no round was better than the start: nothing is registered")
            return
        with warn_on_failure("the best version is not registered yet"):
            registry, version = self._add(result.best, result)
            registry.nominate(version)

    def register(self, record: RoundRecord, result: JobResult) -> RegisteredVersion:
        """Register the version of one round of an ended job; no alias is moved.

        Raises:
            MlflowException: the store failed.
            WeightsError: the version is no longer stored.
        """
        return self._add(record, result)[1]

    def _add(self, record: RoundRecord, result: JobResult) -> tuple[Registry, RegisteredVersion]:
        job = self._job
        store = open_store(job.tracking.uri, job.root, job.tracking.experiment)
        registry = Registry(store.client)
        source = job.paths.version(record.version.round)
        tags = {
            "svd_loop.job": job.name,
            "svd_loop.round": str(record.version.round),
            "svd_loop.stop_reason": result.stop.value,
            "svd_loop.problems": str(len(record.scores.problem_ids)),
            "svd_loop.accepted_fraction": f"{_accepted_fraction(result):.4f}",
            ALARMS_TAG: str(len(alarms_of(record))),
            **manifest_tags(source),
            **score_tags(record.scores, "svd_loop."),
        }
        self._prepare(source)
        run_id = find_run(store, job.identity())
        if run_id is None:
            runs = JobRuns(store, job.name, job.identity(), job.config, job.data)
            runs.end(result.stop)
            run_id = runs.run_id
        name, fingerprint = job.tracking.register_as or job.name, record.version.fingerprint
        version = registry.register(name, source, fingerprint=fingerprint, run_id=run_id, tags=tags)
        snippet = _SNIPPET.format(version=f"models:/{name}/{version.number}")
        card = as_description(model_card(job.name, record, result.history, job.config, snippet, test=result.test))
        registry.describe(version, card)
        logged = LoggedVersions(store.client, store.experiment_id, job.name, job.identity(), job.config)
        model_id = logged.of(record, run_id)
        logged.registered(model_id, version, card)
        logged.link(model_id, source)
        return registry, version


def _accepted_fraction(result: JobResult) -> float:
    """Return accepted prompts divided by prompts played, over all rounds of a job."""
    accepted = sum(record.accepted_prompts for record in result.history)
    return accepted / max(1, sum(record.prompts for record in result.history))
