"""Bring a version's files to another node through Ray's object store, and prove that they arrived as they were stored.

They go in pieces, so that neither side holds more than one in memory; Ray moves to disk what its store cannot hold.
The receiver writes them to a folder of its own and computes the fingerprint again, from what it wrote.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from policies.versions.checkpoints import foundation
from policies.versions.stored import (
    MANIFEST,
    Manifest,
    StoredVersion,
    checkpoint_digests,
    checkpoint_files,
    fingerprint_of,
    stored_version,
)
from svd_loop.errors import WeightsError

_PIECE = 128 * 2**20
_OWN, _BASE = "version", "base"


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Parcel:
    """A version in the object store.

    Attributes:
        round: of the version.
        kind: as in its manifest.
        fingerprint: of all files.
        files: pieces of each file by path, object references of Ray.
    """

    round: int
    kind: Any
    fingerprint: str
    files: Mapping[str, Sequence[Any]]


def pack(stored: StoredVersion) -> Parcel:
    """Put a version's files into the object store, where they stay as long as the parcel exists."""
    folders = {_BASE: foundation(stored)} if stored.kind == "base" else {_OWN: stored.path}
    if stored.kind == "lora":
        folders[_BASE] = foundation(stored)
    paths = {f"{part}/{name}": folder / name for part, folder in folders.items() for name in checkpoint_files(folder)}
    version = stored.version
    files = {name: to_store(path) for name, path in paths.items()}
    return Parcel(version.round, stored.kind, version.fingerprint, files)


def unpack(parcel: Parcel, folder: Path) -> StoredVersion:
    """Write a version into an empty folder.

    Raises:
        WeightsError: the files are not those that were stored.
    """
    for name, pieces in parcel.files.items():
        from_store(pieces, folder / name)
    own, base = folder / _OWN, folder / _BASE
    own.mkdir(exist_ok=True)
    files = checkpoint_digests(base if parcel.kind == "base" else own)
    base_files = checkpoint_digests(base) if parcel.kind == "lora" else {}
    if (found := fingerprint_of(files, base_files)) != parcel.fingerprint:
        raise WeightsError(
            f"round {parcel.round}: arrived with fingerprint {found[:12]}, is stored with {parcel.fingerprint[:12]}: "
            "its files changed since, or on the way"
        )
    path = None if parcel.kind == "full" else str(base)
    manifest = Manifest(parcel.round, parcel.kind, found, files, base_path=path, base_files=base_files)
    (own / MANIFEST).write_text(manifest.dump(), encoding="utf-8")
    return stored_version(own)


def to_store(path: Path) -> list[Any]:
    """Put a file into the object store; returns references to its pieces."""
    import ray

    return [ray.put(piece) for piece in _pieces(path)]


def from_store(pieces: Sequence[Any], path: Path) -> None:
    """Write a file from its pieces; folders are created."""
    import ray

    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for piece in pieces:
            file.write(ray.get(piece))


def _pieces(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            yield piece
