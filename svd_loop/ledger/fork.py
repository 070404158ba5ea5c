"""Create a new job that continues from a finished round of another one, with a changed configuration."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path

from svd_loop.config import Config, config_digest
from svd_loop.contracts import JobPaths
from svd_loop.errors import JobConflictError
from svd_loop.ledger.checks import seal_meta, seal_sessions
from svd_loop.ledger.database import ledger_errors, transaction
from svd_loop.ledger.identity import canonical, refuse_incomparable
from svd_loop.ledger.lock import JobLock
from svd_loop.ledger.reader import LedgerReader
from svd_loop.ledger.salvage import drop_rounds


def fork(source: Path, round: int, folder: Path, config: Config) -> None:
    """Create the ledger of a new job in `folder` with rounds 0 to `round` of the job in `source`.

    All answers are copied. They are stored by content, so answers that the new configuration would generate differently
    are not found. The caller copies the weight versions. `source` may be running.

    Raises:
        JobConflictError: `folder` contains a job, `source` has no such round, or the configuration changes how rounds
            are measured, so that copied scores could not be compared with new ones.
        LedgerError: `source` cannot be read or `folder` cannot be written.
    """
    with ledger_errors(folder), LedgerReader.open_for_reading(source) as reader:
        rounds = len(reader.state().history)
        if not 0 <= round < rounds:
            raise JobConflictError(f"{source.name}: has no finished round {round}; it has rounds 0 to {rounds - 1}")
        refuse_incomparable(source, reader.config(), config)
        folder.mkdir(parents=True, exist_ok=True)
        lock = JobLock(folder)
        try:
            ledger = JobPaths(folder).ledger
            if ledger.exists():
                raise JobConflictError(f"{folder}: there is a job of this name already; choose another --job NAME")
            part = ledger.with_name(f".{ledger.name}.fork")
            part.unlink(missing_ok=True)
            _copy_until(reader, round, part, config)
            part.replace(ledger)
        finally:
            lock.release()


def _copy_until(reader: LedgerReader, round: int, path: Path, config: Config) -> None:
    reader.copy_to(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as copy:
        copy.execute("PRAGMA journal_mode = DELETE")  # a single file, which can be renamed
        with transaction(copy):
            drop_rounds(copy, round + 1)
            copy.execute("DELETE FROM stops")
            copy.execute("DELETE FROM sessions")
            copy.execute("DELETE FROM meta WHERE name = 'control'")
            copy.execute(
                "INSERT INTO sessions (seconds) SELECT coalesce(sum(value), 0) FROM rounds, json_each(rounds.seconds)"
            )
            values = {
                "name": config.job.name,
                "config": canonical(config),
                "config_digest": config_digest(config),
                "forked_from": json.dumps({"job": str(reader.folder.resolve()), "round": round}),
            }
            copy.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", list(values.items()))
            seal_sessions(copy)
            seal_meta(copy)
