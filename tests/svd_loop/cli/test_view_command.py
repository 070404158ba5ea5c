"""`svd-loop view` as a process: it starts, answers, and ends on Ctrl-C."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from svd_loop.contracts import RootPaths
from svd_loop.ledger import Ledger
from tests.processes import Process, run
from tests.svd_loop.ledger.samples import commit_rounds, config

VIEW = [sys.executable, "-m", "svd_loop.cli", "view"]


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("shown")
    with Ledger.open(RootPaths(root).job("sample").folder, config()) as ledger:
        commit_rounds(ledger, 1)
    return root


def test_it_serves_until_ctrl_c(root: Path) -> None:
    with Process([*VIEW, "sample", "--root", str(root), "--port", "0"], stderr=subprocess.PIPE) as viewer:
        assert viewer.stderr is not None
        told = viewer.stderr.readline()
        address = told.split()[1]
        with urllib.request.urlopen(address, timeout=60) as answer:
            assert (answer.status, b"round 1" in answer.read()) == (200, True)
        viewer.send_signal(signal.SIGINT)
        rest = viewer.stderr.read()
        assert viewer.wait(60) in (0, 130)
    assert told == f"sample: {address}  (Ctrl-C ends it)\n"
    assert "Traceback" not in rest


def test_a_port_that_is_taken_is_one_clear_error(root: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = run([*VIEW, "sample", "--root", str(root), "--port", str(port)])
    assert done.returncode == 2
    assert f"--port {port}: cannot be listened on at 127.0.0.1" in done.stderr and "choose another" in done.stderr
    assert len(done.stderr.splitlines()) == 2  # the kind of error, and the rule


def test_a_job_that_is_not_there_is_one_clear_error(root: Path) -> None:
    done = run([*VIEW, "sampel", "--root", str(root)])
    assert done.returncode in (1, 2)
    assert "sampel" in done.stderr and "sample" in done.stderr and "Traceback" not in done.stderr
