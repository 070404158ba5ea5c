"""Three weeks of nano: real weights, the real registry and gate. What real training yields is not asked, only that
whatever it yields ends as it must."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from benchmarks.nano_quarter import AGAIN, play, summary
from envs.problems.nano import DOMAINS
from svd_loop.ledger import LedgerReader
from tests.svd_loop.drawing import no_figures

PROMPTS, WEEKS = 4, 3
SMALL = (
    "data.development={type: nano, count: 3}",
    "data.test={type: nano, count: 4}",
    "sampling.n=3",
    "cascade.votes=1",
    "health.canaries=0",
    "evaluation.samples=1",
    "evaluation.audit=0",
    "job.rounds=1",
    "engine.threads=1",
    "gate.margin=0",
    "update.epochs=1",
    "tracking.trackers=[{type: mlflow, traces: 1}]",
)


@pytest.mark.slow
def test_three_weeks_of_nano(tmp_path: Path, migrated_database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copy(migrated_database, tmp_path / "mlflow.db")
    monkeypatch.setattr("svd_loop.jobs.write_page", lambda *arguments: None)
    monkeypatch.setattr("svd_loop.mlflow_store.runs.figures", no_figures())
    quarter = play(tmp_path, WEEKS, PROMPTS, SMALL)
    told = summary(quarter)

    new, again = PROMPTS * len(DOMAINS), AGAIN * len(DOMAINS)
    assert told["prompts"] == {
        "seen": quarter.dropped,
        "waiting": 0,
        "used": WEEKS * new,
        "duplicate": (WEEKS - 1) * again,
        "leaked": WEEKS,
        "forgotten": 0,
        "quarantined": len(DOMAINS) - 1,
    }
    assert quarter.weeks[1]["intake"]["quarantined"]

    champion = str((tmp_path / "jobs" / "start" / "versions" / "round-000").resolve())
    promotions = 0
    for week in quarter.weeks:
        job = week["job"]
        assert week["action"] in ("promoted", "refused", "nothing_gained"), job["findings"]
        assert job["champion"] == champion
        refusals = [finding["rule"] for finding in job["findings"] if not finding["passed"]]
        assert (refusals == []) == (week["action"] == "promoted")
        folder = tmp_path / "jobs" / job["name"]
        with LedgerReader.open_for_reading(folder) as reader:
            (played,) = reader.state().history[1:]
            anchors = reader.config()["update"]["replay"]["anchor"]
        # It starts from a champion, not from `nano`, and yet the judge's roles are kept alive.
        assert anchors == "posttrain" and played.rows >= 2 * played.accepted_prompts > 0
        if week["action"] == "promoted":
            promotions += 1
            champion = str((folder / "versions" / "round-001").resolve())
    history = told["history"]
    assert len(history["champions"]) == 1 + promotions
    for scores in history["frozen"].values():
        ordered = [one["score"] for one in scores]
        assert ordered == sorted(ordered)
