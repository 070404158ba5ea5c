"""Find exact and near duplicates among a million prompts in a fixed amount of memory.

datasketch's own index keeps every key in Python dictionaries, about half a gigabyte per million prompts. Here the
permutations are datasketch's and its choice of bands is used, but the band keys are kept in a temporary SQLite file
with a bounded page cache. Each band key is stored with the first prompt that had it; a later prompt with the same key
is compared with that one's text.

Keys of new prompts are buffered and written in sorted batches: written one by one, each would touch another page.

Order decides: the first of several duplicates is kept, and a prompt is compared with kept prompts only. With
`numbers_matter` numbers, operators and brackets are part of every key, so "7 boxes of 12" and "8 boxes of 12" are never
compared.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from envs.prompts.normalise import Form, compared, digest
from envs.prompts.similarity import Bands, Sketches, jaccard
from svd_loop.config.data import DedupSection

Kind = Literal["exact", "near"]
_CACHE_KIB = 48 * 1024
# Buffered keys, at about 100 bytes each; and keys per query, which SQLite limits.
_WAITING = 2**17
_ASKED_AT_ONCE = 4096


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of a prompt: one of its whole text, and one per band of its sketch."""

    text: int
    bands: Sequence[int]


class KeyMaker:
    """Makes the keys of prompts, from the prompts alone."""

    def __init__(self, settings: DedupSection) -> None:
        self._settings = settings
        self._bands = Bands(settings.near) if settings.near else None

    @property
    def needs_sketches(self) -> bool:
        """Whether `keys` needs sketches."""
        return self._bands is not None

    def keys(self, texts: Sequence[str], forms: Sequence[Form], sketches: Sketches | None) -> list[Keys]:
        """Return one `Keys` per text. A text without words has no bands."""
        bands: Sequence[Sequence[int]] = [()] * len(texts)
        if self._bands is not None and sketches is not None:
            salts = ["\x1f".join(form.marks) for form in forms] if self._settings.numbers_matter else None
            bands = self._bands.keys(sketches, salts)
        return [
            Keys(_text_key(text, form) if self._settings.exact else 0, band if form.words else ())
            for text, form, band in zip(texts, forms, bands, strict=True)
        ]


class DuplicateFinder:
    """Stores the keys of kept prompts by position and finds their duplicates."""

    def __init__(self, settings: DedupSection, file: Path, text_at: Callable[[int], str]) -> None:
        """Args: the section of the config, a file to be made for the keys, and how to get a kept prompt's text back."""
        self._settings = settings
        self._text_at = text_at
        # Keys not yet in the file, and the file's entries for the current batch of prompts.
        self._new_texts: set[int] = set()
        self._new_bands: dict[int, int] = {}
        self._known_texts: set[int] = set()
        self._known_bands: dict[int, int] = {}
        self._keys = sqlite3.connect(file, isolation_level=None)
        # The file is used by this process only, so neither journal nor sync is needed.
        self._keys.executescript(
            f"PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; "
            f"PRAGMA locking_mode=EXCLUSIVE; PRAGMA cache_size=-{_CACHE_KIB};"
            "CREATE TABLE texts (key INTEGER PRIMARY KEY) STRICT;"
            "CREATE TABLE bands (key INTEGER PRIMARY KEY, position INTEGER NOT NULL) STRICT; BEGIN"
        )

    def expect(self, keys: Sequence[Keys]) -> None:
        """Load the stored entries of these keys; until the next call only their prompts may be checked."""
        if len(self._new_texts) + len(self._new_bands) > _WAITING:
            self._write()
        self._known_texts = {key for (key,) in self._known("key FROM texts", [item.text for item in keys])}
        bands = [key for item in keys for key in item.bands]
        self._known_bands = dict(self._known("key, position FROM bands", bands))

    def check(self, text: str, keys: Keys, position: int) -> Kind | None:
        """The kind of duplicate the prompt is; None if it is new, and it is then stored under `position`."""
        if self._settings.exact:
            if keys.text in self._new_texts or keys.text in self._known_texts:
                return "exact"
            self._new_texts.add(keys.text)
        if candidates := self._positions(keys.bands):
            form = compared(text)
            pairs = form.pairs()
            for candidate in candidates:
                other = compared(self._text_at(candidate))
                if self._settings.numbers_matter and other.marks != form.marks:
                    continue
                if jaccard(pairs, other.pairs()) >= self._settings.near:
                    return "near"
        for key in keys.bands:
            if key not in self._known_bands:
                self._new_bands.setdefault(key, position)
        return None

    def close(self) -> None:
        """Close the file."""
        self._keys.close()

    def _positions(self, keys: Iterable[int]) -> list[int]:
        """Positions of the prompts that had one of these keys first, in order."""
        found = {self._known_bands.get(key, self._new_bands.get(key)) for key in keys}
        return sorted(position for position in found if position is not None)

    def _known(self, what: str, keys: Sequence[int]) -> Iterator[Any]:
        """Rows of the file with these keys; `what` names columns and table."""
        for first in range(0, len(keys), _ASKED_AT_ONCE):
            asked = keys[first : first + _ASKED_AT_ONCE]
            yield from self._keys.execute(f"SELECT {what} WHERE key IN ({','.join('?' * len(asked))})", asked)

    def _write(self) -> None:
        self._keys.executemany("INSERT INTO texts VALUES (?)", ((key,) for key in sorted(self._new_texts)))
        self._keys.executemany("INSERT INTO bands VALUES (?, ?)", sorted(self._new_bands.items()))
        self._new_texts.clear()
        self._new_bands.clear()


def _text_key(text: str, form: Form) -> int:
    """A hash of words and marks; of the text itself if it has neither (only punctuation).

    With 64 bits two different prompts among a million share a key with a chance of about 3 in 10^8.
    """
    return digest("\x1f".join((form.squeezed, *form.marks)) if form.words or form.marks else text)
