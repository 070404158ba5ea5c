"""The same as in `test_promotion`, against a real `mlflow server` with artifacts of its own."""

from __future__ import annotations

import json
import shutil
import threading
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException

from svd_loop.errors import ConfigError
from svd_loop.jobs import evaluate_model
from svd_loop.mlflow_store.alias_lock import alias_lock
from svd_loop.mlflow_store.connection import open_store
from svd_loop.mlflow_store.registry import CHALLENGER, CHAMPION, PREVIOUS
from svd_loop.promotion.lookup import find_version, local_folder, registry_of
from svd_loop.promotion.promotion import consider, rollback
from tests.svd_loop.promotion.promotion_jobs import play_two, tracked
from tests.svd_loop.tracking_server import free_port, tracking_server


@pytest.mark.slow
def test_promotion_through_a_server(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    port = free_port()
    server = f"tracking.uri=http://127.0.0.1:{port}"
    config = tracked(root, server, "job.name=gate")
    with tracking_server(root, port):
        play_two(root, server)
        assert capsys.readouterr().out == ""  # it belongs to `--json`; MLflow would print addresses of runs there
        registry = registry_of(config)
        store = open_store(config.tracking.uri, root, "svd-loop")
        version = find_version(registry, "challenger")
        assert version.source.startswith("runs:/")
        traced = store.client.search_traces(locations=[store.experiment_id], max_results=100)
        assert {len(trace.data.spans) > 2 for trace in traced} == {True}
        logged = store.client.search_logged_models([store.experiment_id])
        assert any(json.loads(model.tags.get("mlflow.modelVersions", "[]")) for model in logged)
        with pytest.raises(MlflowException, match="local path"):  # why the files were uploaded
            place = str(root / "jobs" / "good" / "versions" / "round-001")
            store.client.create_model_version("model", place, run_id=version.source.split("/")[1])

        shutil.rmtree(root / "jobs" / "good" / "versions")  # another machine has never had it
        decision = consider(config, "model")
        assert decision.passed, decision.refusals
        assert registry.aliases("model") == {CHAMPION: 2, CHALLENGER: 2, PREVIOUS: 1}
        assert local_folder(registry, version, root).is_relative_to(root / "models" / "model")
        assert len(evaluate_model(config, "models:/model@champion", "test").correct) == 90

        entered, most = [0], [0]

        def move() -> None:
            with alias_lock(store.client, "model"):
                entered[0] += 1
                most[0] = max(most[0], entered[0])
                registry.set_alias("model", "tried", 1)
                entered[0] -= 1

        threads = [threading.Thread(target=move) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert most == [1]
        assert rollback(config, "model").number == 1
        events = [(event.what, event.version, event.over) for event in registry.history("model")]
        assert events == [("first", 1, 0), ("promoted", 2, 1), ("rolled back", 1, 2)]
    with pytest.raises(ConfigError, match="cannot be used"):
        consider(config, "model")
