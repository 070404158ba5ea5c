"""The format of a stored policy version: files with digests, and a fingerprint of the weights.

Separate from the store, so that code that loads a version does not depend on how it was written.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from svd_loop.contracts import PolicyVersion
from svd_loop.errors import WeightsError

MANIFEST = "manifest.json"
FORMAT = 2
"""Layout of the manifest; a newer one is refused. Since 2 it ends with a digest of its other fields."""

Kind = Literal["base", "full", "lora"]

_PARTS_OF_A_CHECKPOINT = {".safetensors", ".bin", ".json", ".jinja", ".txt", ".model", ".tiktoken"}
"""Suffixes of the files that affect a model's answers: weights, configuration, tokenizer, chat template."""
_RECORDS = {MANIFEST, "training.json", "measurements.json", "trainer_state.json"}
"""Files that describe a checkpoint and do not affect its answers."""


@dataclass(frozen=True, slots=True)
class StoredVersion:
    """A policy version on disk.

    Attributes:
        version: round and fingerprint.
        path: the version's own folder.
        kind: `base` refers to a checkpoint elsewhere, `full` holds all weights, `lora` an adapter.
        parent: round whose weights the update started from; None for the base.
        base_path: `base`: the checkpoint; `lora`: the checkpoint or version folder the adapter belongs to; else None.
    """

    version: PolicyVersion
    path: Path
    kind: Kind
    parent: int | None = None
    base_path: Path | None = None

    @property
    def checkpoint(self) -> Path:
        """Folder with the version's own model files: the referenced checkpoint for `base`, else `path`."""
        return self.base_path if self.kind == "base" and self.base_path is not None else self.path


@dataclass(frozen=True, slots=True)
class Manifest:
    """The contents of `manifest.json`: files and origin of a version.

    `files` maps names to SHA-256 digests; for `base` they are those of the referenced checkpoint. `base_files` does
    the same for what a `lora` version builds on.
    """

    round: int
    kind: Kind
    fingerprint: str
    files: Mapping[str, str]
    parent: int | None = None
    base_path: str | None = None
    base_files: Mapping[str, str] = field(default_factory=dict)
    data_digest: str = ""
    config_digest: str = ""
    libraries: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    rows: int = 0
    steps: int = 0
    format: int = FORMAT

    def dump(self) -> str:
        """As JSON text, with a digest of all fields."""
        data = asdict(replace(self, format=FORMAT))
        return json.dumps(data | {"digest": _digest_of(data)}, indent=2, sort_keys=True) + "\n"


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a version folder.

    Raises:
        WeightsError: it is missing, damaged, or of a newer format.
    """
    path = folder / MANIFEST
    try:
        data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if data.get("format", 0) > FORMAT:
            raise WeightsError(f"{path}: format {data['format']} is of a newer svd-loop; this one reads {FORMAT}")
        written = data.pop("digest", None)
        if written != _digest_of(data) and (written is not None or data.get("format") == FORMAT):
            raise WeightsError(f"{path}: damaged: its fields changed since the version was written")
        return Manifest(**data)
    except FileNotFoundError:
        raise WeightsError(f"{folder}: no version is stored here (no {MANIFEST})") from None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise WeightsError(f"{path}: damaged: {error}") from None


def _digest_of(data: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def step_folder(versions: Path, round: int, step: int) -> Path:
    """Folder of a checkpoint of an update, kept to choose from until its round is recorded."""
    return versions / f"steps-{round:03d}" / f"step-{step:06d}"


def stored_version(folder: Path) -> StoredVersion:
    """The version in `folder`, as its manifest describes it, without looking at the weights.

    Raises:
        WeightsError: the manifest cannot be used.
    """
    manifest = read_manifest(folder)
    base = Path(manifest.base_path) if manifest.base_path is not None else None
    if base is not None and not base.is_absolute():
        base = folder / base
    version = PolicyVersion(manifest.round, manifest.fingerprint)
    return StoredVersion(version, folder, manifest.kind, manifest.parent, base)


def checkpoint_files(folder: Path) -> list[str]:
    """Names of the files in `folder` that affect the model's answers, in order.

    Raises:
        WeightsError: there is no such folder, or no weights in it.
    """
    try:
        names = sorted(
            x.name for x in folder.iterdir() if x.suffix in _PARTS_OF_A_CHECKPOINT and x.name not in _RECORDS
        )
    except OSError as error:
        raise WeightsError(f"{folder}: no checkpoint folder: {error.strerror}") from None
    if not any(name.endswith((".safetensors", ".bin")) for name in names):
        raise WeightsError(f"{folder}: holds no weights (*.safetensors)")
    return names


def checkpoint_digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file in `folder` that affects the model's answers, by name.

    Raises:
        WeightsError: there is no such folder, or no weights in it.
    """
    return {name: file_digest(folder / name) for name in checkpoint_files(folder)}


def follow_umask(folder: Path) -> None:
    """Give every file in `folder` the mode of a newly created file.

    safetensors creates its files readable by their owner alone, whatever the umask says, and a server that runs as
    another user could not load them.

    Raises:
        OSError: the folder cannot be written.
    """
    probe = folder / f".mode-{uuid.uuid4().hex}"
    probe.touch()
    mode = probe.stat().st_mode & 0o666
    probe.unlink()
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            path.chmod(mode)


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fingerprint_of(files: Mapping[str, str], base_files: Mapping[str, str] | None = None) -> str:
    """One digest over the names and digests of all files: equal if and only if all files are equal."""
    text = json.dumps([sorted(files.items()), sorted((base_files or {}).items())])
    return hashlib.sha256(text.encode()).hexdigest()
