"""A schedule, and a version loaded by MLflow, on a real `mlflow server` with SQLite and artifacts of its own."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import mlflow
import pytest

from svd_loop.config import Config
from svd_loop.mlflow_store.connection import open_store
from svd_loop.mlflow_store.registry import CHALLENGER, CHAMPION, PREVIOUS, Registry
from svd_loop.promotion.history import model_history
from svd_loop.promotion.lookup import registry_of
from svd_loop.promotion.promotion import consider
from svd_loop.schedule import RegisteredModels, Schedule, TickReport
from tests.svd_loop.drawing import no_figures
from tests.svd_loop.promotion.weighty_versions import nano_config, register, store_versions
from tests.svd_loop.schedule.schedule_support import Clock, drop, schedule_config, texts
from tests.svd_loop.tracking_server import free_port, tracking_server

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    port = free_port()
    with tracking_server(tmp_path_factory.mktemp("server"), port):
        yield f"http://127.0.0.1:{port}"


def config_of(root: Path, server: str, *overrides: str) -> Config:
    settings = (
        "tracking.enabled=true",
        f"tracking.uri={server}",
        "schedule.model=served",
        "engine.skill=0.1",
        "engine.gain=0.8",
    )
    return schedule_config(root, *settings, *overrides, development=40, test=80)


def week(root: Path, server: str, number: int, *overrides: str) -> TickReport:
    config = config_of(root, server, *overrides)
    drop(root / "inbox", f"{number}.jsonl", texts(20, number))
    models = RegisteredModels(config, "served")
    return Schedule(config, root / "inbox", gate=consider, models=models, clock=Clock()).tick()


def test_two_drops_through_the_gate_and_one_that_brings_nothing(
    tmp_path: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("svd_loop.jobs.write_page", lambda *arguments: None)
    monkeypatch.setattr("svd_loop.mlflow_store.runs.figures", no_figures())
    registry = registry_of(config_of(tmp_path, server))
    first = week(tmp_path, server, 1)
    assert first.action == "promoted" and first.job is not None  # the first champion, with none to compare it with
    shutil.rmtree(tmp_path / "jobs" / first.job.name / "versions")  # the server has it

    second = week(tmp_path, server, 2)
    assert second.action == "promoted" and second.job is not None, second.job
    assert {"pass@1", "leaks", "health"} <= {finding["rule"] for finding in second.job.findings}
    assert str(second.job.champion).startswith(str(tmp_path / "models" / "served"))
    assert registry.aliases("served") == {CHAMPION: 2, CHALLENGER: 2, PREVIOUS: 1}
    assert registry.get("served", 2).source.startswith("runs:/")

    third = week(tmp_path, server, 3, "engine.gain=0")
    assert third.action == "nothing_gained" and third.job is not None
    assert registry.aliases("served") == {CHAMPION: 2, CHALLENGER: 2, PREVIOUS: 1}  # nothing was nominated
    history = model_history(registry, "served")
    assert [event["what"] for event in history["events"]] == ["first", "promoted", "nothing gained"]
    (scores,) = history["frozen"].values()
    assert [one["version"] for one in scores] == [1, 2] and scores[0]["score"] < scores[1]["score"]
    assert history["idle"] == 1 and third.job.name in history["events"][-1]["why"]


@pytest.mark.parametrize("kind", ["base", "lora"])
def test_a_version_on_a_server_brings_all_it_needs(
    tmp_path: Path, server: str, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a base refers to and what an adapter belongs to were uploaded with it; the job's folder is gone."""
    opened = open_store(server, tmp_path, "svd-loop")
    store = store_versions(tmp_path)
    run = opened.client.create_run(opened.experiment_id)
    register(Registry(opened.client), store, nano_config(tmp_path), kind, run.info.run_id)
    shutil.rmtree(tmp_path / "jobs")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", server)
    mlflow.set_tracking_uri(None)
    model = mlflow.pyfunc.load_model("models:/nano@champion")
    assert model.predict({"question": "What is 3 + 4?"})["finish_reason"][0] in ("stop", "length")
