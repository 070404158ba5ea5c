"""Broken files at the door: thousands of damaged inputs, and nothing but a readable `DataError` may come back.

    python benchmarks/fuzz_door.py --cases 10000 --seed 0

Each case takes a sound file of one format, damages it (bytes flipped, cut, repeated, spliced, or a row spoiled on
purpose) and reads it as training prompts and as held-out problems. A case fails when anything but `DataError`
escapes, or when the message does not start with the file, or names no line although a row was reached. Prints one
JSON object; exit code 1 when a case failed, each failing case with the seed that repeats it.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
import logging
import random
import re
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from envs.prompts import read_problems, read_prompts
from svd_loop.config.data import FilesSource
from svd_loop.contracts import Domain
from svd_loop.errors import DataError

_ROWS = 12
_SPOILS: tuple[Any, ...] = (
    None,
    "",
    "  ",
    "\u200b",
    3,
    2.5,
    True,
    [],
    {},
    ["a", 1],
    "\x00",
    "\ud800",
    "x" * 5000,
    float("nan"),
    10**5000,
    "math",
)
_STRAY_BYTES = (b"\x00", b"\xff", b"\n", b"\r", b'"', b",", b"{", b"\xef\xbb\xbf")


def main() -> int:
    arguments = _arguments()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        outcomes, failures = run(arguments.cases, arguments.seed, Path(folder))
    result = {"cases": arguments.cases, "seed": arguments.seed, "outcomes": outcomes, "failures": failures}
    sys.stdout.write(json.dumps(result, indent=2) + "\n")
    return int(bool(failures))


def run(cases: int, seed: int, folder: Path) -> tuple[dict[str, int], list[str]]:
    """Play the cases; returns how they ended, by format, and a description of each that failed."""
    outcomes: Counter[str] = Counter()
    failures: list[str] = []
    for case in range(cases):
        rng = random.Random(f"{seed}/{case}")
        suffix, make = rng.choice(FORMATS)
        file = folder / f"broken{suffix}"
        file.write_bytes(_damage(make(rng), rng))
        for read in (_read_prompts, read_problems):
            outcome = _outcome(read, file)
            if outcome.startswith("failed"):
                failures.append(f"case {seed}/{case} {suffix} {read.__name__}: {outcome}")
            outcomes[f"{suffix} {outcome.split(':')[0]}"] += 1
    return dict(sorted(outcomes.items())), failures


def _outcome(read: Callable[[FilesSource], Any], file: Path) -> str:
    source = FilesSource(paths=(str(file),), domain=Domain.MATH, answer_pattern="(.+)")
    try:
        read(source)
    except DataError as error:
        message = str(error)
        if not message.startswith(str(file)) or "\n" in message:
            return f"failed: the message does not name the file on one line: {message!r}"
        named = re.match(re.escape(str(file)) + r":\d+: .", message)
        whole = re.match(re.escape(str(file)) + r": (holds no rows|cannot be read)", message)
        return "refused" if named or whole else f"failed: no line in {message!r}"
    except Exception as error:  # the very thing this looks for
        return f"failed: {type(error).__name__} escaped: {error}"
    return "accepted"


def _read_prompts(source: FilesSource) -> int:
    return sum(1 for _ in read_prompts(source))


# ------------------------------------------------------------------------------------------ sound files


def _records(rng: random.Random, *, text_only: bool) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = [
        {"prompt": f"What is {row} plus {rng.randint(1, 99)}, é ½?", "id": f"r{row}", "domain": "math", "answer": "4"}
        for row in range(_ROWS)
    ]
    if rng.random() < 0.4:
        spoil = rng.choice(_SPOILS)
        if not text_only or isinstance(spoil, str):
            rng.choice(records)[rng.choice(("prompt", "id", "domain", "answer"))] = spoil
    return records


def _json_lines(rng: random.Random) -> bytes:
    sys.set_int_max_str_digits(0)
    try:
        lines = [json.dumps(record) for record in _records(rng, text_only=False)]
    finally:
        sys.set_int_max_str_digits(sys.int_info.default_max_str_digits)
    if rng.random() < 0.2:
        lines[rng.randrange(_ROWS)] = rng.choice(("[]", "3", "null", '{"prompt": ', "[" * 100_000, "{}", '"x"', "nul"))
    return "\n".join(lines).encode()


def _csv(rng: random.Random) -> bytes:
    records = _records(rng, text_only=True)
    text = io.StringIO()
    writer = csv.DictWriter(text, records[0].keys())
    writer.writeheader()
    writer.writerows(records)
    return text.getvalue().encode("utf-8", "surrogatepass")


def _parquet(rng: random.Random) -> bytes:
    import pyarrow
    import pyarrow.parquet

    records = [{k: v for k, v in r.items() if v != "\ud800"} for r in _records(rng, text_only=True)]
    sink = io.BytesIO()
    compression = rng.choice(("none", "snappy", "zstd"))
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(records), sink, compression=compression)
    return sink.getvalue()


def _zstd(rng: random.Random) -> bytes:
    import zstandard

    return zstandard.ZstdCompressor().compress(_json_lines(rng))


FORMATS: tuple[tuple[str, Callable[[random.Random], bytes]], ...] = (
    (".jsonl", _json_lines),
    (".jsonl.gz", lambda rng: gzip.compress(_json_lines(rng))),
    (".jsonl.zst", _zstd),
    (".csv", _csv),
    (".parquet", _parquet),
)


# --------------------------------------------------------------------------------------------- damage


def _damage(data: bytes, rng: random.Random) -> bytes:
    for _ in range(rng.choice((0, 1, 1, 2, 5))):
        if not data:
            return data
        start = rng.randrange(len(data))
        end = min(len(data), start + rng.choice((1, 2, 8, 64)))
        match rng.randrange(6):
            case 0:
                data = data[:start]
            case 1:
                data = data[:start] + rng.randbytes(end - start) + data[end:]
            case 2:
                data = data[:start] + data[end:]
            case 3:
                data = data[:end] + data[start:]
            case 4:
                data = data[:start] + rng.choice(_STRAY_BYTES) + data[start:]
            case 5:
                data = data[:start] + bytes([data[start] ^ 1 << rng.randrange(8)]) + data[start + 1 :]
    return data


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
