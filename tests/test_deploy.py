"""The manifests in docs/deploy call the command line as it is."""

from __future__ import annotations

import ast
import configparser
import shlex
from pathlib import Path

import pytest
import typer.main
import yaml

from svd_loop.cli.app import app

DEPLOY = Path(__file__).parents[1] / "docs" / "deploy"


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
