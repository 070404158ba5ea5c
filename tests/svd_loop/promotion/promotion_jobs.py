"""Two scripted jobs that register versions of one model, for tests of what happens to versions afterwards."""

from __future__ import annotations

from pathlib import Path

from svd_loop.config import Config
from svd_loop.jobs import run_job
from tests.svd_loop.jobs_support import small

TRACKED = (
    "tracking.enabled=true",
    "tracking.register_as=model",
    "data.test={type: arithmetic, count: 30}",
    "job.rounds=1",
)


def tracked(root: Path, *overrides: str) -> Config:
    """A small job with a test split that registers its best version as `model`."""
    return small(root, *TRACKED, *overrides)


def play_two(root: Path, *overrides: str) -> None:
    """Version 1, a weak job's, becomes the champion; version 2, a good job's, the challenger."""
    run_job(tracked(root, "job.name=weak", "engine.skill=0.3", *overrides))
    run_job(tracked(root, "job.name=good", "engine.skill=0.9", *overrides))
