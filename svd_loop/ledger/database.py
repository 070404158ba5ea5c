"""Opening the SQLite file so that a crash loses nothing, and turning its errors into advice.

Settings and what they buy:

- write-ahead log: a reader (report, export, an analyst) never waits for the job, nor the job for it;
- `synchronous = FULL`: a commit is on the disk when it returns. A SIGKILL loses nothing committed (the
  operating system holds it), a power cut at most the batch being written. One sync a batch of some
  thousand answers costs nothing measurable, so the weaker `NORMAL` would save nothing;
- autocommit mode: transactions begin and end where `transaction` says, not where the driver guesses.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from svd_loop.errors import LedgerError, NoSuchJobError
from svd_loop.ledger.checks import damaged
from svd_loop.ledger.schema import MIGRATIONS, migrate, refuse_newer, version_of

_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_READ_ONLY = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM)


def open_for_writing(path: Path) -> sqlite3.Connection:
    """Open or create the file, check it, and bring its schema up to date.

    An older file is copied to `ledger.sqlite.v<version>` before its schema changes.

    Raises:
        LedgerError: unreadable, damaged, newer than this program, read-only, or the disk is full.
    """
    with advice(path):
        connection = sqlite3.connect(path, isolation_level=None, timeout=30.0)
        try:
            check(connection, path)
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA cache_size = -65536")
            if 0 < (version := version_of(connection)) < len(MIGRATIONS):
                _copy(connection, path.with_name(f"{path.name}.v{version}"))
            migrate(connection, path=path)
        except BaseException:
            connection.close()
            raise
    return connection


def open_for_reading(path: Path, *, as_it_is: bool = False) -> sqlite3.Connection:
    """Open an existing file without the right to change it, whether or not a job is writing to it.

    What is read of an older file is a copy with today's schema, in a temporary file of SQLite's own.

    Args:
        path: the file.
        as_it_is: read an older file with the schema it has.

    Raises:
        NoSuchJobError: no such file.
        LedgerError: damaged, or newer than this program.
    """
    if not path.is_file():
        raise NoSuchJobError(_no_such_job(path))
    # A read-only folder has no room for the shared-memory file of the log; without a log none is needed.
    writable = os.access(path.parent, os.W_OK, effective_ids=os.access in os.supports_effective_ids)
    settled = not writable and not path.with_name(f"{path.name}-wal").exists()
    uri = f"{path.absolute().as_uri()}?mode=ro{'&immutable=1' if settled else ''}"
    with advice(path):
        connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=30.0)
        try:
            refuse_newer(connection)
            if not as_it_is and 0 < version_of(connection) < len(MIGRATIONS):
                connection = _migrated(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


def _no_such_job(path: Path) -> str:
    """What to say of a ledger that is not there: which jobs are."""
    jobs = path.parent.parent
    there = sorted(found.parent.name for found in jobs.glob(f"*/{path.name}"))
    known = f"{jobs} has {', '.join(there)}" if there else f"{jobs} has no job (--root or job.root names another place)"
    return f"{path}: no such ledger; the job has not been started, or its folder was moved; {known}"


def _migrated(connection: sqlite3.Connection, path: Path) -> sqlite3.Connection:
    """A copy with today's schema that is gone when it is closed; closes the original."""
    copy = sqlite3.connect("", isolation_level=None)
    try:
        with closing(connection):
            connection.backup(copy)
        migrate(copy, path=path)
        copy.execute("PRAGMA query_only = ON")
    except BaseException:
        copy.close()
        raise
    return copy


def check(connection: sqlite3.Connection, path: Path) -> None:
    """Read every page once (`PRAGMA quick_check`, about a second a gigabyte from a local disk).

    Raises:
        LedgerError: the file's structure is damaged.
    """
    findings = [row[0] for row in connection.execute("PRAGMA quick_check(3)")]
    if findings != ["ok"]:
        raise damaged(path, "; ".join(str(finding) for finding in findings))


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All writes of the body, or none."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # SQLite itself has rolled back after some errors, a full disk among them
            connection.execute("ROLLBACK")
        raise


@contextmanager
def snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """All reads of the body see one state, whatever a writer commits meanwhile."""
    if connection.in_transaction:
        yield
        return
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("COMMIT")


@contextmanager
def advice(path: Path) -> Iterator[None]:
    """Turn errors of SQLite and of the file system into a `LedgerError` that says what to do."""
    try:
        yield
    except sqlite3.Error as error:
        raise _explain(path, error) from error
    except OSError as error:
        raise LedgerError(f"{path}: {error.strerror or error}; nothing committed is lost") from error
    except UnicodeDecodeError as error:  # the driver cannot read SQLite's own message, which quotes a damaged page
        raise damaged(path, f"a message of SQLite is not UTF-8: {error}") from error
    except UnicodeEncodeError as error:
        raise LedgerError(
            f"{path}: an identifier holds a lone surrogate ({error.object!r}); identifiers must be valid Unicode"
        ) from error


def _explain(path: Path, error: sqlite3.Error) -> LedgerError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the primary code; the high bits refine it
    if code == sqlite3.SQLITE_FULL:
        return LedgerError(
            f"{path}: the disk (or quota) is full; the batch in flight was not written, everything before it is. "
            "Free some space and run the same command again"
        )
    if code in _DAMAGE or "Could not decode to UTF-8" in str(error):
        return damaged(path, str(error))
    if code in _READ_ONLY:
        return LedgerError(f"{path}: cannot be written ({error}); the job's folder and its files must be writable")
    if code == sqlite3.SQLITE_BUSY:
        return LedgerError(f"{path}: another program has held the ledger locked for 30 seconds; close it and run again")
    return LedgerError(f"{path}: {error}; nothing committed is lost, run the same command again")


def _copy(connection: sqlite3.Connection, path: Path) -> None:
    copy = sqlite3.connect(path)
    try:
        connection.backup(copy)
    finally:
        copy.close()
