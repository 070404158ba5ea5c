"""Remove a prompt from a schedule: no later job plays or replays it; lists the versions that were trained on it.

Existing weights are not changed. To get weights without the prompt, train from a version older than it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from svd_loop.config import Config
from svd_loop.contracts import RootPaths
from svd_loop.errors import DataError, JobConflictError
from svd_loop.ledger import LedgerReader
from svd_loop.schedule.state_db import JobRow, StateDb
from svd_loop.schedule.tick import schedule_folder


@dataclass(frozen=True, slots=True)
class Forgotten:
    """Result of forgetting a prompt.

    Attributes:
        prompt: id of the prompt.
        sources: files and lines that contained it.
        learned: versions (`JOB@ROUND`) whose own job trained on a row of it.
        descended: further versions that started from one of those, or may have drawn such a row in replay.
        running: the unfinished job that still uses it, if any.
    """

    prompt: str
    sources: tuple[str, ...]
    learned: tuple[str, ...]
    descended: tuple[str, ...]
    running: str | None

    def as_dict(self) -> dict[str, Any]:
        """Return JSON data."""
        return asdict(self)


def forget(config: Config, prompt_id: str) -> Forgotten:
    """Delete a prompt's text from the state database and exclude the prompt from later jobs; its id stays known.

    Calling it again for the same prompt is allowed.

    Raises:
        DataError: the schedule has never read such a prompt.
        JobConflictError: a tick is running.
        LedgerError: a job's ledger is missing or damaged.
    """
    folder = schedule_folder(config)
    if not folder.exists():
        raise DataError(f"{folder}: this schedule has never run a tick; job.root and job.name give its folder")
    try:
        with FileLock(folder / "lock", timeout=0), StateDb(folder) as db:
            return _forget(db, RootPaths(config.job.root), prompt_id)
    except Timeout:
        raise JobConflictError(f"{folder}: a tick is running; stop it or wait, then run forget again") from None


def _forget(db: StateDb, paths: RootPaths, prompt_id: str) -> Forgotten:
    with db.writing() as connection:
        query = "SELECT source FROM prompts WHERE id = ? ORDER BY number"
        sources = tuple(source for (source,) in connection.execute(query, (prompt_id,)))
        if not sources:
            raise DataError(f"--prompt {prompt_id}: no file of this schedule contained a prompt with this id")
        connection.execute(
            "UPDATE prompts SET fate = 'forgotten', detail = 'on request', text = NULL"
            " WHERE id = ? AND fate IN ('waiting', 'used')",
            (prompt_id,),
        )
    jobs = [job for job in db.jobs() if paths.job(job.name).config.exists()]
    learned, descended = _versions(jobs, paths, prompt_id)
    query = "SELECT 1 FROM prompts WHERE id = ? AND job = ?"
    unfinished = db.unfinished()
    uses_it = unfinished and db.connection.execute(query, (prompt_id, unfinished.number)).fetchone()
    return Forgotten(prompt_id, sources, learned, descended, unfinished.name if unfinished and uses_it else None)


def _versions(jobs: Sequence[JobRow], paths: RootPaths, prompt_id: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the versions trained on a prompt by their own job, and those affected by descent or replay."""
    learned: list[str] = []
    descended: list[str] = []
    first_rounds: dict[str, int] = {}
    for job in jobs:
        with LedgerReader.open_for_reading(paths.job(job.name).folder) as reader:
            own = min((row.round for row in reader.accepted_rows() if row.prompt_id == prompt_id), default=None)
            made = [record.round for record in reader.state().history if record.version.round == record.round > 0]
        inherits = _inherits(job, first_rounds, [*learned, *descended], prompt_id)
        if own is not None:
            first_rounds[job.name] = own
        for round in made:
            if own is not None and round >= own:
                learned.append(f"{job.name}@{round}")
            elif inherits:
                descended.append(f"{job.name}@{round}")
    return tuple(learned), tuple(descended)


def _inherits(job: JobRow, first_rounds: Mapping[str, int], tainted: Sequence[str], prompt_id: str) -> bool:
    """Return whether a job started from a version in `tainted`, or replayed rows of the prompt."""
    if job.champion is not None:
        champion = Path(job.champion)
        if f"{champion.parents[1].name}@{int(champion.name.removeprefix('round-'))}" in tainted:
            return True
    replay = job.config["schedule"]["replay"]
    sources = (entry.partition("@") for entry in replay["jobs"])
    return prompt_id not in replay["without"] and any(
        first_rounds.get(name, int(last) + 1) <= int(last) for name, _, last in sources
    )
