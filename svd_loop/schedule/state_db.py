"""State database of a schedule: the state of every file, prompt and job in one SQLite file, written in transactions.

A prompt here is one row of an accepted file, so that the counts add up to the rows read. Its state is `waiting`, `used`
by a job, `duplicate` of an earlier prompt, `leaked` (it contains a held-out problem) or `forgotten` on request. Rows of
a quarantined file are counted with their file. Only waiting and used prompts keep their text.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from svd_loop.contracts import Prompt
from svd_loop.errors import ScheduleError
from svd_loop.ledger.database import transaction
from svd_loop.schedule.row_digests import damaged_row, has_digests, keep_digests, renew_digests

FILE = "schedule.sqlite"
PromptState = Literal["waiting", "used", "duplicate", "leaked", "forgotten"]
"""Values of the column `fate`, whose name is kept so that existing files stay readable."""
State = Literal["running", "ran", "decided", "closed"]
Outcome = Literal["promoted", "refused", "nothing_gained", "failed"]

_JOBS = """(
    number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, config TEXT NOT NULL, tokenizer TEXT NOT NULL,
    champion TEXT, prompts INTEGER NOT NULL, started_at REAL NOT NULL, ended_at REAL,
    state TEXT NOT NULL CHECK (state IN ('running', 'ran', 'decided', 'closed')), attempts INTEGER NOT NULL DEFAULT 0,
    stop TEXT, best_round INTEGER, score_before REAL, score REAL,
    outcome TEXT CHECK (outcome IN ('promoted', 'refused', 'nothing_gained', 'failed')),
    findings TEXT NOT NULL DEFAULT '[]', accepted_fraction REAL, output_tokens REAL
) STRICT"""
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS jobs {_JOBS};
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS files (
    number INTEGER PRIMARY KEY, place TEXT NOT NULL UNIQUE, name TEXT NOT NULL, taken_at REAL NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('accepted', 'quarantined')), rows INTEGER NOT NULL, reason TEXT NOT NULL
) STRICT;
CREATE TABLE IF NOT EXISTS prompts (
    number INTEGER PRIMARY KEY, file INTEGER NOT NULL REFERENCES files, source TEXT NOT NULL, id TEXT NOT NULL,
    fate TEXT NOT NULL CHECK (fate IN ('waiting', 'used', 'duplicate', 'leaked', 'forgotten')), detail TEXT NOT NULL,
    domain TEXT NOT NULL, text TEXT, job INTEGER REFERENCES jobs
) STRICT;
CREATE INDEX IF NOT EXISTS prompts_by_id ON prompts (id);
CREATE INDEX IF NOT EXISTS prompts_by_fate ON prompts (fate, number);
CREATE TABLE IF NOT EXISTS text_keys (key INTEGER PRIMARY KEY, prompt INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS band_keys (key INTEGER PRIMARY KEY, prompt INTEGER NOT NULL) STRICT;
"""


@dataclass(frozen=True, slots=True)
class JobRow:
    """One job of the schedule.

    Attributes:
        config: the resolved configuration it started with; later changes of the file do not apply to it.
        champion: folder of the version that was champion when it started; None if there was none.
        prompts: number of new prompts.
        score_before: development pass@1 of the weights it started from; `score` is that of its best round.
        accepted_fraction: accepted prompts of all its rounds divided by prompts played; None until it has ended, and
            in files of earlier program versions.
        output_tokens: mean tokens of its best round's answers to the development problems.
        findings: results of the checks behind the decision, each with `rule`, `passed`, `value`, `limit` and `text`.
    """

    number: int
    name: str
    config: Mapping[str, Any]
    tokenizer: str
    champion: str | None
    prompts: int
    started_at: float
    ended_at: float | None
    state: State
    attempts: int
    stop: str | None
    best_round: int | None
    score_before: float | None
    score: float | None
    outcome: Outcome | None
    findings: Sequence[Mapping[str, Any]]
    accepted_fraction: float | None
    output_tokens: float | None

    def as_dict(self) -> dict[str, Any]:
        """Return JSON data of all fields except configuration and tokenizer digest."""
        hidden = {"config", "tokenizer"}
        return {name: getattr(self, name) for name in self.__dataclass_fields__ if name not in hidden}


