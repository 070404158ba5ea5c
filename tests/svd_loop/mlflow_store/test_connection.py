from __future__ import annotations

import logging
import sys
from pathlib import Path

import pytest

from svd_loop.errors import ConfigError
from svd_loop.mlflow_store.connection import open_store, tracking_uri
from tests.processes import run


def test_the_default_store_and_its_artifacts_lie_under_the_root(root: Path) -> None:
    store = open_store(None, root, "experiment")
    assert store.uri == f"sqlite:///{root}/mlflow.db" == tracking_uri(None, root)
    experiment = store.client.get_experiment(store.experiment_id)
    assert experiment.artifact_location == (root / "artifacts").as_uri()
    assert open_store(None, root, "experiment").experiment_id == store.experiment_id


def test_migrations_are_not_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        open_store(None, tmp_path, "experiment")
    assert not caplog.records


def test_a_database_that_is_none_is_a_config_error(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").mkdir()
    with pytest.raises(ConfigError, match=r"job\.root: the MLflow store sqlite:.*cannot be used: .*unable"):
        open_store(None, tmp_path, "experiment")
    with pytest.raises(ConfigError, match=r"tracking\.uri: the MLflow store sqlite:(.|\n)*Correct tracking\.uri"):
        open_store(f"sqlite:///{tmp_path}/mlflow.db", tmp_path, "experiment")


def test_a_file_that_is_no_database_is_a_config_error(tmp_path: Path) -> None:
    (tmp_path / "mlflow.db").write_bytes(b"not a database, but long enough to be looked at" * 99)
    with pytest.raises(ConfigError, match="file is not a database"):
        open_store(None, tmp_path, "experiment")


def test_a_server_that_is_away_is_a_config_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(ConfigError, match=r"127\.0\.0\.1:9 cannot be used(.|\n)*tracking\.enabled: false"):
        open_store("http://127.0.0.1:9", tmp_path, "experiment")


def test_a_deleted_experiment_is_a_config_error(root: Path) -> None:
    store = open_store(None, root, "experiment")
    store.client.delete_experiment(store.experiment_id)
    with pytest.raises(ConfigError, match=r"tracking\.experiment: experiment was deleted"):
        open_store(None, root, "experiment")


def test_a_store_that_is_cut_off_while_it_is_made_does_not_stand_in_its_place(tmp_path: Path) -> None:
    code = (
        "import resource, signal, sys\nfrom pathlib import Path\n"
        "from svd_loop.mlflow_store.connection import open_store\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\nresource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        f"open_store(None, Path({str(tmp_path)!r}), 'experiment')\n"
    )
    cut = run([sys.executable, "-c", code], timeout=120)
    assert cut.returncode != 0 and "cannot be used: " in cut.stderr and "CREATE TABLE" not in cut.stderr
    assert (tmp_path / "mlflow.db").stat().st_size == 0  # where anything but a whole store would stay unusable
