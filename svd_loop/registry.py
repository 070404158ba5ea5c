"""Model versions in MLflow's registry, by reference: the weights stay where the job wrote them.

Aliases say what a version is for: `challenger` is the newest candidate for use, `champion` the one in use. The first
version of a model becomes its champion, since there is nothing to compare it with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient

CHAMPION = "champion"
CHALLENGER = "challenger"
FINGERPRINT_TAG = "svd_loop.fingerprint"


@dataclass(frozen=True, slots=True)
class RegisteredVersion:
    """One version of a registered model; `source` is the folder that holds the weights."""

    name: str
    number: int
    source: str
    tags: Mapping[str, str] = field(default_factory=dict)
    aliases: tuple[str, ...] = ()


class Registry:
    """The registered models of one store. All methods raise `MlflowException` when the store fails."""

    def __init__(self, client: MlflowClient) -> None:
        self._client = client

    def register(
        self, name: str, source: Path, *, fingerprint: str, run_id: str, tags: Mapping[str, str]
    ) -> RegisteredVersion:
        """Register weights that lie in `source`; the same weights at the same place keep their version.

        Args:
            name: Registered model name.
            source: Folder of the weights, referred to and not copied.
            fingerprint: Digest of the weights.
            run_id: The run they came from.
            tags: What is worth knowing of them.
        """
        self._ensure(name)
        address = str(source.resolve())
        for version in self.versions(name):
            if version.source == address and version.tags.get(FINGERPRINT_TAG) == fingerprint:
                for key, value in tags.items():
                    self._client.set_model_version_tag(name, str(version.number), key, value)
                return self._get(name, version.number)
        created = self._client.create_model_version(
            name, source=address, run_id=run_id, tags={**tags, FINGERPRINT_TAG: fingerprint}
        )
        return _version_of(created)

    def nominate(self, version: RegisteredVersion) -> RegisteredVersion:
        """Make a version the challenger, and the champion too if there is none; returns it with its aliases."""
        if self.by_alias(version.name, CHAMPION) is None:
            self.set_alias(version.name, CHAMPION, version.number)
        self.set_alias(version.name, CHALLENGER, version.number)
        return self._get(version.name, version.number)

    def set_alias(self, name: str, alias: str, number: int) -> None:
        """Point an alias at a version, away from whatever it pointed at."""
        self._client.set_registered_model_alias(name, alias, str(number))

    def by_alias(self, name: str, alias: str) -> RegisteredVersion | None:
        """The version an alias points at, or None."""
        number = next((m.aliases.get(alias) for m in self._search(name)), None)
        return None if number is None else self._get(name, int(number))

    def versions(self, name: str) -> list[RegisteredVersion]:
        """All versions, oldest first; empty for a model nobody registered."""
        found = [_version_of(item) for item in self._client.search_model_versions(f"name = '{name}'")]
        return sorted(found, key=lambda version: version.number)

    def sources(self) -> set[str]:
        """Where the weights of all versions of all models lie."""
        found: set[str] = set()
        page: Any = None
        while page is None or page.token:
            page = self._client.search_model_versions("", page_token=page.token if page else None)
            found |= {version.source for version in page}
        return found

    def _search(self, name: str) -> list[Any]:
        return list(self._client.search_registered_models(f"name = '{name}'"))

    def _get(self, name: str, number: int) -> RegisteredVersion:
        return _version_of(self._client.get_model_version(name, str(number)))

    def _ensure(self, name: str) -> None:
        from mlflow.exceptions import MlflowException

        try:
            self._client.create_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_ALREADY_EXISTS":
                raise


def _version_of(item: Any) -> RegisteredVersion:
    return RegisteredVersion(item.name, int(item.version), item.source, dict(item.tags), tuple(item.aliases))
