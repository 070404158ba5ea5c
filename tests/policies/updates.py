"""Rows and updaters for tests of training."""

import json
from pathlib import Path

from transformers import AutoTokenizer

from policies.training.sft import SftUpdater
from policies.versions.weights import WeightStore
from svd_loop.config.update import UpdateSection
from svd_loop.contracts import TrainingRow

STOP = 2


def rows(count: int = 12) -> list[TrainingRow]:
    return [
        TrainingRow((1, *range(10, 14 + i % 5), 20 + i, 30, STOP), 5 + i % 5, "accepted", f"p{i}") for i in range(count)
    ]


def settings(**overrides: object) -> UpdateSection:
    base = {"learning_rate": 1e-3, "epochs": 2.0, "batch_size": 4, "max_length": 64, "warmup": 0.1, **overrides}
    return UpdateSection.model_validate(base)


def updater(folder: Path, checkpoint: Path, **overrides: object) -> SftUpdater:
    store = WeightStore(folder / "versions")
    store.add_base(checkpoint)
    return SftUpdater(
        store,
        settings(**overrides),
        tokenizer=AutoTokenizer.from_pretrained(checkpoint),
        stop_ids={STOP, 3},
        pad_id=0,
        device="cpu",
        config_digest="c",
    )


def parent(folder: Path) -> Path:
    return folder / "versions" / "round-000"


def train_once(folder: str, checkpoint: str, overrides: str) -> None:
    """What a job's process does: train version 1; `overrides` are keys of `update` as JSON."""
    place = Path(folder)
    updater(place, Path(checkpoint), **json.loads(overrides)).fit(rows(13), round=1, parent=parent(place))
