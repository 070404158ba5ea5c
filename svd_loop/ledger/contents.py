"""Store texts and token ids once each, compressed.

Votes on one candidate share their prompt, candidates share theirs, an accepted row consists of a candidate's ids, and a
small model's judge writes the same few sentences many times. Storing by content saves all these copies. The rest is
compressed with zstandard. Texts of a hundred characters hardly shrink alone (to 94%), but to about a quarter with a
dictionary trained on a few hundred earlier texts of their kind. So the first batch with enough samples of a kind trains
a dictionary, which is used from then on.

Every read is verified against the content's digest, so a flipped bit is an error and never a wrong answer.
"""

from __future__ import annotations

import hashlib
import sqlite3
import sys
from array import array
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import zstandard

from svd_loop.errors import LedgerError
from svd_loop.ledger.checks import damaged

_LEVEL = 3
_DICTIONARY_BYTES = 16384
_SAMPLES = 200
_SAMPLE_BYTES = 4096
_PER_QUERY = 500
_CODES = ("H", "I", "Q")  # 2, 4 and 8 bytes on all platforms of Python
_CODE_OF_WIDTH = {array(code).itemsize: code for code in _CODES}


class Stored(NamedTuple):
    """Id and digest of a stored content."""

    id: int
    digest: bytes


class Content(NamedTuple):
    """An encoded content that was read, and its digest."""

    data: bytes
    digest: bytes


def encode_text(text: str) -> bytes:
    """Encode a text as UTF-8 after a tag byte; lone surrogates, which decoding of invalid bytes can give, are kept."""
    return b"t" + text.encode("utf-8", "surrogatepass")


def encode_ids(ids: Sequence[int]) -> bytes:
    """Encode integers as little-endian of 2, 4 or 8 bytes, the smallest that fits all, after that width as a digit.

    Raises:
        LedgerError: an id is negative or does not fit 64 bits.
    """
    for code in _CODES:
        try:
            return str(array(code).itemsize).encode() + _little(array(code, ids)).tobytes()
        except OverflowError:
            continue
    raise LedgerError(f"token ids must lie between 0 and 2**64 - 1, found {min(ids)} to {max(ids)}")


def decode_text(data: bytes) -> str:
    """Decode what `encode_text` returned."""
    return data[1:].decode("utf-8", "surrogatepass")


def decode_ids(data: bytes) -> tuple[int, ...]:
    """Decode what `encode_ids` returned."""
    ids = array(_CODE_OF_WIDTH[int(data[:1])])
    ids.frombytes(data[1:])
    return tuple(_little(ids))


def _little(ids: array[int]) -> array[int]:
    if sys.byteorder == "big":
        ids.byteswap()
    return ids


