"""Registry operations that a schedule needs, and the checkpoint a job starts from."""

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
from svd_loop.promotion.lookup import local_folder, registry_errors, registry_of, servable_folder


class Models(Protocol):
    """The registered versions of one model, identified by the folders of their weights."""

    def champion(self) -> Path | None:
        """Return a folder with the champion's weights; None if there is no champion."""
        ...

    def is_champion(self, folder: Path) -> bool:
        """Return whether the version in `folder` is the champion."""
        ...

    def is_registered(self, folder: Path) -> bool:
        """Return whether the version in `folder` is registered."""
        ...

    def record_nothing_gained(self, why: str) -> None:
        """Record in the model's history that a job brought no version to promote; may be called again."""
        ...


class RegisteredModels:
    """`Models` of MLflow's registry.

    Versions are identified by the fingerprint of their weights, because a server stores copies in folders of its own.
    All methods raise `RegistryError` when the store fails.
    """

    def __init__(self, config: Config, name: str) -> None:
        """Connect to the registry.

        Raises:
            ConfigError: tracking is switched off, or the store cannot be reached.
        """
        if not config.tracking.enabled:
            raise ConfigError(
                "tracking.enabled: false, but a schedule reads its champion from the registry; set it true"
            )
        self._registry = registry_of(config)
        self._name = name
        self._root = config.job.root

    def champion(self) -> Path | None:
        """Return the folder of the verified weights with the alias `champion`, downloaded if a server stores them.

        Raises:
            WeightsError: the weights are missing or damaged.
        """
        with registry_errors():
            version = self._champion()
            return None if version is None else local_folder(self._registry, version, self._root)

    def is_champion(self, folder: Path) -> bool:
        """Return whether the champion's weights are those in `folder`."""
        with registry_errors():
            version = self._champion()
        return version is not None and version.tags.get(FINGERPRINT_TAG) == _fingerprint(folder)

    def is_registered(self, folder: Path) -> bool:
        """Return whether any version's weights are those in `folder`."""
        with registry_errors():
            known = {version.tags.get(FINGERPRINT_TAG) for version in self._registry.versions(self._name)}
        return folder.exists() and _fingerprint(folder) in known

    def record_nothing_gained(self, why: str) -> None:
        """Add an entry to the model's history, unless it is there already or the model does not exist."""
        with registry_errors():
            self._registry.record_idle(self._name, why)

    def _champion(self) -> RegisteredVersion | None:
        return self._registry.by_alias(self._name, CHAMPION)


def starting_checkpoint(champion: Path, cache: Path) -> Path:
    """Return a checkpoint folder with the champion's weights: its own, or for an adapter a merged copy in `cache`.

    Raises:
        WeightsError: the version is missing or damaged.
    """
    return servable_folder(champion, cache).resolve()


def tokenizer_digest(config: Config) -> str:
    """Return a digest of the vocabulary of `model.path`; equal digests mean that token ids are interchangeable.

    A scripted policy's token ids are bytes.
    """
    if not config.engine.has_weights:
        return "bytes"
    return vocabulary_digest(checkpoint_path(config.model.path, config.job.root))


def _fingerprint(folder: Path) -> str:
    return stored_version(folder).version.fingerprint
