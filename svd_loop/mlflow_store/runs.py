"""Runs of a job in an open store: one parent run and one nested run per round; everything is logged once.

A nested run is finished only after everything of its round is logged, and everything is looked up before it is logged.
So a crash at any point leaves the nested run in state RUNNING, and the next call completes it.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from svd_loop.contracts import JobResult, PolicyVersion, RoundRecord, StopReason
from svd_loop.errors import SvdError, first_line
from svd_loop.ledger.sample import SampledCandidate
from svd_loop.loop.health_rule import explain, outcome
from svd_loop.mlflow_store.connection import Store
from svd_loop.mlflow_store.datasets import DataSummary, dataset_input
from svd_loop.mlflow_store.logged_versions import IDENTITY_TAG, NOTE_TAG, LoggedVersions
from svd_loop.mlflow_store.metrics import (
    SCORES,
    flat_params,
    round_metrics,
    score_metrics,
    story_metrics,
    story_of_test,
    without_bounds,
)
from svd_loop.mlflow_store.traces import TracedRound, log_traces
from svd_loop.report import figures
from svd_loop.report.as_json import round_json
from svd_loop.report.page import page_html
from svd_loop.report.summary import STOPPED, gain_sentence

if TYPE_CHECKING:
    from mlflow.entities import Run

ROUND_TAG = "svd_loop.round"
_PARENT_TAG = "mlflow.parentRunId"
_PARAM_LIMIT = 6000

logger = logging.getLogger(__name__)


def find_run(store: Store, identity: str) -> str | None:
    """Return the id of a job's run; None if it has none."""
    found = store.client.search_runs([store.experiment_id], f"tags.`{IDENTITY_TAG}` = '{identity}'", max_results=1)
    return str(found[0].info.run_id) if found else None