class ContentStore:
    """The `contents` and `dictionaries` tables of one open ledger."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self.path = path
        self._plain = zstandard.ZstdCompressor(level=_LEVEL)
        self._compressors: dict[str, tuple[int, zstandard.ZstdCompressor]] = {}
        self._decompressors: dict[int | None, zstandard.ZstdDecompressor] = {None: zstandard.ZstdDecompressor()}

    def put(self, label: str, contents: Iterable[bytes]) -> dict[bytes, Stored]:
        """Store encoded contents that are not stored yet, within the caller's transaction.

        Args:
            label: their kind (a role, for example); contents of one kind share a dictionary.
            contents: as returned by `encode_text` or `encode_ids`; repeats are allowed.

        Returns:
            Id and digest of each content.
        """
        digests = {content: _digest(content) for content in dict.fromkeys(contents)}
        found = self._ids(list(digests.values()))
        new = {content: digest for content, digest in digests.items() if digest not in found}
        dictionary, compressor = self._compressor(label, list(new))
        first = self._connection.execute("SELECT coalesce(max(id), 0) + 1 FROM contents").fetchone()[0]
        rows = [
            (id, digest, dictionary, compressor.compress(content))
            for id, (content, digest) in enumerate(new.items(), first)
        ]
        self._connection.executemany("INSERT INTO contents (id, digest, dictionary, data) VALUES (?, ?, ?, ?)", rows)
        found |= {digest: id for id, digest, *_ in rows}
        return {content: Stored(found[digest], digest) for content, digest in digests.items()}

    def load(self, content_ids: Iterable[int]) -> dict[int, Content]:
        """Return encoded contents by id, each verified.

        Raises:
            LedgerError: a content is missing or is not what was written.
        """
        wanted = list(set(content_ids))
        loaded: dict[int, Content] = {}
        for start in range(0, len(wanted), _PER_QUERY):
            part = wanted[start : start + _PER_QUERY]
            query = f"SELECT id, digest, dictionary, data FROM contents WHERE id IN ({','.join('?' * len(part))})"
            for id, digest, *row in self._connection.execute(query, part).fetchall():
                loaded[id] = Content(self._verified(id, digest, *row), digest)
        if missing := set(wanted) - set(loaded):
            raise damaged(self.path, f"content {min(missing)} is missing")
        return loaded

    def text(self, content_id: int) -> str:
        """Return the text stored under an id; raises `LedgerError` if it is damaged."""
        return decode_text(self.load([content_id])[content_id].data)

    def ids(self, content_id: int) -> tuple[int, ...]:
        """Return the token ids stored under an id; raises `LedgerError` if they are damaged."""
        return decode_ids(self.load([content_id])[content_id].data)

    def intact(self, content_id: int) -> bool:
        """Return whether a content can be read and is what was written."""
        try:
            self.load([content_id])
        except LedgerError:
            return False
        return True

    def drop_caches(self) -> None:
        """Clear the caches after a transaction was rolled back."""
        self._compressors.clear()
        self._decompressors = {None: self._decompressors[None]}

    def _ids(self, digests: Sequence[bytes]) -> dict[bytes, int]:
        found: dict[bytes, int] = {}
        for start in range(0, len(digests), _PER_QUERY):
            part = digests[start : start + _PER_QUERY]
            marks = ",".join("?" * len(part))
            found.update(self._connection.execute(f"SELECT digest, id FROM contents WHERE digest IN ({marks})", part))
        return found

    def _compressor(self, label: str, samples: Sequence[bytes]) -> tuple[int | None, zstandard.ZstdCompressor]:
        if label in self._compressors:
            return self._compressors[label]
        row = self._connection.execute("SELECT id, data FROM dictionaries WHERE label = ?", (label,)).fetchone()
        if row is None and (trained := _train(samples)):
            insert = "INSERT INTO dictionaries (label, data) VALUES (?, ?)"
            row = (self._connection.execute(insert, (label, trained)).lastrowid, trained)
        if row is None:
            return None, self._plain
        data = zstandard.ZstdCompressionDict(row[1])
        # The row stores the dictionary's id, so the frame need not.
        parameters = zstandard.ZstdCompressionParameters.from_level(_LEVEL, write_dict_id=False)
        compressor = zstandard.ZstdCompressor(dict_data=data, compression_params=parameters)
        self._compressors[label] = (int(row[0]), compressor)
        return self._compressors[label]

    def _verified(self, content_id: int, digest: bytes, dictionary: int | None, data: bytes) -> bytes:
        try:
            content = self._decompressor(dictionary).decompress(data)
        except (zstandard.ZstdError, TypeError) as error:
            raise damaged(self.path, f"content {content_id} cannot be read: {error}") from error
        if _digest(content) != digest:
            raise damaged(self.path, f"content {content_id} does not match its digest")
        return content

    def _decompressor(self, dictionary: int | None) -> zstandard.ZstdDecompressor:
        if dictionary not in self._decompressors:
            row = self._connection.execute("SELECT data FROM dictionaries WHERE id = ?", (dictionary,)).fetchone()
            if row is None:
                raise damaged(self.path, f"compression dictionary {dictionary} is missing")
            data = zstandard.ZstdCompressionDict(row[0])
            self._decompressors[dictionary] = zstandard.ZstdDecompressor(dict_data=data)
        return self._decompressors[dictionary]


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()[:16]


def _train(samples: Sequence[bytes]) -> bytes | None:
    """Train a dictionary; None if there are too few samples, or too little data in them."""
    if len(samples) < _SAMPLES or sum(map(len, samples)) < _DICTIONARY_BYTES:
        return None
    try:
        dictionary = zstandard.train_dictionary(_DICTIONARY_BYTES, [sample[:_SAMPLE_BYTES] for sample in samples])
    except zstandard.ZstdError:
        return None
    return bytes(dictionary.as_bytes())
