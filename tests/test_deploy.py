"""The manifests in docs/deploy call the command line as it is."""

from __future__ import annotations

import ast
import configparser
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml

from svd_loop.cli.app import app

DEPLOY = Path(__file__).parents[1] / "docs" / "deploy"
DOCKERFILE = Path(__file__).parents[1] / "Dockerfile"


def kubernetes_command() -> list[str]:
    manifest = yaml.safe_load((DEPLOY / "cronjob.yaml").read_text())
    (container,) = manifest["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    return [str(part) for part in container["command"]]


def systemd_command() -> list[str]:
    unit = configparser.ConfigParser()
    unit.read(DEPLOY / "svd-loop.service")
    return shlex.split(unit["Service"]["ExecStart"])[1:]


def airflow_command() -> list[str]:
    tree = ast.parse((DEPLOY / "airflow_dag.py").read_text())
    (value,) = (node.value for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == "bash_command")
    return shlex.split(str(ast.literal_eval(value)))


@pytest.mark.parametrize("command", [kubernetes_command, systemd_command, airflow_command])
def test_the_command_is_one(command: object) -> None:
    assert callable(command)
    program, name, *arguments = command()
    group = typer.main.get_group(app)
    schedule = group.commands[name]
    context = schedule.make_context(name, arguments)
    assert (program, name) == ("svd-loop", "schedule")
    assert context.params["once"] is True
    assert context.params["inbox"] == Path("inbox")


def rayjob() -> dict[str, Any]:
    manifest: dict[str, Any] = yaml.safe_load((DEPLOY / "rayjob.yaml").read_text())
    return manifest


def line_of(script: str) -> str:
    """The line of a batch script that runs the job, without what the shell makes of it."""
    (line,) = re.findall(r"^(?:exec )?(svd-loop .*?)(?: &)?$", (DEPLOY / script).read_text(), re.MULTILINE)
    return str(line)


@pytest.mark.parametrize("kind", ["rayjob", "ray.sbatch", "accelerate.sbatch"])
def test_a_cluster_runs_a_command_that_there_is(kind: str) -> None:
    line = rayjob()["spec"]["entrypoint"] if kind == "rayjob" else line_of(kind)
    program, name, *arguments = shlex.split(line)
    assert (program, name) == ("svd-loop", "run")
    context = typer.main.get_group(app).commands[name].make_context(name, arguments)
    assert True in context.params.values()  # --json


def test_a_ray_job_has_the_version_that_is_locked_and_gpus_on_its_workers() -> None:
    spec = rayjob()["spec"]["rayClusterSpec"]
    locked = (DEPLOY.parents[1] / "requirements-ray.lock").read_text()
    assert f"\nray=={spec['rayVersion']} " in locked
    (workers,) = spec["workerGroupSpecs"]
    (container,) = workers["template"]["spec"]["containers"]
    assert workers["replicas"] * int(container["resources"]["limits"]["nvidia.com/gpu"]) == 16


@pytest.mark.parametrize("script", ["ray.sbatch", "accelerate.sbatch"])
def test_a_batch_script_is_one_that_bash_reads(script: str) -> None:
    text = (DEPLOY / script).read_text()
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    options = re.findall(r"^#SBATCH --([a-z-]+)=", text, re.MULTILINE)
    assert {"nodes", "ntasks-per-node", "gpus-per-node", "signal"} <= set(options)
    assert text.index("#SBATCH") < text.index("set -euo pipefail")  # Slurm stops reading options at the first command


def test_the_dockerfile_passes_its_linter() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    if not hadolint.exists():
        pytest.skip("hadolint has no wheel for this kind of machine")
    done = subprocess.run([hadolint, "--no-color", DOCKERFILE], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_dockerfile_copies_what_is_there_and_takes_the_locked_torch() -> None:
    text = DOCKERFILE.read_text()
    for line in re.findall(r"^COPY (.*) \./\S*$", text, re.MULTILINE):
        assert all((DOCKERFILE.parent / name).exists() for name in line.split())
    (locked,) = re.findall(
        r"^torch==([^ ]+)", (DOCKERFILE.parent / "requirements-torch.lock").read_text(), re.MULTILINE
    )
    assert f'"torch=={locked}"' in text
