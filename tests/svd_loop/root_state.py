"""Everything below a `job.root` that must not depend on kills: files by content, rows of databases without times."""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from svd_loop.ledger import LedgerReader, content_digest

_ID = re.compile(r"\b[0-9a-f]{32}\b|\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d[\d.+:]*")
_TIMING = re.compile(
    r"second|runtime|hours|time$|_at$|_nano$|timestamp|^attempts$|^last_tick$|^(trace|span|parent_span)_id$"
)
"""Names of columns, metrics and fields that say when, how long or how often something was tried, or hold a drawn id."""
_PASSING = re.compile(r"(^|[./])lock(\.owner)?$|-wal$|-shm$|\.tmp$|/\.artifact\.uploading\.")
"""Files of running processes, those that the next write replaces, and what a killed MLflow leaves of an artifact."""


def state_of(root: Path) -> dict[str, object]:
    """By path, with ids of MLflow replaced: what is there, and how often."""
    found: dict[str, Counter[object]] = {}
    for path in sorted(root.rglob("*")):
        name = path.relative_to(root).as_posix()
        if not _PASSING.search(name):
            found.setdefault(_plain(name), Counter())[_content(path)] += 1
    return dict(found)


def differences(expected: dict[str, object], found: dict[str, object]) -> list[str]:
    """Paths whose contents differ, with both."""
    paths = sorted(path for path in {*expected, *found} if expected.get(path) != found.get(path))
    return [f"{path}: {_shown(expected.get(path), found.get(path))}" for path in paths]


def _content(path: Path) -> object:
    if path.is_dir():
        return "folder"
    if path.name == "ledger.sqlite":
        with LedgerReader.open_for_reading(path.parent) as reader:
            result = reader.result()
            return content_digest(reader), result and repr((result.stop, result.best.version, result.notes))
    if path.suffix in (".sqlite", ".db"):
        return tuple(_rows(path))
    if path.suffix == ".html":  # it holds how long rounds took
        return "whole" if path.read_text().endswith("</html>\n") else "cut"
    if path.suffix == ".json":
        return _cell(path.read_text())
    if path.suffix in (".parquet", ".png"):
        return hashlib.sha256(path.read_bytes()).hexdigest()
    return _plain(path.read_text(errors="backslashreplace"))


def _rows(path: Path) -> Iterator[tuple[object, ...]]:
    """The rows of all tables of a database, sorted."""
    with closing(sqlite3.connect(path)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        for table in sorted({*tables} - {"row_digests"}):  # of rows with times
            names = [name for _, name, *_ in connection.execute(f"PRAGMA table_info('{table}')")]
            kept = [place for place, name in enumerate(names) if not _TIMING.search(name)]
            rows = [
                (table, *(_cell(row[place]) for place in kept))
                for row in connection.execute(f"SELECT * FROM '{table}'")
                if not any(isinstance(row[place], str) and _TIMING.search(row[place]) for place in kept[:1])
            ]
            yield from sorted(rows, key=repr)


def _cell(value: object) -> object:
    if isinstance(value, str) and value.startswith("{"):
        try:
            return json.dumps(_untimed(json.loads(value)), sort_keys=True)
        except ValueError:
            pass
    return _plain(value) if isinstance(value, str) else value


def _untimed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _untimed(item) for key, item in value.items() if not _TIMING.search(key) and key != "at"}
    if isinstance(value, list):
        return [_untimed(item) for item in value]
    return _plain(value) if isinstance(value, str) else value


def _plain(text: str) -> str:
    return _TIME.sub("TIME", _ID.sub("ID", text))


def _shown(expected: Any, found: Any) -> str:
    """Both sides, of long ones what only one of them has."""
    sides = []
    for one, other in ((expected, found), (found, expected)):
        if isinstance(one, Counter) and isinstance(other, Counter):
            ours = [row for item in one for row in (item if isinstance(item, tuple) else (item,))]
            theirs = [row for item in other for row in (item if isinstance(item, tuple) else (item,))]
            sides.append(
                repr(
                    [row for row in ours if row not in theirs] or dict(one)
                    if len(ours) < 9
                    else [row for row in ours if row not in theirs]
                )[:1500]
            )
        else:
            sides.append(repr(one)[:300])
    return " -> ".join(sides)
