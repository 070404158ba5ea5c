"""Model versions in MLflow's registry, and their aliases.

Aliases give the role of a version: `challenger` is the newest candidate, `champion` the one in use, `previous` the one
in use before it. The first version of a model becomes its champion, because there is nothing to compare it with.
MLflow's deprecated stages are not used.

With a local database as store, weights stay where the job wrote them. A tracking server refuses sources outside its
artifacts ("To use a local path as a model version source ...", MLflow 3.17), so there a version's files are uploaded as
artifacts of its run, with all files they refer to, and `runs:/...` is registered.

MLflow cannot set an alias on the condition that it has not changed. So a process that moves an alias takes a lock first
(see `alias_lock`): a file lock with a local database, a claim in the store otherwise. Under the lock the champion is
read again, and if it is not the one the decision was about, nothing is written and `RegistryConflictError` is raised. A
person who moves an alias by hand takes no lock; the change is detected the next time and recorded in the history.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from policies.versions.portable import make_portable
from svd_loop.errors import RegistryConflictError, RegistryError
from svd_loop.mlflow_store.alias_lock import alias_lock, is_server
from svd_loop.mlflow_store.records import NOT_MEASURED, NOTHING_GAINED, Event, Measured, RegisteredVersion

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHAMPION = "champion"
CHALLENGER = "challenger"
PREVIOUS = "previous"
FINGERPRINT_TAG = "svd_loop.fingerprint"
ROLLED_BACK_TAG = "svd_loop.rolled_back"
GATE_TAG = "svd_loop.gate"
OVER_TAG = "svd_loop.gate.over"
"""Result of the last gate (`passed`, `refused` or `forced`), and the number of the champion in that comparison."""
ALARMS_TAG = "svd_loop.health_alarms"
_EVENT_TAG = "svd_loop.event."
_MOVING_TAG = "svd_loop.moving"
"""Tag of a version that is being made champion: the event, until it is in the model's history."""


