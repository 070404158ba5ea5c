"""Check training rows, and order them so that little padding is computed.

The order is drawn here once for the whole run, so that a resumed run only skips what it has done.
"""

from __future__ import annotations

import hashlib
import json
import math
import random
from collections.abc import Collection, Mapping, Sequence

from svd_loop.contracts import TrainingRow
from svd_loop.errors import TrainingError

_GROUP_BATCHES = 16
"""Batches whose rows are sorted by length together."""

REASONS = {
    "no_supervised_token": "without a supervised token behind a prompt",
    "no_stop_token": "do not end in a stop token",
    "over_length": "longer than update.max_length: {max_length}",
}
"""Reasons to refuse a row: name in metrics, text in messages."""


def check_rows(rows: Sequence[TrainingRow], stop_ids: Collection[int], max_length: int) -> None:
    """Refuse rows that have nothing to learn from, no stop token, or too many tokens.

    Raises:
        TrainingError: there are no rows, or some are unusable; lists how many of each kind, with an example.
    """
    if not rows:
        raise TrainingError("there are no rows to train on")
    usable, refused = usable_rows(rows, stop_ids, max_length)
    if len(usable) < len(rows):
        raise TrainingError(
            f"{len(rows)} rows cannot be trained on: {describe(refused, max_length)}. "
            "Nothing is cut or left out silently"
        )


def usable_rows(
    rows: Sequence[TrainingRow], stop_ids: Collection[int], max_length: int
) -> tuple[list[TrainingRow], dict[str, list[TrainingRow]]]:
    """The rows that can be trained on, and those that cannot, by each of their reasons (all of `REASONS`)."""
    refused: dict[str, list[TrainingRow]] = {reason: [] for reason in REASONS}
    usable = []
    for row in rows:
        faults = _faults(row, stop_ids, max_length)
        for fault in faults:
            refused[fault].append(row)
        if not faults:
            usable.append(row)
    return usable, refused


def describe(refused: Mapping[str, Sequence[TrainingRow]], max_length: int) -> str:
    """How many rows were refused for which reason, with an example of each."""
    return "; ".join(
        f"{len(rows)} {REASONS[reason].format(max_length=max_length)} (such as {rows[0].prompt_id or rows[0].origin})"
        for reason, rows in refused.items()
        if rows
    )


def _faults(row: TrainingRow, stop_ids: Collection[int], max_length: int) -> list[str]:
    faults = []
    # The first token has no context to be predicted from, so it must be unsupervised.
    if not 1 <= row.supervised_from < len(row.input_ids):
        faults.append("no_supervised_token")
    elif row.input_ids[-1] not in stop_ids:
        faults.append("no_stop_token")
    if len(row.input_ids) > max_length:
        faults.append("over_length")
    return faults


def dataset_columns(rows: Sequence[TrainingRow]) -> dict[str, list[list[int]]]:
    """`input_ids`, and `labels` with -100 where there is no loss."""
    return {
        "input_ids": [list(row.input_ids) for row in rows],
        "labels": [[-100] * row.supervised_from + list(row.input_ids[row.supervised_from :]) for row in rows],
    }


def share_of_batch(batch_size: int, processes: int, at_most: int | None) -> int:
    """Rows per forward pass: the largest divisor of a process's part of the batch up to `at_most`.

    A divisor, so that an optimizer step sees `batch_size` rows and not a few more.
    """
    share = batch_size // processes
    return next(size for size in range(min(share, at_most or share), 0, -1) if share % size == 0)


def data_digest(rows: Sequence[TrainingRow]) -> str:
    """SHA-256 over the training rows, including their order."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps((row.input_ids, row.supervised_from)).encode())
    return digest.hexdigest()


def training_order(lengths: Sequence[int], *, samples: int, batch_size: int, seed: int) -> list[int]:
    """The order of rows: passes in random order, rows of similar length together within a batch.

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


def candidate_steps(steps: int, count: int) -> tuple[int, ...]:
    """The steps at which `count` checkpoints are kept to choose from: equally spaced, the last step included.

    Returns:
        Ascending; fewer than `count` if there are fewer steps, none if `count` is 0.
    """
    return tuple(sorted({math.ceil(steps * place / count) for place in range(1, count + 1)}))
