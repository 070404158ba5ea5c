"""Write rows as JSON Lines or Parquet, streaming, in a form that `datasets` reads."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

ROWS_PER_GROUP = 10_000


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    r"""Write rows with the same keys to `path`, by its suffix `.jsonl` or `.parquet`; return their number.

    A lone surrogate, which no UTF-8 file can hold, is written as `\udc80`.
    """
    if path.suffix == ".parquet":
        return _write_parquet(path, rows)
    written = 0
    with path.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json.dumps(_valid_unicode(row), ensure_ascii=False) + "\n")
            written += 1
    return written


def _write_parquet(path: Path, rows: Iterable[Mapping[str, Any]]) -> int:
    import pyarrow
    from pyarrow import parquet

    groups = _groups(rows)
    if (first := next(groups, None)) is None:
        return 0
    table = pyarrow.Table.from_pylist(first)
    written = len(first)
    with parquet.ParquetWriter(path, table.schema, compression="zstd") as writer:
        writer.write_table(table)
        for group in groups:
            writer.write_table(pyarrow.Table.from_pylist(group, schema=table.schema))
            written += len(group)
    return written


def _groups(rows: Iterable[Mapping[str, Any]]) -> Iterator[list[Any]]:
    iterator = (_valid_unicode(row) for row in rows)
    while group := list(islice(iterator, ROWS_PER_GROUP)):
        yield group


def _valid_unicode(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, Mapping):
        return {name: _valid_unicode(inner) for name, inner in value.items()}
    return [_valid_unicode(inner) for inner in value] if isinstance(value, list) else value
