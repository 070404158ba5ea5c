"""Where a job's files lie, and that one module alone says so."""

from __future__ import annotations

import ast
from pathlib import Path

from svd_loop.contracts import JobPaths, RootPaths

ROOT = Path(__file__).parents[3]
NAMES = {"jobs", "versions", "gate", "sweeps", "schedules", "ledger.sqlite", "report.html", "mlflow.db"}
OWN = ROOT / "svd_loop/contracts/paths.py"


def test_a_jobs_files_lie_below_its_root() -> None:
    paths = RootPaths(Path("runs")).job("demo")
    assert paths == JobPaths(Path("runs/jobs/demo")) and paths.name == "demo"
    assert [paths.ledger, paths.report, paths.version(3)] == [
        Path("runs/jobs/demo/ledger.sqlite"),
        Path("runs/jobs/demo/report.html"),
        Path("runs/jobs/demo/versions/round-003"),
    ]
    assert paths.sibling("other") == RootPaths(Path("runs")).job("other")
    assert paths.fork_part.parent == paths.folder.parent, "or a fork could not be renamed to its place at once"


def test_no_other_module_joins_these_names() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {node.right.value!r}"
        for package in ("svd_loop", "envs", "policies")
        for path in sorted((ROOT / package).rglob("*.py"))
        if path != OWN
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div) and isinstance(node.right, ast.Constant)
        if node.right.value in NAMES
    ]
    assert not found, "ask svd_loop.contracts.JobPaths or RootPaths"
