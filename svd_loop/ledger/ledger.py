"""The writable ledger of a job, from which the job resumes.

There is one SQLite file per job, one writing process (see `lock`), and everything is written in transactions. Answers
are stored by content key; equal keys mean the same call to the same weights, so no further rule is needed for reuse.
Left out: deleting. A ledger only grows; `export` and `fork` write other files from it.
"""

from __future__ import annotations

import json
import logging
import shutil
import sqlite3
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from svd_loop.config import Config, config_digest
from svd_loop.contracts import (
    Candidate,
    Episode,
    JobPaths,
    JobResult,
    JudgeRow,
    Prompt,
    Reply,
    RoundRecord,
    TrainingRow,
    UpdateResult,
    Verdict,
)
from svd_loop.errors import LedgerError
from svd_loop.ledger import answers, rounds, shelving
from svd_loop.ledger.answer_writer import AnswerWriter
from svd_loop.ledger.checks import damaged, row_digest, seal_meta
from svd_loop.ledger.contents import ContentStore, encode_text
from svd_loop.ledger.database import ledger_errors, open_for_reading, open_for_writing, transaction
from svd_loop.ledger.identity import (
    canonical,
    control_changes,
    refuse_another_control,
    refuse_changes,
    settled_changes,
)
from svd_loop.ledger.lock import JobLock
from svd_loop.ledger.reader import LedgerReader
from svd_loop.support.atomic import write_atomically

log = logging.getLogger(__name__)


