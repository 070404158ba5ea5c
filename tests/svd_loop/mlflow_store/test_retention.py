"""Old versions go, needed ones stay: the rule itself, and the rule at work in jobs."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mlflow import MlflowClient

from svd_loop.config import Config
from svd_loop.contracts import JobState
from svd_loop.errors import ConfigError, WeightsError
from svd_loop.jobs import run_job
from svd_loop.mlflow_store import connection as tracking_store
from svd_loop.mlflow_store.retention import removable
from tests.svd_loop.jobs_support import small


@given(scores=st.lists(st.integers(0, 5), min_size=1, max_size=12), newest=st.integers(1, 4), extra=st.booleans())
def test_nothing_that_will_be_needed_is_ever_deleted(scores: list[int], newest: int, extra: bool) -> None:
    stored: set[int] = set()
    for last in range(len(scores)):
        stored |= {last} | ({last + 1} if extra else set())  # an update that was finished before a kill
        best = max(range(last + 1), key=lambda round: (scores[round], -round))
        played = range(last + 1)
        stored -= removable(stored, played, best, newest)
        assert {0, best, *played[-newest:]} <= stored
        assert len(stored & set(played)) <= newest + 2
        assert (last + 1 in stored) == extra


@given(st.sets(st.integers(0, 9)), st.integers(1, 4))
def test_a_round_without_an_update_counts_for_nothing(stored: set[int], newest: int) -> None:
    assert removable(stored, (0, 1, 2, 2), 1, newest) == removable(stored, (0, 1, 2), 1, newest)


def job(root: Path, *overrides: str) -> Config:
    return small(root, "job.rounds=4", "plateau.patience=9", "update.keep_versions=1", *overrides)


def kept(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "jobs" / "scripted" / "versions").iterdir())


def test_base_best_and_newest_stay(tmp_path: Path) -> None:
    result = run_job(job(tmp_path))
    assert kept(tmp_path) == sorted({"round-000", result.best.version.name, "round-004"})
    assert len(kept(tmp_path)) < 5


def test_the_result_does_not_depend_on_what_is_kept(tmp_path: Path) -> None:
    def versions(name: str, *overrides: str) -> list[str]:
        history = run_job(job(tmp_path / name, *overrides)).history
        return [record.version.fingerprint for record in history]

    assert versions("one", "cascade.frozen_judge=true") == versions(
        "all", "update.keep_versions=null", "cascade.frozen_judge=true"
    )
    assert len(kept(tmp_path / "all")) == 5


def test_a_job_that_kept_all_may_begin_to_delete(tmp_path: Path) -> None:
    run_job(job(tmp_path, "update.keep_versions=null", "job.rounds=3"))
    assert len(kept(tmp_path)) == 4
    result = run_job(job(tmp_path))
    assert kept(tmp_path) == sorted({"round-000", result.best.version.name, "round-004"})


def test_what_the_registry_points_to_stays(root: Path) -> None:
    def register(state: JobState) -> None:
        if state.last.round == 1:
            client = MlflowClient(f"sqlite:///{root}/mlflow.db")
            client.create_registered_model("in-use")
            client.create_model_version("in-use", source=str(root.resolve() / "jobs/scripted/versions/round-001"))

    result = run_job(job(root, "tracking.enabled=true"), on_round=register)
    assert kept(root) == sorted({"round-000", "round-001", result.best.version.name, "round-004"})


def test_a_registry_that_cannot_be_asked_keeps_everything(
    root: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def down(*_: object) -> None:
        raise ConfigError("no answer")

    def go_away(state: JobState) -> None:
        monkeypatch.setattr(tracking_store, "open_store", down)

    run_job(job(root, "tracking.enabled=true"), on_round=go_away)
    assert len(kept(root)) == 5
    assert "the registry cannot be asked (no answer)" in caplog.text


def test_a_tracked_job_that_continues_untracked_keeps_everything(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    run_job(job(root, "tracking.enabled=true", "update.keep_versions=null", "job.rounds=2"))
    run_job(job(root))
    assert len(kept(root)) == 5
    assert "tracking.enabled is false" in caplog.text


def test_a_damaged_version_stops_retention_and_not_the_job(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    def damage(state: JobState) -> None:
        if state.last.round == 2:
            (tmp_path / "jobs/scripted/versions/round-000/manifest.json").write_text("{")

    run_job(job(tmp_path), on_round=damage)
    assert "old versions are kept for now" in caplog.text


def test_a_fork_of_a_round_whose_weights_are_gone_is_refused(tmp_path: Path) -> None:
    run_job(job(tmp_path))
    gone = next(round for round in range(1, 4) if f"round-00{round}" not in kept(tmp_path))
    with pytest.raises(WeightsError, match=rf"no weights of round-00{gone} .*update\.keep_versions"):
        run_job(job(tmp_path, "job.name=other"), fork_from=f"scripted@{gone}")
    assert not (tmp_path / "jobs" / "other").exists()
    run_job(job(tmp_path, "job.name=other"), fork_from="scripted@4")
