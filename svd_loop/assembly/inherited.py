"""Accepted rows of earlier jobs, replayed by a job that continues from their weights.

Rows are token ids, so they are valid for the same tokenizer only; the code that sets `schedule.replay.jobs`
ensures that. They are read from the earlier jobs' ledgers, which never change once a job has ended, so a resumed job
replays the same rows.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from svd_loop.config.schedule import EarlierSection
from svd_loop.contracts import RootPaths, TrainingRow
from svd_loop.ledger import LedgerReader


def inherited_rows(settings: EarlierSection, root: Path) -> list[TrainingRow]:
    """The rows behind the versions named in `settings.jobs`, oldest job first, as rows of round 0.

    A prompt accepted in several rounds keeps only the rows of its newest one, as in replay within a job.

    Args:
        settings: which jobs, up to which round, and which prompts are left out.
        root: `job.root`.

    Raises:
        LedgerError: an earlier job's ledger is missing or damaged.
    """
    found: list[TrainingRow] = []
    for entry in settings.jobs:
        name, _, last = entry.partition("@")
        with LedgerReader.open_for_reading(RootPaths(root).job(name).folder) as reader:
            rows = reader.accepted_rows(range(1, int(last) + 1))
        newest = {row.prompt_id: row.round for row in rows}  # oldest round first, so the newest stays
        found += [replace(row, round=0) for row in rows if newest[row.prompt_id] == row.round]
    left_out = frozenset(settings.without)
    return [row for row in found if row.prompt_id not in left_out]
