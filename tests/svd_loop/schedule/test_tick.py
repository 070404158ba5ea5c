"""One tick: what starts a job, what it is made of, and that a tick killed anywhere is made up for."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from policies.scripted import Traits, write_traits
from svd_loop.config import Config
from svd_loop.contracts import JobResult
from svd_loop.errors import TrainingError
from svd_loop.schedule import Book, JobRow, Schedule, TickReport, schedule_folder
from tests.svd_loop.schedule.schedule_support import (
    START,
    Clock,
    Decided,
    StandIn,
    drop,
    problems,
    quick_result,
    schedule_config,
    texts,
)  # fmt: skip


class Desk:
    """A schedule whose jobs take no time."""

    def __init__(self, root: Path, *overrides: str) -> None:
        self.root = root
        self.overrides = overrides
        self.models = StandIn(root)
        self.played: list[Config] = []
        self.clock = Clock()

    def run(self, config: Config) -> JobResult:
        self.played.append(config)
        return quick_result(config)

    def gate(self, config: Config, name: str) -> Decided:
        self.models.asked.append(config.job.name)
        self.models.promote(version_of(config))
        return Decided(True, ())

    def tick(self, **parts: Any) -> TickReport:
        given = {"gate": self.gate, "run": self.run, **parts}
        config = schedule_config(self.root, *self.overrides, development=5, test=5)
        return Schedule(config, self.root / "inbox", models=self.models, clock=self.clock, **given).tick()

    def jobs(self) -> list[JobRow]:
        with Book(schedule_folder(schedule_config(self.root))) as book:
            return book.jobs()


def version_of(config: Config) -> Path:
    """Where a job's round 1 lies, with something in it."""
    folder = config.job.root / "jobs" / config.job.name / "versions" / "round-001"
    write_traits(folder, Traits(), round=1)
    return folder


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    drop(tmp_path / "inbox", "a.jsonl", texts(12, 1))
    return Desk(tmp_path)


def test_too_few_prompts_wait(desk: Desk) -> None:
    desk.overrides = ("schedule.min_prompts=13",)
    assert desk.tick().action == "waiting"
    drop(desk.root / "inbox", "b.jsonl", texts(13, 1))
    report = desk.tick()
    assert (report.action, report.account["used"], report.account["duplicate"]) == ("promoted", 13, 12)


def test_a_job_is_the_schedules_configuration_with_new_prompts_and_the_champion(desk: Desk) -> None:
    desk.overrides = ("schedule.max_prompts=10", "schedule.rounds=5", "schedule.hours=2", "schedule.model=m")
    assert desk.tick().action == "promoted"
    (config,) = desk.played
    assert (config.job.name, config.job.rounds, config.job.hours) == ("scripted-001", 5, 2)
    assert (config.model.path, config.tracking.register_as) == ("scripted", "m")
    assert config.data.train.type == "files"
    (path,) = config.data.train.paths
    assert [json.loads(line)["prompt"] for line in Path(path).read_text().splitlines()] == texts(10, 1)
    assert desk.tick().action == "waiting"  # two are left
    drop(desk.root / "inbox", "b.jsonl", texts(12, 2))
    champion = desk.models.champion()
    desk.tick()
    assert desk.played[1].model.path == str(champion)


def test_a_promoted_jobs_rows_are_replayed_and_a_refused_ones_are_not(desk: Desk) -> None:
    refusing = {"gate": lambda config, name: Decided(False, ())}
    outcomes = []
    for week, parts in enumerate(({}, refusing, {}), 1):
        drop(desk.root / "inbox", "b.jsonl", texts(12, week))
        outcomes.append(desk.tick(**parts).action)
    assert outcomes == ["promoted", "refused", "promoted"]
    assert desk.played[2].schedule.replay.jobs == ("scripted-001@1",)


def test_a_prompt_that_leaks_by_now_is_withdrawn(desk: Desk) -> None:
    desk.overrides = ("schedule.min_prompts=13",)
    desk.tick()
    desk.overrides = ("schedule.min_prompts=11",)
    (desk.root / "more.jsonl").write_text(
        json.dumps({"prompt": texts(1, 1)[0], "answer": "1", "domain": "math"}) + "\n"
    )
    source = {"type": "files", "paths": [str(desk.root / "more.jsonl")]}
    desk.overrides += (f"data.test={json.dumps(source)}",)
    report = desk.tick()
    assert (report.account["used"], report.account["leaked"]) == (11, 1)


