"""Duplicates among all prompts a schedule has ever seen, across files and months.

The keys and the comparison are those of the door (`envs.prompts`); what differs is that the keys stay, in the
schedule's book, in the transaction of the prompts they belong to. As there, a prompt is compared with prompts that were
kept, and the first of a kind stays. Keys depend on `data.dedup`, so they are made again when that section changes.
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
from svd_loop.schedule.state_db import Book

_AT_ONCE = 512
_NO_LEAKS = LeakSection(ngram=0, minhash=0.0)


class SeenPrompts:
    """Recognises prompts that came before."""

    def __init__(self, book: Book, dedup: DedupSection) -> None:
        """Make the keys fit `dedup`; takes time only when the section has changed since the last call."""
        self._connection: sqlite3.Connection = book.connection
        self._dedup = dedup
        settings = dedup.model_dump_json()
        if book.noted("dedup") != settings:
            with book.writing():
                self._make_anew()
                book.note("dedup", settings)

    def earlier(self, prompt: Prompt, keys: Keys) -> tuple[int, str] | None:
        """The prompt that this one repeats, and how (`same`, `exact`, `near`); None for a new one.

        The very same text is recognised whatever became of the earlier one; the other ways ask kept prompts.
        """
        query = "SELECT number FROM prompts WHERE id = ? ORDER BY number LIMIT 1"
        if row := self._connection.execute(query, (prompt.id,)).fetchone():
            return int(row[0]), "same"
        if self._dedup.exact:
            query = "SELECT prompt FROM text_keys WHERE key = ?"
            if row := self._connection.execute(query, (keys.text,)).fetchone():
                return int(row[0]), "exact"
        return self._near(prompt, keys.bands)

    def remember(self, number: int, keys: Keys) -> None:
        """Recognise repetitions of a kept prompt from now on."""
        if self._dedup.exact:
            self._connection.execute("INSERT OR IGNORE INTO text_keys VALUES (?, ?)", (keys.text, number))
        self._connection.executemany(
            "INSERT OR IGNORE INTO band_keys VALUES (?, ?)", [(key, number) for key in keys.bands]
        )

    def _near(self, prompt: Prompt, bands: Sequence[int]) -> tuple[int, str] | None:
        holes = ",".join("?" * len(bands))
        query = f"""SELECT DISTINCT number, text FROM band_keys JOIN prompts ON prompts.number = band_keys.prompt
                    WHERE key IN ({holes}) AND text IS NOT NULL ORDER BY number"""
        candidates = self._connection.execute(query, list(bands)).fetchall() if bands else []
        form = compared(prompt.text) if candidates else None
        for number, text in candidates:
            other = compared(text)
            if form is None or (self._dedup.numbers_matter and other.marks != form.marks):
                continue
            if jaccard(form.pairs(), other.pairs()) >= self._dedup.near:
                return int(number), "near"
        return None

    def _make_anew(self) -> None:
        self._connection.execute("DELETE FROM text_keys")
        self._connection.execute("DELETE FROM band_keys")
        sifter = Sifter((), self._dedup, _NO_LEAKS)
        query = "SELECT number, id, text, domain FROM prompts WHERE text IS NOT NULL ORDER BY number"
        kept = self._connection.execute(query)
        while rows := kept.fetchmany(_AT_ONCE):
            prompts = [Prompt(id, text, domain) for _, id, text, domain in rows]
            for (number, *_), found in zip(rows, sifter.sift(prompts), strict=True):
                self.remember(number, found.keys)
