"""Log a job's rounds as TensorBoard event files; the round is the step.

Event files can only be appended to. So every process removes the job's earlier ones and writes the history again from
the ledger: it is then complete and nothing appears twice, also after a kill.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from svd_loop.config.tracking import TensorBoardTrackerSection
from svd_loop.contracts import JobResult, RoundRecord
from svd_loop.errors import ConfigError
from svd_loop.mlflow_store.metrics import round_metrics, score_metrics
from svd_loop.mlflow_store.trackers import TrackedJob
from svd_loop.report.summary import STOPPED, gain_sentence

SUFFIX = ".svd-loop"
"""Suffix of the event files written here; other files in the folder are not touched."""


class TensorBoardTracker:
    """Writes event files with tensorboardX.

    Args:
        folder: folder of the event files, for this job alone; created if absent.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._writer: Any = None
        self._logged = 0

    def start(self) -> None:
        """Start new event files and delete the job's earlier ones.

        Raises:
            ConfigError: tensorboardX is not installed, or the folder cannot be written.
        """
        if importlib.util.find_spec("tensorboardX") is None:
            raise ConfigError(
                "tracking.trackers: type tensorboard needs the package tensorboardX: pip install -e '.[tensorboard]', "
                "or remove it from the list"
            )
        from tensorboardX import SummaryWriter

        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            for old in self._folder.glob(f"*{SUFFIX}"):
                old.unlink()
            self._writer = SummaryWriter(str(self._folder), filename_suffix=SUFFIX)
        except OSError as error:
            raise ConfigError(f"tracking.trackers: {self._folder} cannot be written: {error}") from None

    def sync(self, history: Sequence[RoundRecord]) -> None:
        """Write the rounds that this process has not written yet."""
        for record in history[self._logged :]:
            self._log(round_metrics(record), record.round)
        self._logged = len(history)
        self._writer.flush()

    def finish(self, result: JobResult) -> None:
        """Write test scores and how the job ended."""
        self.sync(result.history)
        rounds = {record.version.name: record.version.round for record in result.history}
        for version, scores in result.test.items():
            self._log(score_metrics(scores, "test/"), rounds[version])
        words = [f"Stopped because {STOPPED[result.stop]}.", gain_sentence(result), *result.notes]
        self._writer.add_text("job/end", "\n\n".join(words), result.best.round)
        self._writer.close()

    def pause(self) -> None:
        """Close the files; the next process writes them again."""
        if self._writer is not None:
            self._writer.close()

    def _log(self, metrics: dict[str, float], step: int) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, step)


def make_tracker(settings: TensorBoardTrackerSection, job: TrackedJob) -> TensorBoardTracker:
    """Make the tracker of `{type: tensorboard}`."""
    folder = job.paths.folder / "tensorboard" if settings.folder is None else settings.folder / job.name
    return TensorBoardTracker(folder)
