"""Files that grow without end are refused early, in little memory."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
import zstandard

from envs.prompts.expansion import FREE_BYTES, MAX_LINE_BYTES
from envs.prompts.files import rows
from svd_loop.errors import DataError

MIB = 2**20
ZERO_FRAME = zstandard.ZstdCompressor(level=1).compress(b"\0" * (128 * MIB))


def _one_cell(path: Path) -> None:
    table = pyarrow.table({"prompt": ["x" * (17 * MIB)]})
    pyarrow.parquet.write_table(table, path, compression="none")


def _dictionary(path: Path) -> None:
    cells = pyarrow.array(["y" * (15 * MIB)]).dictionary_encode()
    repeated = pyarrow.DictionaryArray.from_arrays(pyarrow.array([0] * 200, pyarrow.int32()), cells.dictionary)
    pyarrow.parquet.write_table(pyarrow.table({"prompt": repeated}), path, compression="zstd")


def _huge_cell(path: Path) -> None:
    table = pyarrow.table({"prompt": ["z" * (80 * MIB)]})
    pyarrow.parquet.write_table(table, path, compression="zstd", use_dictionary=False)


BOMBS: dict[str, tuple[Callable[[Path], object], str]] = {
    "zeros.jsonl.zst": (lambda path: path.write_bytes(ZERO_FRAME * 40), "longer than 16 MiB"),
    "blank.jsonl.zst": (
        lambda path: path.write_bytes(zstandard.compress(b"\n" * (70 * MIB))),
        "more than 1,000,000 empty lines",
    ),
    "blank.jsonl.gz": (lambda path: path.write_bytes(gzip.compress(b"\n" * (4 * MIB))), "empty lines in a row"),
    "rows.jsonl.gz": (
        lambda path: path.write_bytes(gzip.compress((json.dumps({"prompt": "a" * 60_000}) + "\n").encode() * 1300)),
        "a file may grow 200-fold",
    ),
    "blank.csv.gz": (lambda path: path.write_bytes(gzip.compress(b"prompt\n" + b"\n" * (4 * MIB))), "empty lines"),
    "cell.parquet": (_one_cell, "a cell is longer than 16 MiB"),
    "dictionary.parquet": (_dictionary, "200"),
    "huge.parquet": (_huge_cell, "a file may grow 200-fold"),
}
PROGRAM = """
import json, resource, sys
from pathlib import Path
from envs.prompts.files import rows
from svd_loop.errors import DataError
import pyarrow.parquet, zstandard
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
said = {}
for path in map(Path, sys.argv[1:]):
    try:
        said[path.name] = str(sum(1 for _ in rows(path, ["prompt"])))
    except DataError as error:
        said[path.name] = str(error)
print(json.dumps([resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, said]))
"""


def test_bombs_are_refused_in_bounded_memory(tmp_path: Path) -> None:
    for name, (write, _) in BOMBS.items():
        write(tmp_path / name)
    command = [sys.executable, "-c", PROGRAM, *(str(tmp_path / name) for name in BOMBS)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3])
    grown, said = json.loads(done.stdout)
    assert {name: message in said[name] for name, (_, message) in BOMBS.items()} == dict.fromkeys(BOMBS, True), said
    assert grown < 700 * 1024  # KiB; two pieces of zstd's output, or one batch of long cells, and their copies


def test_the_bounds_leave_ordinary_files_alone(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress((json.dumps({"prompt": "b" * 1000}) + "\n").encode() * 20_000))  # 1,000-fold, small
    assert sum(1 for _ in rows(path, ["prompt"])) == 20_000
    assert MAX_LINE_BYTES < FREE_BYTES


def test_a_cell_as_long_as_a_line_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"prompt": ["x" * MAX_LINE_BYTES, None]}), path)
    assert [len(row.values["prompt"] or "") for row in rows(path, ["prompt"])] == [MAX_LINE_BYTES, 0]


def test_a_pipe_is_refused_at_once(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.jsonl")
    with pytest.raises(DataError, match="is not a plain file"):
        list(rows(tmp_path / "a.jsonl", ["prompt"]))
