"""Consoles and JSON printing, shared by the commands."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from rich.console import Console


@functools.cache
def stderr() -> Console:
    """The console for progress, tables and errors."""
    from rich.console import Console

    return Console(stderr=True, soft_wrap=True, emoji=False)  # `:x:` in an id or a file name is no smiley


def print_json(value: Any) -> None:
    """One JSON object on stdout."""
    typer.echo(json.dumps(value, ensure_ascii=False, indent=2, sort_keys=False))
