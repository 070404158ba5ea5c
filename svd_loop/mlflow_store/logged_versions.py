"""The versions of a job as logged models of MLflow: one each, with its scores, data and source run.

A logged model stands for the version in MLflow's lists and charts; the weights stay where the job wrote them. When a
version is registered in a local store, its folder becomes the model's artifacts by a link.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from svd_loop.contracts import PolicyVersion, RoundRecord
from svd_loop.mlflow_store.alias_lock import is_server
from svd_loop.mlflow_store.records import RegisteredVersion

if TYPE_CHECKING:
    from mlflow import MlflowClient

IDENTITY_TAG = "svd_loop.job_id"
_FINGERPRINT_TAG = "svd_loop.fingerprint"
NOTE_TAG = "mlflow.note.content"
_NOT_IN_NAMES = str.maketrans(dict.fromkeys("/:.%\"'", "_"))


class LoggedVersions:
    """The logged models of one job. Methods raise `MlflowException` if the store fails.

    Args:
        client: client of the store.
        experiment: id of the experiment.
        job: the job's name.
        identity: the job's own id.
        config: the resolved configuration.
    """

    def __init__(
        self, client: MlflowClient, experiment: str, job: str, identity: str, config: Mapping[str, Any]
    ) -> None:
        self._client = client
        self._experiment = experiment
        self._job = job
        self._identity = identity
        self._config = config
        self._ids: dict[PolicyVersion, str] = {}

    def of(self, record: RoundRecord, run_id: str) -> str:
        """Return the id of the logged model of a round's version, created if the store has none.

        Args:
            record: the round after which the version is in force.
            run_id: the run that made it, if it is created now.
        """
        version = record.version
        known = self._ids.get(version) or self._find(version) or self._create(record, run_id)
        self._ids[version] = known
        return known

    def known(self, version: PolicyVersion) -> str | None:
        """Return the id of a version's logged model; None if there is none."""
        return self._ids.get(version) or self._find(version)

    def registered(self, model_id: str, version: RegisteredVersion, card: str) -> None:
        """Set the card of a logged model, and the registered version that MLflow shows with it."""
        versions = json.dumps([{"name": version.name, "version": version.number}])
        self._client.set_logged_model_tags(model_id, {NOTE_TAG: card, "mlflow.modelVersions": versions})

    def link(self, model_id: str, folder: Path) -> None:
        """Make a version's folder the artifacts of its logged model; does nothing in a store that is not local."""
        place = urlsplit(self._client.get_logged_model(model_id).artifact_location)
        if is_server(str(self._client.tracking_uri)) or place.scheme not in ("", "file"):
            return
        artifacts = Path(unquote(place.path))
        if not artifacts.exists():
            artifacts.parent.mkdir(parents=True, exist_ok=True)
            artifacts.unlink(missing_ok=True)  # a link to a version that was moved
            artifacts.symlink_to(folder.resolve(), target_is_directory=True)

    def _find(self, version: PolicyVersion) -> str | None:
        wanted = {IDENTITY_TAG: self._identity, _FINGERPRINT_TAG: version.fingerprint}
        condition = " AND ".join(f"tags.`{key}` = '{value}'" for key, value in wanted.items())
        found = self._client.search_logged_models([self._experiment], condition, max_results=1)
        return str(found[0].model_id) if found else None

    def _create(self, record: RoundRecord, run_id: str) -> str:
        version = record.version
        params = {
            "base": self._config["model"]["path"],
            "round": version.round,
            "rows_trained_on": record.rows,
            "weights_trained": self._config["update"]["method"],
        }
        made = f"trained on {record.rows:,} accepted rows" if version.round else "the base, as the job found it"
        tags = {
            IDENTITY_TAG: self._identity,
            _FINGERPRINT_TAG: version.fingerprint,
            "svd_loop.job": self._job,
            "svd_loop.round": str(version.round),
            NOTE_TAG: f"Version {version.name} of job {self._job}: {made}.",
        }
        model = self._client.create_logged_model(
            self._experiment,
            name=f"{self._job}-{version.name}".translate(_NOT_IN_NAMES),
            source_run_id=run_id,
            tags=tags,
            params={name: str(value) for name, value in params.items()},
            model_type="svd-loop version",
        )
        self._client.finalize_logged_model(model.model_id, "READY")
        return str(model.model_id)
