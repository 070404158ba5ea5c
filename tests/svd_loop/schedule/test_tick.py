"""One tick: start of a job, its configuration, and continuation after a kill at any point."""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from policies.scripted import Traits, write_traits
from svd_loop.config import Config
from svd_loop.contracts import JobResult
from svd_loop.errors import RegistryError, TrainingError
from svd_loop.schedule import JobRow, Schedule, StateDb, TickReport, schedule_folder, schedule_health
from svd_loop.schedule.health import Drift
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
)


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
        with StateDb(schedule_folder(schedule_config(self.root))) as db:
            return db.jobs()


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
    assert (report.action, report.counts["used"], report.counts["duplicate"]) == ("promoted", 13, 12)


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


def test_a_prompt_that_leaks_since_its_import_is_withdrawn(desk: Desk) -> None:
    desk.overrides = ("schedule.min_prompts=13",)
    desk.tick()
    desk.overrides = ("schedule.min_prompts=11",)
    (desk.root / "more.jsonl").write_text(
        json.dumps({"prompt": texts(1, 1)[0], "answer": "1", "domain": "math"}) + "\n"
    )
    source = {"type": "files", "paths": [str(desk.root / "more.jsonl")]}
    desk.overrides += (f"data.test={json.dumps(source)}",)
    report = desk.tick()
    assert (report.counts["used"], report.counts["leaked"]) == (11, 1)


def test_one_tick_at_a_time(desk: Desk) -> None:
    folder = schedule_folder(schedule_config(desk.root))
    folder.mkdir(parents=True)
    with FileLock(folder / "lock"):
        assert desk.tick().action == "busy"
    assert desk.tick().action == "promoted"


def nothing(config: Config) -> JobResult:
    """A job whose start remains its best round."""
    result = quick_result(config)
    return JobResult(result.job, result.stop, result.history[0], result.history)


def test_a_job_that_brought_nothing_never_meets_the_gate(desk: Desk) -> None:
    report = desk.tick(run=nothing)
    assert (report.action, desk.models.asked, len(desk.models.idle)) == ("nothing_gained", [], 1)
    assert report.job is not None and report.job.findings[0]["rule"] == "gain"


def test_three_jobs_in_a_row_that_bring_nothing_raise_an_alarm(desk: Desk) -> None:
    """Refused, failed and without gain count alike; a promotion ends the row."""
    told = desk.root / "told"
    program = f"import sys; open({str(told)!r}, 'a').write(sys.stdin.read() + '\\n')"
    hooks = json.dumps([{"on": ["idle"], "command": [sys.executable, "-c", program]}])
    desk.overrides = (f"schedule.hooks={hooks}", "schedule.attempts=1")

    def fail(config: Config) -> JobResult:
        raise TrainingError("the loss is not finite")

    parts: list[dict[str, Any]] = [
        {"run": nothing},
        {"gate": lambda config, name: Decided(False, ())},
        {"run": fail},
        {"run": nothing},
        {},
        {},
    ]
    ends = []
    for week, part in enumerate(parts, 1):
        drop(desk.root / "inbox", "b.jsonl", texts(12, week))
        report = desk.tick(**part)
        assert report.health is not None
        ends.append((report.action, report.health.idle_jobs, report.alarm))
    assert ends == [
        ("nothing_gained", 1, False),
        ("refused", 2, False),
        ("failed", 3, True),
        ("nothing_gained", 4, True),
        ("promoted", 0, False),
        ("promoted", 0, False),
    ]
    messages = [json.loads(line) for line in told.read_text().splitlines()]
    assert [(one["event"], one["job"], one["idle_jobs"]) for one in messages] == [
        ("idle", "scripted-003", 3),
        ("idle", "scripted-004", 4),
    ]
    desk.overrides = ("schedule.idle_jobs=null",)
    report = desk.tick()
    assert report.action == "waiting" and report.health is not None and report.health.limit is None


def test_acceptance_and_length_drift_over_the_jobs() -> None:
    assert schedule_health([], 3).accepted_fraction == Drift(None, None)
    assert Drift.of([None, 0.5, 0.3, None, 0.1]) == Drift(0.1, 0.4)


class Killed(BaseException):
    """Simulates a kill: no handler in between may catch it."""


def test_a_job_that_kills_its_process_fails_in_the_end(desk: Desk) -> None:
    def die(config: Config) -> JobResult:
        desk.played.append(config)
        raise Killed

    for _ in range(3):
        with pytest.raises(Killed):
            desk.tick(run=die)
    report = desk.tick(run=die)
    assert (report.action, len(desk.played)) == ("failed", 3)
    assert report.job is not None and "was killed" in report.job.findings[0]["text"]
    assert desk.tick().action == "waiting"


