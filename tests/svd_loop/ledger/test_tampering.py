"""A few of the changes that `benchmarks/tampering.py` makes by the hundred: each is named or harmless."""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path

from benchmarks.tampering import Job, execute, flips, tried


def test_no_change_of_a_jobs_files_is_silent(tmp_path: Path) -> None:
    job = Job(tmp_path)
    lost = partial(execute, path=Path("jobs/scripted/ledger.sqlite"), sql="DELETE FROM accepted_rows WHERE round = 1")
    assert tried(job, ("ledger.sqlite", "a lost row", lost), tmp_path)[0] == "named"
    outcomes = [tried(job, change, tmp_path)[0] for change in flips(job, 2, random.Random(0))]
    assert set(outcomes) <= {"named", "harmless"}