class StateDb:
    """An open db. Every method is one transaction, or takes part in the caller's (`writing`)."""

    def __init__(self, folder: Path) -> None:
        """Open or create the state database of the schedule in `folder`.

        Raises:
            ScheduleError: the file cannot be read or written, or was changed by another program.
        """
        self.folder = folder
        self.path = folder / FILE
        with self._as_schedule_error():
            folder.mkdir(parents=True, exist_ok=True)
            self.connection = sqlite3.connect(self.path, isolation_level=None, timeout=30.0)
            self.connection.execute("PRAGMA journal_mode = WAL")
            self.connection.execute("PRAGMA synchronous = FULL")
            self.connection.executescript(_SCHEMA)
            if (finding := damaged_row(self.connection)) is not None:
                raise ScheduleError(
                    f"{self.path}: the schedule's state is damaged ({finding}); nothing was changed. Put back a copy "
                    "of this file from before"
                )
            self._migrate()
            keep_digests(self.connection)
            self.connection.execute("PRAGMA foreign_keys = ON")

    def _migrate(self) -> None:
        """Add outcomes and columns that earlier versions did not have; SQLite needs a new table to change checks."""
        if self._is_migrated():
            return
        with transaction(self.connection):
            if self._is_migrated():  # by another process in the meantime
                return
            known = ", ".join(name for _, name, *_ in self.connection.execute("PRAGMA table_info(jobs)"))
            self.connection.execute(f"CREATE TABLE jobs_new {_JOBS}")
            self.connection.execute(f"INSERT INTO jobs_new ({known}) SELECT {known} FROM jobs")
            self.connection.execute("DROP TABLE jobs")
            self.connection.execute("ALTER TABLE jobs_new RENAME TO jobs")
            if has_digests(self.connection):
                renew_digests(self.connection, "jobs")

    def _is_migrated(self) -> bool:
        (definition,) = self.connection.execute("SELECT sql FROM sqlite_master WHERE name = 'jobs'").fetchone()
        return "nothing_gained" in definition

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Run the body in one transaction; a nested block is part of the outer transaction."""
        with self._as_schedule_error():
            if self.connection.in_transaction:
                yield self.connection
                return
            with transaction(self.connection):
                yield self.connection

    # ------------------------------------------------------------------------------------- prompts

    def counts(self) -> dict[str, int]:
        """Return the number of prompts `seen`, and the number in each state; the latter add up to `seen`."""
        with self._as_schedule_error():
            by_state = dict(self.connection.execute("SELECT fate, count(*) FROM prompts GROUP BY fate"))
            query = "SELECT coalesce(sum(rows), 0) FROM files WHERE state = 'quarantined'"
            (quarantined,) = self.connection.execute(query).fetchone()
        names: tuple[PromptState, ...] = ("waiting", "used", "duplicate", "leaked", "forgotten")
        counts = {name: int(by_state.get(name, 0)) for name in names} | {"quarantined": int(quarantined)}
        return {"seen": sum(counts.values()), **counts}

    def waiting(self, limit: int | None = None) -> list[tuple[int, Prompt]]:
        """Return the prompts that no job has used yet, oldest first, with their numbers."""
        query = "SELECT number, id, text, domain, source FROM prompts WHERE fate = 'waiting' ORDER BY number LIMIT ?"
        with self._as_schedule_error():
            rows = self.connection.execute(query, (-1 if limit is None else limit,)).fetchall()
        return [(number, Prompt(id, text, domain, source)) for number, id, text, domain, source in rows]

    def used_by(self, job: int) -> list[Prompt]:
        """Return the prompts of a job that the schedule has not forgotten, oldest first."""
        query = "SELECT id, text, domain, source FROM prompts WHERE fate = 'used' AND job = ? ORDER BY number"
        with self._as_schedule_error():
            rows = self.connection.execute(query, (job,)).fetchall()
        return [Prompt(id, text, domain, source) for id, text, domain, source in rows]

    def set_prompt_state(self, number: int, state: PromptState, detail: str = "", job: int | None = None) -> None:
        """Record the new state of a waiting prompt."""
        with self.writing() as connection:
            connection.execute(
                "UPDATE prompts SET fate = ?, detail = ?, job = ? WHERE number = ?", (state, detail, job, number)
            )

    def files(self, state: str | None = None) -> list[dict[str, Any]]:
        """Return the imported files, oldest first; with `state`, only those in that state."""
        columns = ("number", "place", "name", "taken_at", "state", "rows", "reason")
        query = f"SELECT {', '.join(columns)} FROM files WHERE ? IN (state, '') ORDER BY number"
        with self._as_schedule_error():
            return [dict(zip(columns, row, strict=True)) for row in self.connection.execute(query, (state or "",))]

    def forgotten(self) -> list[str]:
        """Return the ids of forgotten prompts, whose rows no job may replay."""
        with self._as_schedule_error():
            query = "SELECT DISTINCT id FROM prompts WHERE fate = 'forgotten' ORDER BY id"
            return [id for (id,) in self.connection.execute(query)]

    # ---------------------------------------------------------------------------------------- jobs

    def jobs(self) -> list[JobRow]:
        """Return all jobs, oldest first."""
        with self._as_schedule_error():
            columns = tuple(JobRow.__dataclass_fields__)
            rows = self.connection.execute(f"SELECT {', '.join(columns)} FROM jobs ORDER BY number").fetchall()
        found = [dict(zip(columns, row, strict=True)) for row in rows]
        return [JobRow(**job | {name: json.loads(job[name]) for name in ("config", "findings")}) for job in found]

    def unfinished(self) -> JobRow | None:
        """Return the job that is not closed yet, or None; there is never more than one."""
        return next((job for job in self.jobs() if job.state != "closed"), None)

    def add_job(self, number: int, name: str, **values: Any) -> None:
        """Record a job that is about to start; `values` are fields of `JobRow`."""
        columns = {"number": number, "name": name, "state": "running", **_stored(values)}
        with self.writing() as connection:
            marks = ", ".join("?" * len(columns))
            connection.execute(f"INSERT INTO jobs ({', '.join(columns)}) VALUES ({marks})", list(columns.values()))

    def update_job(self, number: int, **values: Any) -> JobRow:
        """Change columns of a job and return the changed row."""
        columns = _stored(values)
        with self.writing() as connection:
            changes = ", ".join(f"{name} = ?" for name in columns)
            connection.execute(f"UPDATE jobs SET {changes} WHERE number = ?", (*columns.values(), number))
        return next(job for job in self.jobs() if job.number == number)

    # ---------------------------------------------------------------------------------------- meta

    def set_meta(self, key: str, value: str) -> None:
        """Store a value under a key."""
        with self.writing() as connection:
            connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (key, value))

    def delete_meta(self, key: str) -> None:
        """Delete the value of a key, if there is one."""
        with self.writing() as connection:
            connection.execute("DELETE FROM meta WHERE key = ?", (key,))

    def meta(self, key: str) -> str | None:
        """Return the value of a key, or None."""
        with self._as_schedule_error():
            row = self.connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def close(self) -> None:
        """Close the file."""
        self.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextmanager
    def _as_schedule_error(self) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError, UnicodeDecodeError) as error:
            raise ScheduleError(
                f"{self.path}: the schedule's state database cannot be read or written: {error}; check free space and "
                "permissions; earlier transactions are intact"
            ) from error


def _stored(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values as SQLite stores them: mappings and lists as JSON."""
    return {
        name: json.dumps(value, ensure_ascii=False) if isinstance(value, dict | list | tuple) else value
        for name, value in values.items()
    }
