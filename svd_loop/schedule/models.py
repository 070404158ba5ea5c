"""What a schedule asks of the registry, and how a registered version becomes the start of a job."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Protocol

from policies.versions import stored_version
from svd_loop.build.backends import checkpoint_path
from svd_loop.config import Config
from svd_loop.errors import ConfigError
from svd_loop.registry import CHAMPION, Registry
from svd_loop.tracking.store import open_store

_TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "merges.txt", "added_tokens.json")


class Models(Protocol):
    """The registered versions of one model, by the folders their weights lie in."""

    def champion(self) -> Path | None:
        """The folder of the champion; None while there is none."""
        ...

    def holds(self, folder: Path) -> bool:
        """Whether the version in `folder` is registered."""
        ...


class RegisteredModels:
    """`Models` of MLflow's registry."""

    def __init__(self, config: Config, name: str) -> None:
        """Connect.

        Raises:
            ConfigError: tracking is switched off, or the store cannot be reached.
        """
        if not config.tracking.enabled:
            raise ConfigError("tracking.enabled: false, but a schedule finds its champion in the registry; set it true")
        tracking = config.tracking
        self._registry = Registry(open_store(tracking.uri, config.job.root, tracking.experiment).client)
        self._name = name

    def champion(self) -> Path | None:
        """The folder the alias `champion` points at."""
        version = self._registry.by_alias(self._name, CHAMPION)
        return None if version is None else _folder(version.source)

    def holds(self, folder: Path) -> bool:
        """Whether any version refers to `folder`."""
        return folder.resolve() in {_folder(version.source) for version in self._registry.versions(self._name)}


def starting_checkpoint(champion: Path, scratch: Path) -> Path:
    """A checkpoint folder with the champion's weights: its own, or for an adapter a merged copy at `scratch`.

    Raises:
        WeightsError: the version is gone or damaged.
    """
    stored = stored_version(champion)
    if stored.kind != "lora":
        return stored.checkpoint.resolve()
    if not scratch.exists():
        from policies.loading import export_merged

        part = scratch.with_name(f".{scratch.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        part.parent.mkdir(parents=True, exist_ok=True)
        export_merged(stored, part)
        part.rename(scratch)
    return scratch.resolve()


def tokenizer_digest(config: Config) -> str:
    """What token ids mean to `model.path`: equal for two checkpoints exactly when their ids can be exchanged.

    Of a `tokenizer.json` the vocabulary counts and how text is cut does not, since rows are ids already. A script's
    ids are bytes.
    """
    if config.engine.type == "scripted":
        return "bytes"
    folder = checkpoint_path(config.model.path)
    found = {name: folder / name for name in _TOKENIZER_FILES if (folder / name).exists()}
    if (path := found.get("tokenizer.json")) is not None:
        data = json.loads(path.read_text(encoding="utf-8"))
        parts = [data.get("model", {}).get("vocab"), data.get("added_tokens")]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    digest = hashlib.sha256()
    for name, path in found.items():
        digest.update(f"{name}\0".encode() + path.read_bytes())
    return digest.hexdigest()


def _folder(source: str) -> Path:
    return Path(source.removeprefix("file://")).resolve()
