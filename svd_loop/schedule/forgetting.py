"""Taking a prompt back: no job plays or replays it any more, and it is said which versions learned from it.

What weights have learned stays learned; that takes a job from older weights.
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
from svd_loop.schedule.state_db import Book, JobRow
from svd_loop.schedule.tick import schedule_folder


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What forgetting a prompt meant.

    Attributes:
        prompt: its id.
        sources: files and lines it came from.
        learned: versions (`JOB@ROUND`) whose own job accepted a row of it.
        descended: further versions, which started from one of those or may have drawn such a row in replay.
        running: the job that is not over yet and goes on with it, if there is one.
    """

    prompt: str
    sources: tuple[str, ...]
    learned: tuple[str, ...]
    descended: tuple[str, ...]
    running: str | None

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def forget(config: Config, prompt_id: str) -> Forgotten:
    """Forget a prompt of a schedule; may be repeated. Its text is deleted from the book, its id stays known.

    Raises:
        DataError: the schedule never saw such a prompt.
        JobConflictError: a tick is at work.
        LedgerError: a job's ledger is gone or damaged.
    """
    folder = schedule_folder(config)
    if not folder.exists():
        raise DataError(f"{folder}: this schedule has never ticked; job.root and job.name say where it lies")
    try:
        with FileLock(folder / "lock", timeout=0), Book(folder) as book:
            return _forget(book, RootPaths(config.job.root), prompt_id)
    except Timeout:
        raise JobConflictError(f"{folder}: a tick is at work; stop it or wait, then forget") from None


def _forget(book: Book, paths: RootPaths, prompt_id: str) -> Forgotten:
    with book.writing() as connection:
        query = "SELECT source FROM prompts WHERE id = ? ORDER BY number"
        sources = tuple(source for (source,) in connection.execute(query, (prompt_id,)))
        if not sources:
            raise DataError(f"--prompt {prompt_id}: no file of this schedule held a prompt with this id")
        connection.execute(
            "UPDATE prompts SET fate = 'forgotten', detail = 'on request', text = NULL"
            " WHERE id = ? AND fate IN ('waiting', 'used')",
            (prompt_id,),
        )
    jobs = [job for job in book.jobs() if paths.job(job.name).config.exists()]
    learned, descended = _versions(jobs, paths, prompt_id)
    query = "SELECT 1 FROM prompts WHERE id = ? AND job = ?"
    unfinished = book.unfinished()
    plays = unfinished and book.connection.execute(query, (prompt_id, unfinished.number)).fetchone()
    return Forgotten(prompt_id, sources, learned, descended, unfinished.name if unfinished and plays else None)


def _versions(jobs: Sequence[JobRow], paths: RootPaths, prompt_id: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Versions that learned from a prompt themselves, and those that did by descent or by replay."""
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
    """Whether a job started from a version in `tainted`, or replayed rows of the prompt."""
    if job.champion is not None:
        champion = Path(job.champion)
        if f"{champion.parents[1].name}@{int(champion.name.removeprefix('round-'))}" in tainted:
            return True
    replay = job.config["schedule"]["replay"]
    sources = (entry.partition("@") for entry in replay["jobs"])
    return prompt_id not in replay["without"] and any(
        first_rounds.get(name, int(last) + 1) <= int(last) for name, _, last in sources
    )
