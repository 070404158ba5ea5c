"""The interface of an update algorithm.

An algorithm is a file in this package with a function `make_updater(UpdateContext) -> Updater`, a section, and a row
of `svd_loop.config.update.UPDATES`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from policies.text.chat import ChatCodec
from policies.versions.weights import WeightStore
from svd_loop.config.update import UpdateSection
from svd_loop.contracts import TrainingRow, UpdateMaterial, UpdateResult


@dataclass(frozen=True, slots=True)
class UpdateContext:
    """The inputs of an update algorithm that stay the same for all updates of a job.

    Attributes:
        store: the versions; round 0 is stored.
        settings: the `update` section; `settings.algorithm` is the algorithm's own.
        codec: the base's tokenizer, chat template and stop tokens.
        job_seed: the job's seed.
        device: `auto`, `cpu` or `cuda`.
        config_digest: recorded with each version, so that a finished update is found again.
    """

    store: WeightStore
    settings: UpdateSection
    codec: ChatCodec
    job_seed: int = 0
    device: str = "auto"
    config_digest: str = ""


class Updater(Protocol):
    """An update algorithm, ready to train."""

    def usable(self, rows: Sequence[TrainingRow]) -> tuple[list[TrainingRow], dict[str, float]]:
        """The rows that can be trained on, and how many were refused as `rows_refused.<reason>`."""
        ...

    def learn(self, material: UpdateMaterial, *, round: int, parent: Path) -> UpdateResult:
        """Train, and store the result as version `round`.

        Must not repeat an update that was already finished with the same material. With `update.choose_from` it also
        stores checkpoints (`WeightStore.write` with a step) and names them in `UpdateResult.candidates`; the last
        step is kept of an algorithm that stores none.

        Args:
            material: the rows of the round.
            round: the version to make, at least 1.
            parent: folder of the version in force before.
        """
        ...
