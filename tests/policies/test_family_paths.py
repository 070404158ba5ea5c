"""The whole path for each family: answer, become a row, be trained on (full and LoRA), be loaded again, answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from safetensors.torch import load_file

from policies.opening import open_policy
from policies.policy import ModelPolicy
from policies.training.rows import dataset_columns
from policies.training.sft import SftUpdater
from policies.versions.checkpoints import load_codec
from policies.versions.stored import StoredVersion
from policies.versions.weights import WeightStore
from svd_loop.config.engines import TransformersEngineSection
from svd_loop.config.sections import ModelSection
from svd_loop.config.update import LoraSection, UpdateSection
from svd_loop.contracts import AgentCall, CallId, FinishReason, Message, Reply, Role, Sampling, TrainingRow
from tests.policies.families import FAMILIES, save_family

ROLES = {Role.SOLVER: Sampling(40, 1.3), Role.GRADER: Sampling(8)}


def opened(stored: StoredVersion, name: str) -> ModelPolicy:
    model = {"path": "x", "device": "cpu", "templates": "plain" if name == "plain" else "chat"}
    samplings = dict(ROLES)
    if name == "qwen3":
        samplings[Role.SOLVER] = replace(ROLES[Role.SOLVER], thinking=True)
    return open_policy(
        stored,
        samplings=samplings,
        engine_settings=TransformersEngineSection(batch_size=32),
        model_settings=ModelSection.model_validate(model),
        job_seed=0,
    )


def answers(policy: ModelPolicy, count: int = 60) -> list[Reply]:
    messages = (Message("system", "Be brief."), Message("user", "What is 12 + 30?"))
    calls = [AgentCall(CallId("train", 1, Role.SOLVER, f"p{i}"), messages, "t/1") for i in range(count)]
    return policy.generate(calls)


def trained(store: WeightStore, rows: list[TrainingRow], method: str, name: str, round: int) -> StoredVersion:
    codec = load_codec(store.load(0), plain=name == "plain")
    settings = UpdateSection(
        method=method,
        learning_rate=0.01,
        steps=1,
        batch_size=4,
        max_length=256,
        warmup=0.0,
        start="base",
        lora=LoraSection(rank=4, alpha=8),
    )
    updater = SftUpdater(
        store, settings, tokenizer=codec.tokenizer, stop_ids=codec.stop_ids, pad_id=codec.pad_id, device="cpu"
    )
    updater.fit(rows, round=round, parent=store.path(0))
    return store.load(round)


@pytest.mark.parametrize("name", FAMILIES)
def test_from_an_answer_to_a_better_informed_one(tmp_path: Path, name: str) -> None:
    store = WeightStore(tmp_path / "versions")
    base = store.add_base(save_family(name, tmp_path / "base"))
    policy = opened(base, name)
    replies = answers(policy)
    policy.close()
    complete = [reply for reply in replies if reply.finish_reason is FinishReason.STOP and len(reply.token_ids) > 1]
    stops = load_codec(base, plain=name == "plain").stop_ids
    assert complete and all(reply.token_ids[-1] in stops for reply in complete)
    rows = [
        TrainingRow((*r.prompt_ids, *r.token_ids), len(r.prompt_ids), "accepted", r.call.prompt_id) for r in complete
    ]
    for row, reply, item in zip(rows, complete, dataset_columns(rows)["labels"], strict=True):
        supervised = [label for label in item if label != -100]
        assert tuple(supervised) == reply.token_ids and len(item) == len(row.input_ids)
        assert item[: row.supervised_from] == [-100] * row.supervised_from
    for round, method in enumerate(("full", "lora"), 1):
        version = trained(store, rows, method, name, round)
        assert version.version.fingerprint != base.version.fingerprint
        again = opened(version, name)
        after = answers(again)
        again.close()
        assert [reply.prompt_ids for reply in after] == [reply.prompt_ids for reply in replies]
        assert [reply.token_ids for reply in after] != [reply.token_ids for reply in replies]
    adapter = load_file(store.path(2) / "adapter_model.safetensors")
    assert any(tensor.abs().max() > 0 for key, tensor in adapter.items() if "lora_B" in key)
