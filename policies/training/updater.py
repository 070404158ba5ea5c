"""What updates by gradients share: lookup of finished ones, folders, a second try after memory ran out, storing.

The run of a trainer itself is the algorithm's (`GradientUpdater.run`).
"""

from __future__ import annotations

import hashlib
import logging
import shutil
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Generic, Self, TypeVar

from policies.cluster.connection import connect, has_gpus
from policies.training.algorithm import UpdateContext
from policies.training.rows import describe, share_of_batch, usable_rows
from policies.training.run import Trained, TrainingTask
from policies.versions.checkpoints import foundation, resolve_device
from policies.versions.stored import StoredVersion, read_manifest, stored_version
from policies.versions.weights import Origin, WeightStore
from svd_loop.config.update import LaunchSection, UpdateSection
from svd_loop.contracts import PolicyVersion, TrainingRow, UpdateMaterial, UpdateResult
from svd_loop.errors import TrainingError
from svd_loop.support.linking import copy_by_links
from svd_loop.support.torch_memory import is_out_of_memory, release_gpu_memory

_log = logging.getLogger(__name__)
Item = TypeVar("Item")


class GradientUpdater(ABC, Generic[Item]):
    """The shared part of a `policies.training.algorithm.Updater`; `Item` is what a batch is made of.

    Args:
        store: where versions go; round 0 must be stored.
        settings: the `update` section.
        tokenizer: saved with full versions; names the padding id.
        stop_ids: tokens an answer may end in.
        pad_id: fills short rows; masked by length, so that a true end token is never hidden.
        job_seed: with the round, decides order and dropout.
        device: `auto`, `cpu` or `cuda`.
        config_digest: recorded with each version, compared when a finished update is found again.
    """

    def __init__(
        self,
        store: WeightStore,
        settings: UpdateSection,
        *,
        tokenizer: Any,
        stop_ids: Collection[int],
        pad_id: int,
        job_seed: int = 0,
        device: str = "auto",
        config_digest: str = "",
    ) -> None:
        self._store = store
        self._settings = settings
        self._tokenizer = tokenizer
        self._stop_ids = frozenset(stop_ids)
        self._pad_id = pad_id
        self._job_seed = job_seed
        self._device = _device(device, settings.launch)
        self._config_digest = config_digest

    @classmethod
    def of(cls, context: UpdateContext) -> Self:
        """Build the updater from the configuration."""
        codec = context.codec
        return cls(
            context.store,
            context.settings,
            tokenizer=codec.tokenizer,
            stop_ids=codec.stop_ids,
            pad_id=codec.pad_id,
            job_seed=context.job_seed,
            device=context.device,
            config_digest=context.config_digest,
        )

    def usable(self, rows: Sequence[TrainingRow]) -> tuple[list[TrainingRow], dict[str, float]]:
        """The rows that can be trained on, and how many were refused as `rows_refused.<reason>`.

        Raises:
            TrainingError: there are rows, and none can be used.
        """
        kept, refused = usable_rows(rows, self._stop_ids, self._settings.max_length)
        if len(kept) < len(rows):
            what = describe(refused, self._settings.max_length)
            if not kept:
                raise TrainingError(f"none of {len(rows)} rows can be trained on: {what}")
            _log.warning("%d of %d rows are left out of training: %s", len(rows) - len(kept), len(rows), what)
        return kept, {f"rows_refused.{reason}": float(len(items)) for reason, items in refused.items()}

    @abstractmethod
    def learn(self, material: UpdateMaterial, *, round: int, parent: Path) -> UpdateResult:
        """Train on the material, and store the result as version `round`."""

    @abstractmethod
    def run(self, task: TrainingTask, items: Sequence[Item]) -> Trained:
        """Run the trainer from its newest checkpoint, or from the beginning, to its end."""

    def update(
        self, items: Sequence[Item], digest: str, *, round: int, parent: Path, smallest: int = 1
    ) -> UpdateResult:
        """Train on `items` and store the result as version `round`.

        An update that was finished before (same data, same configuration, intact files) is not repeated; one that
        was interrupted continues from its newest checkpoint, if `checkpoint_steps` is set.

        Args:
            items: what is trained on, in order.
            digest: of everything that is trained on.
            round: the version to make, at least 1.
            parent: the previous version's folder.
            smallest: fewest items of a forward pass that the trainer can work with.

        Raises:
            TrainingError: a loss or gradient that is not finite, or not enough memory.
            WeightsError: the parent is missing, or the result cannot be written.
        """
        done = self._store.existing(round, digest, self._config_digest)
        if done is not None:
            return self._result(done)
        start = self._start(stored_version(parent))
        work = self._store.folder / f"training-{round:03d}-{_name(digest, self._config_digest, start)}"
        for other in set(self._store.folder.glob(f"training-{round:03d}-*")) - {work}:
            shutil.rmtree(other, ignore_errors=True)  # made from other rows or weights: never resumed
        settings = self._settings
        task = TrainingTask(
            settings,
            start.path,
            work,
            _seed(self._job_seed, round),
            share_of_batch(settings.batch_size, settings.launch.processes, settings.micro_batch_size),
            self._pad_id,
            self._device,
            PolicyVersion(round, "").name,
        )
        if task.micro_batch < smallest:
            raise TrainingError(
                f"update.micro_batch_size: {settings.algorithm.type} needs at least {smallest} rows in a forward pass, "
                f"it is {task.micro_batch} (of update.batch_size: {settings.batch_size})"
            )
        trained: Trained | None = None
        try:
            trained = self.run(task, items)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
        if trained is None:  # after the handler: inside it, the traceback would keep the batch's memory
            trained = self._train_again(task, items, smallest)
        base, count = foundation(start) if settings.method == "lora" else None, len(items)
        origin = Origin(start.version.round, digest, self._config_digest, base, trained.metrics, count, trained.steps)
        stored = self._write(trained, task, round, origin)
        shutil.rmtree(work, ignore_errors=True)
        return self._result(stored)

    def _write(self, trained: Trained, task: TrainingTask, round: int, origin: Origin) -> StoredVersion:
        """Store the version, and before it the checkpoints to choose from: a round with a version has all of them."""
        kind, candidates = self._settings.method, task.candidates(origin.rows)
        self._store.drop_steps(round)
        for step in candidates[:-1]:
            earlier = replace(trained, save=partial(copy_by_links, task.candidate(step)))
            self._store.write(round, kind, partial(self._save, earlier), replace(origin, steps=step), step=step)
        last = candidates[-1] if candidates else None
        stored = self._store.write(round, kind, lambda folder: self._save(trained, folder), origin, step=last)
        return stored if last is None else self._store.choose(round, last)

    def _result(self, stored: StoredVersion) -> UpdateResult:
        manifest, round = read_manifest(stored.path), stored.version.round
        candidates = tuple(self._store.steps(round)) if self._settings.choose_from else ()
        return UpdateResult(
            stored.version, stored.path, manifest.rows, manifest.steps, dict(manifest.metrics), candidates
        )

    def _start(self, parent: StoredVersion) -> StoredVersion:
        """The version whose weights the update starts from."""
        return self._store.load(0) if self._settings.start == "base" else parent

    def _train_again(self, task: TrainingTask, items: Sequence[Item], smallest: int) -> Trained:
        """Train again from the beginning, once, after memory ran out: half as many rows per forward pass."""
        release_gpu_memory()
        advice = "set update.micro_batch_size lower, or update.gradient_checkpointing: true"
        if task.micro_batch == 1:
            raise TrainingError(f"out of memory while training on a single row; {advice}")
        half = share_of_batch(self._settings.batch_size, self._settings.launch.processes, task.micro_batch // 2)
        if half < smallest:
            raise TrainingError(f"out of memory while training with {task.micro_batch} rows per forward pass; {advice}")
        _log.warning(
            "out of memory while training with %d rows per forward pass: once more with %d; %s",
            task.micro_batch,
            half,
            advice,
        )
        shutil.rmtree(task.work, ignore_errors=True)
        try:
            return self.run(replace(task, micro_batch=half), items)
        except RuntimeError as error:
            if not is_out_of_memory(error):
                raise
            raise TrainingError(f"out of memory, even with {half} rows per forward pass; {advice}") from error

    def _save(self, trained: Trained, folder: Path) -> None:
        trained.save(folder)
        if self._settings.method == "full":
            self._tokenizer.save_pretrained(folder)


def _device(device: str, launch: LaunchSection) -> str:
    """`cpu` or `cuda`, where the update runs."""
    if launch.type != "ray":
        return resolve_device(device)
    connect(launch.address, key="update.launch.address")
    return "cuda" if device == "cuda" or (device == "auto" and has_gpus()) else "cpu"


def _seed(job_seed: int, round: int) -> int:
    """31 bits from job seed and round."""
    return int.from_bytes(hashlib.sha256(f"update {job_seed} {round}".encode()).digest()[:4], "big") >> 1


def _name(digest: str, config_digest: str, start: StoredVersion) -> str:
    """A name for a run from everything that determines it, so that only its own checkpoints are resumed."""
    text = f"{digest} {config_digest} {start.version.fingerprint}"
    return hashlib.sha256(text.encode()).hexdigest()[:16]
