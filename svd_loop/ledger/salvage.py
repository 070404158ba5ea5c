"""Copy all readable rows of a damaged ledger to a valid one.

Answers are stored by content, so lost ones are simply generated again. A round is useful only if it is complete, so the
first round with a missing row is dropped together with all later ones; the loop plays them again from the remaining
answers. SQLite checks the structure, digests (`checks`) check contents and rows.
"""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from svd_loop.config import changed_keys
from svd_loop.contracts import JobPaths
from svd_loop.errors import LedgerError
from svd_loop.ledger.checks import (
    ROUND_TABLES,
    damaged_answers,
    damaged_prompts,
    damaged_sessions,
    seal_everything,
    sound_rounds,
    verify_meta,
)
from svd_loop.ledger.contents import ContentStore
from svd_loop.ledger.database import ledger_errors, open_for_reading, transaction
from svd_loop.ledger.lock import JobLock
from svd_loop.ledger.rounds import count_rows
from svd_loop.ledger.schema import MIGRATIONS, TABLES, migrate, version_of

log = logging.getLogger(__name__)
_LAST_ROW = 2**62


def salvage(folder: Path) -> dict[str, int]:
    """Replace a job's ledger by a valid one with its readable rows; the old file is kept as `ledger.sqlite.damaged`.

    Returns:
        Rows kept, by table.

    Raises:
        JobConflictError: the job is running.
        LedgerError: nothing can be read, not even the job's configuration.
    """
    path = JobPaths(folder).ledger
    sound = path.with_name(f".{path.name}.salvaged")
    lock = JobLock(folder)
    try:
        with ledger_errors(path):
            kept = copy_readable(path, sound)
            for suffix in ("-shm", "-wal", ""):  # the file itself last: until then the command can be repeated
                if (part := path.with_name(path.name + suffix)).exists():
                    part.replace(path.with_name(f"{path.name}.damaged{suffix}"))
            sound.replace(path)
    finally:
        lock.release()
    return kept


def copy_readable(damaged: Path, sound: Path) -> dict[str, int]:
    """Write all readable and consistent rows of a ledger to a new file.

    Returns:
        Rows kept, by table.
    """
    sound.unlink(missing_ok=True)
    with (
        closing(open_for_reading(damaged, keep_schema=True)) as source,
        closing(sqlite3.connect(sound, isolation_level=None)) as target,
    ):
        if (version := version_of(source)) != len(MIGRATIONS):
            raise LedgerError(f"{damaged}: has schema version {version}; salvage it with the program that wrote it")
        migrate(target)
        with transaction(target):
            for table in TABLES:
                for row in _readable_rows(source, table):
                    target.execute(f"INSERT OR IGNORE INTO {table} VALUES ({', '.join('?' * len(row))})", row)
            if not target.execute("SELECT 1 FROM meta WHERE name = 'config'").fetchone():
                raise LedgerError(f"{damaged}: not even the job's configuration is readable; restore a backup")
            _drop_inconsistent(target, sound, damaged)
        return {table: target.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in TABLES}


def _readable_rows(connection: sqlite3.Connection, table: str) -> Iterator[tuple[object, ...]]:
    """Yield all rows that can be read; in tables with row ids, damaged rows are skipped in growing steps."""
    try:
        connection.execute(f"SELECT rowid FROM {table} LIMIT 0")
    except sqlite3.OperationalError:
        yield from _from_both_ends(connection, table)
        return
    last, skip = -1, 0
    while last + skip < _LAST_ROW:
        try:
            query = f"SELECT rowid, * FROM {table} WHERE rowid > ? ORDER BY rowid"
            for row_id, *row in connection.execute(query, (last + skip,)):
                last, skip = row_id, 0
                yield tuple(row)
            return
        except sqlite3.DatabaseError:
            skip = max(1, 2 * skip)


def _from_both_ends(connection: sqlite3.Connection, table: str) -> Iterator[tuple[object, ...]]:
    keys = [row[1] for row in connection.execute(f"PRAGMA table_info({table})") if row[5]]
    for direction in ("ASC", "DESC"):
        try:
            order = ", ".join(f"{key} {direction}" for key in keys)
            yield from connection.execute(f"SELECT * FROM {table} ORDER BY {order}")
            return
        except sqlite3.DatabaseError:
            continue


def _drop_inconsistent(connection: sqlite3.Connection, path: Path, damaged: Path) -> None:
    store = ContentStore(connection, path)
    ids = [row[0] for row in connection.execute("SELECT id FROM contents")]
    connection.executemany("DELETE FROM contents WHERE id = ?", [(id,) for id in ids if not store.intact(id)])
    # A batch holds only a time stamp, so a lost one is replaced.
    connection.execute("INSERT OR IGNORE INTO batches SELECT DISTINCT batch, 0.0 FROM answers")
    for table, key, bad in (
        ("answers", "seq", damaged_answers(connection)),
        ("prompts", "id", damaged_prompts(connection)),
        ("sessions", "id", damaged_sessions(connection)),
    ):
        connection.executemany(f"DELETE FROM {table} WHERE {key} = ?", [(row,) for row in bad])
    rounds = min(_whole_rounds(connection), sound_rounds(connection, path))
    try:
        verify_meta(connection, path)
    except LedgerError:
        connection.execute("DELETE FROM stops")  # the job's end is decided again
        log.warning(
            "%s: table meta, table stops or the last round was not what was written. How the job ended is decided "
            "again; its name and configuration are taken as they are and sealed again: %s",
            damaged,
            _compare_config(connection, JobPaths(damaged.parent).config),
        )
    for name in TABLES:
        for _, _, parent, column, key, *_ in connection.execute(f"PRAGMA foreign_key_list({name})").fetchall():
            lost = f"{column} IS NOT NULL AND {column} NOT IN (SELECT {key} FROM {parent})"
            connection.execute(f"DELETE FROM {name} WHERE {lost}")
    drop_rounds(connection, min(rounds, _whole_rounds(connection)))
    seal_everything(connection)


def _compare_config(connection: sqlite3.Connection, copy: Path) -> str:
    """Compare the configuration in the ledger with its readable copy; return the result in words."""
    try:
        (text,) = connection.execute("SELECT value FROM meta WHERE name = 'config'").fetchone()
        changes = changed_keys(json.loads(copy.read_text("utf-8")), json.loads(text))
    except (OSError, ValueError, AttributeError):
        return f"they could not be compared with {copy}"
    return f"{copy} differs: {'; '.join(changes)}" if changes else f"they are those of {copy}"


def drop_rounds(connection: sqlite3.Connection, first: int) -> None:
    """Delete the rounds from number `first` on, with all their rows."""
    connection.execute("DELETE FROM stops WHERE after_round >= ? OR best_round >= ?", (first, first))
    for table in (*ROUND_TABLES, "rounds"):
        connection.execute(f"DELETE FROM {table} WHERE round >= ?", (first,))


def _whole_rounds(connection: sqlite3.Connection) -> int:
    """Return the number of complete rounds from 0 on without a gap."""
    counts = dict(connection.execute("SELECT round, counts FROM rounds").fetchall())
    number = 0
    while number in counts and json.loads(counts[number]) == count_rows(connection, number):
        number += 1
    return number
