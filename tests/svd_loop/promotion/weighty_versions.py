"""Versions of nano with real weights in every form a version has, made without training, for tests of serving them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from policies.versions.weights import Origin, WeightStore
from svd_loop.assembly.job import template_set
from svd_loop.config import Config, load_config
from svd_loop.mlflow_store.packaging import make_loadable
from svd_loop.mlflow_store.records import RegisteredVersion
from svd_loop.mlflow_store.registry import Registry
from svd_loop.mlflow_store.tags import manifest_tags
from svd_loop.nano import NANO_CHECKPOINT

NANO = Path(__file__).parents[3] / "configs" / "nano.yaml"
ROUNDS = {"base": 0, "full": 1, "lora": 2}


def nano_config(root: Path, *overrides: str) -> Config:
    return load_config(NANO, [f"job.root={root}", "engine.threads=1", "sampling.max_tokens=24", *overrides])


def store_versions(root: Path) -> WeightStore:
    """`base` is nano itself, `full` a copy with other weights, `lora` an adapter on nano; see `ROUNDS`."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    store = WeightStore(root / "jobs" / "nano" / "versions")
    store.add_base(NANO_CHECKPOINT)
    model: Any = AutoModelForCausalLM.from_pretrained(NANO_CHECKPOINT, dtype=torch.float32)

    def full(folder: Path) -> None:
        model.save_pretrained(folder)
        AutoTokenizer.from_pretrained(NANO_CHECKPOINT).save_pretrained(folder)

    torch.manual_seed(0)
    adapter = get_peft_model(model, LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False))
    store.write(2, "lora", adapter.save_pretrained, Origin(0, base=NANO_CHECKPOINT))
    model = adapter.unload()
    with torch.no_grad():
        model.model.norm.weight.mul_(1.3)
    store.write(1, "full", full, Origin(0))
    return store


def register(registry: Registry, store: WeightStore, config: Config, kind: str, run_id: str) -> RegisteredVersion:
    """Register a version as a job's end does, and make it the champion."""
    stored = store.load(ROUNDS[kind])
    make_loadable(stored.path, config, template_set(config))
    tags = {"svd_loop.job": "nano", **manifest_tags(stored.path)}
    version = registry.register("nano", stored.path, fingerprint=stored.version.fingerprint, run_id=run_id, tags=tags)
    registry.set_alias("nano", "champion", version.number)
    return version
