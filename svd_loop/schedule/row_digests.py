"""Digests of the rows of a schedule's state: what is read is what was written, or an error names the row.

Triggers write a digest beside every row that is inserted or changed, with a function that only this program gives to
its connection: another program that changes a row is refused by SQLite, and one that changes the file itself is found
out when the state is opened. Left out: the keys of duplicates, which `dedup_index` checks by their sums.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator

from svd_loop.ledger.database import snapshot, transaction

_TABLES = {"meta": "key", "files": "number", "prompts": "number", "jobs": "number"}
"""Tables with their keys."""
_DIGESTS = "CREATE TABLE row_digests (place TEXT, key, digest BLOB NOT NULL, PRIMARY KEY (place, key)) WITHOUT ROWID"


def keep_digests(connection: sqlite3.Connection) -> None:
    """Let triggers write digests from now on; rows of an older state get theirs from what they hold now."""
    connection.create_function("row_digest", -1, _digest, deterministic=True)
    wanted = {name: sql for table in _TABLES for name, sql in _triggers(connection, table)}
    there = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'")}
    if not wanted.keys() - there:
        return
    with transaction(connection):
        new = not has_digests(connection)
        if new:
            connection.execute(_DIGESTS)
        for name in wanted:
            connection.execute(wanted[name])
        for table in _TABLES if new else ():
            renew_digests(connection, table)


def renew_digests(connection: sqlite3.Connection, table: str) -> None:
    """Write the digests of all rows of a table from what it holds now."""
    rows = connection.execute(f"SELECT {_TABLES[table]}, {_columns(connection, table)} FROM {table}").fetchall()
    connection.execute("DELETE FROM row_digests WHERE place = ?", (table,))
    digests = ((table, key, _digest(*values)) for key, *values in rows)
    connection.executemany("INSERT INTO row_digests VALUES (?, ?, ?)", digests)


def damaged_row(connection: sqlite3.Connection) -> str | None:
    """The first row that was changed, added or lost behind the program's back; about half a second for 100,000 rows."""
    if not has_digests(connection):
        return None
    with snapshot(connection):
        for table, key in _TABLES.items():
            written = dict(connection.execute("SELECT key, digest FROM row_digests WHERE place = ?", (table,)))
            for number, *values in connection.execute(f"SELECT {key}, {_columns(connection, table)} FROM {table}"):
                if written.pop(number, None) != _digest(*values):
                    return f"table {table}: row {number} is not what was written"
            for number in written:
                return f"table {table}: row {number} is missing"
    return None


def has_digests(connection: sqlite3.Connection) -> bool:
    """Whether a program that keeps digests has opened this state before."""
    return connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'row_digests'").fetchone() is not None


def _triggers(connection: sqlite3.Connection, table: str) -> Iterator[tuple[str, str]]:
    """Names of a table's triggers, each with the statement that makes it."""
    key, columns = _TABLES[table], _columns(connection, table, "NEW.")
    written = f"INSERT OR REPLACE INTO row_digests VALUES ('{table}', NEW.{key}, row_digest({columns}))"
    removed = f"DELETE FROM row_digests WHERE place = '{table}' AND key = OLD.{key}"
    for event, then in (("INSERT", written), ("UPDATE", written), ("DELETE", removed)):
        name = f"{table}_{event.lower()}"
        yield name, f"CREATE TRIGGER IF NOT EXISTS {name} AFTER {event} ON {table} BEGIN {then}; END"


def _columns(connection: sqlite3.Connection, table: str, prefix: str = "") -> str:
    return ", ".join(f"{prefix}{name}" for _, name, *_ in connection.execute(f"PRAGMA table_info({table})"))


def _digest(*values: object) -> bytes:
    return hashlib.sha256(repr(values).encode("utf-8", "surrogatepass")).digest()[:16]
