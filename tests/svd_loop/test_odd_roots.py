"""Any path can be the root of a job: no character of it reaches SQLite or MLflow as something else."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy.engine import make_url

from svd_loop.jobs import run_job
from svd_loop.mlflow_store.connection import open_store
from svd_loop.promotion.lookup import local_folder, registry_of
from svd_loop.report.tables import next_commands
from svd_loop.support.sqlite_uri import sqlite_path, sqlite_uri
from tests.svd_loop.jobs_support import small

ODD = ["what?x=1#b a%2Fb 100%", 'file:a&b;c:d@e it\'s "quoted"\nüber 日本']


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1))
def test_an_address_names_its_path_and_no_other(name: str) -> None:
    path = Path("/root") / name
    assert sqlite_path(sqlite_uri(path)) == path == Path(make_url(sqlite_uri(path)).database or "")


@pytest.mark.parametrize("uri", ["http://server", "postgresql://u:p@h/db", "sqlite://", "sqlite:///:memory:"])
def test_what_is_no_file_has_no_path(uri: str) -> None:
    assert sqlite_path(uri) is None


@pytest.mark.parametrize("name", ODD)
def test_a_tracked_job_can_lie_anywhere(tmp_path: Path, name: str) -> None:
    root = tmp_path / name
    config = small(tmp_path, "tracking.enabled=true")
    config = config.model_copy(update={"job": config.job.model_copy(update={"root": root})})
    result = run_job(config)
    assert (root / "mlflow.db").stat().st_size > 0
    # MLflow makes an empty folder under the name as the address spells it; nothing is ever written into it.
    assert not [file for other in tmp_path.iterdir() if other != root for file in other.rglob("*")]
    store = open_store(None, root, "svd-loop")
    runs = store.client.search_runs([store.experiment_id], "tags.`svd_loop.stop_reason` = 'round_limit'")
    assert [run.data.metrics for run in runs] and store.client.list_artifacts(runs[0].info.run_id)
    (hint,) = [command for command, _ in next_commands(result, Path("c.yaml"), root) if "mlflow ui" in command]
    assert sqlite_path(shlex.split(hint)[-1]) == root / "mlflow.db"
    (version,) = registry_of(config).versions("scripted")
    assert local_folder(registry_of(config), version, root) == root / "jobs" / "scripted" / "versions" / "round-002"
