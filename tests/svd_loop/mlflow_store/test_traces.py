"""Traces of a sample of a round's conversations, in a real store."""

from __future__ import annotations

from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Trace
from mlflow.exceptions import MlflowException
from mlflow.tracing.client import TracingClient

from svd_loop.config.tracking import MlflowTrackerSection, TrackingSection
from svd_loop.contracts import JobPaths
from svd_loop.ledger import Ledger, LedgerReader
from svd_loop.mlflow_store import traces
from svd_loop.mlflow_store.mlflow_tracker import make_tracker
from svd_loop.mlflow_store.trackers import TrackedJob
from tests.svd_loop.jobs_support import small
from tests.svd_loop.ledger.judged_rounds import commit_judged
from tests.svd_loop.ledger.samples import commit_rounds, config


@pytest.fixture
def job(root: Path) -> TrackedJob:
    tracked = TrackedJob(TrackingSection(), root, "demo", small(root, "job.name=demo").model_dump(mode="json"))
    with Ledger.open(tracked.paths.folder, config()) as ledger:
        commit_rounds(ledger, 0)
        texts = {"long": "What is 1 + 1? " + "x" * traces._TEXT_LIMIT}
        commit_judged(ledger, 1, {"p": ["yyyy", "yn"], "q": ["n", "-"], "long": ["yyyy"]}, texts=texts)
    return tracked


def sync(job: TrackedJob, **settings: int) -> None:
    tracker = make_tracker(MlflowTrackerSection(**settings), job)
    tracker.start()
    with LedgerReader.open_for_reading(job.paths.folder) as reader:
        tracker.sync(reader.state().history)


def traces_of(job: TrackedJob) -> dict[str, Trace]:
    client = MlflowClient(f"sqlite:///{job.root}/mlflow.db")
    experiment = client.get_experiment_by_name("svd-loop")
    assert experiment is not None
    found = client.search_traces(locations=[experiment.experiment_id])
    return {f"{one.info.tags['svd_loop.prompt']}:{one.info.tags['svd_loop.candidate']}": one for one in found}


def test_a_trace_is_a_sample_with_its_votes(job: TrackedJob) -> None:
    sync(job)
    found = traces_of(job)
    assert sorted(found) == ["long:0", "p:0", "p:1", "q:0"]  # judged ones; one was cut off
    trace = found["p:1"]
    root, solution, *votes = trace.data.spans
    assert (root.parent_id, root.inputs, root.outputs["outcome"]) == (
        None,
        {"prompt": "What is p?"},
        "refused by factuality",
    )
    assert {span.parent_id for span in (solution, *votes)} == {root.span_id}
    assert solution.outputs == "p answer 1"
    assert [span.name for span in votes] == ["factuality vote 0: yes", "factuality vote 1: no, decided"]
    assert votes[1].outputs == {"verdict": "no", "words": "the judge says 1 [[N]]"}
    assert votes[1].get_attribute("mlflow.chat.tokenUsage")["total_tokens"] > 0
    (opinion,) = trace.info.assessments
    assert (opinion.name, opinion.value, opinion.source.source_type) == ("factuality", "no", "LLM_JUDGE")
    assert "1 of 2 votes are yes. the judge says 1" in opinion.rationale
    assert trace.info.tags["mlflow.traceName"] == "refused by factuality"
    assert found["p:0"].info.tags["mlflow.traceName"] == "trained on"
    assert len(found["long:0"].data.spans[0].inputs["prompt"]) < traces._TEXT_LIMIT + 50


def test_a_trace_belongs_to_the_round_the_job_and_the_version_that_wrote_it(job: TrackedJob) -> None:
    sync(job)
    client = MlflowClient(f"sqlite:///{job.root}/mlflow.db")
    experiment = traces_of(job)["p:0"].info.experiment_id
    runs = {run.info.run_name: run.info.run_id for run in client.search_runs([experiment])}
    models = {model.tags["svd_loop.round"]: model.model_id for model in client.search_logged_models([experiment])}
    for name in ("demo", "demo round 1"):
        assert len(client.search_traces(locations=[experiment], run_id=runs[name])) == 4
    assert traces_of(job)["p:0"].info.trace_metadata["mlflow.modelId"] == models["0"]


def test_the_number_is_bounded_and_0_logs_none(job: TrackedJob) -> None:
    sync(job, traces=2)
    assert {one.info.tags["svd_loop.outcome"] for one in traces_of(job).values()} >= {"refused by factuality"}
    assert len(traces_of(job)) == 2
    JobPaths(job.paths.folder).tracking_id.unlink()  # a job of its own for the store
    sync(job, traces=0)
    assert len(traces_of(job)) == 2


def test_a_round_logged_again_has_its_traces_once(job: TrackedJob, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:

        def killed(*arguments: object, **settings: object) -> None:
            raise KeyboardInterrupt

        patch.setattr(MlflowClient, "link_traces_to_run", killed)
        with pytest.raises(KeyboardInterrupt):
            sync(job)
    sync(job)
    assert len(traces_of(job)) == 4
    assert all(
        len(one.info.assessments) == len({a.name for a in one.info.assessments}) for one in traces_of(job).values()
    )


@pytest.mark.parametrize("error", [MlflowException("the server is away"), NotImplementedError("an old server")])
def test_a_failure_is_a_warning_and_the_round_is_logged(
    job: TrackedJob, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, error: Exception
) -> None:
    def fail(*arguments: object, **settings: object) -> None:
        raise error

    monkeypatch.setattr(TracingClient, "log_spans", fail)
    sync(job)
    assert "round 1 has not all of its traces" in caplog.text
    client = MlflowClient(f"sqlite:///{job.root}/mlflow.db")
    experiment = client.get_experiment_by_name("svd-loop")
    assert experiment is not None
    runs = {run.info.run_name: run.info.status for run in client.search_runs([experiment.experiment_id])}
    assert runs["demo round 1"] == "FINISHED"


def test_a_slow_store_gets_no_more_than_its_time(
    job: TrackedJob, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(traces, "SECONDS", -1.0)
    sync(job)
    assert "0 of 4 conversations were traced" in caplog.text
    assert traces_of(job) == {}
