"""The choice among checkpoints, as it is shown."""

from __future__ import annotations

import io
from dataclasses import replace

from rich.console import Console

from svd_loop.contracts import Estimate, JobState, RoundRecord, StepChoice, StepFigure
from svd_loop.report import render_round, render_rounds
from svd_loop.report.as_json import round_json
from svd_loop.report.page import page_html
from svd_loop.report.steps import explain_choice

STEPS = (StepFigure(5, 4, 0.86, 0.055), StepFigure(10, 4, 0.805, 0.0))
CHOICE = StepChoice(STEPS, 5, 5, Estimate(0.058, 0.025, 0.098))


def test_a_sentence_says_what_was_kept_and_why(history: list[RoundRecord]) -> None:
    def said(choice: StepChoice | None) -> str:
        return explain_choice(replace(history[1], choice=choice))

    over = "step 5 of 10 is +5.8 (+2.5 to +9.8) points over the last one on the problems that had no part in the choice"
    assert said(CHOICE) == f"update of round 1: {over}; it is kept."
    assert said(replace(CHOICE, kept=10)).endswith("the last one is kept.")
    assert said(StepChoice(STEPS, 10, 10)) == "update of round 1: step 10, the last one, is the best of 2."
    assert said(None) == ""


def test_terminal_page_and_json_show_every_checkpoint(history: list[RoundRecord]) -> None:
    chosen = [history[0], replace(history[1], choice=CHOICE)]
    console = Console(file=io.StringIO(), width=200)
    render_rounds(console, chosen)
    render_round(console, chosen[1])
    assert isinstance(console.file, io.StringIO)
    lines = [line.split() for line in console.file.getvalue().splitlines()]
    assert ["1", "5", "kept", "4", "86.0", "+5.5", "+5.8", "(+2.5", "to", "+9.8)"] in lines
    assert ["1", "10", "4", "80.5", "+0.0", "-"] in lines
    page = page_html(JobState("demo", tuple(chosen)), {})
    assert '<span class="pill good">kept</span></th><td>4</td><td>86.0</td><td>5.5</td>' in page
    assert "it is kept." in page
    assert "<h3>Checkpoints" not in page_html(JobState("demo", tuple(history)), {})
    assert round_json(chosen[1])["choice"]["confirmed"] == {"value": 0.058, "low": 0.025, "high": 0.098}
    assert "choice" not in round_json(chosen[0])
