"""Reading a ledger: for the loop itself, for reports, and for anyone with a question in SQL."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from svd_loop.contracts import JobPaths, JobResult, JobState, Prompt, Reply, RoundRecord, TrainingRow
from svd_loop.ledger.answers import select
from svd_loop.ledger.checks import (
    ANSWERS,
    damaged,
    damaged_answers,
    damaged_sessions,
    verify_history,
    verify_meta,
    verify_prompts,
    verify_tables,
)
from svd_loop.ledger.contents import ContentStore
from svd_loop.ledger.database import advice, open_for_reading, snapshot
from svd_loop.ledger.rounds import read_history, read_rows, read_stop

_SCORED = ("updates", "evaluations", "estimates")
_PLAYED = ("candidates", "verdicts", "votes", "accepted_rows")


class LedgerReader:
    """An open ledger, complete when constructed. Use as a context manager, or call `close`."""

    def __init__(self, folder: Path, connection: sqlite3.Connection) -> None:
        self.folder = folder
        self.path = JobPaths(folder).ledger
        self._connection = connection
        self._store = ContentStore(connection, self.path)
        self._verified: set[tuple[int, str]] = set()
        connection.create_function("content_text", 1, self._store.text)

    @classmethod
    def open_for_reading(cls, folder: Path) -> LedgerReader:
        """Open an existing job's ledger, whether or not the job is running; nothing can be changed through it.

        Raises:
            LedgerError: there is none, or a newer program wrote it.
        """
        return LedgerReader(folder, open_for_reading(JobPaths(folder).ledger))

    def state(self) -> JobState:
        """Where the job stands: its committed rounds, and the stop that is in force (see `rounds.read_stop`)."""
        with self._reading():
            stop = read_stop(self._connection, self._meta("config_digest"))
            history = self._history()
            return JobState(self._meta("name"), history, stop.reason if stop else None)

    def result(self) -> JobResult | None:
        """How the job ended, or None while it has not (or no longer, after its limits were raised)."""
        with self._reading():
            stop = read_stop(self._connection, self._meta("config_digest"))
            if stop is None:
                return None
            history = self._history()
            return JobResult(self._meta("name"), stop.reason, history[stop.best_round], history, stop.test, stop.notes)

    def accepted_rows(self, rounds: range | None = None) -> list[TrainingRow]:
        """Accepted rows of committed rounds (None: all), oldest round first, in committed order."""
        with self._reading():
            verify_history(self._connection, self.path)
            for (round,) in self._connection.execute("SELECT round FROM rounds").fetchall():
                if rounds is None or round in rounds:
                    self._verify_tables(round, ("accepted_rows",))
            return read_rows(self._connection, self._store, rounds)

    def lookup(self, keys: Iterable[str]) -> dict[str, Reply]:
        """The stored replies among `keys`; an unknown key is simply absent.

        Raises:
            LedgerError: a key is no lower-case hex digest, or the ledger is damaged.
        """
        with advice(self.path):
            return select(self._connection, self._store, keys)

    def prompts(self) -> list[Prompt]:
        """The recorded prompts, by id."""
        with self._reading():
            verify_prompts(self._connection, self.path)
            rows = self._connection.execute("SELECT id, text, domain, source FROM prompts ORDER BY id").fetchall()
            return [Prompt(id, self._store.text(text), domain, source) for id, text, domain, source in rows]

    def config(self) -> dict[str, Any]:
        """The resolved configuration the job goes by, as plain data."""
        with self._reading():
            config: dict[str, Any] = json.loads(self._meta("config"))
            return config

    def control(self) -> dict[str, Any] | None:
        """What accepts in place of the cascade, in a job of an experiment; None is the method."""
        with self._reading():
            written = self._meta("control")
            return dict(json.loads(written)) if written else None

    def settings(self) -> dict[str, Any]:
        """The configuration, with the `control` of a job that has one."""
        control = self.control()
        return self.config() if control is None else {**self.config(), "control": control}

    def hours(self) -> float:
        """Time spent on the job by all processes up to their last write, killed ones included."""
        with self._reading():
            if bad := damaged_sessions(self._connection):
                raise damaged(self.path, f"table sessions: row {bad[0]} does not match its digest")
            (seconds,) = self._connection.execute("SELECT coalesce(sum(seconds), 0) FROM sessions").fetchone()
            return float(seconds) / 3600

    def forked_from(self) -> tuple[Path, int] | None:
        """The job's folder and the round this one was forked from, if it was."""
        with self._reading():
            origin = json.loads(self._meta("forked_from") or "null")
            return (Path(origin["job"]), int(origin["round"])) if origin else None

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> Iterator[dict[str, Any]]:
        """Rows of an SQL query as mappings, one at a time; `content_text(id)` decodes a text column.

        docs/reference/ledger.md describes the tables. What it reads is not verified: see `verify`.
        """
        with advice(self.path):
            cursor = self._connection.execute(sql, parameters)
            names = [column[0] for column in cursor.description or ()]
            for row in cursor:
                yield dict(zip(names, row, strict=True))

    def verify(self, round: int | None = None, *, answers: bool = False) -> None:
        """Check what `query` will read of a committed round (None: of all, with the prompts), once while it is open.

        Args:
            round: which; one that is not committed has nothing to check.
            answers: check the answers that the round's episode asked for, too.

        Raises:
            LedgerError: the history, or a table's rows of a round, are not what was committed.
        """
        with self._reading():
            self._meta("name")
            verify_history(self._connection, self.path)
            rounds = [row[0] for row in self._connection.execute("SELECT round FROM rounds")]
            for number in rounds if round is None else {round}.intersection(rounds):
                self._verify_tables(number, (*_PLAYED, *_SCORED, *((ANSWERS,) if answers else ())))
            if round is None:
                verify_prompts(self._connection, self.path)
            if answers and (bad := damaged_answers(self._connection, round)):
                raise damaged(self.path, f"table answers: row {bad[0]} does not match its digest")

    def text(self, content_id: int) -> str:
        """The text a column such as `replies.text` refers to."""
        with advice(self.path):
            return self._store.text(content_id)

    def ids(self, content_id: int) -> tuple[int, ...]:
        """The token ids a column such as `replies.token_ids` refers to."""
        with advice(self.path):
            return self._store.ids(content_id)

    def copy_to(self, path: Path) -> None:
        """Copy the whole ledger, as of now, to a new file."""
        with advice(path), closing(sqlite3.connect(path)) as copy:
            self._connection.backup(copy)

    def close(self) -> None:
        """Close the file; repeated calls do nothing."""
        self._connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """One state for all reads of the body, and advice where they fail."""
        with advice(self.path), snapshot(self._connection):
            yield

    def _history(self) -> tuple[RoundRecord, ...]:
        verify_history(self._connection, self.path)
        for (round,) in self._connection.execute("SELECT round FROM rounds").fetchall():
            self._verify_tables(round, _SCORED)
        return read_history(self._connection)

    def _verify_tables(self, round: int, tables: Iterable[str]) -> None:
        """A committed round never changes, so each of its tables is verified once while the ledger is open."""
        left = [table for table in tables if (round, table) not in self._verified]
        verify_tables(self._connection, self.path, round, left)
        self._verified.update((round, table) for table in left)

    def _meta(self, name: str) -> str:
        verify_meta(self._connection, self.path)
        row = self._connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return str(row[0]) if row else ""
