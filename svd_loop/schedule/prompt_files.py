"""Files of the prompts that a schedule gives to its jobs, each with a digest in the schedule's state.

A job reads its prompts from a file. Should that file be changed or lost, it is written again from the state before the
job continues, as long as none of its prompts has been forgotten since.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path

from svd_loop.contracts import Prompt
from svd_loop.contracts.conversation import as_data
from svd_loop.errors import ScheduleError
from svd_loop.schedule.state_db import JobRow, StateDb
from svd_loop.support.atomic import write_atomically

log = logging.getLogger(__name__)


def write_prompts(folder: Path, name: str, prompts: Sequence[Prompt]) -> Path:
    """Write the file of a job's prompts into a schedule's folder and return its path."""
    path = prompts_file(folder, name)
    path.parent.mkdir(exist_ok=True)
    write_atomically(path, _rows(prompts))
    return path


def record_prompts(db: StateDb, name: str, prompts: Sequence[Prompt]) -> None:
    """Store the digest of the file of a job's prompts."""
    db.set_meta(f"prompts/{name}", _digest(_rows(prompts).encode("utf-8")))


def restore_prompts(folder: Path, db: StateDb, job: JobRow) -> None:
    """Write the file of a job's prompts again if it is not what was written.

    Raises:
        ScheduleError: it is not, and some of its prompts have been forgotten since.
    """
    path, written = prompts_file(folder, job.name), db.meta(f"prompts/{job.name}")
    if written is None or (path.is_file() and _digest(path.read_bytes()) == written):
        return  # None: the job is of a program version without digests
    prompts = db.used_by(job.number)
    if _digest(_rows(prompts).encode("utf-8")) != written:
        raise ScheduleError(
            f"{path}: is not what was written for {job.name}, and the schedule has forgotten some of its prompts "
            "since. Put back a copy of this file from before"
        )
    log.warning("%s: was changed or lost since it was written, and is written again", path)
    write_prompts(folder, job.name, prompts)


def prompts_file(folder: Path, name: str) -> Path:
    """The file of a job's prompts."""
    return folder / "prompts" / f"{name}.jsonl"


def _rows(prompts: Sequence[Prompt]) -> str:
    rows = ({"prompt": as_data(p.text), "domain": p.domain, "id": p.source} for p in prompts)
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
