"""What the Ray engine decides without a cluster."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest

from policies.cluster import connection
from svd_loop.config import load_config
from svd_loop.config.engines import RayEngineSection
from svd_loop.errors import ConfigError
from svd_loop.preflight.checks import preflight

NANO = Path(__file__).parents[3] / "configs" / "nano.yaml"


def test_a_copy_counts_as_its_engine_does() -> None:
    section = RayEngineSection.model_validate(
        {"replicas": 3, "replica": {"type": "vllm", "max_num_seqs": 10, "tensor_parallel_size": 4}}
    )
    assert (section.rows_at_once, section.gpus_of_a_replica) == (30, 4)
    assert RayEngineSection(replicas=2).rows_at_once == 1024
    with pytest.raises(ConfigError, match=r"engine\.replica\.replicas: 2; .* set engine\.replicas"):
        load_config(NANO, ["engine={type: ray, replica: {type: vllm, replicas: 2}}"])


def test_without_ray_the_key_and_the_remedy_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    find = importlib.util.find_spec

    def none_of_ray(name: str, *rest: Any) -> Any:
        return None if name == "ray" else find(name, *rest)

    monkeypatch.setattr(connection.importlib.util, "find_spec", none_of_ray)
    rows = ["data.train.count=3", "data.development.count=1", "data.test=null"]
    config = load_config(NANO, ["engine.type=ray", f"job.root={tmp_path}", "tracking.enabled=false", *rows])
    (model,) = [item for item in preflight(config).checks if item.name == "model and lengths"]
    assert not model.ok
    assert "engine.type: ray needs Ray, which is not installed" in model.detail
    assert connection.RAY in model.detail
