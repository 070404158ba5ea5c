"""Read rows from files, one at a time, each with its file and line.

Every format yields the same `Row`; any fault of a file raises a `DataError` that starts with `file:line`.
Memory does not grow with the file: lines are read one by one and are at most 16 MiB long, and so is a cell; Parquet
and `datasets` folders come in small batches and only the needed columns are read at all. A compressed file may grow
200-fold beyond 64 MiB, more than text does; one that would grow further is refused (`envs.prompts.expansion`). Only
plain files and folders are opened: reading a pipe could block for ever.

Line numbers count from 1. In a Parquet file and in a `datasets` folder, which have no lines, they number the rows.
"""

from __future__ import annotations

import csv
import glob
import gzip
import hashlib
import json
import re
import stat
import zlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from envs.prompts.expansion import MAX_LINE_BYTES, Expanded, open_bounded, refuse_expanding_parquet, refuse_large_cell
from svd_loop.errors import DataError

_BATCH_ROWS = 512
_MOST_BLANK = 1_000_000
_FORMATS = ".jsonl, .csv (each also with .gz or .zst), .parquet, or a folder written by datasets' save_to_disk"
_SUFFIXES = frozenset({".jsonl", ".csv", ".gz", ".zst", ".parquet"})
_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,95}(/[A-Za-z0-9][\w.-]{0,95})?")


@dataclass(frozen=True, slots=True)
class Row:
    """One row: its place, the names of its columns, and the values of the wanted ones."""

    file: str
    line: int
    columns: Collection[str]
    values: Mapping[str, Any]

    @property
    def where(self) -> str:
        """`file:line`."""
        return f"{self.file}:{self.line}"


def expand(patterns: Iterable[str]) -> list[Path]:
    """Resolve paths and glob patterns to existing files and `datasets` folders, sorted per pattern, without repeats.

    Raises:
        DataError: A path does not exist, a pattern matches nothing, or a name has no known format.
    """
    found: dict[Path, None] = {}
    for pattern in patterns:
        if "\0" in pattern:
            raise DataError(f"{pattern!r}: a path cannot hold a NUL character")
        path = Path(pattern).expanduser()
        if _exists(path):
            matches = [path]
        elif glob.has_magic(pattern):
            matches = sorted(Path(name) for name in glob.glob(str(path), recursive=True))
        else:
            raise DataError(f"{pattern}: no such file{_how_to_save(pattern)}")
        if not matches:
            raise DataError(f"{pattern}: the pattern matches no file")
        found |= dict.fromkeys(matches)
    for path in found:
        _reader_of(path)
    return list(found)


def rows(path: Path, wanted: Collection[str]) -> Iterator[Row]:
    """All rows of one file, in order.

    Args:
        path: A file or `datasets` folder in a known format.
        wanted: Columns to read; the others are named in `Row.columns` only.

    Raises:
        DataError: The file cannot be read, is damaged, or holds no rows.
    """
    yield from _rows_by(_reader_of(path), path, wanted)


def json_lines(path: Path, wanted: Collection[str]) -> Iterator[Row]:
    """All rows of a JSON Lines file with any name; decompressed if it ends in `.gz` or `.zst`.

    Raises:
        DataError: As `rows`.
    """
    yield from _rows_by(_read_json_lines, path, wanted)


def files_digest(patterns: Iterable[str]) -> str:
    """SHA-256 over names and contents of all files, to detect that inputs changed.

    Raises:
        DataError: As `expand`, or a file cannot be read.
    """
    total = hashlib.sha256()
    for path in expand(patterns):
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                total.update(f"{file}\0".encode())
                try:
                    with file.open("rb") as stream:
                        total.update(hashlib.file_digest(stream, "sha256").digest())
                except OSError as error:
                    raise DataError(f"{file}: cannot be read: {error.strerror}") from None
    return total.hexdigest()


_Reader = Callable[[Path, Collection[str]], Iterator[Row]]


def _rows_by(reader: _Reader, path: Path, wanted: Collection[str]) -> Iterator[Row]:
    count = 0
    try:
        _refuse_special(path)
        for row in reader(path, wanted):
            count += 1
            yield row
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from None
    if not count:
        raise DataError(f"{path}: holds no rows")


# ----------------------------------------------------------------------------------------- choosing


def _refuse_special(path: Path) -> None:
    """Raise `DataError` unless a path is a plain file, or a folder with only plain files and folders."""
    for place in (path, *path.rglob("*")) if path.is_dir() else (path,):
        mode = place.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise DataError(
                f"{place}: is not a plain file (a pipe, a socket or a device); its rows cannot be read twice"
            )


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # the name is too long for the file system
        return False


def _how_to_save(name: str) -> str:
    """The advice for a name that looks like a hub dataset; a job reads only files that cannot change remotely."""
    if not _HUB_NAME.fullmatch(name) or Path(name).suffix.lower() in _SUFFIXES:
        return ""
    return (
        "; a job reads files that do not change, so a hub dataset is fetched once: "
        f"`svd-loop data fetch {name} --split train --to data/{name.rpartition('/')[2]}`, and paths names that folder "
        "with /train (without a network here, run it where there is one and copy the folder)"
    )


def _reader_of(path: Path) -> _Reader:
    if path.is_dir():
        return _read_datasets_folder
    suffixes = [suffix.lower() for suffix in path.suffixes[-2:]]
    if suffixes and suffixes[-1] in (".gz", ".zst"):
        suffixes.pop()
    elif suffixes and suffixes[-1] == ".parquet":
        return _read_parquet
    match suffixes[-1:]:
        case [".jsonl"]:
            return _read_json_lines
        case [".csv"]:
            return _read_csv
    raise DataError(f"{path}: unknown format; known are {_FORMATS}")


