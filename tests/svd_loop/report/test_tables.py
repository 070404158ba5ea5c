from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from rich.table import Table

from svd_loop.contracts import Estimate, JobResult, JobState, RoundRecord, StopReason
from svd_loop.report import render_result, render_resumed, render_round, render_rounds, render_scores
from svd_loop.report.tables import next_commands, print_whole


@pytest.fixture
def console() -> Console:
    return Console(file=io.StringIO(), width=40)


def text_of(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def row_of(console: Console, start: str) -> str:
    return next(line for line in text_of(console).splitlines() if line.strip().startswith(start))


def test_the_table_has_a_row_per_round_and_is_never_cut(console: Console, history: list[RoundRecord]) -> None:
    render_rounds(console, history, best=2)
    words = "round overall math science coding accepted votes sample judge update evaluate"
    assert row_of(console, "round").split() == words.split()
    cells = "1 52.0 (47-57) 62.0 (57-67) 42.0 (37-47) 52.0 (47-57) 90/100 1,500 3.0 4.0 1.0 2.0"
    assert row_of(console, "1").split() == cells.split()
    assert row_of(console, "0").split()[-6:] == ["-", "-", "-", "-", "-", "2.0"]
    assert row_of(console, "2 best").startswith(" ")


def test_phases_without_a_place_of_their_own_come_last(console: Console, history: list[RoundRecord]) -> None:
    render_rounds(console, [replace(history[1], seconds={"audit": 9.0, "judge": 4.0})])
    assert row_of(console, "round").split()[-2:] == ["judge", "audit"]


def test_no_rounds_are_no_table(console: Console) -> None:
    render_rounds(console, [])
    assert text_of(console) == ""


def test_the_end_says_why_what_is_best_and_what_to_type_next(console: Console, result: JobResult) -> None:
    render_result(console, result, Path("my[config].yaml"))
    text = text_of(console)
    assert "demo stopped because held-out pass@1 stopped rising (plateau)." in text
    assert "3 problems detect 40 points" in text
    assert "Best version: round-002 (2f2f2f2f2f2f), pass@1 40.0% -> 58.0% (+18.0 points) at round 2 of 3" in text
    assert "Test split, round-002: 55.0 (50-60)" in text
    assert "svd-loop eval 'my[config].yaml' --model demo@2" in text
    assert "mlflow ui --backend-store-uri sqlite:///mlruns/mlflow.db" in text


@pytest.mark.parametrize(
    "stop, command",
    [
        (StopReason.ROUND_LIMIT, "svd-loop run c.yaml --job demo -o job.rounds=7"),
        (StopReason.INTERRUPTED, "svd-loop run c.yaml --job demo"),
        (
            StopReason.JUDGE_UNHEALTHY,
            "svd-loop run c.yaml --job demo-2 --fork demo@2 -o cascade.frozen_judge=true",
        ),
        (StopReason.PLATEAU, "svd-loop eval c.yaml --model demo@2"),
    ],
)
def test_a_job_that_can_continue_gets_the_command(result: JobResult, stop: StopReason, command: str) -> None:
    assert next_commands(replace(result, stop=stop), Path("c.yaml"), Path("mlruns"))[0][0] == command


def test_the_commands_keep_what_the_user_overrode(result: JobResult) -> None:
    stopped = replace(result, stop=StopReason.ROUND_LIMIT)
    overrides = ["job.root=my runs", "job.rounds=3", "cascade.votes=2"]
    go_on, measure, view, report, _ = (
        command for command, _ in next_commands(stopped, Path("c.yaml"), Path("my runs"), overrides)
    )
    assert go_on == "svd-loop run c.yaml --job demo -o 'job.root=my runs' -o cascade.votes=2 -o job.rounds=7"
    assert measure == "svd-loop eval c.yaml --model demo@2 -o 'job.root=my runs' -o cascade.votes=2"
    assert view == "svd-loop view demo --root 'my runs'"
    assert report == "svd-loop report demo --root 'my runs'"


def test_a_server_shows_its_own_runs(result: JobResult) -> None:
    def browsing(store: str | None) -> str:
        return next_commands(result, Path("c.yaml"), Path("mlruns"), store=store)[-1][0]

    assert browsing("http://registry:5000") == "http://registry:5000"
    assert browsing("sqlite:///elsewhere.db") == "mlflow ui --backend-store-uri sqlite:///elsewhere.db"


def test_lengths_are_not_shown_as_shares(console: Console, result: JobResult) -> None:
    scores = replace(result.test["round-002"], estimates={"overall": {"output_tokens": Estimate(65.8, 64.0, 67.0)}})
    render_scores(console, scores)
    assert "65.8 (64-67)" in text_of(console) and "%" not in text_of(console)


def test_scores_show_every_group(console: Console, result: JobResult) -> None:
    render_scores(console, result.test["round-002"])
    assert "test: 3 problems, 4 samples each" in " ".join(text_of(console).split())
    for cell in ("overall", "math", "55.0 (50-60)", "65.0 (60-70)"):
        assert cell in text_of(console)


def test_an_alarm_has_a_column_and_a_line_and_no_alarm_has_neither(
    console: Console, history: list[RoundRecord], alarmed: list[RoundRecord]
) -> None:
    render_rounds(console, history)
    render_round(console, history[2])
    assert "alarm" not in text_of(console) and "canaries" not in text_of(console)
    render_rounds(console, alarmed)
    rows = {line.split()[0]: line.rstrip() for line in text_of(console).splitlines()[-6:] if line.strip()}
    assert rows["1"].endswith(" -") and rows["2"].endswith("rolled back to round-001")
    render_round(console, alarmed[2])
    assert "canaries accepted by the cascade 0.50 (0.35 to 0.65; limit 0.1)." in text_of(console)


@pytest.mark.parametrize("width", [80, 60])
def test_on_a_terminal_no_line_is_wider_than_it_and_nothing_is_lost(history: list[RoundRecord], width: int) -> None:
    narrow = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    render_rounds(narrow, history, best=2)
    lines = text_of(narrow).splitlines()
    assert max(map(len, lines)) <= width
    cells = "52.0 (47-57) 62.0 (57-67) 42.0 (37-47) 52.0 (47-57) 90/100 1,500 3.0 4.0 1.0 2.0"
    rows = [line.split() for line in lines if line.split()[:1] == ["1"]]
    assert len(rows) > 1 and [cell for row in rows for cell in row[1:]] == cells.split()
    assert text_of(narrow).count("by round:") == 1


def test_a_cell_wider_than_the_terminal_is_folded(history: list[RoundRecord]) -> None:
    narrow = Console(file=io.StringIO(), width=30, force_terminal=True, color_system=None)
    table = Table()
    for heading in ("name", "why"):
        table.add_column(heading, no_wrap=True)
    table.add_row("a", " ".join(f"word{place}" for place in range(20)))
    print_whole(narrow, table)
    assert max(map(len, text_of(narrow).splitlines())) <= 30
    assert all(f"word{place}" in text_of(narrow) for place in range(20))


def test_a_resumed_job_shows_its_rounds(console: Console, history: list[RoundRecord]) -> None:
    render_resumed(console, JobState("demo", tuple(history)))
    lines = text_of(console).splitlines()
    assert lines[0] == f"demo: continuing after round {history[-1].round}"
    assert [line.partition(":")[0] for line in lines[1:]] == ["baseline", *(f"round {r.round}" for r in history[1:])]
