"""The choice among the checkpoints of an update, as a sentence, as JSON and as a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from svd_loop.contracts import Estimate, RoundRecord, StepChoice

HEADINGS = ("round", "step", "samples", "pass@1 %", "over the last", "confirmed")
"""Columns of the table by checkpoint."""


def explain_choice(record: RoundRecord) -> str:
    """Return a sentence about the checkpoint that was kept; empty if there was no choice."""
    choice = record.choice
    if choice is None:
        return ""
    last = choice.steps[-1].step
    if choice.confirmed is None:
        return f"update of round {record.round}: step {last}, the last one, is the best of {len(choice.steps)}."
    found = f"step {choice.best} of {last} is {_points(choice.confirmed)} points over the last one on the problems "
    kept = "it is kept" if choice.kept == choice.best else "the last one is kept"
    return f"update of round {record.round}: {found}that had no part in the choice; {kept}."


def choice_json(choice: StepChoice) -> dict[str, Any]:
    """Return a choice as JSON data; shares are fractions."""
    return asdict(choice)


def step_rows(history: Sequence[RoundRecord]) -> list[list[str]]:
    """Return the cells of the table by checkpoint, of all rounds with a choice; kept checkpoints are marked."""
    return [
        [
            str(record.round),
            f"{figure.step}{' kept' if figure.step == record.choice.kept else ''}",
            str(figure.samples),
            f"{100 * figure.pass_at_1:.1f}",
            f"{100 * figure.difference:+.1f}",
            _points(record.choice.confirmed) if record.choice.confirmed and figure.step == record.choice.best else "-",
        ]
        for record in history
        if record.choice is not None
        for figure in record.choice.steps
    ]


def _points(estimate: Estimate) -> str:
    return f"{100 * estimate.value:+.1f} ({100 * estimate.low:+.1f} to {100 * estimate.high:+.1f})"
