"""The real job, killed anywhere and started again: it ends as if nothing had happened, and pays for nothing twice."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import pytest
from mlflow import MlflowClient

from svd_loop.jobs import run_job
from tests.kill import run_until_it_kills_itself, run_with_kills
from tests.svd_loop import kill_cli
from tests.svd_loop.job_outcome import Outcome, asked_again, is_finished, outcome_of, replies_asked
from tests.svd_loop.jobs_support import SCRIPTED, SMALL, small

ROOT = Path(__file__).parents[2]
CHUNK = 8
RANDOM_KILLS = 6
BOUNDARIES = (
    "0/evaluated",
    "0/committed",
    "1/sampled",
    "1/judge/asked*3",
    "1/judge/recorded*3",
    "1/judged",
    "1/canary/recorded*2",
    "1/updated",
    "1/choice/recorded*2",
    "1/chosen",
    "1/evaluated",
    "1/committed",
    "stopped",
)
CHOOSING = ("update.choose_from=2",)
NOWHERE = "-"


def command(root: Path, place: str, *overrides: str) -> list[str]:
    settings = (*SMALL, *CHOOSING, f"engine.chunk_size={CHUNK}", f"job.root={root}", *overrides)
    options = [part for item in settings for part in ("-o", item)]
    job = ["run", str(SCRIPTED), "--record", str(root / "replies.jsonl"), *options]
    return [sys.executable, "-m", "tests.svd_loop.kill_cli", place, *job]


def finish(root: Path, *overrides: str) -> None:
    """The user's command, without the death wish, to its end."""
    _, _, _, _, *job = command(root, NOWHERE, *overrides)
    run_with_kills([sys.executable, "-m", "svd_loop.cli", *job], kills=0, seed=0, window=0.0, cwd=ROOT)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    root = tmp_path_factory.mktemp("uninterrupted")
    run_job(small(root, *CHOOSING, f"engine.chunk_size={CHUNK}"), record=root / "replies.jsonl")
    asked = replies_asked(root / "replies.jsonl")
    assert set(asked.values()) == {1}
    assert len(asked) > 50 * CHUNK  # many chunks, so that most instants lie between two of them
    return outcome_of(root / "jobs" / "scripted")


def check(root: Path, kills: int, uninterrupted: Outcome) -> None:
    assert outcome_of(root / "jobs" / "scripted") == uninterrupted
    assert not list((root / "jobs" / "scripted" / "versions").glob("steps-*"))
    assert asked_again(root / "replies.jsonl") <= kills * CHUNK


def test_random_instants(tmp_path: Path, uninterrupted: Outcome) -> None:
    kills = jobs = 0
    while kills < RANDOM_KILLS:
        jobs += 1
        root = tmp_path / str(jobs)
        root.mkdir()
        report = run_with_kills(
            command(root, NOWHERE),
            kills=RANDOM_KILLS - kills,
            seed=jobs,
            window=0.6,
            ready=kill_cli.READY,
            finished=partial(is_finished, root / "jobs" / "scripted"),
            cwd=ROOT,
        )
        check(root, report.kills, uninterrupted)
        kills += report.kills


def test_every_phase_boundary(tmp_path: Path, uninterrupted: Outcome) -> None:
    for place in BOUNDARIES:
        run_until_it_kills_itself(command(tmp_path, place), cwd=ROOT)
    finish(tmp_path)
    check(tmp_path, len(BOUNDARIES), uninterrupted)


def test_tracking_catches_up_with_what_was_committed(root: Path, uninterrupted: Outcome) -> None:
    for place in ("0/committed", "finished"):
        run_until_it_kills_itself(command(root, place, "tracking.enabled=true"), cwd=ROOT)
    finish(root, "tracking.enabled=true")
    check(root, 2, uninterrupted)
    client = MlflowClient(f"sqlite:///{root}/mlflow.db")
    experiment = client.get_experiment_by_name("svd-loop")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    assert [run.info.status for run in runs] == ["FINISHED"] * 4  # the job, the baseline and two rounds
    (parent,) = (run for run in runs if "mlflow.parentRunId" not in run.data.tags)
    for metric in parent.data.metrics:
        steps = [point.step for point in client.get_metric_history(parent.info.run_id, metric)]
        assert len(steps) == len(set(steps)), f"{metric} was logged twice"
