"""An engine that misbehaves in a real job: a message, exit code 1, no run left RUNNING, the same command goes on."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from mlflow import MlflowClient

from svd_loop.jobs import run_job
from tests.processes import run
from tests.svd_loop.job_outcome import outcome_of
from tests.svd_loop.jobs_support import SCRIPTED, SMALL, small

# What the process does instead of answering, once it has answered three chunks.
FAULTS = {
    "hangs": ("time.sleep(60)", "no answer within 0.5 s", "engine.chunk_seconds"),
    "raises": ("raise RuntimeError('device lost')", "RuntimeError: device lost", "the engine failed on"),
    "drops a reply": ("replies = replies[:-1]", "answers to", "the engine gave"),
}
PROGRAM = """
import sys, time
from policies.scripted import ScriptedPolicy
from svd_loop import cli
from tests.processes import run

answer, asked = ScriptedPolicy.generate, []

def faulty(self, calls):
    asked.append(len(calls))
    replies = answer(self, calls)
    if len(asked) > 3:
        {fault}
    return replies

ScriptedPolicy.generate = faulty
cli.main()
"""


@pytest.mark.parametrize("fault", FAULTS)
def test_a_faulty_engine_ends_the_job_with_a_message_and_nothing_is_lost(root: Path, fault: str) -> None:
    code, *told = FAULTS[fault]
    settings = (*SMALL, f"job.root={root}", "tracking.enabled=true", "engine.chunk_seconds=0.5", "engine.chunk_size=8")
    options = [part for item in settings for part in ("-o", item)]
    command = [sys.executable, "-c", PROGRAM.format(fault=code), "run", str(SCRIPTED), *options]
    done = run(command)
    assert done.returncode == 1, done.stderr
    assert "EngineError" in done.stderr and "Traceback" not in done.stderr
    for words in told:
        assert words in done.stderr.replace("\n", " ")
    client = MlflowClient(f"sqlite:///{root}/mlflow.db")
    experiment = client.get_experiment_by_name("svd-loop")
    assert experiment is not None
    assert [run.info.status for run in client.search_runs([experiment.experiment_id])] == ["KILLED"]

    chunked = (f"engine.chunk_size={8}", "engine.chunk_seconds=60")
    run_job(small(root, "tracking.enabled=true", *chunked))
    run_job(small(root / "whole", *chunked))
    assert outcome_of(root / "jobs" / "scripted") == outcome_of(root / "whole" / "jobs" / "scripted")