def test_one_tick_at_a_time(desk: Desk) -> None:
    folder = schedule_folder(schedule_config(desk.root))
    folder.mkdir(parents=True)
    with FileLock(folder / "lock"):
        assert desk.tick().action == "busy"
    assert desk.tick().action == "promoted"


def test_a_job_that_brought_nothing_never_meets_the_gate(desk: Desk) -> None:
    def nothing(config: Config) -> JobResult:
        result = quick_result(config)
        return JobResult(result.job, result.stop, result.history[0], result.history)

    report = desk.tick(run=nothing)
    assert (report.action, desk.models.asked) == ("refused", [])
    assert report.job is not None and report.job.findings[0]["rule"] == "gain"


def test_an_alias_moved_meanwhile_is_told_of(desk: Desk) -> None:
    report = desk.tick(gate=lambda config, name: Decided(True, ()))  # and yet nobody is champion
    assert report.action == "refused" and report.job is not None
    assert "someone moved an alias" in report.job.findings[0]["text"]


def test_a_failing_job_is_tried_again_and_given_up(desk: Desk) -> None:
    def fail(config: Config) -> JobResult:
        raise TrainingError("the loss is not finite")

    actions = [desk.tick(run=fail).action for _ in range(4)]
    assert actions == ["stumbled", "stumbled", "failed", "waiting"]
    (job,) = desk.jobs()
    assert (job.attempts, job.outcome, job.state) == (3, "failed", "closed")
    assert "the loss is not finite" in job.findings[0]["text"]


def test_a_version_that_could_not_be_registered_is_no_candidate(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StandIn, "holds", lambda self, folder: False)
    assert desk.tick().action == "stumbled"
    assert desk.models.asked == []
    monkeypatch.undo()
    assert desk.tick().action == "promoted"


def test_hooks_hear_how_it_ended(desk: Desk) -> None:
    told = desk.root / "told.json"
    program = f"import sys; open({str(told)!r}, 'w').write(sys.stdin.read())"
    hooks = [{"command": [sys.executable, "-c", program]}, {"on": ["failure"], "command": ["false"]}]
    desk.overrides = (f"schedule.hooks={json.dumps(hooks)}",)
    assert desk.tick().unheard == ()
    message = json.loads(told.read_text())
    assert (message["event"], message["job"], message["outcome"]) == ("success", "scripted-001", "promoted")


class Killed(BaseException):
    """As a kill: nothing in between may catch it."""


def test_killed_around_any_write_it_ends_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill before and one after every single commit of the book, each in a schedule of its own."""
    kills = 0
    for moment in range(200):
        desk = Desk(tmp_path / str(moment))
        drop(desk.root / "inbox", "a.jsonl", [*texts(12, 1), problems("development", 1, 5)[0].text])
        countdown = iter(range(moment, -1, -1))
        with monkeypatch.context() as patch:
            patch.setattr(Book, "writing", _dying(Book.writing, lambda left=countdown: next(left, 1) == 0))
            try:
                desk.tick()
                break
            except Killed:
                kills += 1
        desk.tick()
        (job,) = desk.jobs()
        assert (job.outcome, job.state, job.prompts) == ("promoted", "closed", 12)
        assert desk.models.promoted == ["scripted-001"]
        assert {config.job.name for config in desk.played} == {"scripted-001"}
        with Book(schedule_folder(schedule_config(desk.root))) as book:
            found = {name: count for name, count in book.account().items() if count}
        assert found == {"seen": 13, "used": 12, "leaked": 1}
    assert kills > 8


def _dying(writing: Any, is_last: Any) -> Any:
    """`Book.writing`, killed before it commits or right after."""

    @contextmanager
    def blocks(self: Book) -> Iterator[Any]:
        nested = self.connection.in_transaction
        with writing(self) as connection:
            yield connection
            if is_last():
                raise Killed
        if not nested and is_last():
            raise Killed

    return blocks


def test_the_start_time_is_the_clocks(desk: Desk) -> None:
    desk.clock.now = START + 5
    desk.tick()
    assert desk.jobs()[0].started_at == START + 5
