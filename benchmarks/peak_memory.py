"""Peak memory of a command's processes, and of the GPU, sampled while it runs."""

from __future__ import annotations

import json
import shutil
import subprocess
import threading
from pathlib import Path
from types import TracebackType

import psutil

INTERVAL = 0.5
"""Seconds between two samples; shorter peaks can be missed."""


class PeakMemory:
    """Samples memory on a thread until the block ends, then writes the peaks under a name into a JSON file.

    `host` is the resident memory of all child processes together, `gpu` what nvidia-smi reports as used on the first
    GPU, by whatever process; both in bytes, and `gpu` null without one.
    """

    def __init__(self, path: Path, name: str) -> None:
        self._path, self._name = path, name
        self._host, self._gpu = 0, 0
        self._done = threading.Event()
        self._smi = shutil.which("nvidia-smi")
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> PeakMemory:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._done.set()
        self._thread.join()
        found = json.loads(self._path.read_text()) if self._path.is_file() else {}
        before = found.get(self._name, {"host": 0, "gpu": 0})
        gpu = max(before["gpu"] or 0, self._gpu) if self._smi else None
        found[self._name] = {"host": max(before["host"], self._host), "gpu": gpu}
        self._path.write_text(json.dumps(found, indent=1))

    def _watch(self) -> None:
        while not self._done.wait(INTERVAL):
            self._host = max(self._host, sum(map(_resident, psutil.Process().children(recursive=True))))
            if self._smi:
                self._gpu = max(self._gpu, _gpu_memory(self._smi))


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.Error:  # it ended between being listed and being asked
        return 0


def _gpu_memory(smi: str) -> int:
    query = [smi, "--query-gpu=memory.used", "--format=csv,noheader,nounits", "--id=0"]
    done = subprocess.run(query, capture_output=True, text=True, check=False)
    return int(done.stdout) * 2**20 if done.returncode == 0 and done.stdout.strip().isdigit() else 0
