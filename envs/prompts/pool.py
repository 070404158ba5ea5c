"""The prompts of a job on disk: built once from checked input, then drawn from in each round.

One SQLite file, written under another name and moved into place when complete, so that a killed process leaves the old
pool or no pool. It is derived data: when inputs or settings change, or the file is damaged, it is built again.

A prompt must be, in this order: short enough for the context, not a held-out problem, not a duplicate of one kept
before. The leak check sees every prompt that fits, including duplicates, so that its report names all lines to remove.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import quote

from envs.prompts.dedup import DuplicateFinder
from envs.prompts.leak import Leak
from envs.prompts.reading import PromptStream
from envs.prompts.schedule import positions
from envs.prompts.sifting import Sifted, Sifter
from svd_loop.config.data import DedupSection, LeakSection
from svd_loop.contracts import Problem, Prompt
from svd_loop.errors import DataError, LeakError, SvdError

_VERSION = 2
"""Part of every pool's key: a pool of another version is built again. Since 2 a pool holds a digest of its rows."""
log = logging.getLogger(__name__)
_SELECT = "SELECT id, text, domain, source FROM prompts"
_PAIRS_SHOWN = 5
_AT_ONCE = 512


@dataclass(frozen=True, slots=True)
class IngestReport:
    """Counts of rows by result: `read` is the sum of the five counts after it.

    `leaked` counts prompts, `pairs` the held-out problems found in them (one prompt can hold several). `gold_fields`
    counts the rows that had a gold column.
    """

    read: int = 0
    kept: int = 0
    too_long: int = 0
    leaked: int = 0
    exact_duplicates: int = 0
    near_duplicates: int = 0
    pairs: int = 0
    domains: Mapping[str, int] = field(default_factory=dict)
    gold_fields: Mapping[str, int] = field(default_factory=dict)

    def lines(self) -> list[str]:
        """The report as text, one count per line, without zeros."""
        facts = {
            "prompts read": self.read,
            "kept": self.kept,
            "too long for the context, refused": self.too_long,
            "held-out problems, dropped": self.leaked,
            "exact duplicates, dropped": self.exact_duplicates,
            "near duplicates, dropped": self.near_duplicates,
            **{f"gold field '{name}', dropped from rows": count for name, count in self.gold_fields.items()},
        }
        return [f"{count} {what}" for what, count in facts.items() if count or what == "kept"]


class PromptPool:
    """Prompts on disk. Positions 0..len-1 are the order in which they were kept."""

    def __init__(self, path: Path) -> None:
        """Open a finished pool.

        Raises:
            SvdError: The file is missing or damaged.
        """
        self.path = path
        with _storage(path):
            self._rows = _open(path)
            meta = dict(self._rows.execute("SELECT key, value FROM meta"))
        self.key: str = meta.get("key", "")
        self.report = IngestReport(**json.loads(meta.get("report", "{}")))

    def __len__(self) -> int:
        """Number of prompts kept."""
        return self.report.kept

    def __iter__(self) -> Iterator[Prompt]:
        """All prompts in the order they were kept, streaming."""
        with _storage(self.path):
            for row in self._rows.execute(f"{_SELECT} ORDER BY position"):
                yield _prompt(row)

    def get(self, prompt_id: str) -> Prompt:
        """The prompt with this id.

        Raises:
            KeyError: No kept prompt has it.
        """
        with _storage(self.path):
            row = self._rows.execute(f"{_SELECT} WHERE id = ?", (prompt_id,)).fetchone()
        if row is None:
            raise KeyError(prompt_id)
        return _prompt(row)

    def for_round(self, round: int, count: int | None, seed: int) -> list[Prompt]:
        """The prompts of a round (1, 2, ...): `count` different ones in shuffled order; null or too many means all.

        The same arguments give the same prompts. Over rounds no prompt is repeated until all were used; see
        `schedule.positions`.
        """
        query = f"{_SELECT} WHERE position = ?"
        with _storage(self.path):
            return [
                _prompt(self._rows.execute(query, (position,)).fetchone())
                for position in positions(round, count, len(self), seed)
            ]

    def close(self) -> None:
        """Close the file."""
        self._rows.close()


