"""What happened in a job, durably: the one thing a resume reads.

One SQLite file a job, one writing process (see `lock`), everything written in transactions. Answers are kept
by content, so nothing here decides what may be reused: a key that fits is the same question to the same
weights. Left out: deleting. A ledger only grows; `export` and `fork` make other files from it.
"""

from __future__ import annotations

import json
import logging
import shutil
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from svd_loop.config import Config, config_digest
from svd_loop.contracts import Episode, JobPaths, JobResult, Prompt, RoundRecord, TrainingRow, UpdateResult
from svd_loop.errors import LedgerError
from svd_loop.ledger import answers, rounds
from svd_loop.ledger.checks import damaged, row_digest, seal_meta
from svd_loop.ledger.contents import encode_text
from svd_loop.ledger.database import advice, open_for_writing, transaction
from svd_loop.ledger.identity import (
    canonical,
    control_changes,
    refuse_another_control,
    refuse_changes,
    settled_changes,
    write_atomically,
)
from svd_loop.ledger.lock import JobLock
from svd_loop.ledger.reader import LedgerReader

log = logging.getLogger(__name__)


class Ledger(LedgerReader):
    """A job's ledger, open for writing: holds the job's lock until it is closed."""

    def __init__(self, folder: Path, connection: sqlite3.Connection, lock: JobLock) -> None:
        super().__init__(folder, connection)
        self._lock = lock
        self._opened = time.monotonic()
        self._session: int | None = None

    @classmethod
    def open(cls, folder: Path, config: Config, control: Mapping[str, Any] | None = None) -> Ledger:
        """Start a job in `folder`, or go on with the one that is there.

        Args:
            folder: the job's.
            config: the job.
            control: what accepts in place of the cascade, as plain data; None is the method.

        Raises:
            JobConflictError: the job has played rounds with another configuration (keys in `identity.FREE_KEYS`
                may differ) or another control, or another process is running it.
            LedgerError: the ledger cannot be used: damaged, lost, newer than this program, or not writable.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LedgerError(
                f"job.root: the job's folder {folder} cannot be made: {error.strerror or error}; choose a job.root "
                "below which you may write"
            ) from error
        lock = JobLock(folder)
        try:
            _refuse_lost(folder)
            ledger = cls(folder, open_for_writing(JobPaths(folder).ledger), lock)
            try:
                ledger._identify(config, control)
            except BaseException:
                ledger.close()
                raise
        except BaseException:
            lock.release()
            raise
        return ledger

    def record(self, items: Sequence[answers.Answered]) -> None:
        """Store one batch of `(key, call, reply)`: all of it or nothing. A known key keeps its first answer.

        Raises:
            LedgerError: the disk is full, the file cannot be written, or a key is no lower-case hex digest.
        """
        with self._writing():
            answers.insert(self._connection, self._store, items)

    def record_prompts(self, prompts: Iterable[Prompt]) -> None:
        """Store the texts behind prompt ids, so that the ledger explains itself. Known ids stay as they are."""
        prompts = list(prompts)
        with self._writing():
            texts = self._store.put("prompts", (encode_text(prompt.text) for prompt in prompts))
            rows = []
            for prompt in prompts:
                told, text = (prompt.id, str(prompt.domain), _printable(prompt.source)), texts[encode_text(prompt.text)]
                rows.append((*told, text.id, row_digest(*told, text.digest)))
            columns = "id, domain, source, text, digest"
            self._connection.executemany(
                f"INSERT INTO prompts ({columns}) VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING", rows
            )

    def commit_round(
        self,
        record: RoundRecord,
        episode: Episode | None = None,
        rows: Sequence[TrainingRow] = (),
        update: UpdateResult | None = None,
    ) -> None:
        """Record a finished round, all of it or nothing; round 0, the baseline, has neither episode nor update.

        Repeating the commit of the same round (same weights, same scores) changes nothing.

        Raises:
            LedgerError: the round is not the next one, or was committed with another outcome.
        """
        history = self.state().history
        if record.round < len(history):
            earlier = history[record.round]
            if (earlier.version, earlier.scores.correct) != (record.version, record.scores.correct):
                raise LedgerError(
                    f"{self.path}: round {record.round} is committed with version {earlier.version.fingerprint}, "
                    f"it cannot be replaced by version {record.version.fingerprint}"
                )
            return
        if record.round > len(history):
            raise LedgerError(f"{self.path}: round {record.round} cannot follow round {len(history) - 1}")
        with self._writing():
            rounds.write(self._connection, self._store, record, episode, rows, update)
            seal_meta(self._connection)

    def commit_stop(self, result: JobResult) -> None:
        """Record how the job ended; may be repeated, and is void once another round follows."""
        with self._writing():
            rounds.write_stop(self._connection, result, self._meta("config_digest"))
            seal_meta(self._connection)

    def close(self) -> None:
        """Close the file and release the job; repeated calls do nothing."""
        super().close()
        self._lock.release()

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with advice(self.path):
            try:
                with transaction(self._connection):
                    yield
                    session = self._note_time()
            except BaseException:
                self._store.forget()
                raise
            self._session = session

    def _note_time(self) -> int | None:
        """How long this process has worked, written with everything else it writes: a kill loses no more than that."""
        seconds = time.monotonic() - self._opened
        row = (self._session, seconds, row_digest(seconds))
        return self._connection.execute("INSERT OR REPLACE INTO sessions VALUES (?, ?, ?)", row).lastrowid

    def _identify(self, config: Config, control: Mapping[str, Any] | None) -> None:
        """Write down which job this is, or refuse to be another one."""
        written = self._meta("config")
        if written:
            old = json.loads(written)
            if self._connection.execute("SELECT EXISTS (SELECT 1 FROM rounds)").fetchone()[0]:
                refuse_changes(self.folder, old, config)
                refuse_another_control(self.folder, self.control(), control)
            elif changes := [
                *settled_changes(self.folder, old, config),
                *control_changes(self.control(), control),
            ]:
                self._begin_again(changes)
        elif JobPaths(self.folder).config.exists():
            raise damaged(self.path, "its meta table is empty")
        text = canonical(config)
        if written != text or self.control() != control:
            values = {"name": config.job.name, "config": text, "config_digest": config_digest(config)}
            if control is not None:
                values["control"] = json.dumps(control, sort_keys=True)
            with self._writing():
                self._connection.execute("DELETE FROM meta WHERE name = 'control'")
                self._connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", list(values.items()))
                self._connection.execute("INSERT OR IGNORE INTO meta VALUES ('created_at', ?)", (str(time.time()),))
                seal_meta(self._connection)
        if not (path := JobPaths(self.folder).config).exists() or path.read_bytes() != text.encode():
            with advice(self.path):
                write_atomically(path, text)

    def _begin_again(self, changes: Sequence[str]) -> None:
        """Drop what the old settings made in a job that has no round yet; answers stay, found by their content."""
        log.warning(
            "%s: no round was finished, so the job begins with the changed settings: %s",
            self.folder.name,
            "; ".join(changes),
        )
        paths = JobPaths(self.folder)
        with self._writing():
            self._connection.execute("DELETE FROM prompts")
            shutil.rmtree(paths.versions, ignore_errors=True)  # the base, by reference
            paths.tracking_id.unlink(missing_ok=True)  # a tracker's run keeps the parameters it was given first


def _refuse_lost(folder: Path) -> None:
    """SQLite takes an empty file for a new database; beside a job's configuration it is a lost one."""
    path = JobPaths(folder).ledger
    if JobPaths(folder).config.exists() and (not path.exists() or path.stat().st_size == 0):
        raise LedgerError(
            f"{path}: the job's configuration is there but its ledger is {'empty' if path.exists() else 'missing'}; "
            f"put the ledger back, or move {folder} away to start the job again"
        )


def _printable(text: str) -> str:
    """File names can hold bytes that are not Unicode; a source is for people and may show them escaped."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
