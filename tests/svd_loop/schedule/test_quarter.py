"""A quarter of weekly drops, with everything that goes wrong in one: the champion never gets worse, and all is told."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from policies.scripted import read_traits
from svd_loop.config import Config
from svd_loop.contracts import JobResult, JobState
from svd_loop.errors import JobInterrupted
from svd_loop.jobs import run_job
from svd_loop.schedule import Book, JobRow, Schedule, TickReport, schedule_folder
from tests.svd_loop.schedule.schedule_support import START, WEEK, Clock, StandIn, drop, problems, schedule_config, texts

WEEKS = range(1, 13)
NEW, AGAIN = 14, 3
MALFORMED, CRASH, LEAKS = 4, 6, (2, 5, 9)
REGRESSIONS = {7: 3, 10: 1}
"""Weeks with the seed under which the few development problems of that week show a gain that is none."""
BAD_JUDGE = 11
INVERTED = ("engine.true_positive=0.02", "engine.false_positive=0.98")


@dataclass
class Quarter:
    root: Path
    clock: Clock = field(default_factory=Clock)
    reports: dict[int, TickReport] = field(default_factory=dict)
    skills: list[float] = field(default_factory=list)
    dropped: int = 0
    interruptions: int = 0

    def __post_init__(self) -> None:
        self.models = StandIn(self.root)

    def config(self, week: int) -> Config:
        if week in REGRESSIONS:
            return schedule_config(self.root, *INVERTED, f"job.seed={REGRESSIONS[week]}", development=3)
        return schedule_config(self.root, *(INVERTED if week == BAD_JUDGE else ()))

    def drop(self, week: int) -> None:
        inbox = self.root / "inbox"
        rows = texts(NEW, week)
        if week > 1:
            rows += [f"  {text.upper()}" for text in texts(NEW, week - 1)[:AGAIN]]  # the same in another spelling
        if week in LEAKS:
            rows.append(problems("development", 3, 5)[0].text)
        drop(inbox, "week.jsonl", rows, now=self.clock.now)
        self.dropped += len(rows)
        if week == MALFORMED:
            path = drop(inbox, "cut.jsonl", texts(4, 99), now=self.clock.now, age=7200)
            path.write_text(path.read_text()[:-9])
            drop(inbox, "growing.jsonl", ["What is 1 + 1?"], now=self.clock.now, age=1)
            self.dropped += 1
            import os
            os.utime(path, (self.clock.now - 7200,) * 2)

    def run(self, week: int) -> None:
        self.clock.now = START + week * WEEK
        self.drop(week)
        if week == CRASH:
            with pytest.raises(JobInterrupted):
                self.tick(week, die=True)
            self.interruptions += 1
            self.clock.now += 3600
        self.reports[week] = self.tick(week)
        champion = self.models.champion()
        assert champion is not None
        self.skills.append(read_traits(champion).skill)

    def tick(self, week: int, die: bool = False) -> TickReport:
        def run(config: Config) -> JobResult:
            return run_job(config, on_round=stop if die else lambda state: None)

        def stop(state: JobState) -> None:
            if state.last.round == 1:
                raise KeyboardInterrupt

        return Schedule(
            self.config(week), self.root / "inbox", gate=self.models.gate, models=self.models, run=run,
            clock=self.clock,
        ).tick()  # fmt: skip


@pytest.fixture(scope="module")
def quarter(tmp_path_factory: pytest.TempPathFactory) -> Quarter:
    quarter = Quarter(tmp_path_factory.mktemp("quarter"))
    for week in WEEKS:
        quarter.run(week)
    return quarter


def jobs(quarter: Quarter) -> list[JobRow]:
    with Book(schedule_folder(quarter.config(1))) as book:
        return book.jobs()


def test_show(quarter):
    for job, s in zip(jobs(quarter), quarter.skills):
        print(job.name, job.prompts, job.score_before, job.score, job.outcome, job.findings, s)
    with Book(schedule_folder(quarter.config(1))) as book: print(book.account(), quarter.dropped, book.files())
    assert 0
