"""`svd-loop export --as ...`: options that contradict each other, and what is printed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from svd_loop.cli.app import app
from svd_loop.jobs import run_job
from tests.svd_loop.jobs_support import small


def test_data_is_written_and_reported(tmp_path: Path) -> None:
    run_job(small(tmp_path))
    command = ["export", "scripted", "--root", str(tmp_path), "--as", "kto"]
    done = CliRunner().invoke(app, [*command, "--to", str(tmp_path / "a"), "--json"])
    report = json.loads(done.stdout)
    assert report["as"] == "kto" and report["rows"] == len((tmp_path / "a" / "train.jsonl").read_text().splitlines())
    done = CliRunner().invoke(app, [*command, "--to", str(tmp_path / "b"), "--format", "parquet"])
    assert f"{report['rows']} rows of {report['prompts']} prompts" in done.stderr
    assert (tmp_path / "b" / "train.parquet").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--as", "sft", "--adapter"], "--as model"),
        (["--as", "sft", "--version", "best"], "--as model"),
        (["--format", "parquet"], "--as sft"),
        (["--as", "dpo"], "preferences"),
    ],
)
def test_contradictions_are_refused(tmp_path: Path, options: list[str], message: str) -> None:
    done = CliRunner().invoke(app, ["export", "scripted", "--to", str(tmp_path / "a"), *options])
    assert done.exit_code == 2 and message in done.stderr
