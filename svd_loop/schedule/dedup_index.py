"""Find duplicates among all prompts that a schedule has ever read, across files and months.

Keys and comparison are those of `envs.prompts`. Here the keys are stored in the schedule's state database, in the same
transaction as their prompts. As in `envs.prompts`, a prompt is compared with prompts that were kept, and the first of
several duplicates is kept. Keys depend on `data.dedup`, so they are rebuilt when that section changes. They are
derived from prompts, so damaged keys are rebuilt as well: triggers keep their sums, which a changed bit does not match.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence

from envs.prompts.dedup import Keys
from envs.prompts.normalise import compared
from envs.prompts.sifting import Sifter
from envs.prompts.similarity import jaccard
from svd_loop.config.data import DedupSection, LeakSection
from svd_loop.contracts import Prompt
from svd_loop.schedule.state_db import StateDb

_BATCH_SIZE = 512
_TABLES = ("text_keys", "band_keys")
_PRIME = 2_147_483_647
"""Sums are of keys modulo a prime, so that they cannot overflow and every changed bit changes them."""
_NO_LEAKS = LeakSection(ngram=0, minhash=0.0)


class DedupIndex:
    """Index of the text and near-duplicate keys of all kept prompts."""

    def __init__(self, db: StateDb, dedup: DedupSection) -> None:
        """Open the index; it is rebuilt if `dedup` has changed since the last call."""
        self._connection: sqlite3.Connection = db.connection
        self._dedup = dedup
        settings = dedup.model_dump_json()
        with db.writing():
            _keep_sums(self._connection)
        if db.meta("dedup") != settings or not _sums_match(self._connection):
            with db.writing():
                self._rebuild()
                db.set_meta("dedup", settings)

    def find(self, prompt: Prompt, keys: Keys) -> tuple[int, str] | None:
        """Return the number of the earlier prompt and the kind of match (`same`, `exact`, `near`); None if new.

        `same` (identical text) compares with every earlier prompt, whatever its state; `exact` and `near` compare with
        kept prompts only.
        """
        query = "SELECT number FROM prompts WHERE id = ? ORDER BY number LIMIT 1"
        if row := self._connection.execute(query, (prompt.id,)).fetchone():
            return int(row[0]), "same"
        if self._dedup.exact:
            query = "SELECT prompt FROM text_keys WHERE key = ?"
            if row := self._connection.execute(query, (keys.text,)).fetchone():
                return int(row[0]), "exact"
        return self._near(prompt, keys.bands)

    def add(self, number: int, keys: Keys) -> None:
        """Add the keys of a kept prompt."""
        if self._dedup.exact:
            self._connection.execute("INSERT OR IGNORE INTO text_keys VALUES (?, ?)", (keys.text, number))
        self._connection.executemany(
            "INSERT OR IGNORE INTO band_keys VALUES (?, ?)", [(key, number) for key in keys.bands]
        )

    def _near(self, prompt: Prompt, bands: Sequence[int]) -> tuple[int, str] | None:
        placeholders = ",".join("?" * len(bands))
        query = f"""SELECT DISTINCT number, text FROM band_keys JOIN prompts ON prompts.number = band_keys.prompt
                    WHERE key IN ({placeholders}) AND text IS NOT NULL ORDER BY number"""
        candidates = self._connection.execute(query, list(bands)).fetchall() if bands else []
        form = compared(prompt.text) if candidates else None
        for number, text in candidates:
            other = compared(text)
            if form is None or (self._dedup.numbers_matter and other.marks != form.marks):
                continue
            if jaccard(form.pairs(), other.pairs()) >= self._dedup.near:
                return int(number), "near"
        return None

    def _rebuild(self) -> None:
        self._connection.execute("DELETE FROM text_keys")
        self._connection.execute("DELETE FROM band_keys")
        sifter = Sifter((), self._dedup, _NO_LEAKS)
        query = "SELECT number, id, text, domain FROM prompts WHERE text IS NOT NULL ORDER BY number"
        kept = self._connection.execute(query)
        while rows := kept.fetchmany(_BATCH_SIZE):
            prompts = [Prompt(id, text, domain) for _, id, text, domain in rows]
            for (number, *_), found in zip(rows, sifter.sift(prompts), strict=True):
                self.add(number, found.keys)
        for table in _TABLES:  # the sums may be what was damaged
            sums = (table, *_sums(self._connection, table))
            self._connection.execute("INSERT OR REPLACE INTO key_sums VALUES (?, ?, ?, ?, ?)", sums)


def _keep_sums(connection: sqlite3.Connection) -> None:
    """Let triggers keep the sums of keys from now on; keys of an older state are taken as they are."""
    if connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'key_sums'").fetchone():
        return
    connection.execute(
        "CREATE TABLE key_sums (place TEXT PRIMARY KEY, rows INT, keys INT, prompts INT, pairs INT) STRICT"
    )
    for table in _TABLES:
        connection.execute("INSERT INTO key_sums VALUES (?, ?, ?, ?, ?)", (table, *_sums(connection, table)))
        for event, row, sign in (("INSERT", "NEW", "+"), ("DELETE", "OLD", "-")):
            terms = (
                ("rows", "1"),
                ("keys", f"{row}.key % {_PRIME}"),
                ("prompts", f"{row}.prompt"),
                ("pairs", f"({row}.key % 65521) * ({row}.prompt % 65521)"),
            )
            changes = ", ".join(f"{name} = {name} {sign} ({term})" for name, term in terms)
            connection.execute(
                f"CREATE TRIGGER {table}_sums_{event.lower()} AFTER {event} ON {table} "
                f"BEGIN UPDATE key_sums SET {changes} WHERE place = '{table}'; END"
            )


def _sums(connection: sqlite3.Connection, table: str) -> tuple[int, ...]:
    query = (
        f"SELECT count(*), ifnull(sum(key % {_PRIME}), 0), ifnull(sum(prompt), 0), "
        f"ifnull(sum((key % 65521) * (prompt % 65521)), 0) FROM {table}"
    )
    return tuple(connection.execute(query).fetchone())


def _sums_match(connection: sqlite3.Connection) -> bool:
    kept = {place: tuple(sums) for place, *sums in connection.execute("SELECT * FROM key_sums")}
    return all(kept.get(table) == _sums(connection, table) for table in _TABLES)
