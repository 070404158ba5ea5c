"""What the two commands of the README rely on: locked files with hashes, any supported Python, packages that exist."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("part", ["", "-torch", "-vllm", "-ray"])
def test_the_lock_files_have_hashes(part: str) -> None:
    packages = re.split(r"\n(?=[a-zA-Z0-9])", (ROOT / f"requirements{part}.lock").read_text().partition("==")[2])
    assert packages and all("--hash=sha256:" in package for package in packages)


@pytest.mark.parametrize(
    ("installed", "taken"),
    [
        ({"python3.11": True, "python3.12": True}, "python3.11"),
        ({"python3.12": True}, "python3.12"),
        ({"python3.11": False, "python3": True}, "python3"),  # a shim that is there and does not run
        ({"python3": False}, ""),
    ],
)
def test_make_takes_any_supported_python(tmp_path: Path, installed: dict[str, bool], taken: str) -> None:
    for name, runs in installed.items():
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\nexit {0 if runs else 127}\n")
        program.chmod(0o755)
    shown = "include Makefile\n.PHONY: shown\nshown: ; $(info $(PYTHON))\n"
    command = ["/usr/bin/make", "--no-print-directory", "-f", "-", "shown"]
    environment = {"PATH": str(tmp_path)}
    output = subprocess.run(
        command, cwd=ROOT, input=shown, env=environment, capture_output=True, text=True, timeout=60
    ).stdout
    assert output.splitlines()[0].strip() == taken


def test_no_advice_names_an_unpublished_distribution() -> None:
    """The index has no `svd-loop`: no message may say to install an extra of it from there."""
    sources = [path for folder in ("svd_loop", "envs", "policies") for path in (ROOT / folder).rglob("*.py")]
    advising = [path for path in sources if re.search(r"pip install ['\"]?svd-loop", path.read_text(encoding="utf-8"))]
    assert len(sources) > 100 and advising == []
