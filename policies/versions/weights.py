"""Store the policy versions of a job on disk: written completely or not at all, verified when read.

A version is written under a temporary name, synced, and renamed, so that a folder called `round-003` is complete by
construction; its manifest holds a digest of each file, so that later damage is found. The base is stored by
reference (its files' digests), because copying gigabytes that never change is useless.

Importing this module does not load torch, so that listings stay quick.
"""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from policies.versions.stored import (
    MANIFEST,
    Kind,
    Manifest,
    StoredVersion,
    checkpoint_digests,
    file_digest,
    fingerprint_of,
    follow_umask,
    read_manifest,
    step_folder,
    stored_version,
)
from svd_loop.contracts import PolicyVersion
from svd_loop.errors import WeightsError
from svd_loop.support.linking import copy_by_links

__all__ = ["Origin", "StoredVersion", "WeightStore", "check_intact"]

_TEMPORARY = ".unfinished-"
_LIBRARIES = ("torch", "transformers", "trl", "peft")


@dataclass(frozen=True, slots=True)
class Origin:
    """How a trained version was made: recorded in its manifest, compared when a job resumes.

    `base` is what a `lora` adapter belongs to; `metrics`, `rows` and `steps` describe the training.
    """

    parent: int | None
    data_digest: str = ""
    config_digest: str = ""
    base: Path | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    rows: int = 0
    steps: int = 0


class WeightStore:
    """Versions of one job under one folder: `round-000`, `round-001` and so on.

    Opening the store removes unfinished versions of a crash; a job's lock keeps two processes from sharing a store.

    Args:
        folder: created if absent.

    Raises:
        WeightsError: the folder cannot be created or read.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            for leftover in folder.glob(f"{_TEMPORARY}*"):
                shutil.rmtree(leftover)
        except OSError as error:
            raise WeightsError(f"{folder}: versions cannot be kept here: {error.strerror}; see job.root") from None

    def path(self, round: int) -> Path:
        """Folder of a round's version, whether it exists or not."""
        return self.folder / PolicyVersion(round, "").name

    def rounds(self) -> list[int]:
        """Rounds with a finished version, ascending."""
        return _numbers(self.folder, r"round-(\d{3,})")

    def steps(self, round: int) -> list[int]:
        """Steps of an update whose checkpoints are stored to choose from, ascending."""
        return _numbers(self._steps(round), r"step-(\d{6,})")

    def step_path(self, round: int, step: int) -> Path:
        """Folder of a checkpoint of a round's update, whether it exists or not."""
        return step_folder(self.folder, round, step)

    def add_base(self, checkpoint: Path) -> StoredVersion:
        """Store `checkpoint` as round 0, by reference; does nothing if it is stored already and unchanged.

        Raises:
            WeightsError: it is not a checkpoint folder, or round 0 is stored with other weights.
        """
        checkpoint = checkpoint.resolve()
        files = checkpoint_digests(checkpoint)
        fingerprint = fingerprint_of(files)
        if self.path(0).exists():
            stored = stored_version(self.path(0))
            if stored.version.fingerprint != fingerprint:
                raise WeightsError(
                    f"{checkpoint}: is not the checkpoint this job started from (fingerprint "
                    f"{fingerprint[:12]}, the job's is {stored.version.fingerprint[:12]}); restore "
                    "it or start a new job under another job.name"
                )
            return stored
        manifest = Manifest(0, "base", fingerprint, files, base_path=str(checkpoint), libraries=_library_versions())
        return self._commit(manifest, self._temporary())

    def write(
        self, round: int, kind: Kind, fill: Callable[[Path], None], origin: Origin, *, step: int | None = None
    ) -> StoredVersion:
        """Store a trained version, or a checkpoint to choose from; replaces a finished one of the same round and step.

        Args:
            round: at least 1.
            kind: `full` or `lora`.
            fill: writes the model's files into the (empty, temporary) folder it is given.
            origin: how the version was made.
            step: of the checkpoint; None stores the round's version.

        Raises:
            WeightsError: a file cannot be written. Nothing is left behind, and earlier versions are untouched.
        """
        folder = self._temporary()
        try:
            fill(folder)
            follow_umask(folder)
            files = checkpoint_digests(folder)
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise WeightsError(f"{self.path(round)}: cannot be written: {error.strerror or error}") from error
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        base_files = checkpoint_digests(origin.base) if kind == "lora" and origin.base is not None else {}
        manifest = Manifest(
            round,
            kind,
            fingerprint_of(files, base_files),
            files,
            origin.parent,
            str(origin.base.resolve()) if kind == "lora" and origin.base is not None else None,
            base_files,
            origin.data_digest,
            origin.config_digest,
            _library_versions(),
            dict(origin.metrics),
            origin.rows,
            origin.steps,
        )
        return self._commit(manifest, folder, self.path(round) if step is None else self.step_path(round, step))

    def choose(self, round: int, step: int) -> StoredVersion:
        """Make a stored checkpoint the round's version; its files are linked, or copied where links cannot be made.

        Raises:
            WeightsError: there is no such checkpoint, or the version cannot be written.
        """
        chosen = self.step_path(round, step)
        manifest = read_manifest(chosen)
        if self.path(round).exists() and read_manifest(self.path(round)).fingerprint == manifest.fingerprint:
            return stored_version(self.path(round))
        folder = self._temporary()
        try:
            copy_by_links(chosen, folder)
            (folder / MANIFEST).unlink()  # written anew, and not through the link
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise WeightsError(f"{self.path(round)}: cannot be written: {error.strerror or error}") from error
        return self._commit(manifest, folder)

    def drop_steps(self, through: int) -> None:
        """Delete the checkpoints of all updates of rounds up to `through`."""
        for round in _numbers(self.folder, r"steps-(\d{3,})"):
            if round <= through:
                shutil.rmtree(self._steps(round), ignore_errors=True)

    def _steps(self, round: int) -> Path:
        return self.step_path(round, 0).parent

    def load(self, round: int, *, verify: bool = True) -> StoredVersion:
        """The version of a round.

        Args:
            round: which.
            verify: read every file and compare digests (about a second per gigabyte).

        Raises:
            WeightsError: it is missing or damaged; names the file and the newest version that is intact.
        """
        try:
            stored = stored_version(self.path(round))
            if verify:
                check_intact(stored)
        except WeightsError as error:
            there = self.rounds()
            known = "" if round in there else f"; there are {', '.join(self.path(one).name for one in there) or 'none'}"
            raise WeightsError(f"{error}{known}; {self._last_good(round)}") from None
        return stored

    def existing(self, round: int, data_digest: str, config_digest: str) -> StoredVersion | None:
        """A round's version if it is finished, intact and made from exactly this data and configuration.

        Lets a resumed job skip an update that was finished but not yet recorded.
        """
        if round not in self.rounds():
            return None
        try:
            manifest = read_manifest(self.path(round))
            if (manifest.data_digest, manifest.config_digest) != (data_digest, config_digest):
                return None
            return self.load(round)
        except WeightsError:
            return None

    def retain(self, keep: Iterable[int]) -> list[int]:
        """Delete every version except those in `keep`, the base, and the base of a kept adapter.

        Args:
            keep: rounds to keep (best, last, registered).

        Returns:
            The deleted rounds.
        """
        kept = {0, *keep}
        paths = {self.path(round).resolve(): round for round in self.rounds()}
        for round in sorted(kept & set(self.rounds()), reverse=True):
            base = stored_version(self.path(round)).base_path
            if base is not None and base.resolve() in paths:
                kept.add(paths[base.resolve()])
        deleted = [round for round in self.rounds() if round not in kept]
        for round in deleted:
            # Rename first: an interrupted deletion must not leave a folder that looks like a damaged version.
            doomed = self.folder / f"{_TEMPORARY}{uuid.uuid4().hex}"
            self.path(round).rename(doomed)
            shutil.rmtree(doomed)
        return deleted

    def _temporary(self) -> Path:
        folder = self.folder / f"{_TEMPORARY}{uuid.uuid4().hex}"
        try:
            folder.mkdir()
        except OSError as error:
            raise WeightsError(f"{self.folder}: cannot be written: {error.strerror}; see job.root") from None
        return folder

    def _commit(self, manifest: Manifest, folder: Path, target: Path | None = None) -> StoredVersion:
        """Write the manifest, sync everything, and rename the folder to its final name."""
        target = target or self.path(manifest.round)
        try:
            target.parent.mkdir(exist_ok=True)
            (folder / MANIFEST).write_text(manifest.dump(), encoding="utf-8")
            for path in [*(entry for entry in folder.rglob("*") if entry.is_file()), folder]:
                _sync(path)
            if target.exists():
                target.rename(self.folder / f"{_TEMPORARY}{uuid.uuid4().hex}")
            folder.rename(target)
            _sync(target.parent)
        except OSError as error:
            shutil.rmtree(folder, ignore_errors=True)
            raise WeightsError(f"{target}: cannot be written: {error.strerror or error}") from error
        for leftover in self.folder.glob(f"{_TEMPORARY}*"):
            shutil.rmtree(leftover)
        return stored_version(target)

    def _last_good(self, damaged: int) -> str:
        for round in reversed(self.rounds()):
            if round == damaged:
                continue
            try:
                stored = stored_version(self.path(round))
                check_intact(stored)
            except WeightsError:
                continue
            return f"the last good version is {stored.version.name} in {self.folder}"
        return f"no intact version is left in {self.folder}"


