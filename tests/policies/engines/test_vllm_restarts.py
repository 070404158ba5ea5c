"""A job that restarts a real `vllm serve` for every version. Needs vLLM: `make test-vllm`."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from pathlib import Path

import pytest

from svd_loop.config import Config
from svd_loop.jobs import run_job
from tests.guard import TESTS
from tests.policies.engines.two_jobs import assert_alike, small_job
from tests.policies.engines.vllm_replica import end_group, free_port

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vllm is not installed: make test-vllm"),
]

ROOT = Path(__file__).parents[3]


def job(root: Path, *overrides: str) -> Config:
    return small_job(root, "update.method=full", *overrides)


def test_a_job_restarts_its_server_on_every_versions_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two rounds; no server runs at first. Every version is compared with transformers before it answers."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # the command runs wherever the tests do
    monkeypatch.setenv(TESTS, str(os.getpid()))  # and returns, while its server goes on
    pids, log = tmp_path / "pids", tmp_path / "log"
    command = [
        sys.executable,
        "-m",
        "tests.policies.engines.vllm_replica",
        str(pids),
        str(log),
        "{endpoint}",
        "{checkpoint}",
        "{name}",
    ]
    served = job(
        tmp_path / "served",
        "engine.type=server",
        f"engine.endpoints=[http://127.0.0.1:{free_port()}]",
        "engine.concurrency=32",
        f"engine.reload={json.dumps({'type': 'command', 'command': command})}",
    )
    try:
        found = run_job(served)
    finally:
        end_group(pids)
    assert len(pids.read_text().split()) == len(found.history) == 3  # one start a version
    expected = run_job(job(tmp_path / "transformers", "engine.threads=1"))
    assert_alike(found, expected)
    assert len({record.version.fingerprint for record in found.history}) == 3
