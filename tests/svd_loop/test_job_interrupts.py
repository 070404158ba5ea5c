"""Ctrl-C at the command line, and an MLflow store that goes away: nothing is lost, and the same command goes on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from svd_loop.contracts import JobState
from svd_loop.jobs import run_job
from tests.processes import Process, run
from tests.svd_loop.job_outcome import Outcome, asked_again, outcome_of
from tests.svd_loop.jobs_support import SCRIPTED, SMALL, small
from tests.svd_loop.tracking_server import free_port, tracking_server

CHUNK = 2


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    root = tmp_path_factory.mktemp("uninterrupted")
    run_job(small(root, f"engine.chunk_size={CHUNK}"))
    return outcome_of(root / "jobs" / "scripted")


def command(root: Path) -> list[str]:
    settings = (*SMALL, f"engine.chunk_size={CHUNK}", f"job.root={root}", "tracking.enabled=true")
    options = [part for item in settings for part in ("-o", item)]
    cli = "tests.svd_loop.undrawn_cli"
    return [sys.executable, "-m", cli, "run", str(SCRIPTED), "--record", str(root / "replies"), *options]


def interrupt(root: Path, number: signal.Signals, times: int) -> tuple[int, str]:
    """Start the job and send a signal when the baseline is measured; its exit code and what it said afterwards."""
    with Process(command(root), stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if line.startswith("baseline: "):
                break
        for _ in range(times):
            process.send_signal(number)
            time.sleep(0.002)  # two signals that wait at once are one to the operating system
        said = process.stderr.read()
        return process.wait(timeout=60), said


def runs_of(root: Path) -> list[Run]:
    client = MlflowClient(f"sqlite:///{root}/mlflow.db")
    experiment = client.get_experiment_by_name("svd-loop")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id]))


def parent_of(root: Path) -> Run:
    (parent,) = (run for run in runs_of(root) if "mlflow.parentRunId" not in run.data.tags)
    return parent


@pytest.mark.parametrize("number, times", [(signal.SIGINT, 1), (signal.SIGINT, 2), (signal.SIGTERM, 1)])
def test_ctrl_c_and_preemption_lose_nothing(
    root: Path, uninterrupted: Outcome, number: signal.Signals, times: int
) -> None:
    code, said = interrupt(root, number, times)
    assert code == 130, said
    assert "Traceback" not in said
    if times == 1:
        assert "the same command continues from here" in said
        assert parent_of(root).info.status == "KILLED"  # after a second signal there may be no time to say so
    done = run(command(root))
    assert done.returncode == 0, done.stderr
    assert outcome_of(root / "jobs" / "scripted") == uninterrupted
    assert asked_again(root / "replies") <= (0 if times == 1 else CHUNK)
    assert {run.info.status for run in runs_of(root)} == {"FINISHED"}


def test_a_server_that_dies_delays_tracking_alone(
    root: Path, uninterrupted: Outcome, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    port = free_port()
    config = small(root, f"engine.chunk_size={CHUNK}", "tracking.enabled=true", f"tracking.uri=http://127.0.0.1:{port}")
    with tracking_server(root, port) as server:

        def die(state: JobState) -> None:
            if state.last.round == 0:
                os.killpg(server.pid, signal.SIGKILL)
                server.wait()

        run_job(config, on_round=die)
    assert "MLflow failed" in caplog.text
    assert outcome_of(root / "jobs" / "scripted") == uninterrupted
    run_job(config)  # the server is still away: a job that was tracked once starts all the same
    with tracking_server(root, port):
        run_job(config)
    assert outcome_of(root / "jobs" / "scripted") == uninterrupted
    assert [run.info.status for run in runs_of(root)] == ["FINISHED"] * 4


def test_a_store_that_goes_away_delays_tracking_alone(
    root: Path, uninterrupted: Outcome, caplog: pytest.LogCaptureFixture
) -> None:
    artifacts = root / "artifacts"

    def go_away(state: JobState) -> None:
        if state.last.round == 0:
            artifacts.rename(root / "away")
            artifacts.write_text("nothing can be written below a file")

    config = small(root, f"engine.chunk_size={CHUNK}", "tracking.enabled=true")
    run_job(config, on_round=go_away)
    assert "MLflow failed" in caplog.text
    assert outcome_of(root / "jobs" / "scripted") == uninterrupted
    assert parent_of(root).info.status == "RUNNING"
    artifacts.unlink()
    (root / "away").rename(artifacts)
    run_job(config)
    assert outcome_of(root / "jobs" / "scripted") == uninterrupted
    assert [run.info.status for run in runs_of(root)] == ["FINISHED"] * 4
