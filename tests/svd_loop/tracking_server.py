"""A real `mlflow server` for tests, on loopback."""

from __future__ import annotations

import os
import socket
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.processes import Process

_WITHOUT_JOBS = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
"""By default the server starts seven more processes, for jobs such as scoring traces, which nothing here asks for."""


@contextmanager
def tracking_server(root: Path, port: int) -> Iterator[Process]:
    """A real `mlflow server` on loopback, with its own database and artifacts under `root`."""
    stores = ["--backend-store-uri", f"sqlite:///{root}/mlflow.db", "--artifacts-destination", str(root / "served")]
    address = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command = [sys.executable, "-m", "tests.svd_loop.forked_mlflow", *address, *stores]
    with (root / "server.log").open("ab") as log:
        process = Process(command, env={**os.environ, **_WITHOUT_JOBS}, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 90
        while True:
            assert process.poll() is None and time.monotonic() < deadline, (root / "server.log").read_text()[-2000:]
            with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
                if answer.status == 200:
                    break
            time.sleep(0.05)
        yield process
    finally:
        process.kill_group()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
