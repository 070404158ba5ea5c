"""A quarter of weekly drops with typical faults: the champion never gets worse, and every fault is reported."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from policies.scripted import read_traits
from svd_loop.config import Config
from svd_loop.contracts import JobResult, JobState
from svd_loop.errors import JobInterrupted
from svd_loop.jobs import run_job
from svd_loop.schedule import JobRow, Schedule, StateDb, TickReport, schedule_folder
from tests.svd_loop.schedule.schedule_support import (
    START,
    WEEK,
    Clock,
    StandIn,
    drop,
    held_out_file,
    problems,
    schedule_config,
    texts,
)

WEEKS = range(1, 13)
NEW, AGAIN = 14, 3
MALFORMED, CRASH, LEAKS, REGRESSIONS, BAD_JUDGE = 4, 6, (2, 5, 9), (7, 10), 11
REFUSED = (*REGRESSIONS, BAD_JUDGE)
PROMOTED = [week for week in WEEKS if week not in REFUSED]
INVERTED = ("engine.true_positive=0.02", "engine.false_positive=0.98", "engine.gain=0.6")


@dataclass
class Quarter:
    """The schedule's user: drops files, and calls a tick a week."""

    root: Path
    clock: Clock = field(default_factory=Clock)
    reports: dict[int, TickReport] = field(default_factory=dict)
    skills: list[float] = field(default_factory=list)
    dropped: int = 0

    def __post_init__(self) -> None:
        self.models = StandIn(self.root)

    def config(self, week: int) -> Config:
        """Every job replays at most half as many rows as it has new ones.

        The judge goes bad in some weeks: it accepts what is wrong and refuses what is right. In the weeks of the
        regressions nobody sees it before the gate: the canaries only warn, and the development set's answers are wrong.
        """
        overrides = ["update.replay.ratio=0.5", *(INVERTED if week in REFUSED else ())]
        if week in REGRESSIONS:
            wrong = [
                replace(item, answer=str(int(item.answer) + 1 + place % 9))
                for place, item in enumerate(problems("development", 120, 5))
            ]
            overrides += [f"data.development={held_out_file(self.root / 'wrong.jsonl', wrong)}", "health.action=warn"]
        return schedule_config(self.root, *overrides)

    def drop(self, week: int) -> None:
        rows = texts(NEW, week)
        if week > 1:
            rows += [f"  {text.upper()}" for text in texts(NEW, week - 1)[:AGAIN]]
        if week in LEAKS:
            rows.append(problems("development", 3, 5)[0].text)
        inbox = self.root / "inbox"
        drop(inbox, "week.jsonl", rows, now=self.clock.now)
        self.dropped += len(rows)
        if week == MALFORMED:
            path = drop(inbox, "cut.jsonl", texts(4, 99), now=self.clock.now)
            path.write_text(path.read_text()[:-9])
            os.utime(path, (START, START))
            drop(inbox, "growing.jsonl", ["What is 1 + 1?"], now=self.clock.now, age=1)
            self.dropped += 4 + 1

    def run(self, week: int) -> None:
        self.clock.now = START + week * WEEK
        self.drop(week)
        if week == CRASH:
            with pytest.raises(JobInterrupted):
                self.tick(week, crash=True)
        self.reports[week] = self.tick(week)
        champion = self.models.champion()
        assert champion is not None
        self.skills.append(read_traits(champion).skill)

    def tick(self, week: int, crash: bool = False) -> TickReport:
        def run(config: Config) -> JobResult:
            return run_job(config, on_round=stop if crash else lambda state: None)

        def stop(state: JobState) -> None:
            if state.last.round == 1:
                raise KeyboardInterrupt

        schedule = Schedule(
            self.config(week),
            self.root / "inbox",
            gate=self.models.gate,
            models=self.models,
            run=run,
            clock=self.clock,
        )
        return schedule.tick()


