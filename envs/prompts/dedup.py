"""Exact and near duplicates among a million prompts in a fixed amount of memory.

datasketch's own index keeps every key in Python dictionaries, about half a gigabyte per million prompts, so it serves
the small held-out side (`leak`) alone. Here the sketches are datasketch's and its choice of bands is used, but the
band keys lie in a throw-away SQLite file with a bounded page cache. Every band key remembers the first prompt that
had it; a later prompt with the same key is compared with that one's text.

Order decides: the first prompt of a kind stays, and a prompt is compared with prompts that stayed. Under
`numbers_matter` numbers, operators and brackets are part of every key, so "7 boxes of 12" and "8 boxes of 12" never
meet.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from envs.prompts.normalise import Form, compared, digest
from envs.prompts.similarity import band_keys, bands_for, jaccard
from svd_loop.config.data import DedupSection

if TYPE_CHECKING:
    from datasketch import MinHash

Kind = Literal["exact", "near"]
_CACHE_KIB = 48 * 1024


class DuplicateFinder:
    """Remembers kept prompts by position and recognises their duplicates."""

    def __init__(self, settings: DedupSection, file: Path, text_at: Callable[[int], str]) -> None:
        """Args: the section of the config, a file to be made for the keys, and how to get a kept prompt's text back."""
        self._settings = settings
        self._text_at = text_at
        self._bands, self._rows = bands_for(settings.near) if settings.near else (0, 0)
        self._keys = sqlite3.connect(file, isolation_level=None)
        # Nothing here outlives the process, so neither journal nor sync is needed.
        self._keys.executescript(
            f"PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; "
            f"PRAGMA locking_mode=EXCLUSIVE; PRAGMA cache_size=-{_CACHE_KIB};"
            "CREATE TABLE texts (key INTEGER PRIMARY KEY) STRICT;"
            "CREATE TABLE bands (key INTEGER PRIMARY KEY, position INTEGER NOT NULL) STRICT; BEGIN"
        )
        holes = ",".join("?" * self._bands)
        self._find_near = f"SELECT DISTINCT position FROM bands WHERE key IN ({holes}) ORDER BY position"

    @property
    def needs_sketch(self) -> bool:
        """Whether `check` needs sketches."""
        return bool(self._bands)

    def check(self, text: str, form: Form, sketch: MinHash | None, position: int) -> Kind | None:
        """What kind of duplicate the prompt is; None remembers it as kept under `position`."""
        if (
            self._settings.exact
            and not self._keys.execute("INSERT OR IGNORE INTO texts VALUES (?)", (self._text_key(text, form),)).rowcount
        ):
            return "exact"
        if sketch is None or not form.words:
            return None
        salt = "\x1f".join(form.marks) if self._settings.numbers_matter else ""
        keys = band_keys(sketch, self._bands, self._rows, salt)
        for (candidate,) in self._keys.execute(self._find_near, keys).fetchall():
            other = compared(self._text_at(candidate))
            if self._settings.numbers_matter and other.marks != form.marks:
                continue
            if jaccard(form.pairs(), other.pairs()) >= self._settings.near:
                return "near"
        self._keys.executemany("INSERT OR IGNORE INTO bands VALUES (?, ?)", [(key, position) for key in keys])
        return None

    def close(self) -> None:
        """Let go of the file."""
        self._keys.close()

    def _text_key(self, text: str, form: Form) -> int:
        """Words and marks; a text without either (only punctuation) stands for itself.

        With 64 bits two different prompts among a million share a key with a chance of about 3 in 10^8.
        """
        return digest("\x1f".join((form.squeezed, *form.marks)) if form.words or form.marks else text)
