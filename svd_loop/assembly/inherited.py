"""Accepted rows of earlier jobs, for the replay of a job that goes on from where they ended.

Rows are token ids, so they mean something to the same tokenizer only; whoever fills in `schedule.replay.jobs` has
seen to that. They are read from the earlier jobs' ledgers, which never change once a job has ended, so a resumed job
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

    A prompt accepted in several rounds has the rows of its newest one only, as replay within a job has it.

    Args:
        settings: which jobs, up to which round, and which prompts are left out.
        root: `job.root`.

    Raises:
        LedgerError: an earlier job's ledger is gone or damaged.
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