# ------------------------------------------------------------------------------------- lines of text


def _lines(path: Path) -> Iterator[str]:
    """Decoded lines, line ends kept."""
    import zstandard

    number = blank = 0
    with open_bounded(path) as stream:
        while True:
            number += 1
            try:
                line = stream.readline(MAX_LINE_BYTES + 1)
            except Expanded as error:
                raise DataError(f"{path}:{number}: {error}") from None
            except (EOFError, gzip.BadGzipFile, zlib.error, zstandard.ZstdError) as error:
                raise DataError(f"{path}:{number}: the compressed file is damaged or cut short: {error}") from None
            if not line:
                return
            blank = 0 if line.strip() else blank + 1
            if blank > _MOST_BLANK:
                raise DataError(f"{path}:{number}: more than {_MOST_BLANK:,} empty lines in a row")
            if len(line) > MAX_LINE_BYTES:
                raise DataError(f"{path}:{number}: a line is longer than {MAX_LINE_BYTES // 2**20} MiB")
            try:
                yield line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise DataError(
                    f"{path}:{number}: not valid UTF-8: byte 0x{line[error.start]:02x} at column {error.start + 1}"
                ) from None


def _read_json_lines(path: Path, wanted: Collection[str]) -> Iterator[Row]:
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}:{number}: not valid JSON: {error.msg} at column {error.colno}") from None
        except (ValueError, RecursionError) as error:  # an integer of thousands of digits; brackets nested too deep
            raise DataError(f"{path}:{number}: not usable JSON: {error}") from None
        if not isinstance(values, dict):
            raise DataError(f"{path}:{number}: must be a JSON object, found {type(values).__name__}")
        yield Row(str(path), number, values.keys(), {name: values[name] for name in wanted if name in values})


def _read_csv(path: Path, wanted: Collection[str]) -> Iterator[Row]:
    reader = csv.reader(_lines(path), strict=True)
    header: list[str] = []
    start = 1
    while True:
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise DataError(f"{path}:{start}: not valid CSV: {error}") from None
        if cells is None:
            return
        if not header:
            header = cells
            if not cells or len(set(cells)) < len(cells):
                raise DataError(f"{path}:{start}: the header must name every column once, found {_shown(cells)}")
        elif cells:
            if len(cells) != len(header):
                raise DataError(f"{path}:{start}: {len(cells)} cells under a header of {len(header)} columns")
            named = dict(zip(header, cells, strict=True))
            yield Row(str(path), start, header, {name: named[name] for name in wanted if name in named})
        start = reader.line_num + 1


def _shown(names: Iterable[str]) -> str:
    text = ", ".join(names)
    return text if len(text) <= 200 else f"{text[:200]}..."


# ------------------------------------------------------------------------------------ columnar formats


def _read_parquet(path: Path, wanted: Collection[str]) -> Iterator[Row]:
    import pyarrow
    import pyarrow.parquet

    number = 0
    try:
        with pyarrow.parquet.ParquetFile(path) as file:
            names = file.schema_arrow.names
            columns = [name for name in names if name in wanted]
            refuse_expanding_parquet(file.metadata, columns)
            for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=columns, use_threads=False):
                # Without a wanted column a batch yields no rows; one empty row carries the names of the columns.
                for place in range(batch.num_rows) if columns else range(1):
                    number += 1
                    cells = {name: _cell(batch.column(name)[place]) for name in columns}
                    yield Row(str(path), number, names, cells)
    except Expanded as error:
        raise DataError(f"{path}:{number + 1}: {error}") from None
    except (pyarrow.ArrowException, OSError, ValueError, TypeError, MemoryError) as error:
        raise DataError(f"{path}:{number + 1}: the Parquet file is damaged: {_first_line(error)}") from None


def _cell(scalar: Any) -> Any:
    """Convert a cell to a Python value; one at a time, because the cells of a batch can share one large value."""
    if scalar.is_valid and hasattr(scalar, "as_buffer") and (buffer := scalar.as_buffer()) is not None:
        refuse_large_cell(buffer.size)
    return scalar.as_py()


def _read_datasets_folder(path: Path, wanted: Collection[str]) -> Iterator[Row]:
    if (path / "dataset_dict.json").exists():
        splits = ", ".join(sorted(part.name for part in path.iterdir() if part.is_dir()))
        raise DataError(f"{path}: holds several splits ({splits}); name one, e.g. {path / 'train'}")
    if not (path / "state.json").exists():
        raise DataError(f"{path}: is a folder without state.json, not one written by datasets' save_to_disk")
    import datasets
    import pyarrow

    number = 0
    try:
        table = datasets.load_from_disk(str(path))
        names = table.column_names
        columns = [name for name in names if name in wanted]
        for batch in table.select_columns(columns).iter(batch_size=_BATCH_ROWS) if columns else [{}]:
            for cells in zip(*(batch[name] for name in columns), strict=True) if columns else [()]:
                number += 1
                yield Row(str(path), number, names, dict(zip(columns, cells, strict=True)))
    except (
        pyarrow.ArrowException,
        OSError,
        LookupError,
        ValueError,
        TypeError,
        AttributeError,
        RuntimeError,
        MemoryError,
    ) as error:
        raise DataError(f"{path}:{number + 1}: the datasets folder is damaged: {_first_line(error)}") from None


def _first_line(error: BaseException) -> str:
    text = str(error).strip() or type(error).__name__
    return text.splitlines()[0][:300]
