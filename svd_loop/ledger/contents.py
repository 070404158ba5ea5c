"""Store texts and token ids once each, compressed.

Votes on one candidate share their prompt, candidates share theirs, an accepted row consists of a candidate's ids, and a
small model's judge writes the same few sentences many times. Storing by content saves all these copies. The rest is
compressed with zstandard. Texts of a hundred characters hardly shrink alone (to 94%), but to about a quarter with a
dictionary trained on a few hundred earlier texts of their kind. So the first few hundred contents of a kind train a
dictionary, which is used from then on. A content that repeats most of another one, as a judge's prompt repeats the
solution, is compressed against that one, its base (to a tenth for a solution of 6,000 characters). A text that consists
of two stored ones with an empty line between them, as a vote of two questions does, is stored as their ids.

Every read is verified against the content's digest, so a flipped bit is an error and never a wrong answer.
"""

from __future__ import annotations

import hashlib
import sqlite3
import sys
from array import array
from collections import OrderedDict
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import zstandard

from svd_loop.contracts import shared_ids
from svd_loop.errors import LedgerError
from svd_loop.ledger.checks import damaged

_LEVEL = 3
_DICTIONARY_BYTES = 16384
_SAMPLES = 200
_SAMPLE_BYTES = 4096
_TRAINING = {"k": 64, "d": 6}
_PROMPT_TRAINING = {"k": 1000, "d": 8}
"""Fixed parameters train in a fifth of the time of a search for them. Prompts repeat each other in longer stretches."""

_JOIN, _BREAK = b"j", b"\n\n"
_BREAKS = 64
"""Empty lines at which a text is tried to be divided."""

_PER_QUERY = 500
_RECENT_BYTES = 2**26
_NEWEST_BYTES = 2**25
_PROMPTS = 1024
_CODES = ("H", "I", "Q")  # 2, 4 and 8 bytes on all platforms of Python
_CODE_OF_WIDTH = {array(code).itemsize: code for code in _CODES}


class Stored(NamedTuple):
    """Id and digest of a stored content."""

    id: int
    digest: bytes


