"""The cascade alone: its report, and a run that is killed and taken up again."""

from __future__ import annotations

import json
import sys
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from svd_loop.contracts import Domain, Rejection, Stage, StageName, Usage, Verdict, Vote, VoteValue
from svd_loop.errors import SvdError
from svd_loop.evaluation.answers_file import read_answers, write_verdicts
from svd_loop.jobs import judge_file, judging_job
from svd_loop.ledger import LedgerReader
from svd_loop.report import judged_json, render_judged
from tests.kill import run_until_it_kills_itself
from tests.svd_loop.jobs_support import SCRIPTED, SMALL, small
from tests.svd_loop.test_job_kills import ROOT

FACTS, GRADE = Stage.FACTUALITY, Stage.CORRECTNESS
SETTINGS = ("cascade.stages=[factuality, correctness]", "cascade.votes=3", "engine.invalid=0.1", "cascade.fill_rows=16")


def verdict(candidate: int, *votes: tuple[StageName, int, VoteValue]) -> Verdict:
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
    usage = {"calls": 2, "prompt_tokens": 30, "output_tokens": 1234}
    report = judged_json(verdicts, (FACTS, GRADE), {"grader": Usage(**usage)})
    assert report == {
        "candidates": 4,
        "accepted": 1,
        "accepted_share": 0.25,
        "undecided": 1,
        "rejected": {"factuality": 2, "empty": 1},
        "funnel": {"generated": 4, "complete": 3, "factuality": 1, "correctness": 1, "accepted": 1},
        "stages": {
            "factuality": {"yes": 3, "no": 1, "invalid": 1, "invalid_share": 0.2, "agreement": 0.5},
            "correctness": {"yes": 2, "no": 0, "invalid": 0, "invalid_share": 0.0, "agreement": 1.0},
        },
        "usage": {"grader": usage},
    }
    shown = Console(file=StringIO(), width=100)
    render_judged(shown, report)
    text = shown.file.getvalue()  # type: ignore[attr-defined]
    rows = {cells[0]: cells[1:] for line in text.splitlines() if (cells := line.replace("│", " ").split())}
    assert rows["factuality"] == ["3", "1", "1", "20.0", "50.0", "2"]
    assert rows["grader"] == ["2", "30", "1,234"]
    assert "1 of 4 accepted (25.0%); 1 empty; 1 undecided" in text


def test_nothing_asked_has_no_shares() -> None:
    report = judged_json([Verdict("p", 0, False, Rejection.EMPTY)], (GRADE,), {})
    assert report["stages"]["correctness"]["invalid_share"] is None is report["stages"]["correctness"]["agreement"]
    render_judged(Console(file=StringIO()), report)


def judged(folder: Path, lines: str, *settings: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """The report and the verdicts on a file of these lines."""
    source, output = folder / "answers.jsonl", folder / "verdicts.jsonl"
    source.write_text(lines, encoding="utf-8")
    report = judge_file(small(folder, *SETTINGS, *settings), source, output)
    return report, [json.loads(line) for line in output.read_text(encoding="utf-8").split("\n") if line]


def test_a_line_is_a_line_whatever_characters_its_texts_hold(tmp_path: Path) -> None:
    rows = [
        {"prompt": "a\u2028b \x85 ¿漢字?", "solution": "x\u2029 \x0c ［［Ｙ］］ 🙂"},
        {"prompt": "?", "solution": "y"},
    ]
    lines = "\ufeff" + "\n \n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    _, verdicts = judged(tmp_path, lines)
    assert [{"prompt": v["prompt"], "solution": v["solution"]} for v in verdicts] == rows


def test_an_empty_solution_is_rejected_and_the_rest_is_judged(tmp_path: Path) -> None:
    rows = [{"prompt": "What is 12 + 30?", "solution": text} for text in ("", " \n", "42", "42")]
    report, verdicts = judged(tmp_path, "".join(json.dumps(row) + "\n" for row in rows))
    assert report["rejected"]["empty"] == 2 and report["candidates"] == 4
    assert [verdict["rejection"] for verdict in verdicts[:2]] == ["empty", "empty"] and verdicts[2]["votes"]


def test_a_line_keeps_its_own_id_and_other_columns_are_left_alone(tmp_path: Path) -> None:
    rows = [
        {"id": "q-7", "prompt": "?", "solution": "x", "answer": "42"},
        {"id": 8, "prompt": "?", "solution": "x", "domain": None},
        {"prompt": "?", "solution": "x"},
    ]
    _, verdicts = judged(tmp_path, "".join(json.dumps(row) + "\n" for row in rows))
    assert [verdict.get("id") for verdict in verdicts] == ["q-7", 8, None]
    assert "answer" not in verdicts[0] and "id" not in verdicts[2]


def test_lines_without_a_domain_are_of_the_configurations(tmp_path: Path) -> None:
    source = tmp_path / "a.jsonl"
    source.write_text('{"prompt": "?", "solution": "x"}\n{"prompt": "?", "solution": "x", "domain": "math"}\n')
    assert [answer.prompt.domain for answer in read_answers(source, Domain.CODING)] == [Domain.CODING, Domain.MATH]


def test_a_job_is_named_after_the_file_and_the_settings(tmp_path: Path) -> None:
    config = small(tmp_path)
    name = judging_job(config, Path("a b/my answers (1).jsonl")).job.name
    assert name.startswith("judge-my-answers-1-") and name == judging_job(config, Path("my answers (1)")).job.name
    assert judging_job(small(tmp_path / "elsewhere"), Path("my answers (1)")).job.name == name
    assert judging_job(small(tmp_path, "cascade.votes=5"), Path("my answers (1)")).job.name != name


def test_a_disk_that_fills_up_is_told_and_nothing_half_written_takes_the_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Path, target: Path) -> Path:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(SvdError, match="No space left on device; every vote is kept"):
        write_verdicts(tmp_path / "out", [], [])
    assert not (tmp_path / "out").exists()


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