def check_intact(stored: StoredVersion) -> None:
    """Read every file of a version and compare digests (about a second per gigabyte).

    Raises:
        WeightsError: a file is missing or changed, or the manifest does not fit its own fingerprint; names the file.
    """
    manifest = read_manifest(stored.path)
    _verify_files(stored.checkpoint, manifest.files, stored.version)
    if stored.kind == "lora" and stored.base_path is not None:
        _verify_files(stored.base_path, manifest.base_files, stored.version)
    if fingerprint_of(manifest.files, manifest.base_files) != manifest.fingerprint:
        raise WeightsError(f"{stored.path / MANIFEST}: damaged: its digests do not make up its fingerprint")


def _verify_files(folder: Path, files: Mapping[str, str], version: PolicyVersion) -> None:
    for name, digest in files.items():
        path = folder / name
        try:
            found = file_digest(path)
        except OSError as error:
            raise WeightsError(f"{path}: needed by {version.name}, cannot be read: {error.strerror}") from None
        if found != digest:
            raise WeightsError(f"{path}: damaged: its contents changed since {version.name} was written")


def _numbers(folder: Path, pattern: str) -> list[int]:
    """The numbers in the names of a folder's entries that match, ascending; none if there is no folder."""
    names = (re.fullmatch(pattern, entry.name) for entry in (folder.iterdir() if folder.is_dir() else ()))
    return sorted(int(name[1]) for name in names if name is not None)


def _sync(path: Path) -> None:
    """Force a file or folder to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _library_versions() -> dict[str, str]:
    found: dict[str, str] = {}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
