"""What is being done, on stderr: rows done, output tokens per second, time left of the work, the round and the job.

On a terminal it is a live line. Elsewhere (a scheduler's log, `nohup`, a pipe) it is a plain line about every minute,
and one at the end of every phase of a round that was not over in seconds, through `logging`: the command line shows
those, a program that uses the library decides for itself. Nested bars were left out: the work of a round is done one
call at a time.
"""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

log = logging.getLogger(__name__)

EVERY = 60.0
"""Seconds between two plain lines."""
SHORT = 10.0
"""A phase that took less gets no line of its own: the line of its round follows at once."""

_clock = time.monotonic


class Progress(Protocol):
    """Receiver of progress updates."""

    def advance(self, rows: int, tokens: int = 0) -> None:
        """Count `rows` finished rows and `tokens` tokens written since the last call."""
        ...


@dataclass(slots=True)
class Tally:
    """Rows of one piece of work: `total` of them (0: not known), and of those done the `known`, which cost nothing."""

    total: int
    began: float
    rows: int = 0
    known: int = 0
    tokens: int = 0

    def words(self, now: float, unit: str = "rows") -> str:
        """Return a text such as `1,200 of 4,000 rows, 2,300 tokens/s, about 4 min left`."""
        seconds, done = max(now - self.began, 1e-9), self.rows - self.known
        parts = [f"{self.rows:,} of {self.total:,} {unit}" if self.total else f"{self.rows:,} {unit}"]
        if self.tokens:
            parts.append(f"{self.tokens / seconds:,.0f} tokens/s")
        if self.total > self.rows and done > 0:
            parts.append(f"about {_duration((self.total - self.rows) * seconds / done)} left")
        return ", ".join(parts)

    def few_words(self, now: float, unit: str, *, with_time: bool) -> str:
        """Return a text such as `30%, 2,300 tok/s, 4 min left`."""
        seconds, done = max(now - self.began, 1e-9), self.rows - self.known
        parts = [f"{self.rows / self.total:.0%}" if self.total else f"{self.rows:,} {unit}"]
        if self.tokens:
            parts.append(f"{self.tokens / seconds:,.0f} tok/s")
        if with_time and self.total > self.rows and done > 0:
            parts.append(f"{_duration((self.total - self.rows) * seconds / done)} left")
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class _Round:
    """The round that is played: when it began, how long one takes on average, and how many may follow."""

    began: float
    mean: float
    after: int

    def left(self, now: float) -> tuple[float, float]:
        """Return the seconds left of the round and of the job."""
        of_round = max(self.mean - (now - self.began), 0.0)
        return of_round, of_round + self.after * self.mean


@dataclass(slots=True)
class _Now:
    """What is being done at present. One a process: the work of a round is done one call at a time."""

    phase: str = ""
    of_phase: Tally | None = None
    batch: Tally | None = None
    said: float = 0.0
    note: str = ""
    round: _Round | None = None


_now = _Now()


def note(text: str) -> None:
    """Set a remark for the lines of this phase and later ones, e.g. `90/150 accepted`; empty removes it."""
    _now.note = text


@contextmanager
def one_round(seconds: Sequence[float], after: int) -> Iterator[None]:
    """Show the time left of the round in the block, and of the job.

    Args:
        seconds: of the finished rounds; without any nothing is shown, as nothing is known.
        after: rounds that may follow; the job may end before.
    """
    _now.round = _Round(_clock(), sum(seconds) / len(seconds), after) if seconds else None
    try:
        yield
    finally:
        _now.round = None


@contextmanager
def phase(title: str) -> Iterator[None]:
    """Name what the block does, e.g. `round 3/10 judge`; without a terminal its end is logged, unless it was short."""
    tally = Tally(0, _clock())
    _now.phase, _now.of_phase, _now.said = title, tally, tally.began
    try:
        yield
    finally:
        _now.phase, _now.of_phase = "", None
    took = _clock() - tally.began
    if took >= SHORT and not sys.stderr.isatty():
        rows = f"{tally.words(_clock())} in " if tally.rows else ""
        log.info("%s: done, %s%s", title, rows, _duration(took))