class Base(NamedTuple):
    """A stored content against which others are compressed."""

    id: int
    data: bytes


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
    # Most answers end with a token beyond two bytes: then the first width is not tried.
    for code in _CODES[1:] if ids and ids[-1] > 0xFFFF else _CODES:
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
    return shared_ids(_little(ids))


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
        self._dictionaries: dict[int | None, bytes] = {None: b""}
        self._decompressors: dict[int | None, zstandard.ZstdDecompressor] = {None: zstandard.ZstdDecompressor()}
        self._samples: dict[str, list[bytes]] = {}
        self._recent: OrderedDict[Hashable, Base] = OrderedDict()
        self._recent_bytes = 0
        self._newest: OrderedDict[bytes, Stored] = OrderedDict()
        self._newest_bytes = 0
        self._prompts: OrderedDict[int, tuple[Sequence[int], Stored]] = OrderedDict()

    def put(
        self, label: str, contents: Iterable[bytes], bases: Mapping[bytes, Base] | None = None
    ) -> dict[bytes, Stored]:
        """Store encoded contents of one kind; see `put_all`."""
        return self.put_all({label: contents}, bases)

    def put_all(
        self,
        contents: Mapping[str, Iterable[bytes]],
        bases: Mapping[bytes, Base] | None = None,
        *,
        joined: bool = False,
    ) -> dict[bytes, Stored]:
        """Store encoded contents that are not stored yet, within the caller's transaction.

        Args:
            contents: by their kind (a role, for example), as returned by `encode_text` or `encode_ids`; repeats are
                allowed. Contents of one kind share a dictionary.
            bases: stored contents that some of them repeat; a base must not have one itself.
            joined: they are texts, and some may be two stored ones with an empty line between them.

        Returns:
            Id and digest of each content.
        """
        bases = bases or {}
        kinds = {content: label for label, group in contents.items() for content in group}
        known = {content: place for content in kinds if (place := self._newest.get(content))}
        digests = {content: _digest(content) for content in kinds if content not in known}
        found = self._ids(list(digests.values()))
        new: dict[str, list[bytes]] = {}
        for content, digest in digests.items():
            if digest not in found:
                new.setdefault(kinds[content], []).append(content)
        id = self._connection.execute("SELECT coalesce(max(id), 0) FROM contents").fetchone()[0]
        rows: list[tuple[int, bytes, int | None, int | None, bytes]] = []
        for label, group in new.items():
            joins = self._joins(group) if joined else {}
            dictionary, compressor = self._compressor(label, [content for content in group if content not in joins])
            for content in group:
                id += 1
                found[digests[content]] = id
                if content in joins:
                    rows.append((id, digests[content], None, *joins[content]))
                elif (base := bases.get(content)) is not None:
                    based = _compressor(_raw(self._dictionaries[dictionary], base.data))
                    rows.append((id, digests[content], dictionary, base.id, based.compress(content)))
                else:
                    rows.append((id, digests[content], dictionary, None, compressor.compress(content)))
        query = "INSERT INTO contents (id, digest, dictionary, base, data) VALUES (?, ?, ?, ?, ?)"
        self._connection.executemany(query, rows)
        stored = {content: Stored(found[digest], digest) for content, digest in digests.items()}
        self._keep(stored)
        return known | stored

    def _joins(self, texts: Iterable[bytes]) -> dict[bytes, tuple[int, bytes]]:
        """The two parts of texts that consist of stored ones: id of the first, and the data that names the second."""
        heads = [(text, at, digest) for text in texts for at, digest in _heads(text)]
        first = self._unbased({digest for *_, digest in heads})
        tails = [
            (text, first[digest], _digest(text[:1] + text[at + len(_BREAK) :]))
            for text, at, digest in heads
            if digest in first
        ]
        second = self._unbased({digest for *_, digest in tails})
        return {text: (id, _joining(second[digest])) for text, id, digest in tails if digest in second}

    def _unbased(self, digests: Collection[bytes]) -> dict[bytes, int]:
        return self._ids(list(digests), "AND base IS NULL")

    def _keep(self, stored: Mapping[bytes, Stored]) -> None:
        """Keep the newest contents: a reply's text and ids are stored again when its candidate is settled."""
        self._newest.update(stored)
        self._newest_bytes += sum(map(len, stored))
        while self._newest_bytes > _NEWEST_BYTES:
            self._newest_bytes -= len(self._newest.popitem(last=False)[0])

    def remember(self, name: Hashable, base: Base) -> None:
        """Keep a base in memory under a name, and forget the oldest ones. One that has a base itself is not kept."""
        query = "SELECT 1 FROM contents WHERE id = ? AND base IS NULL"
        if name in self._recent or not self._connection.execute(query, (base.id,)).fetchone():
            return
        self._recent[name] = base
        self._recent_bytes += len(base.data)
        while self._recent_bytes > _RECENT_BYTES:
            self._recent_bytes -= len(self._recent.popitem(last=False)[1].data)

    def recall(self, name: Hashable) -> Base | None:
        """Return the base that is kept under a name."""
        return self._recent.get(name)

    def known(self, ids: Sequence[int]) -> Stored | None:
        """Where these very ids (the same object, as votes share them) were stored lately."""
        found = self._prompts.get(id(ids))
        return found[1] if found else None

    def note(self, ids: Sequence[int], stored: Stored) -> None:
        """Note where ids are stored. They are kept, so that no other object gets their identity."""
        if len(self._prompts) >= _PROMPTS:
            self._prompts.popitem(last=False)
        self._prompts[id(ids)] = (ids, stored)

    def load(self, content_ids: Iterable[int]) -> dict[int, Content]:
        """Return encoded contents by id, each verified.

        Raises:
            LedgerError: a content is missing or is not what was written.
        """
        loaded, based = self._read(set(content_ids))
        if based:
            others = {second for *_, data in based.values() if (second := _second(data))}
            bases, deeper = self._read(others.union(base for base, *_ in based.values()))
            if deeper:
                raise damaged(self.path, f"content {min(deeper)} has a base and is one")
            for id, (base, digest, dictionary, data) in based.items():
                if second := _second(data):
                    text = bases[base].data + _BREAK + bases[second].data[1:]
                    loaded[id] = Content(self._checked(id, digest, text), digest)
                    continue
                raw = _raw(self._dictionary(dictionary), bases[base].data)
                decompressor = zstandard.ZstdDecompressor(dict_data=raw)
                loaded[id] = Content(self._verified(id, digest, decompressor, data), digest)
        return loaded

    def _read(self, wanted: set[int]) -> tuple[dict[int, Content], dict[int, tuple[int, bytes, int | None, bytes]]]:
        """Contents without a base; base, digest, dictionary and data of the others."""
        loaded: dict[int, Content] = {}
        based: dict[int, tuple[int, bytes, int | None, bytes]] = {}
        ordered = sorted(wanted)
        for start in range(0, len(ordered), _PER_QUERY):
            part = ordered[start : start + _PER_QUERY]
            marks = ",".join("?" * len(part))
            query = f"SELECT id, digest, dictionary, base, data FROM contents WHERE id IN ({marks})"
            for id, digest, dictionary, base, data in self._connection.execute(query, part).fetchall():
                if base is None:
                    verified = self._verified(id, digest, self._decompressor(dictionary), data)
                    loaded[id] = Content(verified, digest)
                else:
                    based[id] = (base, digest, dictionary, data)
        if missing := wanted - set(loaded) - set(based):
            raise damaged(self.path, f"content {min(missing)} is missing")
        return loaded, based

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
        self._samples.clear()
        self._recent.clear()
        self._recent_bytes = 0
        self._newest.clear()
        self._newest_bytes = 0
        self._prompts.clear()
        self._dictionaries = {None: b""}
        self._decompressors = {None: self._decompressors[None]}

    def _ids(self, digests: Sequence[bytes], condition: str = "") -> dict[bytes, int]:
        found: dict[bytes, int] = {}
        for start in range(0, len(digests), _PER_QUERY):
            part = digests[start : start + _PER_QUERY]
            marks = ",".join("?" * len(part))
            query = f"SELECT digest, id FROM contents WHERE digest IN ({marks}) {condition}"
            found.update(self._connection.execute(query, part))
        return found

    def _compressor(self, label: str, samples: Sequence[bytes]) -> tuple[int | None, zstandard.ZstdCompressor]:
        if label in self._compressors:
            return self._compressors[label]
        row = self._connection.execute("SELECT id, data FROM dictionaries WHERE label = ?", (label,)).fetchone()
        if row is None:
            known = self._samples.setdefault(label, [])
            known += [sample[:_SAMPLE_BYTES] for sample in samples]
            if not (trained := _train(known, _PROMPT_TRAINING if label.endswith("prompt ids") else _TRAINING)):
                return None, self._plain
            insert = "INSERT INTO dictionaries (label, data) VALUES (?, ?)"
            row = (self._connection.execute(insert, (label, trained)).lastrowid, trained)
            del self._samples[label]
        self._dictionaries[int(row[0])] = row[1]
        self._compressors[label] = (int(row[0]), _compressor(zstandard.ZstdCompressionDict(row[1])))
        return self._compressors[label]

    def _verified(self, content_id: int, digest: bytes, decompressor: zstandard.ZstdDecompressor, data: bytes) -> bytes:
        try:
            content = decompressor.decompress(data)
        except (zstandard.ZstdError, TypeError) as error:
            raise damaged(self.path, f"content {content_id} cannot be read: {error}") from error
        return self._checked(content_id, digest, content)

    def _checked(self, content_id: int, digest: bytes, content: bytes) -> bytes:
        if _digest(content) != digest:
            raise damaged(self.path, f"content {content_id} does not match its digest")
        return content

    def _dictionary(self, dictionary: int | None) -> bytes:
        if dictionary not in self._dictionaries:
            row = self._connection.execute("SELECT data FROM dictionaries WHERE id = ?", (dictionary,)).fetchone()
            if row is None:
                raise damaged(self.path, f"compression dictionary {dictionary} is missing")
            self._dictionaries[dictionary] = row[0]
        return self._dictionaries[dictionary]

    def _decompressor(self, dictionary: int | None) -> zstandard.ZstdDecompressor:
        if dictionary not in self._decompressors:
            data = zstandard.ZstdCompressionDict(self._dictionary(dictionary))
            self._decompressors[dictionary] = zstandard.ZstdDecompressor(dict_data=data)
        return self._decompressors[dictionary]


