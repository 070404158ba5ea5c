"""Held-out problems in accepted completions: refused or left out, before anything is trained on them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from svd_loop.assembly.data import problems_of
from svd_loop.config.data import LeakSection
from svd_loop.contracts import Candidate, Domain, Episode, Problem
from svd_loop.errors import LeakError
from svd_loop.evaluation.leak_firewall import CompletionFirewall
from svd_loop.jobs import run_job
from svd_loop.ledger import LedgerReader
from tests.svd_loop.jobs_support import small

PROBLEM = Problem(
    "h1", "A train leaves at 9 and travels 120 miles in 3 hours; how fast does it go?", Domain.MATH, answer="40"
)
NO_CANARIES = "health.canaries=0"  # they are made of accepted texts, which the recording below changes
CLEAN = Candidate("p1", 0, "The sum of 12 and 30 is 42, so the answer is \\boxed{42}.")
LEAKING = Candidate("p2", 3, f"I remember one like it. {PROBLEM.text.upper()} It was 40. Here: \\boxed{{7}}")


def episode(*selected: Candidate) -> Episode:
    return Episode(4, 2, selected, (), selected)


def firewall(folder: Path, action: str) -> CompletionFirewall:
    return CompletionFirewall([PROBLEM], LeakSection.model_validate({"action": action}), folder / "leaks.jsonl")


def test_a_clean_episode_passes_unchanged(tmp_path: Path) -> None:
    clean = episode(CLEAN)
    assert firewall(tmp_path, "refuse")(clean) is clean
    assert not list(tmp_path.iterdir())


def test_a_completion_with_a_held_out_problem_is_left_out_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    passed = firewall(tmp_path, "drop")(episode(CLEAN, LEAKING))
    assert passed.selected == (CLEAN,) and passed.accepted == 1
    assert passed.candidates == (CLEAN, LEAKING)  # what happened stays on record
    assert "1 of 2 accepted completions of round 4" in caplog.text
    (line,) = (tmp_path / "leaks-004.jsonl").read_text().splitlines()
    assert json.loads(line)["problem_id"] == "h1" and "candidate 3 of prompt p2" in json.loads(line)["source"]


def test_refusing_names_the_pair_and_the_key(tmp_path: Path) -> None:
    with pytest.raises(LeakError, match=r"(?s)candidate 3 of prompt p2 holds h1 .*data\.leak\.action: drop") as caught:
        firewall(tmp_path, "refuse")(episode(CLEAN, LEAKING))
    assert caught.value.exit_code == 3


def test_a_job_refuses_before_it_trains_and_goes_on_when_told_to_drop(tmp_path: Path) -> None:
    """A recorded job is played back with a solver that recites a held-out problem in one accepted solution."""
    told = tmp_path / "replies.jsonl"
    run_job(small(tmp_path / "recorded", NO_CANARIES), record=told)
    with LedgerReader.open_for_reading(tmp_path / "recorded" / "jobs" / "scripted") as reader:
        row = next(row for row in reader.accepted_rows() if row.round == 2)
    problem = problems_of(small(tmp_path).data.development, "development")[0]
    replies = [json.loads(line) for line in told.read_text().splitlines()]
    (reply,) = (
        reply
        for reply in replies
        if (reply["role"], reply["round"], reply["prompt_id"], reply["candidate"], reply["purpose"])
        == ("solver", 2, row.prompt_id, row.candidate, "train")
    )
    reply["text"] = problem.text  # so terse a problem is found as a whole text alone
    told.write_text("".join(json.dumps(reply) + "\n" for reply in replies))

    playback = f"engine.replies={told}"
    with pytest.raises(LeakError, match=r"1 of .* accepted completions of round 2"):
        run_job(small(tmp_path, NO_CANARIES, playback))
    with LedgerReader.open_for_reading(tmp_path / "jobs" / "scripted") as reader:
        assert reader.state().last.round == 1
    dropped = run_job(small(tmp_path, NO_CANARIES, playback, "data.leak.action=drop"))
    with LedgerReader.open_for_reading(tmp_path / "jobs" / "scripted") as reader:
        rows = {(row.prompt_id, row.candidate) for row in reader.accepted_rows() if row.round == 2}
    assert rows and (row.prompt_id, row.candidate) not in rows
    assert dropped.history[-1].accepted_prompts == len(rows)
