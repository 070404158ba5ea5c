"""Consoles and JSON printing, shared by the commands."""

from __future__ import annotations

import functools
import json
import logging
import sys
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console


@functools.cache
def stderr() -> Console:
    """The console for progress, tables and errors."""
    from rich.console import Console

    return Console(stderr=True, soft_wrap=True, emoji=False)  # `:x:` in an id or a file name is no smiley


class StderrHandler(logging.Handler):
    """Writes messages to what `sys.stderr` is at that moment.

    While a progress bar is shown that is the bar's own stream, which puts a message on a line above the bar.
    """

    def emit(self, record: logging.LogRecord) -> None:
        """Write one message as lines of its own."""
        try:
            sys.stderr.write(f"{self.format(record)}\n")
            sys.stderr.flush()
        except Exception:  # as logging's own handlers do: a message that cannot be shown ends nothing
            self.handleError(record)


def print_json(value: Any) -> None:
    """One JSON object on stdout."""
    typer.echo(json.dumps(value, ensure_ascii=False, indent=2, sort_keys=False))
