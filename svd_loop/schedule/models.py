"""What a schedule asks of the registry, and how a registered version becomes the start of a job."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from policies.versions.stored import stored_version
from svd_loop.assembly.backends import checkpoint_path
from svd_loop.assembly.vocabulary import vocabulary_digest
from svd_loop.config import Config
from svd_loop.errors import ConfigError
from svd_loop.mlflow_store.records import RegisteredVersion
from svd_loop.mlflow_store.registry import CHAMPION, FINGERPRINT_TAG
from svd_loop.promotion.lookup import local_folder, registry_of, servable_folder, talking_to_registry


class Models(Protocol):
    """The registered versions of one model, by the folders their weights lie in."""

    def champion(self) -> Path | None:
        """A folder with the champion's weights; None while there is none."""
        ...

    def is_champion(self, folder: Path) -> bool:
        """Whether the version in `folder` is the champion."""
        ...

    def holds(self, folder: Path) -> bool:
        """Whether the version in `folder` is registered."""
        ...

    def nothing_gained(self, why: str) -> None:
        """Write into the model's history that a job brought no version to promote; may be repeated."""
        ...


class RegisteredModels:
    """`Models` of MLflow's registry. Versions are told apart by their weights: a server keeps copies of its own.

    All methods raise `RegistryError` when the store fails.
    """

    def __init__(self, config: Config, name: str) -> None:
        """Connect.

        Raises:
            ConfigError: tracking is switched off, or the store cannot be reached.
        """
        if not config.tracking.enabled:
            raise ConfigError("tracking.enabled: false, but a schedule finds its champion in the registry; set it true")
        self._registry = registry_of(config)
        self._name = name
        self._root = config.job.root

    def champion(self) -> Path | None:
        """The intact weights behind the alias `champion`, fetched if a server has them.

        Raises:
            WeightsError: they are gone or damaged.
        """
        with talking_to_registry():
            version = self._champion()
            return None if version is None else local_folder(self._registry, version, self._root)

    def is_champion(self, folder: Path) -> bool:
        """Whether the champion has the weights in `folder`."""
        with talking_to_registry():
            version = self._champion()
        return version is not None and version.tags.get(FINGERPRINT_TAG) == _fingerprint(folder)

    def holds(self, folder: Path) -> bool:
        """Whether any version has the weights in `folder`."""
        with talking_to_registry():
            known = {version.tags.get(FINGERPRINT_TAG) for version in self._registry.versions(self._name)}
        return folder.exists() and _fingerprint(folder) in known

    def nothing_gained(self, why: str) -> None:
        """Into the history, unless it is there or there is no model to keep one."""
        with talking_to_registry():
            self._registry.record_idle(self._name, why)

    def _champion(self) -> RegisteredVersion | None:
        return self._registry.by_alias(self._name, CHAMPION)


def starting_checkpoint(champion: Path, cache: Path) -> Path:
    """A checkpoint folder with the champion's weights: its own, or for an adapter a merged copy in `cache`.

    Raises:
        WeightsError: the version is gone or damaged.
    """
    return servable_folder(champion, cache).resolve()


def tokenizer_digest(config: Config) -> str:
    """What token ids mean to `model.path`: equal for two checkpoints exactly when their ids can be exchanged.

    A script's ids are bytes.
    """
    if not config.engine.has_weights:
        return "bytes"
    return vocabulary_digest(checkpoint_path(config.model.path, config.job.root))


def _fingerprint(folder: Path) -> str:
    return stored_version(folder).version.fingerprint
