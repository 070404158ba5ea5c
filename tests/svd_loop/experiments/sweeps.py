"""A small sweep on the scripted policy, for the tests of this folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

CONFIGS = Path(__file__).parents[3] / "configs"


def sweep_data(root: Path) -> dict[str, Any]:
    """Five arms and two seeds that take a few seconds together."""
    return {
        "name": "small",
        "config": str(CONFIGS / "scripted.yaml"),
        "root": str(root),
        "seeds": [1, 2],
        "control": "unverified",
        "ceiling": "gold",
        "set": {
            "job.rounds": 2,
            "data.train.count": 30,
            "data.development.count": 20,
            "data.test.count": 20,
            "data.prompts_per_round": 15,
            "evaluation.audit": 10,
            "health.canaries": 1,
            "evaluation.resamples": 100,
            "evaluation.samples": 2,
            "evaluation.pass_at": [1, 2],
        },
        "held_out": {"other": {"type": "arithmetic", "count": 20, "seed": 7}},
        "arms": {
            "svd": {"says": "n = 8, v = 3", "also": ["other"], "group": "main"},
            "votes": {"says": "n = 8, v = 1", "set": {"cascade.votes": 1}},
            "gold": {"says": "gold", "control": {"type": "gold"}},
            "unverified": {"says": "unverified", "accepts_as": "svd"},
            "test-time": {"says": "judged at test time", "kind": "test_time", "set": {"sampling.n": 4}},
        },
        "claims": [
            {"claim": "it learns", "better": "svd", "on": ["overall", "math"]},
            {"claim": "judging helps", "better": "svd", "than": "unverified"},
            {"claim": "it carries over", "better": "svd", "metric": "other"},
        ],
        "quick": {"seeds": [1], "arms": ["unverified"]},
    }


def write_sweep(folder: Path, **changes: Any) -> Path:
    """The sweep's file, with top-level keys replaced."""
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump({**sweep_data(folder / "runs"), **changes}, sort_keys=False))
    return path