class Registry:
    """The registered models of one store. All methods raise `MlflowException` if the store fails."""

    def __init__(self, client: MlflowClient) -> None:
        self._client = client

    # ------------------------------------------------------------------------------------------ versions

    def register(
        self, name: str, source: Path, *, fingerprint: str, run_id: str, tags: Mapping[str, str]
    ) -> RegisteredVersion:
        """Register the weights in `source`; the same weights at the same location keep their version.

        Args:
            name: registered model name.
            source: folder of the weights: referred to in a local store, uploaded to a server.
            fingerprint: digest of the weights.
            run_id: the run they came from.
            tags: tags of the version.

        Raises:
            WeightsError: the files must be uploaded and are missing.
        """
        self._ensure(name)
        remote = is_server(self._client.tracking_uri)
        path = f"versions/{source.name}-{fingerprint[:12]}"
        address = f"runs:/{run_id}/{path}" if remote else str(source.resolve())
        for version in self.versions(name):
            if version.source == address and version.tags.get(FINGERPRINT_TAG) == fingerprint:
                self.tag(version, tags)
                return self.get(name, version.number)
        if remote:
            self._upload(source, run_id, path)
        created = self._client.create_model_version(
            name, source=address, run_id=run_id, tags={**tags, FINGERPRINT_TAG: fingerprint}
        )
        return _version_of(created)

    def describe(self, version: RegisteredVersion, text: str) -> None:
        """Set the version's description, which MLflow shows as Markdown."""
        self._client.update_model_version(version.name, str(version.number), text)

    def get(self, name: str, number: int) -> RegisteredVersion:
        """Return one version, read from the store.

        Raises:
            RegistryError: there is no such version.
        """
        from mlflow.exceptions import MlflowException

        try:
            return _version_of(self._client.get_model_version(name, str(number)))
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            known = ", ".join(str(version.number) for version in self.versions(name)) or "none"
            raise RegistryError(f"{name}: there is no version {number}; there are: {known}") from None

    def by_alias(self, name: str, alias: str) -> RegisteredVersion | None:
        """Return the version an alias points to, or None."""
        number = self.aliases(name).get(alias)
        return None if number is None else self.get(name, number)

    def aliases(self, name: str) -> dict[str, int]:
        """Return all aliases of a model with the numbers of their versions."""
        model = self._model(name)
        return {} if model is None else {alias: int(number) for alias, number in model.aliases.items()}

    def versions(self, name: str) -> list[RegisteredVersion]:
        """Return all versions, oldest first; empty if the model does not exist.

        Aliases are taken from the model, because some stores leave them out of search results.
        """
        by_number: dict[int, list[str]] = {}
        for alias, number in self.aliases(name).items():
            by_number.setdefault(number, []).append(alias)
        found = [_version_of(item, by_number) for item in self._search_versions(_named(name))]
        return sorted(found, key=lambda version: version.number)

    def names(self) -> list[str]:
        """Return the names of all registered models, sorted."""
        found: list[str] = []
        page: Any = None
        while page is None or page.token:
            page = self._client.search_registered_models(page_token=page.token if page else None)
            found += [model.name for model in page]
        return sorted(found)

    def sources(self) -> set[str]:
        """Return the locations of the weights of all versions of all models."""
        return {item.source for item in self._search_versions("")}

    def tag(self, version: RegisteredVersion, tags: Mapping[str, str]) -> None:
        """Set tags of a version."""
        for key, value in tags.items():
            self._client.set_model_version_tag(version.name, str(version.number), key, value)

    def download(self, version: RegisteredVersion, into: Path) -> Path:
        """Download the files of a version from a server; return their folder, below `into`."""
        run_id, _, path = version.source.removeprefix("runs:/").partition("/")
        return Path(self._client.download_artifacts(run_id, path, str(into)))

    # ------------------------------------------------------------------------------------------- aliases

    def nominate(self, version: RegisteredVersion) -> RegisteredVersion:
        """Make a version the challenger, and also the champion if there is none; return it with its aliases."""
        with alias_lock(self._client, version.name):
            champion = self.by_alias(version.name, CHAMPION)
            self._record_outside_move(version.name, champion)
            if champion is None:
                self._move(version, Event(0, "first", version.number, 0))
            self.set_alias(version.name, CHALLENGER, version.number)
        return self.get(version.name, version.number)

    def set_alias(self, name: str, alias: str, number: int) -> None:
        """Point an alias to a version."""
        self._client.set_registered_model_alias(name, alias, str(number))

    def promote(
        self,
        version: RegisteredVersion,
        *,
        over: RegisteredVersion | None,
        why: str = "",
        measured: Measured = NOT_MEASURED,
    ) -> None:
        """Make a version the champion, and the champion before it `previous`.

        Args:
            version: the new champion.
            over: the champion it was compared with.
            why: reason of a forced promotion; empty for a version that passed the gate.
            measured: measurements behind the decision.

        Raises:
            RegistryConflictError: `over` is no longer the champion. Nothing was changed.
        """
        with alias_lock(self._client, version.name):
            champion = self.by_alias(version.name, CHAMPION)
            self._record_outside_move(version.name, champion)
            if _number(champion) != _number(over):
                raise RegistryConflictError(
                    f"{version} was compared with version {_number(over) or 'none'}, but meanwhile `{CHAMPION}` was "
                    f"moved to version {_number(champion) or 'none'}; nothing was changed"
                )
            if over is not None:  # first, as a kill in between must leave a champion in use
                self.set_alias(version.name, PREVIOUS, over.number)
            event = Event(0, "forced" if why else "promoted", version.number, _number(over), why)
            self._move(version, replace(event, **asdict(measured)))

    def refuse(
        self,
        version: RegisteredVersion,
        *,
        over: RegisteredVersion | None,
        why: str,
        measured: Measured = NOT_MEASURED,
    ) -> None:
        """Record that a version was not promoted; does nothing if that is the newest entry, as after a kill."""
        with alias_lock(self._client, version.name):
            event = replace(Event(0, "refused", version.number, _number(over), why), **asdict(measured))
            history = self.history(version.name)
            if not history or replace(history[-1], number=0, at="") != event:
                self._record(version.name, event)

    def record_idle(self, name: str, why: str) -> None:
        """Record, once, that a job brought no version to promote; does nothing if the model does not exist."""
        if self._model(name) is None:
            return
        with alias_lock(self._client, name):
            champion = self.by_alias(name, CHAMPION)
            self._record_outside_move(name, champion)
            if not any((event.what, event.why) == (NOTHING_GAINED, why) for event in self.history(name)):
                number = _number(champion)
                self._record(name, Event(0, NOTHING_GAINED, number, number, why))

    def rollback(self, name: str) -> RegisteredVersion:
        """Make `previous` the champion again. The current champion is marked, so that the gate refuses it later.

        Raises:
            RegistryError: there is no previous version.
        """
        with alias_lock(self._client, name):
            champion, previous = self.by_alias(name, CHAMPION), self.by_alias(name, PREVIOUS)
            settled = self._record_outside_move(name, champion)
            if champion is not None and settled is not None and settled.what == "rolled back":
                previous = champion  # the rollback of a killed process, which is completed
            elif champion is None or previous is None or previous.number == champion.number:
                raise RegistryError(f"{name}: there is no `{PREVIOUS}` version to go back to")
            else:
                self.tag(champion, {ROLLED_BACK_TAG: _now()})
                self._move(previous, Event(0, "rolled back", previous.number, champion.number))
        return self.get(name, previous.number)

    def history(self, name: str) -> list[Event]:
        """Return the history of a model's champion, oldest event first."""
        model = self._model(name)
        tags = {} if model is None else model.tags
        events = [Event(**json.loads(value)) for key, value in tags.items() if key.startswith(_EVENT_TAG)]
        return sorted(events, key=lambda event: event.number)

    # ------------------------------------------------------------------------------------------ the rest

    def _move(self, version: RegisteredVersion, event: Event) -> None:
        """Make a version the champion and record the event, first on the version, so that a kill loses nothing."""
        self.tag(version, {_MOVING_TAG: json.dumps(asdict(event))})
        self._set_champion(version)
        self._finish_move(version, event)

    def _finish_move(self, version: RegisteredVersion, event: Event) -> None:
        if event.what == "rolled back":
            before = self._before(version.name, version)
            if before is not None:
                self.set_alias(version.name, PREVIOUS, before)
            elif PREVIOUS in self.aliases(version.name):
                self._client.delete_registered_model_alias(version.name, PREVIOUS)
        history = self.history(version.name)
        if not history or replace(history[-1], number=0, at="") != event:
            self._record(version.name, event)
        for tag in (ROLLED_BACK_TAG, _MOVING_TAG):  # a version in use is not marked as rolled back
            if tag in self.get(version.name, version.number).tags:
                self._client.delete_model_version_tag(version.name, str(version.number), tag)

    def _set_champion(self, version: RegisteredVersion) -> None:
        self.set_alias(version.name, CHAMPION, version.number)
        found = self.aliases(version.name).get(CHAMPION)
        if found != version.number:
            raise RegistryConflictError(
                f"{version} was made `{CHAMPION}` and at the same time the alias was moved to version {found}; "
                f"version {found} is in use, {version} is not"
            )

    def record_outside_moves(self, name: str) -> None:
        """Record changes of the champion made outside this history: by hand, or by a process that was killed."""
        with alias_lock(self._client, name):
            self._record_outside_move(name, self.by_alias(name, CHAMPION))

    def _record_outside_move(self, name: str, champion: RegisteredVersion | None) -> Event | None:
        """Record a move that is not in the history; return the event that a killed process had begun, if any."""
        history = self.history(name)
        known = history[-1].champion if history else 0
        begun = None if champion is None else champion.tags.get(_MOVING_TAG)
        if champion is not None and begun is not None:
            event = Event(**json.loads(begun))
            if known in (event.over, event.version):  # otherwise the event was given up and the alias moved here later
                self._finish_move(champion, event)
                return event
        if history and known != _number(champion):
            self._record(name, Event(0, "moved", _number(champion), known, "by hand or by another program"))
        return None

    def _before(self, name: str, version: RegisteredVersion) -> int | None:
        """Return the champion that a version last replaced, if it still exists and was not rolled back itself."""
        promoted = [
            event
            for event in self.history(name)
            if event.version == version.number and event.what in ("promoted", "forced", "moved")
        ]
        number = promoted[-1].over if promoted else 0
        known = {item.number: item for item in self.versions(name)}
        return number if number in known and ROLLED_BACK_TAG not in known[number].tags else None

    def _record(self, name: str, event: Event) -> None:
        number = max((known.number for known in self.history(name)), default=0) + 1
        value = asdict(event) | {"number": number, "at": _now()}
        self._client.set_registered_model_tag(name, f"{_EVENT_TAG}{number:06d}", json.dumps(value))

    def _upload(self, source: Path, run_id: str, path: str) -> None:
        with tempfile.TemporaryDirectory() as temporary:
            make_portable(source, Path(temporary))
            self._client.log_artifacts(run_id, temporary, path)

    def _model(self, name: str) -> Any:
        return next(iter(self._client.search_registered_models(_named(name))), None)

    def _search_versions(self, condition: str) -> list[Any]:
        found: list[Any] = []
        page: Any = None
        while page is None or page.token:
            page = self._client.search_model_versions(condition, page_token=page.token if page else None)
            found += page
        return found

    def _ensure(self, name: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise


def _version_of(item: Any, aliases: Mapping[int, list[str]] | None = None) -> RegisteredVersion:
    number = int(item.version)
    found = aliases.get(number, []) if aliases is not None else item.aliases
    return RegisteredVersion(item.name, number, item.source, dict(item.tags), tuple(sorted(found)))


def _named(name: str) -> str:
    """Return a search filter for one model; names of other programs' models may contain an apostrophe."""
    quote = '"' if "'" in name else "'"
    return f"name = {quote}{name}{quote}"


def _number(version: RegisteredVersion | None) -> int:
    return 0 if version is None else version.number


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
