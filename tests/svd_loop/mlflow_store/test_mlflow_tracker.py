from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import mlflow
import pytest
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, Metric, Run
from mlflow.exceptions import MlflowException
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

from policies.scripted import Traits, write_traits
from svd_loop.config.tracking import TrackingSection
from svd_loop.contracts import Domain, JobResult, Problem, RoundRecord, StopReason
from svd_loop.errors import ConfigError
from svd_loop.mlflow_store.datasets import summarise
from svd_loop.mlflow_store.mlflow_tracker import MlflowTracker
from svd_loop.mlflow_store.registrar import Registrar
from svd_loop.mlflow_store.registry import CHALLENGER, CHAMPION, Registry
from svd_loop.mlflow_store.trackers import TrackedJob
from tests.svd_loop.jobs_support import small

CONFIG: dict[str, Any] = small(Path("root"), "job.name=demo", "job.seed=3", "cascade.votes=5").model_dump(mode="json")
PROBLEM = Problem("p", "What is 12 + 30?", Domain.MATH, answer="GOLD42")
DATA = (
    summarise("development", "arithmetic, seed 0", [PROBLEM], generated=True),
    summarise("test", "held/*.jsonl", [PROBLEM]),
)
SECTIONS = ("1_pass_at_1", "2_accepted", "3_judge", "4_training", "5_cost")


def tracked(root: Path, **settings: Any) -> TrackedJob:
    return TrackedJob(TrackingSection(**settings), root, "demo", CONFIG, DATA)


def tracker_for(root: Path, **settings: Any) -> MlflowTracker:
    return MlflowTracker(tracked(root, **settings))


