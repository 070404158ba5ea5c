"""What `svd-loop check` finds before any work."""

from __future__ import annotations

from pathlib import Path

from svd_loop.config import Config
from svd_loop.preflight import Check, preflight
from tests.svd_loop.jobs_support import small


def checks(config: Config) -> list[Check]:
    return preflight(config).checks


def test_a_good_job_passes_and_leaves_nothing_behind(tmp_path: Path) -> None:
    found = checks(small(tmp_path))
    assert [item.name for item in found if not item.ok] == []
    assert not (tmp_path / "jobs").exists()
    work = next(item for item in found if item.name == "work per round")
    assert work.detail == "at most 72 candidates and 576 judge calls"  # 18 prompts x 4; 2 votes of 2 + 1 + 1 calls


def test_each_fault_is_reported_on_its_own_line(tmp_path: Path) -> None:
    train = f"data.train={{type: files, domain: math, paths: ['{tmp_path}/*.jsonl']}}"
    found = {item.name: item for item in checks(small(tmp_path, train, "model.templates=none-such"))}
    assert not found["prompt templates"].ok
    assert "model.templates" in found["prompt templates"].detail
    assert not found["training prompts"].ok
    assert found["held-out problems"].ok
    assert found["disk"].as_dict()["ok"] is True


def test_prompts_without_limit_are_said(tmp_path: Path) -> None:
    found = {item.name: item for item in checks(small(tmp_path, "data.prompts_per_round=null"))}
    assert "null" in found["work per round"].detail
