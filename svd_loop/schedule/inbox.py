"""New prompt files: picked up whole, checked at the door, and every row of them accounted for.

A file goes through three places of the schedule's folder. It is *renamed* out of the inbox into `accepted/` (so two
ticks can never share it), then read through the same door as a job's own data, all of it in one transaction. A file
that cannot be used is moved on into `quarantine/` with the reason beside it; put right and dropped into the inbox
again, it is a new file.

A kill in between leaves a file in `accepted/` that the book does not know, or one that the book calls quarantined;
both are found at the next tick. Left alone in the inbox: hidden files, names that say they are unfinished
(`.part`, `.tmp`), and whatever changed a moment ago.
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
from svd_loop.ledger.identity import write_atomically
from svd_loop.schedule.dedup_index import SeenPrompts
from svd_loop.schedule.state_db import Book, Fate

ACCEPTED, QUARANTINE = "accepted", "quarantine"
_UNFINISHED = (".part", ".tmp")
_LONGEST_NAME = 180
"""Bytes; the number before it and `.reason.txt` behind it fit into a file system's 255."""
_AT_ONCE = 512


@dataclass(frozen=True, slots=True)
class Intake:
    """What one look into the inbox brought.

    `files` were taken in, `quarantined` are those of them that could not be used; `left` stay in the inbox for now.
    `counts` has the new prompts by fate.
    """

    files: tuple[str, ...] = ()
    quarantined: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    counts: tuple[tuple[str, int], ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**asdict(self), "counts": dict(self.counts)}


class Inbox:
    """Takes files from a folder into a schedule.

    Args:
        book: the schedule's book; files are kept in its folder.
        config: `data.train` says which columns hold what if its type is `files`; `data.dedup` and `data.leak` hold
            as for a job, but that a leaked prompt is always left out and never a reason to stop.
        held_out: the held-out problems; asked for only when there is a file to check.
    """

    def __init__(self, book: Book, config: Config, held_out: Callable[[], Sequence[Problem]]) -> None:
        self._book = book
        self._config = config
        self._held_out = held_out
        self._accepted = book.folder / ACCEPTED
        self._quarantine = book.folder / QUARANTINE

    def take_in(self, inbox: Path, now: float) -> Intake:
        """Everything that is ready in `inbox`, at the time `now` (seconds since 1970).

        Raises:
            ScheduleError: a folder cannot be read or written.
        """
        if inbox.exists() and not inbox.is_dir():
            raise ScheduleError(f"--inbox {inbox}: is a file; prompts arrive in a folder")
        try:
            for folder in (inbox, self._accepted, self._quarantine):
                folder.mkdir(parents=True, exist_ok=True)
            self._finish_quarantine()
            left = self._pick_up(inbox, now)
            files = self._unknown_files()
            before = self._book.account()
            if files:
                sifter = Sifter(self._held_out(), self._config.data.dedup, self._config.data.leak)
                seen = SeenPrompts(self._book, self._config.data.dedup)
                for place in files:
                    self._admit(place, sifter, seen, now)
                self._finish_quarantine()
        except OSError as error:
            raise ScheduleError(
                f"{error.filename or inbox}: {error.strerror or error}; --inbox cannot be taken in, nothing is lost"
            ) from error
        counts = Counter(self._book.account())
        counts.subtract(before)
        bad = {row["place"] for row in self._book.files("quarantined")}
        return Intake(tuple(files), tuple(file for file in files if file in bad), tuple(left), tuple(counts.items()))

    def _pick_up(self, inbox: Path, now: float) -> list[str]:
        """Rename ready files into `accepted/`, oldest first; returns the names of the others."""
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
        taken = [entry.name for entry in self._accepted.iterdir()] + [row["place"] for row in self._book.files()]
        numbers = (name.partition("-")[0] for name in taken)
        return max((int(number) for number in numbers if number.isdecimal()), default=0) + 1

    def _unknown_files(self) -> list[str]:
        known = {row["place"] for row in self._book.files()}
        return sorted(
            entry.name
            for entry in self._accepted.iterdir()
            if entry.name not in known and not entry.name.startswith(".")
        )

    def _admit(self, place: str, sifter: Sifter, seen: SeenPrompts, now: float) -> None:
        """Read one file into the book, all of it or nothing but its name, how far it could be read, and why."""
        number, _, name = place.partition("-")
        insert = "INSERT INTO files VALUES (?, ?, ?, ?, ?, ?, ?)"
        reader = _Counted(self._prompts_of(place))
        try:
            with self._book.writing() as connection:
                connection.execute(insert, (number, place, name, now, "accepted", 0, ""))
                while bundle := list(islice(reader, _AT_ONCE)):
                    self._pass(bundle, int(number), sifter, seen)
                connection.execute("UPDATE files SET rows = ? WHERE number = ?", (reader.count, number))
        except DataError as error:
            with self._book.writing() as connection:
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

    def _pass(self, bundle: Sequence[Prompt], file: int, sifter: Sifter, seen: SeenPrompts) -> None:
        insert = "INSERT INTO prompts (file, source, id, fate, detail, domain, text) VALUES (?, ?, ?, ?, ?, ?, ?)"
        for prompt, found in zip(bundle, sifter.sift(bundle), strict=True):
            fate: Fate = "waiting"
            detail = ""
            if found.leaks:
                fate, detail = "leaked", "; ".join(map(str, found.leaks))
            elif earlier := seen.earlier(prompt, found.keys):
                fate, detail = "duplicate", f"{earlier[1]} as prompt {earlier[0]}"
            text = prompt.text if fate == "waiting" else None
            values = (file, prompt.source, prompt.id, fate, detail, prompt.domain, text)
            number = self._book.connection.execute(insert, values).lastrowid
            if fate == "waiting" and number is not None:
                seen.remember(number, found.keys)

    def _finish_quarantine(self) -> None:
        """Move files the book calls quarantined to where they belong, the reason first."""
        for row in self._book.files("quarantined"):
            path = self._accepted / row["place"]
            if path.exists() or path.is_symlink():
                write_atomically(self._quarantine / f"{row['place']}.reason.txt", f"{row['reason']}\n")
                path.rename(self._quarantine / row["place"])


