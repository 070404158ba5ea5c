"""Messages and a progress bar on one terminal."""

from __future__ import annotations

import io
import logging
import sys

import pytest
from rich.console import Console
from rich.progress import Progress

from svd_loop.cli.output import StderrHandler


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        return True


def test_a_message_stands_on_a_line_of_its_own_above_the_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    logger = logging.Logger("test")
    logger.addHandler(StderrHandler())
    console = Console(stderr=True, force_terminal=True, width=60, color_system=None)
    with Progress(console=console, auto_refresh=False, transient=True) as bar:
        bar.add_task("judging", total=2)
        bar.refresh()
        logger.warning("stopping after the current chunk")
    (line,) = (part for part in terminal.getvalue().split("\n") if "stopping" in part)
    assert "judging" not in line.rpartition("\x1b[2K")[2]
    logger.warning("outside")
    assert terminal.getvalue().endswith("outside\n")
