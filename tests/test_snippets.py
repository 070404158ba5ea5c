"""Every Python snippet of the documentation runs, and every command line in its fences is one the real parser takes.

A snippet that cannot run here is preceded by `<!-- snippet: skip (reason) -->`.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer.main

from svd_loop.cli.app import app
from svd_loop.jobs import run_job
from tests.svd_loop.jobs_support import small
from tests.test_docs import CURRENT, FENCE, name_of

SNIPPET = re.compile(r"(?:^<!-- snippet: skip \((.+)\) -->\n)?^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^ *(?:\$ )?svd-loop +(.*)$", re.MULTILINE)
FORM = re.compile(r"\[|\||…|\.\.\.|<|\bN\b")
"""What shows the form of a command and is no command itself: optional parts, alternatives, placeholders of numbers."""

PAGES = [page for page in CURRENT if SNIPPET.search(page.read_text())]


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a job called nano, as a reader of the pages has one; without a model, to be quick."""
    folder = tmp_path_factory.mktemp("reader")
    run_job(small(folder / "mlruns", "job.name=nano", "job.rounds=1"))
    return folder


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_snippet_runs(page: Path, played: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(played)
    names: dict[str, Any] = {"__name__": "__snippet__"}
    for reason, code in SNIPPET.findall(page.read_text()):
        if not reason:
            exec(compile(code, name_of(page), "exec"), names)


def parsed(line: str) -> str | None:
    """The parser's objection to a command line; None if it takes it."""
    words = shlex.split(line, comments=True)
    command: Any = typer.main.get_group(app)
    while hasattr(command, "commands"):
        if not words or words[0] not in command.commands:
            return f"no such command: {line}"
        command = command.commands[words.pop(0)]
    if "--help" in words:
        return None
    try:
        command.make_context("svd-loop", words)
    except Exception as error:  # typer brings its own copy of click's classes
        return str(error)
    return None


@pytest.mark.parametrize("page", CURRENT, ids=name_of)
def test_every_command_line_parses(page: Path) -> None:
    fences = "\n".join(FENCE.findall(page.read_text().replace("\\\n", " ")))
    lines = [line for line in COMMAND.findall(fences) if not FORM.search(line.partition("#")[0])]
    assert [(line, found) for line in lines if (found := parsed(line))] == []


def test_the_checks_can_fail(tmp_path: Path) -> None:
    assert parsed("run") and parsed("explain nano --limit x") and parsed("modles list")
    assert parsed("explain nano --limit 5  # a comment") is None
    assert SNIPPET.findall("<!-- snippet: skip (slow) -->\n```python\nx\n```\n") == [("slow", "x\n")]
