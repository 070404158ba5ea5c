"""The update: supervised fine-tuning of the sampled token ids through TRL's `SFTTrainer`, full or LoRA.

Unusable rows are refused here. The run is `policies.training.run`, in the job's process or in processes of its own
(`policies.training.launching`). On a CPU, in one process, the same rows give the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from policies.training.algorithm import UpdateContext
from policies.training.rows import check_rows, data_digest
from policies.training.run import Trained, TrainingTask, step_progress, train
from policies.training.updater import GradientUpdater
from svd_loop.contracts import TrainingRow, UpdateMaterial, UpdateResult


class SftUpdater(GradientUpdater[TrainingRow]):
    """Supervised fine-tuning as a `policies.training.algorithm.Updater`."""

    def learn(self, material: UpdateMaterial, *, round: int, parent: Path) -> UpdateResult:
        """Train on the material's rows; see `fit`."""
        return self.fit(material.rows, round=round, parent=parent)

    def fit(self, rows: Sequence[TrainingRow], *, round: int, parent: Path) -> UpdateResult:
        """Train on `rows` and store the result as version `round`; see `GradientUpdater.update`.

        Args:
            rows: token ids, loss on `input_ids[supervised_from:]`.
            round: the version to make, at least 1.
            parent: the previous version's folder.

        Raises:
            TrainingError: unusable rows, a loss or gradient that is not finite, or not enough memory.
            WeightsError: the parent is missing, or the result cannot be written.
        """
        check_rows(rows, self._stop_ids, self._settings.max_length)
        return self.update(rows, data_digest(rows), round=round, parent=parent)

    def run(self, task: TrainingTask, items: Sequence[TrainingRow]) -> Trained:
        """Run the trainer, in this process or in several others."""
        if self._settings.launch.apart:
            from policies.training.launching import launch

            return launch(task, items)
        with step_progress(task, len(items)) as on_step:
            return train(task, items, self._tokenizer, on_step)


def make_updater(context: UpdateContext) -> SftUpdater:
    """Build the updater from the configuration."""
    return SftUpdater.of(context)
