"""The example that tells vLLM what to serve, against a real vLLM server. Needs vLLM: `make test-vllm`."""

from __future__ import annotations

import importlib.util
import json
import shutil
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from policies.versions.weights import Origin, WeightStore
from svd_loop.mlflow_store.connection import open_store
from svd_loop.mlflow_store.records import RegisteredVersion
from svd_loop.mlflow_store.registry import Registry
from svd_loop.nano import NANO_CHECKPOINT
from tests.policies.engines.vllm_replica import Replica
from tests.svd_loop.promotion.test_following import script
from tests.svd_loop.promotion.weighty_versions import store_versions

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.slow,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vllm is not installed: make test-vllm"),
]
LORA = ("--enable-lora", "--max-lora-rank", "16", "--max-loras", "2")


def write_adapter(store: WeightStore, round: int, seed: int) -> None:
    """Random, so that no two answer alike."""
    import torch
    from peft import LoraConfig, get_peft_model

    from policies.versions.checkpoints import load_checkpoint

    torch.manual_seed(seed)
    settings = LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False)
    adapter = get_peft_model(load_checkpoint(NANO_CHECKPOINT, "float32"), settings)
    store.write(round, "lora", adapter.save_pretrained, Origin(0, base=NANO_CHECKPOINT))


def ask(url: str, path: str, question: dict[str, Any] | None = None) -> Any:
    data = None if question is None else json.dumps(question).encode()
    request = urllib.request.Request(f"{url}/v1/{path}", data, {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as reply:
        return json.load(reply)


def answers(url: str, model: str) -> list[str]:
    asked = [f"What is {number} + 25?" for number in range(3, 9)]
    question = {"model": model, "prompt": asked, "max_tokens": 16, "temperature": 0}
    return [choice["text"] for choice in ask(url, "completions", question)["choices"]]


def test_an_adapter_that_becomes_champion_is_served_while_vllm_runs(tmp_path: Path, migrated_database: Path) -> None:
    shutil.copy(migrated_database, tmp_path / "mlflow.db")
    store = store_versions(tmp_path)
    write_adapter(store, 3, seed=1)
    opened = open_store(None, tmp_path, "svd-loop")
    registry, run = Registry(opened.client), opened.client.create_run(opened.experiment_id).info.run_id

    def registered(round: int) -> RegisteredVersion:
        stored = store.load(round)
        return registry.register("nano", stored.path, fingerprint=stored.version.fingerprint, run_id=run, tags={})

    first, second = registered(2), registered(3)
    registry.set_alias("nano", "champion", first.number)
    following = script("follow_champion")
    replica = Replica(NANO_CHECKPOINT, tmp_path / "log", *LORA)
    with ExitStack() as stack:
        stack.callback(replica.kill)
        replica.wait()
        told = '{"lora_name": "nano-{version}", "lora_path": "{path}"}'
        command = [
            "curl",
            "-fsS",
            "-H",
            "Content-Type: application/json",
            "-d",
            told,
            f"{replica.url}/v1/load_lora_adapter",
        ]
        looks = iter(range(3))

        def look() -> Any:
            if next(looks) == 1:
                served.append([model["id"] for model in ask(replica.url, "models")["data"]])
                registry.promote(second, over=first)
            return following.champion("nano", None, tmp_path, adapter=True)

        served: list[list[str]] = []
        following.follow(look, command, [0.0] * 3)
        served.append([model["id"] for model in ask(replica.url, "models")["data"]])
        assert served == [["nano", "nano-1"], ["nano", "nano-1", "nano-2"]]
        found = [answers(replica.url, name) for name in served[-1]]
        assert all(one != other for one, other in zip(found, [*found[1:], found[0]], strict=True))