@pytest.fixture(scope="module")
def quarter(tmp_path_factory: pytest.TempPathFactory) -> Quarter:
    quarter = Quarter(tmp_path_factory.mktemp("quarter"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("svd_loop.jobs.write_page", lambda *arguments: None)  # drawing takes longer than these jobs
        for week in WEEKS:
            quarter.run(week)
    return quarter


@pytest.fixture(scope="module")
def jobs(quarter: Quarter) -> Sequence[JobRow]:
    with StateDb(schedule_folder(quarter.config(1))) as db:
        return db.jobs()


def test_the_champion_never_gets_worse(quarter: Quarter) -> None:
    assert quarter.skills == sorted(quarter.skills)
    assert len(set(quarter.skills)) == len(PROMOTED)
    assert quarter.skills[-1] > quarter.skills[0]


def test_every_week_ends_as_it_should(quarter: Quarter, jobs: Sequence[JobRow]) -> None:
    actions = {week: report.action for week, report in quarter.reports.items()}
    refused = dict.fromkeys(REGRESSIONS, "refused") | {BAD_JUDGE: "nothing_gained"}
    assert actions == {week: refused.get(week, "promoted") for week in WEEKS}
    assert [why.partition(":")[0] for why in quarter.models.idle] == [jobs[BAD_JUDGE - 1].name]
    assert [(job.number, job.outcome, job.state) for job in jobs] == [(*item, "closed") for item in actions.items()]
    assert quarter.models.promoted == [job.name for job in jobs if job.outcome == "promoted"]


def test_every_refusal_has_its_reason(jobs: Sequence[JobRow]) -> None:
    reasons = {job.number: [found for found in job.findings if not found["passed"]] for job in jobs}
    assert {week for week, found in reasons.items() if found} == set(REFUSED)
    for week in REGRESSIONS:
        (found,) = reasons[week]
        assert (found["rule"], found["limit"]) == ("test pass@1", 0.0)
        assert found["value"] < 0 and "gains -0." in found["text"]
    assert [found["rule"] for found in reasons[BAD_JUDGE]] == ["gain"]


def test_every_prompt_is_accounted_for(quarter: Quarter, jobs: Sequence[JobRow]) -> None:
    with StateDb(schedule_folder(quarter.config(1))) as db:
        account, quarantined = db.counts(), db.files("quarantined")
    unreadable = 1  # the row that was cut off
    assert account == {
        "seen": quarter.dropped - unreadable,
        "waiting": 0,
        "used": NEW * len(WEEKS) + 1,
        "duplicate": AGAIN * (len(WEEKS) - 1),
        "leaked": len(LEAKS),
        "forgotten": 0,
        "quarantined": 3,
    }
    assert sum(job.prompts for job in jobs) == account["used"]
    (cut,) = quarantined
    assert cut["name"] == "cut.jsonl" and "000004-cut.jsonl:4: not valid JSON" in cut["reason"]
    assert list((quarter.root / "inbox").iterdir()) == []


def test_no_prompt_is_used_twice(quarter: Quarter, jobs: Sequence[JobRow]) -> None:
    used: list[str] = []
    for job in jobs:
        (path,) = job.config["data"]["train"]["paths"]
        used += [json.loads(line)["prompt"] for line in Path(path).read_text().splitlines()]
    assert len(used) == len(set(used)) == NEW * len(WEEKS) + 1
    assert problems("development", 1, 5)[0].text not in used


def test_each_job_starts_from_the_champion_and_replays_what_made_it(quarter: Quarter, jobs: Sequence[JobRow]) -> None:
    before: list[JobRow] = []
    for job in jobs:
        folder = f"jobs/{before[-1].name}/versions/round-001" if before else ""
        assert job.champion == (str((quarter.root / folder).resolve()) if before else None)
        assert job.config["model"]["path"] == (job.champion or "scripted")
        assert job.config["schedule"]["replay"]["jobs"] == [f"{earlier.name}@1" for earlier in before]
        if before and job.number not in REGRESSIONS:  # measured on the same problems, it is the same model
            assert job.score_before == before[-1].score
        before += [job] if job.outcome == "promoted" else []


def test_the_crashed_job_went_on(quarter: Quarter, jobs: Sequence[JobRow]) -> None:
    assert len(jobs) == len(WEEKS)
    assert quarter.models.asked.count(jobs[CRASH - 1].name) == 1
    assert jobs[CRASH - 1].attempts == 0
