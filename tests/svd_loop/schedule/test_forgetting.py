"""Forgetting a prompt: it leaves waiting and replay, and the versions trained on it are listed."""

from __future__ import annotations

from pathlib import Path

import pytest
from filelock import FileLock

from envs.prompts import content_id
from svd_loop.config import Config
from svd_loop.contracts import Domain
from svd_loop.errors import DataError, JobConflictError
from svd_loop.ledger import LedgerReader
from svd_loop.schedule import Schedule, StateDb, forget, schedule_folder
from tests.svd_loop.schedule.schedule_support import Clock, StandIn, drop, schedule_config, texts


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.setattr("svd_loop.jobs.write_page", lambda *arguments: None)
    return schedule_config(tmp_path)


def tick(config: Config, seed: int, count: int = 12) -> None:
    root = config.job.root
    models = StandIn(root, margin=-1.0)
    drop(root / "inbox", "a.jsonl", texts(count, seed))
    Schedule(config, root / "inbox", gate=models.gate, models=models, clock=Clock()).tick()


def test_a_waiting_prompt_is_never_played(config: Config) -> None:
    tick(config, 1, count=9)
    prompt = content_id(texts(1, 1)[0], Domain.MATH)
    done = forget(config, prompt)
    assert (done.sources, done.learned, done.descended, done.running) == (("000001-a.jsonl:1",), (), (), None)
    assert forget(config, prompt) == done
    drop(config.job.root / "inbox", "b.jsonl", texts(1, 1))
    tick(config, 1, count=10)  # nine known ones, one of them forgotten, and one that is new
    with StateDb(schedule_folder(config)) as db:
        account = db.counts()
        (kept,) = db.connection.execute("SELECT count(*) FROM prompts WHERE text = ?", (texts(1, 1)[0],)).fetchone()
    assert (account["forgotten"], account["waiting"], kept) == (1, 9, 0)


def test_a_learned_prompt_leaves_replay_and_its_descendants_are_listed(config: Config) -> None:
    tick(config, 1)
    with LedgerReader.open_for_reading(config.job.root / "jobs" / "scripted-001") as reader:
        prompt = reader.accepted_rows()[0].prompt_id
    tick(config, 2)
    done = forget(config, prompt)
    assert (done.learned, done.descended) == (("scripted-001@1",), ("scripted-002@1",))
    tick(config, 3)
    with StateDb(schedule_folder(config)) as db:
        replays = [job.config["schedule"]["replay"] for job in db.jobs()]
    assert [replay["without"] for replay in replays] == [[], [], [prompt]]
    assert replays[2]["jobs"] == ["scripted-001@1", "scripted-002@1"]
    assert forget(config, prompt).descended == ("scripted-002@1", "scripted-003@1")  # weights keep it


def test_errors_of_forget(config: Config) -> None:
    with pytest.raises(DataError, match="has never run a tick"):
        forget(config, "0" * 16)
    tick(config, 1, count=1)
    with pytest.raises(DataError, match="no file of this schedule"):
        forget(config, "0" * 16)
    with FileLock(schedule_folder(config) / "lock"), pytest.raises(JobConflictError, match="a tick is running"):
        forget(config, "0" * 16)
