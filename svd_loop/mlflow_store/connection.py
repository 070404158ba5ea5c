"""Open the MLflow store quickly and quietly, or raise an error that names the reason."""

from __future__ import annotations

import logging
import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from svd_loop.contracts import RootPaths
from svd_loop.errors import ConfigError, SvdError
from svd_loop.support.sqlite_uri import sqlite_path, sqlite_uri

if TYPE_CHECKING:
    from mlflow import MlflowClient

logger = logging.getLogger(__name__)

_VERBOSE_LOGGERS = ("alembic", "mlflow.store.db.utils", "mlflow.tracking.fluent")
_CLIENT_DEFAULTS = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "20",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
}
"""Environment of the MLflow client, unless the user has set a variable already.

A server that does not answer must not delay a round for minutes. MLflow would print the URL of every run that ends on a
server to stdout, which is for `--json` output only.
"""
_EXPERIMENT_TAGS = {"mlflow.experimentKind": "custom_model_development"}
"""Has MLflow open a new experiment at its runs, charts and models; it would guess from the traces that it holds an
application, and open it at those."""


@dataclass(frozen=True, slots=True)
class Store:
    """An open store and the experiment in it."""

    client: MlflowClient
    experiment_id: str
    uri: str


@contextmanager
def warn_on_failure(consequence: str) -> Iterator[None]:
    """Turn a failure of the store into a logged warning that names its consequence."""
    from mlflow.exceptions import MlflowException

    try:
        yield
    except (MlflowException, SvdError, OSError) as error:
        reason = str(error).partition("\n")[0]
        logger.warning("MLflow failed (%s): %s; running the job again catches up", reason, consequence)


def tracking_uri(uri: str | None, root: Path) -> str:
    """Return the configured URI, or that of the SQLite store under `root`."""
    return uri or sqlite_uri(RootPaths(root.resolve()).mlflow_store)


def open_store(uri: str | None, root: Path, experiment: str) -> Store:
    """Connect to the store, create its tables if it is new, and find or create the experiment.

    Args:
        uri: `tracking.uri`; None is the SQLite store under `root`.
        root: folder of the SQLite store, and of its artifacts.
        experiment: experiment name.

    Raises:
        ConfigError: the store cannot be reached or used.
    """
    for name, value in _CLIENT_DEFAULTS.items():
        os.environ.setdefault(name, value)
    for name in _VERBOSE_LOGGERS:
        logging.getLogger(name).setLevel(logging.WARNING)
    address = tracking_uri(uri, root)
    try:
        root.mkdir(parents=True, exist_ok=True)
        _probe_sqlite(address)
    except (OSError, ValueError, sqlite3.Error) as error:
        raise _unusable(uri, address, error) from None

    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        with FileLock(RootPaths(root).mlflow_lock):  # two jobs must not create tables at the same time
            _make_sqlite(address)
            client = MlflowClient(tracking_uri=address, registry_uri=address)
            return Store(client, _experiment_id(client, experiment, address, root), address)
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise _unusable(uri, address, error) from None


def _experiment_id(client: MlflowClient, name: str, address: str, root: Path) -> str:
    found = client.get_experiment_by_name(name)
    if found is None:
        has_server = address.startswith(("http://", "https://", "databricks"))
        return client.create_experiment(
            name, None if has_server else RootPaths(root.resolve()).mlflow_artifacts.as_uri(), _EXPERIMENT_TAGS
        )
    if found.lifecycle_stage != "active":
        raise ConfigError(f"tracking.experiment: {name} was deleted in {address}; restore it or choose another name")
    return str(found.experiment_id)


def _probe_sqlite(address: str) -> None:
    """Open the database once, so that an error is raised at once; MLflow would retry for a minute."""
    if (path := sqlite_path(address)) is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path)
        try:
            connection.execute("pragma schema_version")
        finally:
            connection.close()


def _make_sqlite(address: str) -> None:
    """Make a new SQLite store beside its place and move it there when it is complete.

    MLflow cannot use a store whose tables were left half made by a kill or a full disk, and does not complete it.
    """
    from mlflow import MlflowClient

    path = sqlite_path(address)
    if path is None or (path.exists() and path.stat().st_size > 0):
        return
    part = path.with_name(f"{path.name}.part")
    part.unlink(missing_ok=True)
    MlflowClient(tracking_uri=sqlite_uri(part)).get_experiment_by_name("Default")
    os.replace(part, path)


def _unusable(uri: str | None, address: str, error: Exception) -> ConfigError:
    """Return the error, with the key that gives the store: without a URI it is below `job.root`."""
    key, remedy = ("tracking.uri", ", start its server") if uri else ("job.root", "")
    reason = str(error).partition("\n")[0]  # the lines behind it are SQL
    if "already exists" in reason:
        remedy += ", delete the file if no other job is tracked in it (it was left half made)"
    return ConfigError(
        f"{key}: the MLflow store {address} cannot be used: {reason}\n"
        f"Correct {key}{remedy}, or set tracking.enabled: false"
    )
