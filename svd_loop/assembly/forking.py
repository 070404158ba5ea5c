"""Create a new job from a round of another one: its ledger and its weights, completely or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path

from svd_loop.config import Config
from svd_loop.contracts import JobPaths, RootPaths
from svd_loop.errors import ConfigError, JobConflictError, WeightsError
from svd_loop.ledger import LedgerReader, fork


def fork_job(config: Config, source: str) -> None:
    """Create the job of `config` with rounds 0 to ROUND of another; does nothing if it was forked from there already.

    Everything is assembled under a temporary name and renamed at the end, so a kill leaves no partial job, and
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
    origin, round, job = RootPaths(config.job.root).job(name), int(number), config.job.paths
    if job.folder.exists():
        if _came_from(job.folder, origin.folder, round):
            return
        raise JobConflictError(f"{job.folder}: there is a job of this name already; choose another --job NAME")
    part = JobPaths(job.fork_part)
    shutil.rmtree(part.folder, ignore_errors=True)
    for made in _weights(origin, round, source):
        shutil.copytree(origin.version(made), part.version(made))
    fork(origin.folder, round, part.folder, config)
    part.folder.rename(job.folder)


def _weights(origin: JobPaths, round: int, source: str) -> list[int]:
    """Rounds of the stored versions up to a round; empty for a job that keeps no weights."""
    if not origin.versions.exists():
        return []
    with LedgerReader.open_for_reading(origin.folder) as reader:
        played = reader.state().history[: round + 1]
    there = [number for number in range(round + 1) if origin.version(number).exists()]
    needed = played[-1].version.round if played else 0  # a round that learned nothing has an earlier one in force
    if needed not in there:
        raise WeightsError(
            f"--fork {source}: there are no weights of {origin.version(needed).name} (never made, or deleted: "
            f"update.keep_versions); up to it {origin.name} has "
            f"{', '.join(origin.version(number).name for number in there)}"
        )
    return there


def _came_from(folder: Path, origin: Path, round: int) -> bool:
    with LedgerReader.open_for_reading(folder) as reader:
        return reader.forked_from() == (origin.resolve(), round)