def test_a_killed_job_that_got_further_each_time_continues(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """Machines that are taken away now and then are not the fault of the job."""
    reached = iter(range(100))
    monkeypatch.setattr("svd_loop.schedule.tick._progress_mark", lambda job: f"{next(reached)} answers")

    def die(config: Config) -> JobResult:
        raise Killed

    for _ in range(5):
        with pytest.raises(Killed):
            desk.tick(run=die)
    report = desk.tick()
    assert report.action == "promoted" and report.job is not None and report.job.attempts == 0


def test_an_outage_of_the_registry_is_no_failure_of_the_job(desk: Desk) -> None:
    def down(config: Config, name: str) -> Decided:
        raise RegistryError("the model registry failed: connection refused")

    reports = [desk.tick(gate=down) for _ in range(4)]
    assert {report.action for report in reports} == {"stumbled"}
    assert reports[-1].job is not None and "connection refused" in reports[-1].job.findings[0]["text"]
    assert desk.tick().action == "promoted"


def without_digests(connection: sqlite3.Connection) -> None:
    for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        connection.execute(f"DROP TRIGGER {name}")
    connection.execute("DROP TABLE row_digests")


def test_a_database_of_an_earlier_version_is_migrated(desk: Desk) -> None:
    desk.tick()
    with StateDb(schedule_folder(schedule_config(desk.root))) as db:
        before, path = db.jobs(), db.path
    old = sqlite3.connect(path, isolation_level=None)
    (made,) = old.execute("SELECT sql FROM sqlite_master WHERE name = 'jobs'").fetchone()
    made = made.replace(", 'nothing_gained'", "").replace(", accepted_fraction REAL, output_tokens REAL", "")
    old.executescript(f"{made.replace('jobs', 'old', 1)}; DROP TABLE jobs; ALTER TABLE old RENAME TO jobs")
    without_digests(old)
    columns = [name for _, name, *_ in old.execute("PRAGMA table_info(jobs)")]
    values = [
        json.dumps(getattr(before[0], name)) if name in ("config", "findings") else getattr(before[0], name)
        for name in columns
    ]
    old.execute(f"INSERT INTO jobs VALUES ({', '.join('?' * len(columns))})", values)
    old.close()
    drop(desk.root / "inbox", "b.jsonl", texts(12, 9))
    assert desk.tick(run=nothing).action == "nothing_gained"
    assert desk.jobs()[0] == replace(before[0], accepted_fraction=None, output_tokens=None)


def test_an_alias_moved_meanwhile_is_reported(desk: Desk) -> None:
    report = desk.tick(gate=lambda config, name: Decided(True, ()))  # and yet nobody is champion
    assert report.action == "refused" and report.job is not None
    assert "the alias was moved meanwhile" in report.job.findings[0]["text"]


def test_a_failing_job_is_tried_again_up_to_the_limit(desk: Desk) -> None:
    def fail(config: Config) -> JobResult:
        raise TrainingError("the loss is not finite")

    actions = [desk.tick(run=fail).action for _ in range(4)]
    assert actions == ["stumbled", "stumbled", "failed", "waiting"]
    (job,) = desk.jobs()
    assert (job.attempts, job.outcome, job.state) == (3, "failed", "closed")
    assert "the loss is not finite" in job.findings[0]["text"]


def test_a_version_that_could_not_be_registered_is_no_candidate(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StandIn, "is_registered", lambda self, folder: False)
    assert desk.tick().action == "stumbled"
    assert desk.models.asked == []
    monkeypatch.undo()
    assert desk.tick().action == "promoted"


def test_hooks_get_the_outcome(desk: Desk) -> None:
    told = desk.root / "told.json"
    program = f"import sys; open({str(told)!r}, 'w').write(sys.stdin.read())"
    hooks = [{"command": [sys.executable, "-c", program]}, {"on": ["failure"], "command": ["false"]}]
    desk.overrides = (f"schedule.hooks={json.dumps(hooks)}",)
    assert desk.tick().unheard == ()
    message = json.loads(told.read_text())
    assert (message["event"], message["job"], message["outcome"]) == ("success", "scripted-001", "promoted")


def test_a_kill_at_any_write_does_not_change_the_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill before and one after every single commit of the state database, each in a schedule of its own."""
    kills = 0
    for moment in range(200):
        desk = Desk(tmp_path / str(moment))
        drop(desk.root / "inbox", "a.jsonl", [*texts(12, 1), problems("development", 1, 5)[0].text])
        countdown = iter(range(moment, -1, -1))
        with monkeypatch.context() as patch:
            patch.setattr(StateDb, "writing", _dying(StateDb.writing, lambda left=countdown: next(left, 1) == 0))
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
        with StateDb(schedule_folder(schedule_config(desk.root))) as db:
            found = {name: count for name, count in db.counts().items() if count}
        assert found == {"seen": 13, "used": 12, "leaked": 1}
    assert kills > 8


def _dying(writing: Any, is_last: Any) -> Any:
    """`StateDb.writing`, killed before it commits or right after."""

    @contextmanager
    def blocks(self: StateDb) -> Iterator[Any]:
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