class JobRuns:
    """The runs of one job: its own with the figures that tell how it went, and one for each round with everything.

    Methods may be called again, and raise `MlflowException` or `OSError` if the store fails.

    Args:
        store: the open store.
        job: job name, shown as the parent's name.
        identity: id of the job, by which its run is found again.
        config: the resolved configuration.
        data: summaries of the job's data.
        sampled: returns the candidates of a round that are logged as traces.
    """

    def __init__(
        self,
        store: Store,
        job: str,
        identity: str,
        config: Mapping[str, Any],
        data: Sequence[DataSummary],
        sampled: Callable[[int], Sequence[SampledCandidate]] = lambda round: (),
    ) -> None:
        self._client = store.client
        self._uri = store.uri
        self._experiment = store.experiment_id
        self._job = job
        self._identity = identity
        self._config = config
        self._development = next((one for one in data if one.context == "development"), None)
        self._sampled = sampled
        self.versions = LoggedVersions(store.client, store.experiment_id, job, identity, config)
        self.run_id = self._open_parent(find_run(store, identity), identity)
        self._describe(data)

    def log_rounds(self, history: Sequence[RoundRecord]) -> None:
        """Log the rounds that are not logged yet, then update the job's figures."""
        runs = self._round_runs()
        missing = [r for r in history if r.round not in runs or runs[r.round].info.status != "FINISHED"]
        versions = {record.version.round: record.version for record in history}
        logged = [self._log_round(record, runs.get(record.round), versions) for record in missing]
        if missing:
            self._log_figures(history)
        for run_id, now in logged:  # last: a kill before it repeats these rounds, and with them the job's figures
            self._client.set_terminated(run_id, "FINISHED", end_time=now)

    def log_result(self, result: JobResult) -> None:
        """Log how the job ended; the run stays open until `end`."""
        rounds, runs = {record.version.name: record.version.round for record in result.history}, self._round_runs()
        for version, scores in result.test.items():
            round = rounds[version]
            self._log_once(self.run_id, story_of_test(scores), round)
            self._log_once(runs[round].info.run_id, without_bounds(score_metrics(scores, "test/")), round)
        tags = {
            "svd_loop.stop_reason": result.stop.value,
            "svd_loop.best_round": str(result.best.round),
            "svd_loop.best_version": f"{result.best.version.name} {result.best.version.fingerprint}",
            NOTE_TAG: "\n\n".join([f"Stopped because {STOPPED[result.stop]}.", gain_sentence(result), *result.notes]),
        }
        for key, value in tags.items():
            self._client.set_tag(self.run_id, key, value)
        self._client.log_text(self.run_id, page_html(result, self._config), "report.html")

    def end(self, stop: StopReason | None) -> None:
        """Close the parent run: KILLED if the job was interrupted (or `stop` is None), FINISHED otherwise."""
        interrupted = stop in (None, StopReason.INTERRUPTED)
        self._client.set_terminated(self.run_id, "KILLED" if interrupted else "FINISHED")

    def _open_parent(self, found: str | None, identity: str) -> str:
        if found is not None:
            self._client.update_run(found, status="RUNNING")
            return found
        run = self._client.create_run(self._experiment, tags={IDENTITY_TAG: identity}, run_name=self._job)
        return str(run.info.run_id)

    def _describe(self, data: Sequence[DataSummary]) -> None:
        """Log parameters, the resolved configuration and the data; parameters of a resumed job keep their value."""
        from mlflow.entities import Param

        known = self._client.get_run(self.run_id).data.params
        params = {key: value for key, value in flat_params(self._config).items() if key not in known}
        self._client.log_batch(self.run_id, params=[Param(key, value[:_PARAM_LIMIT]) for key, value in params.items()])
        self._client.log_text(self.run_id, json.dumps(self._config, indent=2, sort_keys=True), "config.json")
        self._client.log_inputs(self.run_id, datasets=[dataset_input(summary) for summary in data])

    def _log_round(
        self, record: RoundRecord, run: Run | None, versions: Mapping[int, PolicyVersion]
    ) -> tuple[str, int]:
        """Log all of a round but that it is finished; returns its run, and the time in milliseconds."""
        now = int(time.time() * 1000)
        run = run or self._create_round(record, now)
        run_id = str(run.info.run_id)
        self._log_once(run_id, without_bounds(round_metrics(record)), record.round)
        self._client.log_dict(run_id, round_json(record), "round.json")
        if record.funnel:
            self._client.log_figure(run_id, figures.funnel_figure(record, self._job), "figures/funnel.png")
        self._log_story(record, run)
        self._trace(record, run, versions)
        return run_id, now

    def _log_story(self, record: RoundRecord, run: Run) -> None:
        """Log the charts of the job's run; the scores belong to the version, which is a logged model."""
        model_id = self.versions.of(record, str(run.info.run_id))
        if record.version.round == record.round:
            for owner in (run, self._client.get_run(self.run_id)):
                self._put_out(owner, model_id, record.round)
        self._log_once(self.run_id, story_metrics(record), record.round, model_id)

    def _put_out(self, run: Run, model_id: str, round: int) -> None:
        from mlflow.entities import LoggedModelOutput

        if all(known.model_id != model_id for known in (run.outputs.model_outputs if run.outputs else ())):
            self._client.log_outputs(run.info.run_id, [LoggedModelOutput(model_id, round)])

    def _trace(self, record: RoundRecord, run: Run, versions: Mapping[int, PolicyVersion]) -> None:
        """Log a sample of the round's conversations. A failure is a warning: the ledger has them all."""
        from mlflow.exceptions import MlflowException

        samples = self._sampled(record.round) if record.funnel else ()
        if not samples:
            return
        writer = versions.get(samples[0].candidate.policy_round or 0)
        place = TracedRound(
            experiment=self._experiment,
            identity=self._identity,
            job=self._job,
            round=record.round,
            run_id=str(run.info.run_id),
            model_id=None if writer is None else self.versions.known(writer),
            began=run.info.start_time,
        )
        try:
            traced = log_traces(self._uri, place, samples)
            self._client.link_traces_to_run(traced, self.run_id)
        except (MlflowException, SvdError, OSError) as error:
            logger.warning("MLflow: round %d has not all of its traces: %s", record.round, first_line(error))

    def _create_round(self, record: RoundRecord, now: int) -> Run:
        tags = {
            _PARENT_TAG: self.run_id,
            ROUND_TAG: str(record.round),
            "svd_loop.version": f"{record.version.name} {record.version.fingerprint}",
        }
        if alarm := explain(record):
            tags |= {"svd_loop.alarm": outcome(record), NOTE_TAG: alarm}
        began = now - int(1000 * sum(record.seconds.values()))
        name = f"{self._job} round {record.round}"
        return self._client.create_run(self._experiment, start_time=began, tags=tags, run_name=name)

    def _log_figures(self, history: Sequence[RoundRecord]) -> None:
        played = [record for record in history if record.funnel]
        drawn = {"pass_at_1": figures.pass_at_1_figure(history, self._job)}
        if played:
            drawn["stages"] = figures.stages_figure(played, self._job)
            drawn["funnel"] = figures.funnel_figure(played[-1], self._job)
        for name, figure in drawn.items():
            self._client.log_figure(self.run_id, figure, f"figures/{name}.png")

    def _log_once(self, run_id: str, metrics: Mapping[str, float], step: int, model_id: str | None = None) -> None:
        """Log a batch unless its first metric has a value at this step; a run's metrics are written all or none.

        With `model_id` held-out scores are logged as those of a logged model on the development problems.
        """
        from mlflow.entities import Metric

        if not metrics:
            return
        history = self._client.get_metric_history(run_id, next(iter(metrics)))
        known = next((metric for metric in history if metric.step == step), None)
        if known is not None and model_id is None:
            return
        # MLflow writes a model's metrics after the run's, and a kill may fall in between. With the time of the first
        # try the second one adds what is missing, and nothing twice.
        now, data = int(time.time() * 1000) if known is None else known.timestamp, self._development
        on = {} if data is None else {"dataset_name": data.name, "dataset_digest": data.digest}
        of = {"model_id": model_id, "run_id": run_id, **on}
        logged = [
            Metric(key, value, now, step, **(of if model_id and key.startswith(SCORES) else {}))
            for key, value in metrics.items()
        ]
        self._client.log_batch(run_id, metrics=logged)

    def _round_runs(self) -> dict[int, Run]:
        found = self._search(f"tags.`{_PARENT_TAG}` = '{self.run_id}'")
        return {int(run.data.tags[ROUND_TAG]): run for run in found if ROUND_TAG in run.data.tags}

    def _search(self, condition: str) -> list[Run]:
        return list(self._client.search_runs([self._experiment], condition, max_results=1000))
