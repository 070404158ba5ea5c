"""A new job from a round of another one: its ledger and its weights, whole or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path

from svd_loop.assembly.job import job_folder
from svd_loop.config import Config
from svd_loop.contracts import PolicyVersion
from svd_loop.errors import ConfigError, JobConflictError, WeightsError
from svd_loop.ledger import LedgerReader, fork


def fork_job(config: Config, source: str) -> None:
    """Create the job of `config` with rounds 0 to ROUND of another; does nothing if it was forked from there already.

    Everything is put together under a temporary name and renamed at the end, so a kill leaves no half of a job, and
    the same command may be run again at any time.

    Args:
        config: the new job.
        source: `JOB@ROUND`.

    Raises:
        ConfigError: `source` has another form.
        JobConflictError: the new job exists and came from elsewhere, or the old one has no such round.
        WeightsError: the round's weights are gone.
    """
    name, _, number = source.partition("@")
    if not name or not number.isdigit():
        raise ConfigError(f"--fork {source}: looks like JOB@ROUND, for example nano@2")
    origin, round, folder = config.job.root / "jobs" / name, int(number), job_folder(config)
    if folder.exists():
        if _came_from(folder, origin, round):
            return
        raise JobConflictError(f"{folder}: there is a job of this name already; choose another --job NAME")
    part = folder.with_name(f".{folder.name}.fork")
    shutil.rmtree(part, ignore_errors=True)
    for version in _weights(origin, round, source):
        shutil.copytree(version, part / "versions" / version.name)
    fork(origin, round, part, config)
    part.rename(folder)


def _weights(origin: Path, round: int, source: str) -> list[Path]:
    """The stored versions up to a round; none for a job that keeps no weights."""
    versions = origin / "versions"
    if not versions.exists():
        return []
    with LedgerReader.open_for_reading(origin) as reader:
        played = reader.state().history[: round + 1]
    there = [versions / name for number in range(round + 1) if (versions / (name := _name(number))).exists()]
    needed = played[-1].version.name if played else _name(0)  # a round that learned nothing has an earlier one in force
    if needed not in [path.name for path in there]:
        raise WeightsError(
            f"--fork {source}: there are no weights of {needed} (never made, or deleted: update.keep_versions); "
            f"up to it {origin.name} has {', '.join(path.name for path in there)}"
        )
    return there


def _name(round: int) -> str:
    return PolicyVersion(round, "").name


def _came_from(folder: Path, origin: Path, round: int) -> bool:
    with LedgerReader.open_for_reading(folder) as reader:
        return reader.forked_from() == (origin.resolve(), round)
