"""The cascade alone: its report, and a run that is killed and taken up again."""

from __future__ import annotations

import json
import sys
from io import StringIO
from pathlib import Path
from typing import Any

from rich.console import Console

from svd_loop.contracts import Rejection, Stage, Verdict, Vote, VoteValue
from svd_loop.jobs import judge_file
from svd_loop.ledger import LedgerReader
from svd_loop.report import judged_json, render_judged
from tests.kill import run_until_it_kills_itself
from tests.svd_loop.jobs_support import SCRIPTED, SMALL, small
from tests.svd_loop.test_job_kills import ROOT

FACTS, GRADE = Stage.FACTUALITY, Stage.CORRECTNESS
SETTINGS = ("cascade.stages=[factuality, correctness]", "cascade.votes=3", "engine.invalid=0.1", "cascade.fill_rows=16")


def verdict(candidate: int, *votes: tuple[Stage, int, VoteValue]) -> Verdict:
    cast = tuple(Vote("p", candidate, *vote) for vote in votes)
    refused = next((vote for vote in cast if vote.value is not VoteValue.YES), None)
    if refused is None:
        return Verdict("p", candidate, True, votes=cast)
    return Verdict("p", candidate, False, Rejection.VOTE, refused.stage, refused.vote, cast)


def test_the_report_counts_votes_agreement_cost_and_where_candidates_fell() -> None:
    yes, no, invalid = VoteValue
    verdicts = [
        verdict(0, (FACTS, 0, yes), (FACTS, 1, yes), (GRADE, 0, yes), (GRADE, 1, yes)),
        verdict(1, (FACTS, 0, yes), (FACTS, 1, no)),
        verdict(2, (FACTS, 0, invalid)),
        Verdict("p", 3, False, Rejection.EMPTY),
    ]
    usage = {"grader": {"calls": 2, "prompt_tokens": 30, "output_tokens": 1234}}
    report = judged_json(verdicts, (FACTS, GRADE), usage)
    assert report == {
        "candidates": 4, "accepted": 1, "accepted_share": 0.25, "rejected": {"factuality": 2, "empty": 1},
        "funnel": {"generated": 4, "complete": 3, "factuality": 1, "correctness": 1, "accepted": 1},
        "stages": {
            "factuality": {"yes": 3, "no": 1, "invalid": 1, "invalid_share": 0.2, "agreement": 0.5},
            "correctness": {"yes": 2, "no": 0, "invalid": 0, "invalid_share": 0.0, "agreement": 1.0},
        },
        "usage": usage,
    }  # fmt: skip
    shown = Console(file=StringIO(), width=100)
    render_judged(shown, report)
    text = shown.file.getvalue()  # type: ignore[attr-defined]
    rows = {cells[0]: cells[1:] for line in text.splitlines() if (cells := line.replace("│", " ").split())}
    assert rows["factuality"] == ["3", "1", "1", "20.0", "50.0", "2"]
    assert rows["grader"] == ["2", "30", "1,234"]
    assert "1 of 4 accepted (25.0%); 1 empty" in text


def test_nothing_asked_has_no_shares() -> None:
    report = judged_json([Verdict("p", 0, False, Rejection.EMPTY)], (GRADE,), {})
    assert report["stages"]["correctness"]["invalid_share"] is None is report["stages"]["correctness"]["agreement"]
    render_judged(Console(file=StringIO()), report)


def answers(path: Path) -> Path:
    rows: list[dict[str, Any]] = [
        {"prompt": f"What is {n} + 30?", "solution": f"\\boxed{{{n + 30 + n % 2}}}"} for n in range(12, 42)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_a_killed_run_reports_as_if_it_had_not_been_and_pays_nothing_twice(tmp_path: Path) -> None:
    source = answers(tmp_path / "answers.jsonl")
    settings = (*SMALL, *SETTINGS, "engine.chunk_size=8")
    whole = judge_file(small(tmp_path / "whole", *settings), source, tmp_path / "whole.jsonl")
    options = [part for item in (*settings, f"job.root={tmp_path / 'killed'}") for part in ("-o", item)]
    output = tmp_path / "killed.jsonl"
    arguments = ["judge", str(SCRIPTED), *options, "--job", "scripted", "--input", str(source), "--output", str(output)]
    kill_cli = [sys.executable, "-m", "tests.svd_loop.kill_cli"]
    run_until_it_kills_itself([*kill_cli, "0/evaluate/recorded*4", *arguments], cwd=ROOT)
    assert not output.exists()
    with LedgerReader.open_for_reading(tmp_path / "killed" / "jobs" / "scripted") as ledger:
        paid = [row["n"] for row in ledger.query("SELECT COUNT(*) AS n FROM answers")]
    assert paid == [30]  # four chunks, the last one of a wave of 30 being short
    assert judge_file(small(tmp_path / "killed", *settings), source, output) == whole
    assert output.read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
    assert whole["accepted"] > 0 and whole["stages"]["factuality"]["invalid"] > 0