def client_of(root: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{root}/mlflow.db")


def runs_of(root: Path) -> tuple[list[Run], dict[str, Run]]:
    """Parents, and nested runs by name."""
    client = client_of(root)
    experiment = client.get_experiment_by_name("svd-loop")
    found = client.search_runs([experiment.experiment_id]) if experiment else []
    parents = [run for run in found if "mlflow.parentRunId" not in run.data.tags]
    return parents, {run.info.run_name: run for run in found if run not in parents}


def models_of(root: Path) -> dict[str, LoggedModel]:
    """Logged models by name."""
    client = client_of(root)
    experiment = client.get_experiment_by_name("svd-loop")
    assert experiment is not None
    found = client.search_logged_models([experiment.experiment_id])
    return {str(model.name): model for model in sorted(found, key=lambda model: str(model.name))}


def logged(root: Path, run: Run, key: str) -> list[tuple[int, float]]:
    found = client_of(root).get_metric_history(run.info.run_id, key)
    return sorted((metric.step, round(metric.value, 6)) for metric in found)


def artifacts_of(root: Path, run: Run) -> set[str]:
    client = client_of(root)
    top = client.list_artifacts(run.info.run_id)
    return {item.path for item in top if not item.is_dir} | {
        item.path for folder in top if folder.is_dir for item in client.list_artifacts(run.info.run_id, folder.path)
    }


def test_a_job_is_a_parent_run_and_every_round_a_nested_one(root: Path, history: list[RoundRecord]) -> None:
    tracker = tracker_for(root)
    tracker.start()
    for count in range(1, len(history) + 1):
        tracker.sync(history[:count])
    (parent,), nested = runs_of(root)
    assert parent.info.status == "RUNNING"
    assert parent.data.params.items() >= {"job.name": "demo", "job.seed": "3", "cascade.votes": "5"}.items()
    assert sorted(nested) == [f"demo round {round}" for round in range(4)]
    assert {run.info.status for run in nested.values()} == {"FINISHED"}
    assert logged(root, parent, "1_pass_at_1/all_domains") == [(0, 0.40), (1, 0.52), (2, 0.58), (3, 0.57)]
    assert {name.partition("/")[0] for name in parent.data.metrics} < set(SECTIONS)
    assert logged(root, nested["demo round 3"], "pass_at_1/math") == [(3, 0.67)]
    assert logged(root, nested["demo round 2"], "funnel/correctness") == [(2, 300)]
    assert artifacts_of(root, parent) == {
        "config.json",
        "figures/pass_at_1.png",
        "figures/stages.png",
        "figures/funnel.png",
    }
    assert artifacts_of(root, nested["demo round 1"]) == {"round.json", "figures/funnel.png"}


def test_the_data_is_logged_as_datasets_without_gold(root: Path) -> None:
    tracker_for(root).start()
    (parent,), _ = runs_of(root)
    development, test = sorted(parent.inputs.dataset_inputs, key=lambda one: one.dataset.name)
    assert (development.dataset.name, test.dataset.name) == ("development problems", "test problems")
    assert development.dataset.digest == DATA[0].digest
    assert json.loads(development.dataset.profile) == {"num_rows": 1, "num_rows_by_domain": {"math": 1}}
    assert {tag.key: tag.value for tag in development.tags} == {"mlflow.data.context": "development"}
    source = mlflow.data.get_source(development.dataset).to_dict()
    assert source["tags"]["mlflow.source.name"] == "arithmetic, seed 0"
    assert mlflow.data.get_source(test.dataset).to_dict()["uri"] == "held/*.jsonl"
    names = [column["name"] for column in json.loads(test.dataset.schema)["mlflow_colspec"]]
    assert names == ["id", "text", "domain"]
    assert b"GOLD42" not in (root / "mlflow.db").read_bytes()


def test_a_resumed_job_continues_in_the_same_run_and_logs_nothing_twice(root: Path, history: list[RoundRecord]) -> None:
    for count in (2, 2, 4):
        tracker = tracker_for(root)
        tracker.start()
        tracker.start()
        tracker.sync(history[:count])
    (parent,), nested = runs_of(root)
    assert len(nested) == 4
    assert [step for step, _ in logged(root, parent, "2_accepted/rows")] == [1, 2, 3]
    assert [step for step, _ in logged(root, parent, "5_cost/seconds")] == [0, 1, 2, 3]
    assert len(parent.inputs.dataset_inputs) == 2
    assert sorted(model.step for model in parent.outputs.model_outputs) == [0, 1, 2, 3]
    assert len(models_of(root)) == 4


def test_every_version_is_a_logged_model_with_its_scores(root: Path, history: list[RoundRecord]) -> None:
    tracker = tracker_for(root)
    tracker.start()
    tracker.sync(history)
    models, (_, nested) = models_of(root), runs_of(root)
    assert list(models) == [f"demo-round-00{round}" for round in range(4)]
    model = models["demo-round-002"]
    assert (model.status, model.params["rows_trained_on"], model.params["base"]) == ("READY", "180", "scripted")
    assert model.source_run_id == nested["demo round 2"].info.run_id
    (score,) = [metric for metric in model.metrics if metric.key == "1_pass_at_1/all_domains"]
    assert (score.value, score.step) == (pytest.approx(0.58), 2)
    assert (score.dataset_name, score.dataset_digest) == ("development problems", DATA[0].digest)


def test_a_kill_between_the_scores_of_a_run_and_of_its_model_loses_neither(
    root: Path, history: list[RoundRecord], monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(store: object, run_id: str, metrics: Sequence[Metric], **_: object) -> None:
        if any(metric.model_id for metric in metrics):
            raise MlflowException("as if it were killed before the second transaction")

    tracker = tracker_for(root)
    tracker.start()
    with monkeypatch.context() as patch:
        patch.setattr(SqlAlchemyStore, "_log_model_metrics", die)
        tracker.sync(history[:1])
    assert not models_of(root)["demo-round-000"].metrics
    tracker.sync(history[:1])
    (model,) = models_of(root).values()
    scores = [(score.step, round(score.value, 6)) for score in model.metrics if score.key == "1_pass_at_1/all_domains"]
    assert len(scores) == 1 and scores == logged(root, runs_of(root)[0][0], "1_pass_at_1/all_domains")


def test_a_withdrawn_round_adds_no_version(root: Path, history: list[RoundRecord]) -> None:
    tracker = tracker_for(root)
    tracker.start()
    tracker.sync([*history[:2], replace(history[2], version=history[1].version)])
    assert len(models_of(root)) == 2
    assert [step for step, _ in logged(root, runs_of(root)[0][0], "1_pass_at_1/all_domains")] == [0, 1, 2]


def test_a_new_job_under_an_old_name_gets_a_run_of_its_own(root: Path, history: list[RoundRecord]) -> None:
    tracker_for(root).start()
    shutil.rmtree(root / "jobs" / "demo")
    tracker_for(root).sync(history)
    assert len(runs_of(root)[0]) == 2


def test_a_store_that_fails_delays_tracking_and_never_stops_the_job(
    root: Path, history: list[RoundRecord], caplog: pytest.LogCaptureFixture
) -> None:
    tracker = tracker_for(root)
    tracker.start()
    tracker.sync(history[:1])
    (root / "artifacts").rename(root / "away")
    (root / "artifacts").write_text("a file where a folder was: nothing can be written below it")
    tracker.sync(history[:2])
    assert "MLflow failed" in caplog.text
    assert "the newest rounds are not tracked yet" in caplog.text
    assert runs_of(root)[1]["demo round 1"].info.status == "RUNNING"

    (root / "artifacts").unlink()
    (root / "away").rename(root / "artifacts")
    tracker.sync(history)
    (parent,), nested = runs_of(root)
    assert {run.info.status for run in nested.values()} == {"FINISHED"}
    assert [step for step, _ in logged(root, parent, "5_cost/seconds")] == [0, 1, 2, 3]
    assert logged(root, nested["demo round 1"], "round") == [(1, 1.0)]


def test_a_store_that_cannot_be_written_at_the_start_is_a_config_error(root: Path) -> None:
    (root / "artifacts").write_text("a file where a folder belongs")
    with pytest.raises(ConfigError, match=r"tracking\.uri: the MLflow store .* cannot be written to"):
        tracker_for(root).start()


def finish(root: Path, result: JobResult, **settings: Any) -> None:
    weights = root / "jobs" / "demo" / "versions" / result.best.version.name
    write_traits(weights, Traits(), round=result.best.version.round)
    tracker = tracker_for(root, **settings)
    tracker.start()
    tracker.finish(result)
    Registrar(tracked(root, **settings)).register_best(result)


def test_the_end_is_logged_and_the_best_version_registered_by_reference(root: Path, result: JobResult) -> None:
    finish(root, result)
    (parent,), _ = runs_of(root)
    assert parent.info.status == "FINISHED"
    assert parent.data.tags["svd_loop.stop_reason"] == "plateau"
    assert parent.data.tags["svd_loop.best_round"] == "2"
    assert "40.0% -> 58.0% (+18.0 points)" in parent.data.tags["mlflow.note.content"]
    assert logged(root, parent, "1_pass_at_1/test") == [(0, 0.41), (2, 0.55)]
    assert logged(root, runs_of(root)[1]["demo round 2"], "test/pass_at_1/overall") == [(2, 0.55)]
    assert "report.html" in artifacts_of(root, parent)

    champion = Registry(client_of(root)).by_alias("demo", CHAMPION)
    assert champion is not None
    assert Path(champion.source) == root / "jobs" / "demo" / "versions" / "round-002"
    assert set(champion.aliases) == {CHAMPION, CHALLENGER}
    assert champion.tags["svd_loop.pass_at_1.low"] == "0.5300"
    card = client_of(root).get_model_version("demo", "1").description
    assert "| test | overall | 41.0" in card and 'load_model("models:/demo/1")' in card
    assert client_of(root).get_model_version("demo", "1").run_id == parent.info.run_id
    model = models_of(root)["demo-round-002"]
    assert json.loads(model.tags["mlflow.modelVersions"]) == [{"name": "demo", "version": 1}]
    assert model.tags["mlflow.note.content"] == card
    folder = Path(urlsplit(model.artifact_location).path)
    assert folder.resolve() == Path(champion.source)  # a link, and no copy of the weights


def test_finishing_again_changes_nothing(root: Path, result: JobResult) -> None:
    finish(root, result, register_as="model")
    finish(root, result, register_as="model")
    (parent,), _ = runs_of(root)
    assert logged(root, parent, "1_pass_at_1/test") == [(0, 0.41), (2, 0.55)]
    assert [version.number for version in Registry(client_of(root)).versions("model")] == [1]


@pytest.mark.parametrize("stop, status", [(StopReason.INTERRUPTED, "KILLED"), (StopReason.BUDGET, "FINISHED")])
def test_an_interrupted_job_is_not_shown_as_finished(
    root: Path, result: JobResult, stop: StopReason, status: str
) -> None:
    finish(root, JobResult("demo", stop, result.best, result.history))
    assert runs_of(root)[0][0].info.status == status


def test_a_paused_job_is_running_again_when_it_continues(root: Path) -> None:
    tracker = tracker_for(root)
    tracker.start()
    tracker.pause()
    assert runs_of(root)[0][0].info.status == "KILLED"
    tracker_for(root).start()
    assert runs_of(root)[0][0].info.status == "RUNNING"


def test_a_registry_that_fails_leaves_a_finished_run_and_a_warning(
    root: Path, result: JobResult, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*arguments: Any, **settings: Any) -> None:
        raise MlflowException("the registry is away")

    monkeypatch.setattr(MlflowClient, "create_model_version", away)
    finish(root, result, register_as="demo")
    assert runs_of(root)[0][0].info.status == "FINISHED"
    assert "the best version is not registered yet" in caplog.text


def test_a_version_is_registered_in_a_run_also_where_no_tracker_made_one(root: Path, result: JobResult) -> None:
    write_traits(root / "jobs" / "demo" / "versions" / "round-002", Traits(), round=2)
    for _ in range(2):
        Registrar(tracked(root, trackers=[])).register_best(result)
    (parent,), nested = runs_of(root)
    assert (parent.info.status, nested) == ("FINISHED", {})
    assert parent.data.params["cascade.votes"] == "5"
    (version,) = Registry(client_of(root)).versions("demo")
    assert client_of(root).get_model_version("demo", str(version.number)).run_id == parent.info.run_id


def test_nothing_is_registered_where_tracking_is_switched_off(root: Path, result: JobResult) -> None:
    write_traits(root / "jobs" / "demo" / "versions" / "round-002", Traits(), round=2)
    Registrar(tracked(root, enabled=False)).register_best(result)
    assert not Registry(client_of(root)).versions("demo")
    assert runs_of(root) == ([], {})


def test_a_round_with_an_alarm_is_tagged(root: Path, alarmed: list[RoundRecord]) -> None:
    tracker = tracker_for(root)
    tracker.start()
    tracker.sync(alarmed)
    (parent,), nested = runs_of(root)
    tags = nested["demo round 2"].data.tags
    assert tags["svd_loop.alarm"] == "rolled back to round-001"
    assert "limit 0.1" in tags["mlflow.note.content"]
    assert "svd_loop.alarm" not in nested["demo round 1"].data.tags
    assert logged(root, nested["demo round 2"], "health/alarm.false_accept") == [(2, 0.1)]
    assert logged(root, parent, "3_judge/alarms")[-1] == (2, 1)
