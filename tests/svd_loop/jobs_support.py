"""Small scripted jobs that run in about a second, for tests of everything around the loop."""

from __future__ import annotations

from pathlib import Path

from svd_loop.config import Config, load_config

SCRIPTED = Path(__file__).parents[2] / "configs" / "scripted.yaml"
SMALL = (
    "data.train.count=12",
    "data.development.count=8",
    "data.test=null",
    "data.prompts_per_round=18",
    "sampling.n=4",
    "cascade.votes=2",
    "evaluation.samples=2",
    "evaluation.pass_at=[1, 2]",
    "job.rounds=2",
    "tracking.enabled=false",
    "tracking.trackers=[{type: mlflow, traces: 2}]",  # twenty would take longer than the rest of a round
)


def small(root: Path, *overrides: str) -> Config:
    """The scripted job, small, under `root`."""
    return load_config(SCRIPTED, [*SMALL, f"job.root={root}", *overrides])
