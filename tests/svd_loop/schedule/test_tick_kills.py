"""A process that is killed in the middle of a scheduled job: the next tick goes on with the same job."""

from __future__ import annotations

import sys
from pathlib import Path

from svd_loop.schedule import Schedule, StateDb, schedule_folder
from tests.kill import run_until_it_kills_itself
from tests.svd_loop.job_outcome import outcome_of
from tests.svd_loop.schedule.schedule_support import Clock, StandIn, drop, schedule_config, texts

ROOT = Path(__file__).parents[3]


def tick(root: Path) -> StandIn:
    models = StandIn(root)
    Schedule(schedule_config(root), root / "inbox", gate=models.gate, models=models, clock=Clock()).tick()
    return models


def test_a_killed_job_continues_and_ends_like_an_uninterrupted_one(tmp_path: Path) -> None:
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    for root in (killed, whole):
        drop(root / "inbox", "a.jsonl", texts(12, 1))
    command = [sys.executable, "-m", "tests.svd_loop.schedule.kill_tick", str(killed), "1/judged"]
    run_until_it_kills_itself(command, cwd=ROOT, timeout=600)
    drop(killed / "inbox", "late.jsonl", texts(12, 2))  # must wait: the first job is not over
    assert tick(killed).asked == tick(whole).asked == ["scripted-001"]
    name = Path("jobs") / "scripted-001"
    assert outcome_of(killed / name).rows == outcome_of(whole / name).rows
    with StateDb(schedule_folder(schedule_config(killed))) as db:
        assert [(job.name, job.prompts, job.state) for job in db.jobs()] == [("scripted-001", 12, "closed")]
        account = db.counts()
    assert (account["used"], account["waiting"]) == (12, 12)
