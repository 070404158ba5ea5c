"""Training rows before training: refused when they cannot teach, ordered so that little padding is computed.

The order is drawn here, once, for the whole run: a resumed run then needs no more than to skip what it has done.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections import Counter
from collections.abc import Collection, Sequence

from svd_loop.contracts import TrainingRow
from svd_loop.errors import TrainingError

_GROUP_BATCHES = 16
"""Batches whose rows are sorted by length together."""


def check_rows(rows: Sequence[TrainingRow], stop_ids: Collection[int], max_length: int) -> None:
    """Refuse rows that would teach nothing, teach not to stop, or have to be cut.

    Raises:
        TrainingError: there are no rows, or some are unusable; lists how many of each kind, with an example.
    """
    if not rows:
        raise TrainingError("there are no rows to train on")
    faults: Counter[str] = Counter()
    example: dict[str, str] = {}
    for row in rows:
        for fault in _faults(row, stop_ids, max_length):
            faults[fault] += 1
            example.setdefault(fault, row.prompt_id or row.origin)
    if faults:
        counts = "; ".join(f"{count} {fault} (such as {example[fault]})" for fault, count in faults.items())
        raise TrainingError(f"{len(rows)} rows cannot be trained on: {counts}. Nothing is cut or left out silently")


def _faults(row: TrainingRow, stop_ids: Collection[int], max_length: int) -> list[str]:
    faults = []
    # The first token has no context to be predicted from, so a row must leave at least it unsupervised.
    if not 1 <= row.supervised_from < len(row.input_ids):
        faults.append("without a supervised token behind a prompt")
    elif row.input_ids[-1] not in stop_ids:
        faults.append("do not end in a stop token")
    if len(row.input_ids) > max_length:
        faults.append(f"longer than update.max_length: {max_length}")
    return faults


def data_digest(rows: Sequence[TrainingRow]) -> str:
    """SHA-256 over what is trained on, order included."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps((row.input_ids, row.supervised_from)).encode())
    return digest.hexdigest()


def training_order(lengths: Sequence[int], *, samples: int, batch_size: int, seed: int) -> list[int]:
    """Which row comes when: passes in random order, rows of like length beside each other within a batch.

    Batches themselves come in random order within a group of `_GROUP_BATCHES`; a short batch stays last.

    Args:
        lengths: tokens of each row.
        samples: rows to draw; more than there are rows repeats them, each pass in a new order.
        batch_size: rows per optimizer step.
        seed: decides the order.

    Returns:
        `samples` indices into `lengths`.
    """
    generator = random.Random(seed)
    drawn: list[int] = []
    while len(drawn) < samples:
        drawn += generator.sample(range(len(lengths)), len(lengths))
    del drawn[samples:]
    order: list[int] = []
    size = batch_size * _GROUP_BATCHES
    for start in range(0, samples, size):
        group = sorted(drawn[start : start + size], key=lambda index: -lengths[index])
        batches = [group[first : first + batch_size] for first in range(0, len(group), batch_size)]
        short = [batches.pop()] if len(batches[-1]) < batch_size else []
        generator.shuffle(batches)
        order += [index for batch in batches + short for index in batch]
    return order


def sample_count(rows: int, *, epochs: float, steps: int | None, batch_size: int) -> int:
    """Rows drawn in a run: `steps` full batches, or `epochs` passes (at least one row)."""
    return steps * batch_size if steps is not None else max(1, math.ceil(rows * epochs))