def _compressor(dictionary: zstandard.ZstdCompressionDict) -> zstandard.ZstdCompressor:
    # The row stores the dictionary's id, so the frame need not.
    parameters = zstandard.ZstdCompressionParameters.from_level(_LEVEL, write_dict_id=False)
    return zstandard.ZstdCompressor(dict_data=dictionary, compression_params=parameters)


def _raw(dictionary: bytes, base: bytes) -> zstandard.ZstdCompressionDict:
    """A dictionary of two contents; what is near its end is found best."""
    return zstandard.ZstdCompressionDict(dictionary + base, dict_type=zstandard.DICT_TYPE_RAWCONTENT)


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).digest()[:16]


def _heads(text: bytes) -> Iterator[tuple[int, bytes]]:
    """The places of empty lines in a text, and the digest of what is before each."""
    digest, done, at = hashlib.sha256(), 0, text.find(_BREAK)
    for _ in range(_BREAKS):
        if at < 0:
            return
        digest.update(text[done:at])
        done = at
        yield at, digest.copy().digest()[:16]
        at = text.find(_BREAK, at + 1)


def _joining(second: int) -> bytes:
    return _JOIN + second.to_bytes(7, "big")


def _second(data: object) -> int:
    """The second part of a joined text; 0 for other data, none of which begins like this."""
    if isinstance(data, bytes) and len(data) == 8 and data[:1] == _JOIN:
        return int.from_bytes(data[1:], "big")
    return 0


def _train(samples: Sequence[bytes], parameters: Mapping[str, int]) -> bytes | None:
    """Train a dictionary; None if there are too few samples, or too little data in them."""
    if len(samples) < _SAMPLES or sum(map(len, samples)) < _DICTIONARY_BYTES:
        return None
    try:
        dictionary = zstandard.train_dictionary(_DICTIONARY_BYTES, list(samples), **parameters)
    except zstandard.ZstdError:
        return None
    return bytes(dictionary.as_bytes())
