"""Delete stored versions that are no longer needed: all but the base, the best, the newest few and registered ones.

This runs after each committed round. If the process is killed before, the next round deletes them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path

from policies.versions.weights import WeightStore
from svd_loop.config import Config
from svd_loop.contracts import JobState
from svd_loop.errors import SvdError
from svd_loop.loop.plateau import PlateauRule

log = logging.getLogger(__name__)


def removable(stored: Iterable[int], played: Iterable[int], best: int, newest: int) -> set[int]:
    """Return the stored versions that a job no longer needs.

    Args:
        stored: rounds with a version on disk.
        played: version used in each committed round, oldest first; a round without an update repeats one.
        best: the best round's version.
        newest: number of newest versions to keep, at least 1, because the next round plays with the last one.

    Returns:
        A subset of `stored`. Never the base, and never a version that is newer than all committed rounds: the round
        that made it will be played again.
    """
    versions = sorted(set(played))
    kept = {0, best, *versions[-newest:]}
    return {round for round in stored if round not in kept and round < versions[-1]}


class Retention:
    """Applies `update.keep_versions`. A failure is only a warning.

    Args:
        config: the job.
        plateau: determines the best round.
    """

    def __init__(self, config: Config, plateau: PlateauRule) -> None:
        self._config = config
        self._store = WeightStore(config.job.paths.versions)
        self._plateau = plateau

    def apply(self, state: JobState) -> None:
        """Delete the versions that are no longer needed."""
        newest = self._config.update.keep_versions
        if newest is None:
            return
        try:
            played = [record.version.round for record in state.history]
            best = self._plateau.best(state.history).version.round
            unneeded = removable(self._store.rounds(), played, best, newest)
            if unneeded:
                self._store.retain(set(self._store.rounds()) - (unneeded - self._registered(unneeded)))
        except (SvdError, OSError) as error:
            log.warning("old versions are kept for now: %s", error)

    def _registered(self, unneeded: set[int]) -> set[int]:
        """Return those of `unneeded` that a registered model refers to; all of them if the registry cannot be asked."""
        tracking = self._config.tracking
        if not tracking.enabled:
            if not self._config.job.paths.tracking_id.exists():
                return set()  # this job was never tracked, so it never registered anything
            log.warning("old versions are kept: the registry cannot be asked while tracking.enabled is false")
            return unneeded
        from mlflow.exceptions import MlflowException

        from svd_loop.mlflow_store.connection import open_store
        from svd_loop.mlflow_store.registry import Registry

        try:
            sources = Registry(open_store(tracking.uri, self._config.job.root, tracking.experiment).client).sources()
        except (MlflowException, SvdError, OSError) as error:
            log.warning("old versions are kept: the registry cannot be asked (%s)", str(error).partition("\n")[0])
            return unneeded
        places = {Path(source.removeprefix("file://")).resolve() for source in sources}
        return {round for round in unneeded if self._store.path(round).resolve() in places}
