"""Open the SQLite file so that a crash loses no committed data, and turn its errors into errors with a remedy.

Settings and their reasons:

- write-ahead log: a reader (report, export, a user's query) never waits for the job, and the job never for a reader;
- `synchronous = FULL`: a commit is on the disk when it returns. A SIGKILL loses nothing committed (the operating system
  holds it), a power cut at most the batch being written. One sync for a batch of some thousand answers takes no
  measurable time, so the weaker `NORMAL` would save nothing;
- autocommit mode: transactions begin and end where `transaction` does it, not where the driver would.
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
from svd_loop.support.listing import listing

_PAGE = 8192
"""Bytes of a page. Pages of 4,096 stay a tenth emptier where solutions take 2,500; larger ones are costly to change."""

_CHECKED = 2**28
"""Bytes that are read in about a quarter of a second."""
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_READ_ONLY = (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_PERM)


def open_for_writing(path: Path) -> sqlite3.Connection:
    """Open or create the file, check it, and migrate its schema.

    An older file is copied to `ledger.sqlite.v<version>` before its schema changes.

    Raises:
        LedgerError: the file is unreadable, damaged, newer than this program or read-only, or the disk is full.
    """
    with ledger_errors(path):
        # Two threads may use it, one after the other (`svd_loop.ledger.answer_writer`).
        connection = sqlite3.connect(path, isolation_level=None, timeout=30.0, check_same_thread=False)
        try:
            check(connection, path)
            connection.execute(f"PRAGMA page_size = {_PAGE}")  # of a new file; an existing one keeps its own
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


def open_for_reading(path: Path, *, keep_schema: bool = False) -> sqlite3.Connection:
    """Open an existing file for reading only; a job may be writing to it.

    Of an older file, a copy with the current schema is read, in a temporary file of SQLite.

    Args:
        path: the file.
        keep_schema: read an older file with the schema it has.

    Raises:
        NoSuchJobError: there is no such file.
        LedgerError: the file is empty, damaged, or newer than this program.
    """
    if not path.is_file():
        raise NoSuchJobError(_no_such_job(path))
    # In a read-only folder SQLite cannot create the log's shared-memory file; without a log it needs none.
    writable = os.access(path.parent, os.W_OK, effective_ids=os.access in os.supports_effective_ids)
    settled = not writable and not path.with_name(f"{path.name}-wal").exists()
    uri = f"{path.absolute().as_uri()}?mode=ro{'&immutable=1' if settled else ''}"
    with ledger_errors(path):
        connection = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=30.0)
        try:
            refuse_newer(connection)
            if version_of(connection) == 0:
                raise LedgerError(
                    f"{path}: is empty; put the ledger back, or move {path.parent} away to start the job again"
                )
            if not keep_schema and 0 < version_of(connection) < len(MIGRATIONS):
                connection = _migrated(connection, path)
        except BaseException:
            connection.close()
            raise
    return connection


def _no_such_job(path: Path) -> str:
    """Return the error text for a missing ledger, which lists the existing jobs."""
    jobs = path.parent.parent
    existing = sorted(found.parent.name for found in jobs.glob(f"*/{path.name}"))
    known = (
        f"{jobs} has {listing(path.parent.name, existing)}"
        if existing
        else f"{jobs} has no job (set --root or job.root)"
    )
    return f"{path}: no such ledger; the job has not been started, or its folder was moved; {known}"


def _migrated(connection: sqlite3.Connection, path: Path) -> sqlite3.Connection:
    """Return a temporary copy with the current schema, deleted when closed; closes the original."""
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
    """Read every page once (`PRAGMA quick_check`), of a file of up to `_CHECKED` bytes.

    Pages of a larger file are checked when they are read, by SQLite, and their rows by their digests: a job of days
    must not wait for it, and a report neither.

    Raises:
        LedgerError: the file's structure is damaged.
    """
    if path.stat().st_size > _CHECKED:
        return
    findings = [row[0] for row in connection.execute("PRAGMA quick_check(3)")]
    if findings != ["ok"]:
        raise damaged(path, "; ".join(str(finding) for finding in findings))


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Run the body in a transaction: all of its writes are committed, or none."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # after some errors, such as a full disk, SQLite has rolled back itself
            connection.execute("ROLLBACK")
        raise


@contextmanager
def snapshot(connection: sqlite3.Connection) -> Iterator[None]:
    """Let all reads of the body see one state, whatever a writer commits meanwhile."""
    if connection.in_transaction:
        yield
        return
    connection.execute("BEGIN")
    try:
        yield
    finally:
        connection.execute("COMMIT")


@contextmanager
def ledger_errors(path: Path) -> Iterator[None]:
    """Turn errors of SQLite and of the file system into a `LedgerError` with a remedy."""
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
            f"{path}: an identifier contains a lone surrogate ({error.object!r}); identifiers must be valid Unicode"
        ) from error


def _explain(path: Path, error: sqlite3.Error) -> LedgerError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF  # the primary error code, without the extended bits
    if code == sqlite3.SQLITE_FULL:
        return LedgerError(
            f"{path}: the disk (or quota) is full; the current batch was not written, everything before it was. "
            "Free some space and run the same command again"
        )
    if code in _DAMAGE or "Could not decode to UTF-8" in str(error):
        return damaged(path, str(error))
    if code in _READ_ONLY:
        return LedgerError(f"{path}: cannot be written ({error}); the job's folder and its files must be writable")
    if code == sqlite3.SQLITE_BUSY:
        return LedgerError(f"{path}: another program has held the ledger locked for 30 seconds; close it and run again")
    return LedgerError(f"{path}: {error}; nothing committed is lost; run the same command again")


def _copy(connection: sqlite3.Connection, path: Path) -> None:
    copy = sqlite3.connect(path)
    try:
        connection.backup(copy)
    finally:
        copy.close()
