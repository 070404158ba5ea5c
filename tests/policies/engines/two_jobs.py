"""A small nano job, and the same one played on another engine: what must be alike."""

from __future__ import annotations

from pathlib import Path

from svd_loop.config import Config, load_config
from svd_loop.contracts import JobResult, StopReason
from svd_loop.support.statistics import wilson

NANO = Path(__file__).parents[3] / "configs" / "nano.yaml"
SMALL = (
    "data.train.count=20",
    "data.development.count=20",
    "data.test=null",
    "data.prompts_per_round=30",
    "sampling.n=3",
    "cascade.votes=1",
    "evaluation.samples=2",
    "evaluation.audit=0",
    "job.rounds=2",
    "plateau.patience=9",
    "plateau.regression=1.0",
    "tracking.enabled=false",
)


def small_job(root: Path, *overrides: str) -> Config:
    """Two rounds of thirty prompts under `root`."""
    return load_config(NANO, [*SMALL, f"job.root={root}", *overrides])


def assert_alike(found: JobResult, expected: JobResult) -> None:
    """Both played their rounds, and pass@1 and the accepted fraction lie within the other's 95% intervals."""
    assert found.stop is expected.stop is StopReason.ROUND_LIMIT
    for one, other in zip(found.history, expected.history, strict=True):
        interval = other.scores.pass_at_1
        assert interval.low <= one.scores.pass_at_1.value <= interval.high
        if other.prompts:
            accepted = wilson(other.accepted_prompts, other.prompts)
            assert accepted.low <= one.accepted_prompts / one.prompts <= accepted.high
