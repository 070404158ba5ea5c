"""Read a ledger: for the loop, for reports, and for SQL queries."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from svd_loop.contracts import JobPaths, JobResult, JobState, JudgeRow, Prompt, Reply, RoundRecord, TrainingRow
from svd_loop.ledger.answers import select
from svd_loop.ledger.checks import (
    ANSWERS,
    damaged,
    damaged_answers,
    damaged_sessions,
    verify_history,
    verify_meta,
    verify_prompts,
    verify_segment,
    verify_tables,
)
from svd_loop.ledger.contents import ContentStore, decode_text
from svd_loop.ledger.database import ledger_errors, open_for_reading, snapshot
from svd_loop.ledger.rounds import read_history, read_judge_rows, read_rows, read_stop

_SCORED = ("updates", "evaluations", "estimates")
_PLAYED = ("candidates", "verdicts", "votes", "accepted_rows", "judge_rows")


class LedgerReader:
    """A ledger open for reading. Use it as a context manager, or call `close`."""

    def __init__(self, folder: Path, connection: sqlite3.Connection) -> None:
        self.folder = folder
        self.path = JobPaths(folder).ledger
        self._connection = connection
        self._store = ContentStore(connection, self.path)
        self._verified: set[tuple[int, str]] = set()
        self._sound: dict[int, list[tuple[str, str | None]]] = {}
        connection.create_function("content_text", 1, self._store.text)

    @classmethod
    def open_for_reading(cls, folder: Path) -> LedgerReader:
        """Open an existing job's ledger for reading only; the job may be running.

        Raises:
            LedgerError: there is no ledger, or it was written by a newer program.
        """
        return LedgerReader(folder, open_for_reading(JobPaths(folder).ledger))

    def state(self) -> JobState:
        """Return the committed rounds and the stop that is in force (see `rounds.read_stop`)."""
        with self._reading():
            stop = read_stop(self._connection, self._meta("config_digest"))
            history = self._history()
            return JobState(self._meta("name"), history, stop.reason if stop else None)

    def result(self) -> JobResult | None:
        """Return how the job ended; None if it has not, or if its limits were raised since."""
        with self._reading():
            stop = read_stop(self._connection, self._meta("config_digest"))
            if stop is None:
                return None
            history = self._history()
            return JobResult(self._meta("name"), stop.reason, history[stop.best_round], history, stop.test, stop.notes)

    def accepted_rows(self, rounds: range | None = None) -> list[TrainingRow]:
        """Return the accepted rows of committed rounds (None: all), oldest round first, in committed order."""
        with self._reading():
            self._verify_rounds("accepted_rows", rounds)
            return read_rows(self._connection, self._store, rounds)

    def judge_rows(self) -> list[JudgeRow]:
        """Return the judge rows of committed rounds, oldest round first, in committed order."""
        with self._reading():
            self._verify_rounds("judge_rows")
            return read_judge_rows(self._connection, self._store)

    def lookup(self, keys: Iterable[str]) -> dict[str, Reply]:
        """Return the stored replies among `keys`; unknown keys are left out.

        Raises:
            LedgerError: a key is not a lower-case hex digest, or the ledger is damaged.
        """
        with self._using():
            return select(self._connection, self._store, keys)

    def prompts(self) -> list[Prompt]:
        """Return the recorded prompts, by id."""
        with self._reading():
            verify_prompts(self._connection, self.path)
            rows = self._connection.execute("SELECT id, text, domain, source FROM prompts ORDER BY id").fetchall()
            return [Prompt(id, self._store.text(text), domain, source) for id, text, domain, source in rows]

    def config(self) -> dict[str, Any]:
        """Return the job's resolved configuration as plain data."""
        with self._reading():
            config: dict[str, Any] = json.loads(self._meta("config"))
            return config

    def control(self) -> dict[str, Any] | None:
        """Return the acceptor used in place of the cascade in a job of an experiment; None is the cascade."""
        with self._reading():
            written = self._meta("control")
            return dict(json.loads(written)) if written else None

    def settings(self) -> dict[str, Any]:
        """Return the configuration, with the key `control` if the job has one."""
        control = self.control()
        return self.config() if control is None else {**self.config(), "control": control}

    def hours(self) -> float:
        """Return the hours that all processes spent on the job up to their last write, including killed ones."""
        with self._reading():
            if bad := damaged_sessions(self._connection):
                raise damaged(self.path, f"table sessions: row {bad[0]} does not match its digest")
            (seconds,) = self._connection.execute("SELECT coalesce(sum(seconds), 0) FROM sessions").fetchone()
            return float(seconds) / 3600

    def forked_from(self) -> tuple[Path, int] | None:
        """Return folder and round of the job that this one was forked from, or None."""
        with self._reading():
            origin = json.loads(self._meta("forked_from") or "null")
            return (Path(origin["job"]), int(origin["round"])) if origin else None

    def query(self, sql: str, parameters: Sequence[Any] = ()) -> Iterator[dict[str, Any]]:
        """Yield the rows of an SQL query as mappings; `content_text(id)` decodes a text column.

        The tables are described in docs/reference/ledger.md. The rows are not verified; see `verify`.
        """
        with self._using():
            cursor = self._connection.execute(sql, parameters)
            names = [column[0] for column in cursor.description or ()]
            for row in cursor:
                yield dict(zip(names, row, strict=True))

    def verify(self, round: int | None = None, *, answers: bool = False) -> None:
        """Verify a committed round (None: all, and the prompts) before `query` reads it; once while the ledger is open.

        Args:
            round: the round; one that is not committed has nothing to verify.
            answers: verify the answers to the calls of the round's episode too.

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

    def verify_prompts(self, prompt_ids: Iterable[str]) -> None:
        """Verify what `query` reads about some prompts in committed rounds, and no others; see `verify`.

        Raises:
            LedgerError: the history, a prompt's candidates, verdicts or votes, or the accepted rows of a round, are not
                what was committed.
        """
        with self._reading():
            self._meta("name")
            verify_history(self._connection, self.path)
            verify_prompts(self._connection, self.path)
            rounds = [row[0] for row in self._connection.execute("SELECT round FROM rounds")]
            for round in rounds:
                self._verify_tables(round, ("accepted_rows", *_SCORED))
            for prompt_id in prompt_ids:
                for round in rounds:
                    self._verify_segment(round, prompt_id)

    def _verify_rounds(self, table: str, rounds: range | None = None) -> None:
        """Verify a table of the given rounds (None: all)."""
        verify_history(self._connection, self.path)
        for (round,) in self._connection.execute("SELECT round FROM rounds").fetchall():
            if rounds is None or round in rounds:
                self._verify_tables(round, (table,))

    def text(self, content_id: int) -> str:
        """Return the text that a column such as `replies.text` refers to."""
        with self._using():
            return self._store.text(content_id)

    def texts(self, content_ids: Iterable[int]) -> dict[int, str]:
        """Return the texts that the ids refer to, read together."""
        with self._using():
            return {id: decode_text(content.data) for id, content in self._store.load(content_ids).items()}

    def ids(self, content_id: int) -> tuple[int, ...]:
        """Return the token ids that a column such as `replies.token_ids` refers to."""
        with self._using():
            return self._store.ids(content_id)

    def copy_to(self, path: Path) -> None:
        """Copy the whole ledger in its current state to a new file."""
        with self._using(), ledger_errors(path), closing(sqlite3.connect(path)) as copy:
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
    def _using(self) -> Iterator[None]:
        """Let the body use the connection, and turn errors into `LedgerError`."""
        with ledger_errors(self.path):
            yield

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Let all reads of the body see one state, and turn errors into `LedgerError`."""
        with self._using(), snapshot(self._connection):
            yield

    def _history(self) -> tuple[RoundRecord, ...]:
        verify_history(self._connection, self.path)
        for (round,) in self._connection.execute("SELECT round FROM rounds").fetchall():
            self._verify_tables(round, _SCORED)
        return read_history(self._connection)

    def _verify_tables(self, round: int, tables: Iterable[str]) -> None:
        """Verify tables of a round, once while the ledger is open, since a committed round never changes."""
        left = [table for table in tables if (round, table) not in self._verified]
        verify_tables(self._connection, self.path, round, left)
        self._verified.update((round, table) for table in left)

    def _verify_segment(self, round: int, prompt_id: str) -> None:
        known = self._sound.setdefault(round, [])
        if not any(start <= prompt_id and (end is None or prompt_id < end) for start, end in known):
            known.append(verify_segment(self._connection, self.path, round, prompt_id))

    def _meta(self, name: str) -> str:
        verify_meta(self._connection, self.path)
        row = self._connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return str(row[0]) if row else ""
