"""Import new prompt files from a folder; the state of every row is recorded.

A file passes through the folders of the schedule. It is *renamed* from the inbox into `accepted/` (so two ticks cannot
process it twice), then read by the same reader as a job's own data, in one transaction per file. A file that cannot be
used is moved to `quarantine/`, with the reason in a text file next to it; after a correction it can be dropped into the
inbox again and counts as a new file.

If the process is killed in between, `accepted/` holds a file that the database does not list, or one that it lists as
quarantined; the next tick handles both. These entries stay in the inbox: hidden files, unfinished files (`.part`,
`.tmp`), and files that changed less than `schedule.settle_seconds` ago.
"""

from __future__ import annotations

import errno
import hashlib
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from envs.prompts import PromptStream, read_prompts
from envs.prompts.sifting import Sifter
from svd_loop.config import Config
from svd_loop.config.data import FilesSource
from svd_loop.contracts import Problem, Prompt
from svd_loop.errors import DataError, ScheduleError
from svd_loop.schedule.dedup_index import DedupIndex
from svd_loop.schedule.state_db import PromptState, StateDb
from svd_loop.support.atomic import write_atomically

ACCEPTED, QUARANTINE = "accepted", "quarantine"
_UNFINISHED = (".part", ".tmp")
_LONGEST_NAME = 180
"""Bytes; leaves room for the number in front and `.reason.txt` at the end within a file system's limit of 255."""
_BATCH_SIZE = 512


