"""The same quarter on the real registry and through the real gate, and the reports about it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from svd_loop.config import Config
from svd_loop.promotion.gate import Decision
from svd_loop.promotion.history import model_history
from svd_loop.promotion.lookup import registry_of
from svd_loop.promotion.promotion import consider
from svd_loop.schedule import RegisteredModels, StateDb, schedule_folder
from tests.svd_loop.drawing import no_figures
from tests.svd_loop.schedule.schedule_support import held_out_file, problems
from tests.svd_loop.schedule.test_quarter import AGAIN, BAD_JUDGE, LEAKS, NEW, REGRESSIONS, WEEKS, Quarter

MODEL = "quarter"


class Gated(RegisteredModels):
    """The registry with its gate, in the shape of the stand-in."""

    def gate(self, config: Config, name: str) -> Decision:
        return consider(config, name)


@dataclass
class RegisteredQuarter(Quarter):
    """200 problems in the test split: fewer show the gate no single job's gain."""

    def __post_init__(self) -> None:
        self.models: Any = Gated(self.config(1), MODEL)

    def config(self, week: int) -> Config:
        path = self.root / "test-200.jsonl"
        held_out_file(path, problems("test", 200, 5))
        plain = super().config(week).model_dump(mode="json")
        plain["tracking"]["enabled"], plain["schedule"]["model"], plain["gate"]["margin"] = True, MODEL, 0.0
        plain["data"]["test"]["paths"] = [str(path)]
        return Config.model_validate(plain)


@pytest.mark.slow
def test_a_quarter_on_the_real_registry(
    tmp_path: Path, migrated_database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("svd_loop.jobs.write_page", lambda *arguments: None)
    monkeypatch.setattr("svd_loop.mlflow_store.runs.figures", no_figures())
    shutil.copy(migrated_database, tmp_path / "mlflow.db")
    quarter = RegisteredQuarter(tmp_path)
    for week in WEEKS:
        quarter.run(week)
    with StateDb(schedule_folder(quarter.config(1))) as db:
        jobs, account = db.jobs(), db.counts()
    outcomes = {job.number: job.outcome for job in jobs}
    assert quarter.skills == sorted(quarter.skills)
    assert [outcomes[week] for week in REGRESSIONS] == ["refused", "refused"]
    assert outcomes[BAD_JUDGE] == "nothing_gained"
    promoted = [job for job in jobs if job.outcome == "promoted"]
    assert len(promoted) >= 4 and promoted[0].number == 1
    for job in jobs:
        assert bool([one for one in job.findings if not one["passed"]]) == (job.outcome != "promoted"), job
    assert account["used"] == NEW * len(WEEKS) + 1 and account["waiting"] == 0
    assert (account["duplicate"], account["leaked"]) == (AGAIN * (len(WEEKS) - 1), len(LEAKS))

    found = model_history(registry_of(quarter.config(1)), MODEL)
    told = {"promoted": "promoted", "refused": "refused", "nothing_gained": "nothing gained"}
    expected = ["first", *(told[str(job.outcome)] for job in jobs[1:])]
    assert [event["what"] for event in found["events"]] == expected
    assert [one["job"] for one in found["champions"]] == [job.name for job in promoted]
    (scores,) = found["frozen"].values()
    assert [one["score"] for one in scores] == sorted(one["score"] for one in scores)
    assert all(event["why"] for event in found["events"] if event["what"] in ("refused", "nothing gained"))