def build_pool(
    prompts: Iterable[Prompt],
    held_out: Sequence[Problem],
    path: Path,
    *,
    dedup: DedupSection,
    leak: LeakSection,
    too_long: Callable[[str], bool] | None = None,
    digest: str,
    progress: Callable[[int], None] | None = None,
) -> PromptPool:
    """Build the pool at `path`, or open the existing one if it was made from the same inputs.

    Args: prompts: Training prompts, read once; not touched when the pool is up to date. held_out: All held-out
        problems of the job, for the leak check. path: File of the pool. Pairs found by the leak check are written
        beside it (`leak_report`). dedup: Which duplicates are dropped. leak: The leak check, and what a finding does.
        too_long: Whether a prompt does not fit the context; null takes all. digest: Digest of everything `prompts`
        and `too_long` depend on (files, generator settings, tokenizer, context). progress: Called with the number of
        prompts read since the last call.

    Raises:
        DataError: A row cannot be used, or no prompt is left.
        LeakError: Held-out problems were found and `leak.action` is `refuse`.
        SvdError: The pool cannot be written.
    """
    key = _key(digest, held_out, dedup, leak)
    part = path.with_name(f"{path.name}.part")
    if (pool := _up_to_date(path, key)) is not None:
        shutil.rmtree(part, ignore_errors=True)  # of a process that was killed when the pool was in place
        return pool
    with _storage(path):
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        leak_report(path).unlink(missing_ok=True)
    try:
        with closing(_Builder(part, held_out, dedup, leak, too_long)) as builder:
            first_pairs = builder.take(prompts, progress)
            report = builder.finish(key)
        with _storage(path):
            if report.pairs:
                os.replace(part / "leaks.jsonl", leak_report(path))
            if report.leaked and leak.action == "refuse":
                raise LeakError(_refusal(report, first_pairs, leak_report(path)))
            if not report.kept:
                raise DataError("no training prompt is left: " + "; ".join(report.lines()))
            os.replace(part / "prompts.sqlite", path)
            _sync_folder(path.parent)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return PromptPool(path)


def leak_report(path: Path) -> Path:
    """Path of the list of pairs found while building the pool at `path`, one JSON object per line."""
    return path.with_suffix(".leaks.jsonl")


class _Builder:
    """Writes a new pool in a folder of its own."""

    def __init__(
        self,
        folder: Path,
        held_out: Sequence[Problem],
        dedup: DedupSection,
        leak: LeakSection,
        too_long: Callable[[str], bool] | None,
    ) -> None:
        self._file = folder / "prompts.sqlite"
        self._too_long = too_long
        self._counts: Counter[str] = Counter()
        self._pair_count = 0
        self._domains: Counter[str] = Counter()
        self._gold_fields: Mapping[str, int] = {}
        self._sifter = Sifter(held_out, dedup, leak)
        self._new_rows: list[tuple[int, str, str, str, str]] = []
        with _storage(self._file):
            self._pairs = (folder / "leaks.jsonl").open("w", encoding="utf-8")
            self._rows = sqlite3.connect(self._file, isolation_level=None)
            # The file is used only after it is complete and moved into place, so it needs no journal before.
            self._rows.executescript(
                "PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-32768;"
                "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;"
                "CREATE TABLE prompts (position INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, text TEXT NOT NULL,"
                " domain TEXT NOT NULL, source TEXT NOT NULL) STRICT; BEGIN"
            )
            self._duplicates = DuplicateFinder(dedup, folder / "keys.sqlite", self._text_at)

    def take(self, prompts: Iterable[Prompt], progress: Callable[[int], None] | None) -> list[Leak]:
        """Process all prompts; returns the first leaks found."""
        first_pairs: list[Leak] = []
        stream = iter(prompts)
        while bundle := list(islice(stream, _AT_ONCE)):
            with _storage(self._file):
                self._pass(bundle, first_pairs)
            if progress is not None:
                progress(len(bundle))
        if isinstance(prompts, PromptStream):
            self._gold_fields = prompts.gold_fields
        return first_pairs

    def finish(self, key: str) -> IngestReport:
        """Write the report, sync everything to disk and close the files of the pool."""
        report = IngestReport(
            read=self._counts.total(),
            **{
                fate: self._counts[fate]
                for fate in ("kept", "too_long", "leaked", "exact_duplicates", "near_duplicates")
            },
            pairs=self._pair_count,
            domains=dict(self._domains),
            gold_fields=dict(self._gold_fields),
        )
        with _storage(self._file):
            values = {"key": key, "report": json.dumps(asdict(report))}
            meta = values | {"digest": _digest_of(self._rows, values)}
            self._rows.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
            self._rows.execute("COMMIT")
            self.close()
            with self._file.open("rb") as stream:
                os.fsync(stream.fileno())
        return report

    def close(self) -> None:
        """Close all files."""
        self._pairs.close()
        self._rows.close()
        self._duplicates.close()

    def _pass(self, bundle: Sequence[Prompt], first_pairs: list[Leak]) -> None:
        """Check a batch of prompts, in order, and write those that are kept."""
        fitting = [prompt for prompt in bundle if self._too_long is None or not self._too_long(prompt.text)]
        self._counts["too_long"] += len(bundle) - len(fitting)
        sifted = self._sifter.sift(fitting)
        self._duplicates.expect([found.keys for found in sifted])
        ids = self._known_ids(fitting)
        for prompt, found in zip(fitting, sifted, strict=True):
            self._counts[self._classify(prompt, found, ids, first_pairs)] += 1
        self._rows.executemany("INSERT INTO prompts VALUES (?, ?, ?, ?, ?)", self._new_rows)
        self._new_rows.clear()

    def _classify(self, prompt: Prompt, found: Sifted, ids: set[str], first_pairs: list[Leak]) -> str:
        """The result for one prompt: the name of the count it belongs to."""
        if found.leaks:
            self._pair_count += len(found.leaks)
            first_pairs += found.leaks[: _PAIRS_SHOWN - len(first_pairs)]
            self._pairs.writelines(json.dumps(asdict(leak), ensure_ascii=False) + "\n" for leak in found.leaks)
            return "leaked"
        position = self._counts["kept"]
        kind = self._duplicates.check(prompt.text, found.keys, position)
        if kind is not None:
            return f"{kind}_duplicates"
        # Even where exact duplicates may stay, two equal prompts have one id and count as one.
        if prompt.id in ids:
            return "exact_duplicates"
        ids.add(prompt.id)
        self._new_rows.append((position, prompt.id, prompt.text, prompt.domain, prompt.source))
        self._domains[prompt.domain] += 1
        return "kept"

    def _known_ids(self, prompts: Sequence[Prompt]) -> set[str]:
        """The ids of these prompts that are already in the file."""
        holes = ",".join("?" * len(prompts))
        rows = self._rows.execute(f"SELECT id FROM prompts WHERE id IN ({holes})", [prompt.id for prompt in prompts])
        return {row[0] for row in rows}

    def _text_at(self, position: int) -> str:
        if self._new_rows and position >= (first := self._new_rows[0][0]):
            return self._new_rows[position - first][2]
        return str(self._rows.execute("SELECT text FROM prompts WHERE position = ?", (position,)).fetchone()[0])