@dataclass(frozen=True, slots=True)
class Intake:
    """Result of one import from the inbox.

    Attributes:
        files: files that were taken from the inbox.
        quarantined: those of them that could not be used.
        left: entries that stay in the inbox for now.
        counts: number of new prompts by state.
    """

    files: tuple[str, ...] = ()
    quarantined: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    counts: tuple[tuple[str, int], ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Return JSON data."""
        return {**asdict(self), "counts": dict(self.counts)}


class Inbox:
    """Imports prompt files from a folder into a schedule.

    Args:
        db: the schedule's state database; files are kept in its folder.
        config: `data.train` maps columns to fields if its type is `files`; `data.dedup` and `data.leak` apply as in a
            job, except that a leaked prompt is always left out and never stops the import.
        held_out: returns the held-out problems; called only when there is a file to check.
    """

    def __init__(self, db: StateDb, config: Config, held_out: Callable[[], Sequence[Problem]]) -> None:
        self._db = db
        self._config = config
        self._held_out = held_out
        self._accepted = db.folder / ACCEPTED
        self._quarantine = db.folder / QUARANTINE

    def take_in(self, inbox: Path, now: float) -> Intake:
        """Import every file in `inbox` that is ready at the time `now` (seconds since 1970).

        Raises:
            ScheduleError: a folder cannot be read or written.
        """
        if inbox.exists() and not inbox.is_dir():
            raise ScheduleError(f"--inbox {inbox}: is a file; give the folder in which prompt files arrive")
        try:
            for folder in (inbox, self._accepted, self._quarantine):
                folder.mkdir(parents=True, exist_ok=True)
            self._finish_quarantine()
            left = self._pick_up(inbox, now)
            files = self._unlisted_files()
            before = self._db.counts()
            if files:
                sifter = Sifter(self._held_out(), self._config.data.dedup, self._config.data.leak)
                index = DedupIndex(self._db, self._config.data.dedup)
                for place in files:
                    self._import(place, sifter, index, now)
                self._finish_quarantine()
        except OSError as error:
            raise ScheduleError(
                f"{error.filename or inbox}: {error.strerror or error}; --inbox cannot be imported; no file is lost"
            ) from error
        counts = Counter(self._db.counts())
        counts.subtract(before)
        bad = {row["place"] for row in self._db.files("quarantined")}
        return Intake(tuple(files), tuple(file for file in files if file in bad), tuple(left), tuple(counts.items()))

    def _pick_up(self, inbox: Path, now: float) -> list[str]:
        """Rename ready files into `accepted/`, oldest first; return the names of the others."""
        settle = self._config.schedule.settle_seconds
        left: list[str] = []
        ready: list[tuple[float, str]] = []
        for entry in sorted(inbox.iterdir()):
            unfinished = entry.name.startswith(".") or entry.name.endswith(_UNFINISHED)
            changed = None if unfinished else _last_change(entry)
            if changed is None or now - changed < settle:
                left.append(safe_name(entry.name))
            else:
                ready.append((changed, entry.name))
        number = self._next_number()
        for _, name in sorted(ready):
            _move(inbox / name, self._accepted / f"{number:06d}-{safe_name(name)}")
            number += 1
        return left

    def _next_number(self) -> int:
        taken = [entry.name for entry in self._accepted.iterdir()] + [row["place"] for row in self._db.files()]
        numbers = (name.partition("-")[0] for name in taken)
        return max((int(number) for number in numbers if number.isdecimal()), default=0) + 1

    def _unlisted_files(self) -> list[str]:
        listed = {row["place"] for row in self._db.files()}
        return sorted(
            entry.name
            for entry in self._accepted.iterdir()
            if entry.name not in listed and not entry.name.startswith(".")
        )

    def _import(self, place: str, sifter: Sifter, index: DedupIndex, now: float) -> None:
        """Store all prompts of a file; if that fails, only its name, the number of rows read and the reason."""
        number, _, name = place.partition("-")
        insert = "INSERT INTO files VALUES (?, ?, ?, ?, ?, ?, ?)"
        reader = _Counted(self._prompts_of(place))
        try:
            with self._db.writing() as connection:
                connection.execute(insert, (number, place, name, now, "accepted", 0, ""))
                while batch := list(islice(reader, _BATCH_SIZE)):
                    self._store(batch, int(number), sifter, index)
                connection.execute("UPDATE files SET rows = ? WHERE number = ?", (reader.count, number))
        except DataError as error:
            with self._db.writing() as connection:
                reason = _printable(str(error)).replace(f"{self._accepted}{os.sep}", "")
                connection.execute(insert, (number, place, name, now, "quarantined", reader.count, reason))

    def _prompts_of(self, place: str) -> Iterator[Prompt]:
        train = self._config.data.train
        path = str(self._accepted / place)
        source = FilesSource(paths=(path,))
        if isinstance(train, FilesSource):
            source = FilesSource(paths=(path,), domain=train.domain, fields=train.fields)
        stream: PromptStream = read_prompts(source)
        for prompt in stream:
            yield Prompt(prompt.id, prompt.text, prompt.domain, prompt.source.replace(path, place, 1))

    def _store(self, batch: Sequence[Prompt], file: int, sifter: Sifter, index: DedupIndex) -> None:
        insert = "INSERT INTO prompts (file, source, id, fate, detail, domain, text) VALUES (?, ?, ?, ?, ?, ?, ?)"
        for prompt, found in zip(batch, sifter.sift(batch), strict=True):
            state: PromptState = "waiting"
            detail = ""
            if found.leaks:
                state, detail = "leaked", "; ".join(map(str, found.leaks))
            elif earlier := index.find(prompt, found.keys):
                state, detail = "duplicate", f"{earlier[1]} as prompt {earlier[0]}"
            text = prompt.text if state == "waiting" else None
            values = (file, prompt.source, prompt.id, state, detail, prompt.domain, text)
            number = self._db.connection.execute(insert, values).lastrowid
            if state == "waiting" and number is not None:
                index.add(number, found.keys)

    def _finish_quarantine(self) -> None:
        """Move files that the database lists as quarantined; the reason is written first."""
        for row in self._db.files("quarantined"):
            path = self._accepted / row["place"]
            if path.exists() or path.is_symlink():
                write_atomically(self._quarantine / f"{row['place']}.reason.txt", f"{row['reason']}\n")
                path.rename(self._quarantine / row["place"])


class _Counted(Iterator[Prompt]):
    """Iterator over prompts that counts them and turns a reader's errors into `DataError`."""

    def __init__(self, prompts: Iterable[Prompt]) -> None:
        self.count = 0
        self._prompts = iter(prompts)

    def __next__(self) -> Prompt:
        try:
            prompt = next(self._prompts)
        except (StopIteration, DataError):
            raise
        except Exception as error:  # any error of a reader concerns this file alone and must not stop the schedule
            raise DataError(f"row {self.count + 1}: cannot be read: {type(error).__name__}: {error}") from error
        self.count += 1
        return prompt


def safe_name(name: str) -> str:
    """Return a file's name for the schedule's own folders: printable, and short enough for a number and a suffix.

    A file system takes names as up to 255 bytes in any encoding. A long name keeps its beginning, its suffixes (the
    file format) and a few digits of its digest.
    """
    shown = _printable(name)
    if len(os.fsencode(shown)) <= _LONGEST_NAME:
        return shown
    endings = "".join(Path(shown).suffixes[-2:])
    endings = endings if len(os.fsencode(endings)) <= 20 else Path(shown).suffix[-20:]
    digest = hashlib.sha256(os.fsencode(name)).hexdigest()[:12]
    room = _LONGEST_NAME - len(os.fsencode(endings)) - len(digest) - 1
    return f"{os.fsencode(shown)[:room].decode(errors='ignore')}-{digest}{endings}"


def _printable(text: str) -> str:
    """Return the text with bytes that are not UTF-8 and control characters written as escapes."""
    escaped = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in escaped
    )


def _last_change(path: Path) -> float | None:
    """Return the last change of a file or of anything in a folder (seconds since 1970); None if it has just gone."""
    inside = path.rglob("*") if path.is_dir() and not path.is_symlink() else ()
    try:
        return max(float(entry.lstat().st_mtime) for entry in (path, *inside))
    except FileNotFoundError:
        return None


def _move(source: Path, target: Path) -> None:
    """Rename; across file systems, copy to a hidden name first, so that `target` is complete when it appears.

    If the process is killed after the copy has its final name and before the original is removed, the file is imported
    twice; the second time all its prompts are duplicates.
    """
    try:
        source.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        hidden = target.with_name(f".{target.name}")
        if source.is_dir():
            shutil.rmtree(hidden, ignore_errors=True)
            shutil.copytree(source, hidden)
        else:
            shutil.copy2(source, hidden)
        hidden.rename(target)
        shutil.rmtree(source) if source.is_dir() else source.unlink()