class _Counted(Iterator[Prompt]):
    """Prompts passed on and counted."""

    def __init__(self, prompts: Iterable[Prompt]) -> None:
        self.count = 0
        self._prompts = iter(prompts)

    def __next__(self) -> Prompt:
        try:
            prompt = next(self._prompts)
        except (StopIteration, DataError):
            raise
        except Exception as error:  # whatever a reader trips over is this file's fault, and must not stop the schedule
            raise DataError(f"row {self.count + 1}: cannot be read: {type(error).__name__}: {error}") from error
        self.count += 1
        return prompt


def safe_name(name: str) -> str:
    """A file's name in the schedule's own folders: printable, and short enough to get a number and an ending.

    Names are bytes to the file system: up to 255 of them, in any encoding. A long one keeps its beginning, its endings
    (which tell the format) and a few digits of its digest.
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
    """Text without bytes that are no UTF-8 and without control characters, each written as an escape."""
    escaped = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode() for character in escaped
    )


def _last_change(path: Path) -> float | None:
    """When a file, or anything in a folder, changed last (seconds since 1970); None while it is being renamed."""
    inside = path.rglob("*") if path.is_dir() and not path.is_symlink() else ()
    try:
        return max(float(entry.lstat().st_mtime) for entry in (path, *inside))
    except FileNotFoundError:
        return None


def _move(source: Path, target: Path) -> None:
    """Rename; from another file system, copy under a hidden name first, so that `target` is complete when it appears.

    A kill between the copy's appearance and the removal of the original brings the file twice; its prompts are then
    duplicates the second time.
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
