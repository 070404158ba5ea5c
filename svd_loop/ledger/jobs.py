"""The jobs below a root, each with its state in short."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import dataclass
from pathlib import Path

from svd_loop.contracts import Estimate, JobPaths, RootPaths
from svd_loop.errors import LedgerError
from svd_loop.ledger.reader import LedgerReader


@dataclass(frozen=True, slots=True)
class JobSummary:
    """A job in short.

    Attributes:
        name: its name.
        state: the stop reason, `running`, `unfinished` (the same command continues it), or `damaged`.
        rounds: finished rounds, the baseline not counted.
        limit: most rounds, `job.rounds`.
        base: held-out pass@1 of round 0; None before it is measured.
        best: the highest pass@1 of a round, and which round.
        accepted: prompts with an accepted candidate, over all rounds.
        hours: time spent on the job.
        problem: why it cannot be read; empty if it can.
    """

    name: str
    state: str
    rounds: int = 0
    limit: int = 0
    base: Estimate | None = None
    best: tuple[int, Estimate] | None = None
    accepted: int = 0
    hours: float = 0.0
    problem: str = ""


def list_jobs(root: Path) -> list[JobSummary]:
    """Return the jobs of a root by name; one whose ledger cannot be read is listed as damaged."""
    folders = sorted(path.parent for path in (RootPaths(root).job("x").folder.parent).glob("*/ledger.sqlite"))
    return [summarise_job(folder) for folder in folders if not folder.name.startswith(".")]


def summarise_job(folder: Path) -> JobSummary:
    """Return the summary of the job in a folder."""
    try:
        with LedgerReader.open_for_reading(folder) as reader:
            state, config, hours = reader.state(), reader.config(), reader.hours()
    except LedgerError as error:
        return JobSummary(folder.name, "damaged", problem=str(error))
    history = state.history
    best = max(history, key=lambda record: record.scores.pass_at_1.value, default=None)
    running = state.stop is None and is_running(folder)
    return JobSummary(
        name=folder.name,
        state="running" if running else state.stop.value if state.stop else "unfinished",
        rounds=max(0, len(history) - 1),
        limit=int(config["job"]["rounds"]),
        base=history[0].scores.pass_at_1 if history else None,
        best=None if best is None else (best.round, best.scores.pass_at_1),
        accepted=sum(record.accepted_prompts for record in history),
        hours=hours,
    )


def is_running(folder: Path) -> bool:
    """Whether a process of this machine runs the job, as far as the note beside its lock tells."""
    try:
        owner = json.loads(JobPaths(folder).lock_owner.read_text())
        if owner["host"] != socket.gethostname():
            return False
        os.kill(int(owner["pid"]), 0)
    except PermissionError:
        return True
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return True
