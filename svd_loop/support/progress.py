"""A live progress line on stderr: rows done, output tokens per second, time left.

Shown only where someone can watch it (stderr is a terminal); elsewhere `progress` costs nothing and writes
nothing, so that logs stay readable. Nested bars were left out: the work of a round is done one call at a time.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Progress(Protocol):
    """What work reports to."""

    def advance(self, rows: int, tokens: int = 0) -> None:
        """Count `rows` finished rows and `tokens` tokens written since the last call."""
        ...


class _Silent:
    def advance(self, rows: int, tokens: int = 0) -> None:
        """Nobody watches."""


@contextmanager
def progress(label: str, total: int) -> Iterator[Progress]:
    """Show `label` with `total` rows until the block ends.

    Args:
        label: what is being done; an empty label shows nothing.
        total: rows to do.

    Yields:
        An object with `advance(rows, tokens)`.
    """
    if not label or not sys.stderr.isatty():
        yield _Silent()
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(label, total=total, rate="")
        yield _Live(bar, task)


class _Live:
    def __init__(self, bar: object, task: int) -> None:
        from rich.progress import Progress as Bar
        from rich.progress import TaskID

        assert isinstance(bar, Bar)
        self._bar = bar
        self._task = TaskID(task)
        self._start = time.monotonic()
        self._tokens = 0

    def advance(self, rows: int, tokens: int = 0) -> None:
        """Move the bar."""
        self._tokens += tokens
        seconds = max(time.monotonic() - self._start, 1e-9)
        rate = f"{self._tokens / seconds:,.0f} tokens/s" if self._tokens else ""
        self._bar.update(self._task, advance=rows, rate=rate)