class Ledger(LedgerReader):
    """A job's ledger, open for writing; holds the job's lock until it is closed."""

    def __init__(self, folder: Path, connection: sqlite3.Connection, lock: JobLock) -> None:
        super().__init__(folder, connection)
        self._lock = lock
        self._opened = time.monotonic()
        self._session: int | None = None
        self._writer = AnswerWriter(self._insert)
        self._beside: tuple[sqlite3.Connection, ContentStore] | None = None

    @classmethod
    def open(cls, folder: Path, config: Config, control: Mapping[str, Any] | None = None) -> Ledger:
        """Create the ledger of a job in `folder`, or open the existing one.

        Args:
            folder: the job's folder.
            config: the job.
            control: acceptor in place of the cascade, as plain data; None is the cascade.

        Raises:
            JobConflictError: the job has played rounds with another configuration (keys in `identity.FREE_KEYS` may
                differ) or another control, or another process is running it.
            LedgerError: the ledger cannot be used: damaged, missing, newer than this program, or not writable.
        """
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise LedgerError(
                f"job.root: the job's folder {folder} cannot be created: {error.strerror or error}; choose a job.root "
                "in which you have write permission"
            ) from error
        lock = JobLock(folder)
        try:
            _refuse_missing_ledger(folder)
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
        """Store one batch of `(key, call, reply)`, completely or not at all. A known key keeps its first answer.

        Raises:
            LedgerError: the disk is full, the file cannot be written, or a key is not a lower-case hex digest.
        """
        with self._using():
            self._insert(items)

    def record_later(self, items: Sequence[answers.Answered]) -> None:
        """Store one batch as `record` does, in a thread and behind the batches before it.

        Every other method but `lookup` waits for it first. A process that is killed loses what was not stored yet.

        Raises:
            LedgerError: an earlier batch could not be stored (`svd_loop.ledger.answer_writer`).
        """
        self._writer.put(list(items))

    def flush(self) -> None:
        """Wait until everything that was recorded is stored.

        Raises:
            LedgerError: a batch could not be stored.
        """
        self._writer.flush()

    def lookup(self, keys: Iterable[str]) -> dict[str, Reply]:
        """Return the stored replies among `keys`, and those that wait to be stored; unknown keys are left out.

        Raises:
            LedgerError: a key is not a lower-case hex digest, the ledger is damaged, or a batch could not be stored.
        """
        if self._writer.is_idle:
            return super().lookup(keys)
        wanted = list(keys)
        waiting = self._writer.waiting(wanted)
        if self._beside is None:
            # The thread uses the other connection; a reader of the write-ahead log waits for no writer.
            connection = open_for_reading(self.path)
            self._beside = connection, ContentStore(connection, self.path)
        with ledger_errors(self.path):
            return waiting | answers.select(*self._beside, (key for key in wanted if key not in waiting))

    def shelve(
        self, played: Sequence[tuple[Candidate, Verdict]], kept: Collection[tuple[str, int]]
    ) -> list[tuple[Candidate, Verdict]]:
        """Store texts and ids of settled candidates and their votes; implements `svd_loop.contracts.Shelf`.

        Most are stored already, as replies. What a killed process shelved is shelved again when its round is resumed.
        """
        with self._writing():
            return shelving.shelve(self._store, played, kept)

    def complete(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """Return shelved candidates with their texts and ids."""
        with self._using():
            return shelving.complete(self._store, candidates)

    def record_prompts(self, prompts: Iterable[Prompt]) -> None:
        """Store prompts, so that the ledger is readable without their files. Known ids keep their first row."""
        prompts = list(prompts)
        with self._writing():
            texts = self._store.put("prompts", (encode_text(prompt.text) for prompt in prompts))
            rows = []
            for prompt in prompts:
                row, text = (prompt.id, str(prompt.domain), _printable(prompt.source)), texts[encode_text(prompt.text)]
                rows.append((*row, text.id, row_digest(*row, text.digest)))
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
        judged: Sequence[JudgeRow] = (),
    ) -> None:
        """Record a finished round, completely or not at all; round 0, the baseline, has neither episode nor update.

        Committing the same round again (same weights, same scores) changes nothing.

        Raises:
            LedgerError: the round is not the next one, or was committed with another result.
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
            rounds.write(self._connection, self._store, record, episode, rows, update, judged)
            seal_meta(self._connection)

    def commit_stop(self, result: JobResult) -> None:
        """Record how the job ended; may be called again, and becomes void when another round follows."""
        with self._writing():
            rounds.write_stop(self._connection, result, self._meta("config_digest"))
            seal_meta(self._connection)

    def close(self) -> None:
        """Store what waits, close the file and release the lock; repeated calls do nothing.

        Raises:
            LedgerError: a batch could not be stored, and no call has said so.
        """
        try:
            self._writer.close()
        finally:
            if self._beside is not None:
                self._beside[0].close()
            super().close()
            self._lock.release()

    @contextmanager
    def _using(self) -> Iterator[None]:
        """Let the body use the connection when the thread has done its work."""
        self.flush()
        with super()._using():
            yield

    @contextmanager
    def _writing(self) -> Iterator[None]:
        with self._using(), self._transaction():
            yield

    def _insert(self, items: Sequence[answers.Answered]) -> None:
        with ledger_errors(self.path), self._transaction():
            answers.insert(self._connection, self._store, items)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        try:
            with transaction(self._connection):
                yield
                session = self._record_time()
        except BaseException:
            self._store.drop_caches()
            raise
        self._session = session

    def _record_time(self) -> int | None:
        """Record how long this process has run, in the same transaction as its other writes, so a kill loses little."""
        seconds = time.monotonic() - self._opened
        row = (self._session, seconds, row_digest(seconds))
        return self._connection.execute("INSERT OR REPLACE INTO sessions VALUES (?, ?, ?)", row).lastrowid

    def _identify(self, config: Config, control: Mapping[str, Any] | None) -> None:
        """Record the job's configuration, or refuse one that is not the job's."""
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
                self._restart(changes)
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
            with ledger_errors(self.path):
                write_atomically(path, text)

    def _restart(self, changes: Sequence[str]) -> None:
        """Delete prompts and base version made with the old settings; stored answers are still found by content."""
        log.warning(
            "%s: no round was finished, so the job starts with the changed settings: %s",
            self.folder.name,
            "; ".join(changes),
        )
        paths = JobPaths(self.folder)
        with self._writing():
            self._connection.execute("DELETE FROM prompts")
            shutil.rmtree(paths.versions, ignore_errors=True)  # the base, by reference
            paths.tracking_id.unlink(missing_ok=True)  # a tracker's run keeps its first parameters


def _refuse_missing_ledger(folder: Path) -> None:
    """Refuse a missing or empty file next to a job's configuration; SQLite would take it for a new database."""
    path = JobPaths(folder).ledger
    if JobPaths(folder).config.exists() and (not path.exists() or path.stat().st_size == 0):
        raise LedgerError(
            f"{path}: the job's configuration is there but its ledger is {'empty' if path.exists() else 'missing'}; "
            f"put the ledger back, or move {folder} away to start the job again"
        )


def _printable(text: str) -> str:
    """Return the text with bytes that are not Unicode escaped; file names may contain them."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")
