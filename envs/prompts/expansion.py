"""Limits on the decompressed size of compressed and columnar files while they are read.

A few kilobytes can expand to gigabytes: zstd of zeros, gzip of empty lines, one long value that a Parquet dictionary
repeats. Text of prompts shrinks 3 to 30-fold, so a file that grows far beyond that is refused instead of read.
"""

from __future__ import annotations

import gzip
import io
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any, Protocol

MAX_LINE_BYTES = 16 * 2**20
"""Most bytes of a line, or of a cell of text."""
FREE_BYTES = 64 * 2**20
"""Decompressed bytes that are allowed for any file."""
MAX_RATIO = 200
"""Largest decompressed size as a multiple of the file's size, beyond `FREE_BYTES`."""
_PIECES = (64, 4096)
"""Compressed bytes given to zstd at once. A block of it stands for 128 KiB and can be 4 bytes long, so that even the
larger piece is at most 128 MiB of output; after a piece that grew far, the next ones are small."""


class Expanded(Exception):
    """A file expands beyond the limits; the message says how far."""


class ColumnChunk(Protocol):
    """The metadata of a Parquet column chunk that is used here."""

    path_in_schema: str
    total_compressed_size: int
    total_uncompressed_size: int


def refuse_large_cell(size: int) -> None:
    """Raise `Expanded` for a cell of more bytes than a line may have."""
    if size > MAX_LINE_BYTES:
        raise Expanded(f"a cell is longer than {MAX_LINE_BYTES // 2**20} MiB")


def refuse_growth(size: int, compressed: int) -> None:
    """Raise `Expanded` if `compressed` bytes must not stand for `size` bytes."""
    if size > FREE_BYTES and size > MAX_RATIO * compressed:
        raise Expanded(f"{compressed:,} bytes grow to more than {size:,}; a file may grow {MAX_RATIO}-fold")


def refuse_expanding_parquet(metadata: Any, columns: Sequence[str]) -> None:
    """Raise `Expanded` if a row group's wanted columns expand too far, according to the file's metadata.

    Args:
        metadata: `pyarrow.parquet.FileMetaData`.
        columns: top-level names of the columns that will be read.
    """
    for group in range(metadata.num_row_groups):
        row_group = metadata.row_group(group)
        chunks: list[ColumnChunk] = [row_group.column(place) for place in range(row_group.num_columns)]
        for chunk in chunks:
            if chunk.path_in_schema.partition(".")[0] in columns:
                refuse_growth(chunk.total_uncompressed_size, chunk.total_compressed_size)


def open_bounded(path: Path) -> IO[bytes]:
    """Open a file of lines, decompressed by its name's ending; reading raises `Expanded` beyond the limits."""
    match path.suffix.lower():
        case ".gz":
            file = path.open("rb")
            return io.BufferedReader(_Bounded(gzip.GzipFile(fileobj=file), file), 2**16)
        case ".zst":
            file = path.open("rb")
            return io.BufferedReader(_Bounded(_ZstdStream(file), file), 2**16)
        case _:
            return path.open("rb")


class _Bounded(io.RawIOBase):
    """A decompressed stream that checks its size against the compressed bytes read so far."""

    def __init__(self, stream: Any, source: IO[bytes]) -> None:
        self._stream = stream
        self._source = source
        self._size = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = int(self._stream.readinto(buffer) or 0)
        self._size += count
        refuse_growth(self._size, self._source.tell())
        return count

    def close(self) -> None:
        self._stream.close()
        self._source.close()
        super().close()


class _ZstdStream(io.RawIOBase):
    """The decompressed bytes of a zstd file. Unlike the library's own reader it detects a truncated frame."""

    def __init__(self, file: IO[bytes]) -> None:
        import zstandard

        self._file = file
        self._new_frame = lambda: zstandard.ZstdDecompressor().decompressobj()
        self._frame = self._new_frame()
        self._inside_frame = False
        self._piece = _PIECES[0]
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready and self._fill():
            pass
        size = min(len(buffer), len(self._ready))
        buffer[:size] = self._ready[:size]
        self._ready = self._ready[size:]
        return size

    def _fill(self) -> bool:
        """Decompress one more piece; False at the end of the file."""
        piece = self._frame.unused_data if self._frame.eof else b""
        if self._frame.eof:
            self._frame, self._inside_frame = self._new_frame(), False
        piece = piece or self._file.read(self._piece)
        if not piece:
            if self._inside_frame:
                raise EOFError("the file ends within a compressed frame")
            return False
        self._inside_frame = True
        self._ready = memoryview(self._frame.decompress(piece))
        grew_far = len(self._ready) > MAX_RATIO * len(piece)
        self._piece = _PIECES[0] if grew_far else min(self._piece * 2, _PIECES[1])
        return True