@contextmanager
def batch(total: int) -> Iterator[Tally]:
    """Count what engines report inside the block as one piece of work of `total` rows, in however many calls."""
    _now.batch = Tally(total, _clock())
    try:
        yield _now.batch
    finally:
        _now.batch = None


@contextmanager
def progress(label: str, total: int, unit: str = "rows") -> Iterator[Progress]:
    """Show a progress line for `total` rows until the block ends.

    Args:
        label: text of the line; an empty label shows nothing.
        total: rows to do; inside `batch` its total counts.
        unit: what is counted, in the plural.

    Yields:
        An object with `advance(rows, tokens)`.
    """
    if not label:
        yield _Silent()
    elif not sys.stderr.isatty():
        yield _Lines(label, _now.batch or Tally(total, _clock()), unit)
    else:
        yield from _bar(label, _now.batch or Tally(total, _clock()), unit)


def _bar(label: str, tally: Tally, unit: str) -> Iterator[Progress]:
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    def line() -> Text:
        return Text(fitted(_lines(label, tally, unit), console.width), no_wrap=True, overflow="ellipsis")

    console = Console(stderr=True)
    with Live(get_renderable=line, console=console, transient=True, refresh_per_second=4):
        yield _Live((tally, _now.of_phase if unit == "rows" and _now.of_phase is not tally else None))


def _lines(label: str, tally: Tally, unit: str) -> list[str]:
    """Return the line in full, and shorter forms of it, the shortest last."""
    now, (in_full, in_short) = _clock(), _times_left()
    noted = f"{_now.phase}, {_now.note}" if _now.phase and _now.note else _now.phase
    full = ", ".join(filter(None, (tally.words(now, unit), in_full)))
    short = ", ".join(filter(None, (tally.few_words(now, unit, with_time=not in_short), in_short)))
    if not _now.phase:
        return [f"{label}: {full}", f"{label}: {short}", short]
    return [
        f"{noted} ({label}): {full}",
        f"{noted}: {full}",
        f"{noted}: {short}",
        f"{_now.phase}: {short}",
        short,
    ]


def _times_left() -> tuple[str, str]:
    """Return the time left of the round and of the job, in full and in short; empty if it is not known."""
    if _now.round is None:
        return "", ""
    of_round, of_job = map(_duration, _now.round.left(_clock()))
    return f"round about {of_round}, job at most {of_job}", f"round {of_round}, job {of_job}"


def fitted(lines: Sequence[str], width: int) -> str:
    """Return the first line of less than `width` characters, else the beginning of the last one."""
    return next((line for line in lines if len(line) < width), lines[-1][: width - 1])


class _Silent:
    def advance(self, rows: int, tokens: int = 0) -> None:
        """Do nothing."""


class _Lines:
    """Prints plain lines, at most one in `EVERY` seconds."""

    def __init__(self, label: str, tally: Tally, unit: str) -> None:
        self._label = label
        self._tally = tally
        self._unit = unit
        _now.said = _now.said or tally.began

    def advance(self, rows: int, tokens: int = 0) -> None:
        """Count, and print a line when it is due."""
        whole = _now.of_phase if self._unit == "rows" else None
        for tally in filter(None, (self._tally, whole)):
            tally.rows += rows
            tally.tokens += tokens
        now = _clock()
        if now - max(_now.said, self._tally.began) >= EVERY:
            _now.said = now
            log.info("%s", _lines(self._label, self._tally, self._unit)[0])


class _Live:
    """Counts for a live line, which draws itself."""

    def __init__(self, tallies: tuple[Tally | None, ...]) -> None:
        self._tallies = tallies

    def advance(self, rows: int, tokens: int = 0) -> None:
        """Count."""
        for tally in filter(None, self._tallies):
            tally.rows += rows
            tally.tokens += tokens


def _duration(seconds: float) -> str:
    """Return a duration in words, rounded."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