def _key(digest: str, held_out: Sequence[Problem], dedup: DedupSection, leak: LeakSection) -> str:
    parts = (
        _VERSION,
        digest,
        sorted(problem.id for problem in held_out),
        dedup.model_dump(mode="json"),
        leak.model_dump(mode="json"),
    )
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def _up_to_date(path: Path, key: str) -> PromptPool | None:
    if not path.exists():
        return None
    try:
        with _storage(path), closing(_open(path)) as rows:
            meta = dict(rows.execute("SELECT key, value FROM meta"))
            if meta.get("key") != key:
                return None
            if meta.pop("digest", None) != _digest_of(rows, meta):
                log.warning("%s: is damaged; it is built again from the inputs", path)
                return None
    except SvdError as error:  # derived data can be built again
        log.warning("%s; it is built again", error)
        return None
    return PromptPool(path)


def _open(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, check_same_thread=False)


def _digest_of(rows: sqlite3.Connection, meta: Mapping[str, str]) -> str:
    """One digest over all prompts in order and the rest of `meta`: about two seconds for a million prompts."""
    digest = hashlib.sha256(json.dumps(meta, sort_keys=True).encode())
    for row in rows.execute("SELECT position, id, text, domain, source FROM prompts ORDER BY position"):
        digest.update(repr(row).encode())
    return digest.hexdigest()


def _refusal(report: IngestReport, pairs: Sequence[Leak], listing: Path) -> str:
    shown = "\n".join(f"  {pair}" for pair in pairs)
    more = f"\n  and {report.pairs - len(pairs)} more" if report.pairs > len(pairs) else ""
    return (
        f"{report.leaked} of {report.read} training prompts hold held-out problems:\n{shown}{more}\n"
        f"All pairs are listed in {listing}. Remove these rows from the training files, or set data.leak.action: drop "
        "to leave them out."
    )


def _prompt(row: Sequence[Any]) -> Prompt:
    return Prompt(row[0], row[1], row[2], row[3])


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _storage(path: Path) -> Iterator[None]:
    """Convert failures of the disk and the database to one error message."""
    try:
        yield
    except (sqlite3.Error, OSError, UnicodeDecodeError) as error:  # the last: SQLite quotes a damaged page
        raise SvdError(
            f"{path}: the prompt pool cannot be read or written: {error}. Check free space and permissions; a "
            "damaged pool may be deleted, it is built again from the inputs."
        ) from error
