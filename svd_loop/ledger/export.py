"""Export the ledger as Parquet files, one per table, for pandas, DuckDB and the like."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from svd_loop.ledger.database import ledger_errors
from svd_loop.ledger.reader import LedgerReader
from svd_loop.ledger.views import VIEWS, View, rows_of

if TYPE_CHECKING:
    import pyarrow

_ROWS_PER_GROUP = 10_000


def export_parquet(reader: LedgerReader, directory: Path) -> dict[str, int]:
    r"""Write `<directory>/<table>.parquet` for every table of `views.VIEWS`, streaming.

    Texts are strings (a lone surrogate is written as `\udc80`), token ids are lists, mappings are JSON.

    Returns:
        Rows written, by table.

    Raises:
        LedgerError: the ledger cannot be read, or the directory cannot be written.
    """
    written = {}
    with ledger_errors(directory):
        reader.verify(answers=True)
        directory.mkdir(parents=True, exist_ok=True)
        for view in VIEWS:
            written[view.name] = _write(reader, view, directory / f"{view.name}.parquet")
    return written


def _write(reader: LedgerReader, view: View, path: Path) -> int:
    import pyarrow
    from pyarrow import parquet

    schema = _schema(reader, view)
    rows = (_valid_unicode(row, view) for row in rows_of(reader, view))
    temporary = path.with_suffix(".tmp")
    written = 0
    with parquet.ParquetWriter(temporary, schema, compression="zstd") as writer:
        for group in _groups(rows):
            writer.write_table(pyarrow.Table.from_pylist(group, schema=schema))
            written += len(group)
    temporary.replace(path)
    return written


def _schema(reader: LedgerReader, view: View) -> pyarrow.Schema:
    import pyarrow

    types = {"INTEGER": pyarrow.int64(), "REAL": pyarrow.float64()}
    declared = {
        row["name"]: types.get(row["type"], pyarrow.string())
        for row in reader.query("SELECT name, type FROM pragma_table_info(?)", (view.source,))
    }
    declared |= dict.fromkeys(view.texts, pyarrow.string())
    declared |= dict.fromkeys(view.ids, pyarrow.list_(pyarrow.int64()))
    return pyarrow.schema([(column, declared[column]) for column in view.columns])


def _valid_unicode(row: dict[str, Any], view: View) -> dict[str, Any]:
    return row | {name: row[name].encode("utf-8", "backslashreplace").decode("utf-8") for name in view.texts}


def _groups(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    iterator = iter(rows)
    while group := list(islice(iterator, _ROWS_PER_GROUP)):
        yield group
