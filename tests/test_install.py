"""What the two commands of the README rely on: locked files with hashes, any supported Python, packages that exist."""

from __future__ import annotations

import re
import subprocess
from importlib.metadata import distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

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


def test_the_locks_hold_all_that_their_packages_need() -> None:
    """They are installed with --no-deps: what is missing from them is missing from a fresh machine."""
    locked = (ROOT / "requirements.lock").read_text() + (ROOT / "requirements-torch.lock").read_text()
    pins = {canonicalize_name(name): version for name, version in re.findall(r"(?m)^([\w.-]+)==([^\s;\\]+)", locked)}
    here = {canonicalize_name(found.name): found for found in distributions()}
    checked = [name for name, version in pins.items() if name in here and here[name].version.startswith(version)]
    wanted = [(name, Requirement(text)) for name in checked for text in here[name].requires or ()]
    needed = [(name, one) for name, one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})]
    assert len(checked) > 100 and len(needed) > 200
    for name, one in needed:
        pin = pins.get(canonicalize_name(one.name))
        assert pin is not None and one.specifier.contains(pin, prereleases=True), f"{name} needs {one}, locked is {pin}"


def test_the_lock_of_torch_holds_what_its_cuda_build_loads() -> None:
    locked = (ROOT / "requirements-torch.lock").read_text()
    names = {"nvidia-cudnn-cu13", "nvidia-cublas", "nvidia-cuda-runtime", "nvidia-nccl-cu13", "triton", "torch"}
    assert names <= set(re.findall(r"(?m)^([\w-]+)==", locked))


@pytest.mark.parametrize("offers_cpu_build", [False, True])
def test_make_installs_the_build_of_torch_that_is_offered(tmp_path: Path, offers_cpu_build: bool) -> None:
    """On a machine with nothing configured, by a Python that only notes what it is asked to install."""
    python = tmp_path / "bin" / "python3.11"
    python.parent.mkdir()
    python.write_text(
        f'#!/bin/sh\necho "$*" >> {tmp_path}/asked\n'
        'if [ "$2" = venv ]; then mkdir -p "$3/bin" && cp "$0" "$3/bin/python"; fi\n'
        f'case "$*" in *+cpu*) exit {0 if offers_cpu_build else 1};; esac\n'
    )
    python.chmod(0o755)
    command = ["/usr/bin/make", "--no-print-directory", "setup", f"VENV={tmp_path}/venv"]
    environment = {"PATH": f"{python.parent}:/usr/bin:/bin", "PIP_CONFIG_FILE": "/dev/null"}
    ran = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
    asked = (tmp_path / "asked").read_text()
    assert "--require-hashes -r requirements.lock" in asked and "torch==2" in asked
    assert ("--require-hashes -r requirements-torch.lock" in asked) is not offers_cpu_build
