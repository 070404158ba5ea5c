"""Reading a ledger: for the loop itself, for reports, and for anyone with a question in SQL."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from svd_loop.contracts import JobPaths, JobResult, JobState, Prompt, Reply, TrainingRow
from svd_loop.ledger.answers import select
from svd_loop.ledger.contents import ContentStore
from svd_loop.ledger.database import advice, open_for_reading
from svd_loop.ledger.rounds import read_history, read_rows, read_stop


class LedgerReader:
    """An open ledger, complete when constructed. Use as a context manager, or call `close`."""

    def __init__(self, folder: Path, connection: sqlite3.Connection) -> None:
        self.folder = folder
        self.path = JobPaths(folder).ledger
        self._connection = connection
        self._store = ContentStore(connection, self.path)
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
        with advice(self.path):
            stop = read_stop(self._connection, self._meta("config_digest"))
            history = read_history(self._connection)
            return JobState(self._meta("name"), history, stop.reason if stop else None)

    def result(self) -> JobResult | None:
        """How the job ended, or None while it has not (or no longer, after its limits were raised)."""
        with advice(self.path):
            stop = read_stop(self._connection, self._meta("config_digest"))
            if stop is None:
                return None
            history = read_history(self._connection)
            return JobResult(self._meta("name"), stop.reason, history[stop.best_round], history, stop.test, stop.notes)

    def accepted_rows(self, rounds: range | None = None) -> list[TrainingRow]:
        """Accepted rows of committed rounds (None: all), oldest round first, in committed order."""
        with advice(self.path):
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
        with advice(self.path):
            rows = self._connection.execute("SELECT id, text, domain, source FROM prompts ORDER BY id").fetchall()
            return [Prompt(id, self._store.text(text), domain, source) for id, text, domain, source in rows]

    def config(self) -> dict[str, Any]:
        """The resolved configuration the job goes by, as plain data."""
        with advice(self.path):
            config: dict[str, Any] = json.loads(self._meta("config"))
            return config

    def control(self) -> dict[str, Any] | None:
        """What accepts in place of the cascade, in a job of an experiment; None is the method."""
        written = self._meta("control")
        return dict(json.loads(written)) if written else None

    def settings(self) -> dict[str, Any]:
        """The configuration, with the `control` of a job that has one."""
        control = self.control()
        return self.config() if control is None else {**self.config(), "control": control}

    def hours(self) -> float:
        """Time spent on the job by all processes up to their last write, killed ones included."""
        with advice(self.path):
            (seconds,) = self._connection.execute("SELECT coalesce(sum(seconds), 0) FROM sessions").fetchone()
            return float(seconds) / 3600

    def forked_from(self) -> tuple[Path, int] | None:
        """The job's folder and the round this one was forked from, if it was."""
        with advice(self.path):
            origin = json.loads(self._meta("forked_from") or "null")
            return (Path(origin["job"]), int(origin["round"])) if origin else None

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> Iterator[dict[str, Any]]:
        """Rows of an SQL query as mappings, one at a time; `content_text(id)` decodes a text column.

        docs/reference/ledger.md describes the tables.
        """
        with advice(self.path):
            cursor = self._connection.execute(sql, parameters)
            names = [column[0] for column in cursor.description or ()]
            for row in cursor:
                yield dict(zip(names, row, strict=True))

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

    def _meta(self, name: str) -> str:
        row = self._connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return str(row[0]) if row else ""
