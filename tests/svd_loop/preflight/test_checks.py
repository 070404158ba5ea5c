"""What `svd-loop check` finds before any work."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from transformers import Qwen3Config

from svd_loop.config import Config, load_config
from svd_loop.contracts import Role
from svd_loop.errors import ConfigError
from svd_loop.nano import NANO_CHECKPOINT
from svd_loop.preflight import resources as room
from svd_loop.preflight.checks import Check, _work, preflight
from svd_loop.preflight.trial import affordable_candidates
from svd_loop.preflight.work import Measured, RoleMeans
from tests.svd_loop.jobs_support import small

NANO = Path(__file__).parents[3] / "configs" / "nano.yaml"


def checks(config: Config) -> list[Check]:
    return preflight(config).checks


def test_a_good_job_passes_and_leaves_nothing_behind(tmp_path: Path) -> None:
    found = checks(small(tmp_path))
    assert [item.name for item in found if not item.ok] == []
    assert not (tmp_path / "jobs").exists()
    work = next(item for item in found if item.name == "work per round")
    assert work.detail == "at most 72 candidates and 576 judge calls"  # 18 prompts x 4; 2 votes of 2 + 1 + 1 calls


@pytest.mark.parametrize(
    ("asking", "calls"),
    [
        ("direct", 72 * 2 * (2 + 1 + 1)),
        ("think", 72 * 2 * (2 + 1 + 1)),
        ("two_turns", 72 * 2 * (3 + 2 + 2)),
        ("solve_first", 72 * 2 * (3 + 2 + 2) + 18 * 2 * 2),  # an own solution for each prompt, vote and stage but one
    ],
)
def test_the_calls_of_every_way_of_asking_are_counted(tmp_path: Path, asking: str, calls: int) -> None:
    assert _work(small(tmp_path, f"cascade.asking={asking}")) == f"at most 72 candidates and {calls:,} judge calls"
    agreed = small(tmp_path, f"cascade.asking={asking}", "sampling.block=null", "cascade.stages=[agreement]")
    assert _work(agreed) == "at most 72 candidates and 0 judge calls"


def test_each_fault_is_reported_on_its_own_line(tmp_path: Path) -> None:
    train = f"data.train={{type: files, domain: math, paths: ['{tmp_path}/*.jsonl']}}"
    found = {item.name: item for item in checks(small(tmp_path, train, "model.templates=none-such"))}
    assert not found["prompt templates"].ok
    assert "model.templates" in found["prompt templates"].detail
    assert not found["training prompts"].ok
    assert found["held-out problems"].ok
    assert found["disk"].as_dict()["ok"] is True


def test_prompts_without_limit_are_reported(tmp_path: Path) -> None:
    found = {item.name: item for item in checks(small(tmp_path, "data.prompts_per_round=null"))}
    assert "null" in found["work per round"].detail


def test_the_probe_comes_last_and_only_where_it_can_be_made(tmp_path: Path) -> None:
    found = preflight(small(tmp_path), probe=5)
    assert found.ok and [check.name for check in found.checks[-3:]] == ["probe", "judge panel", "verifiers"]
    assert not (tmp_path / "jobs").exists()
    assert (
        found.checks[-3].detail
        == "5 candidates, 5 of them complete; a scripted policy, whose speed is not measured; tokens are bytes"
    )
    assert found.checks[-2].detail.startswith("none: health.panel: 0.05 pays for")
    assert found.forecast is not None and found.forecast.round["judge_calls"].high <= 18 * 4 * 8
    assert found.verifiers is not None and found.verifiers.candidates == 5 + 1
    assert [one.name for one in found.verifiers.rates if one.labelled][-1] == "agreement_2_of_2"
    none = preflight(small(tmp_path, "model.templates=none-such"), probe=5)
    assert none.verifiers is None and none.forecast is None and "probe" not in [check.name for check in none.checks]


@pytest.mark.parametrize(("length", "count"), [(1.0, 64), (100.0, 41), (1000.0, 4), (1e6, 4)])
def test_the_verifier_test_is_as_large_as_a_number_of_tokens_pays_for(
    tmp_path: Path, length: float, count: int
) -> None:
    roles = {Role.SOLVER: RoleMeans(length, length), Role.GRADER: RoleMeans(2 * length, length, 2.0)}
    config = small(tmp_path, "cascade.votes=3")
    assert affordable_candidates(config, Measured(4, 4, roles, {})) == count


def nano(root: Path, *overrides: str) -> Config:
    return load_config(NANO, [f"job.root={root}", *overrides])


def test_memory_of_a_real_model_is_reported_and_refused(tmp_path: Path) -> None:
    """The embedded checkpoint against GPUs that are not here."""
    assert "0.9M parameters; training takes" in room.memory_needed(nano(tmp_path), 80.0)
    ways = "update.micro_batch_size: 1 or update.gradient_checkpointing: true or update.method: lora"
    with pytest.raises(ConfigError, match=rf"a GPU of 0\.5 GiB\. rows of \d+ tokens fit: .*set {ways}, or train on"):
        room.memory_needed(nano(tmp_path), 0.5)
    one = "update.micro_batch_size=1"
    assert "rows fit at full length" in room.memory_needed(nano(tmp_path, one), 0.5)
    least = nano(tmp_path, one, "update.gradient_checkpointing=true", "update.method=lora")
    with pytest.raises(ConfigError, match=r"even weights, gradients and optimizer states do not fit: set a smaller"):
        room.memory_needed(least, 0.003)
    served = nano(tmp_path, one, "engine={type: vllm, gpu_memory_utilization: 0.01}")
    with pytest.raises(ConfigError, match=r"generating takes .* more than 1% of 1 times .*lower model\.max_context"):
        room.memory_needed(served, 0.2)
    assert "this machine's memory" in room.memory_needed(nano(tmp_path, "model.device=cpu"))


def test_known_prompts_and_rows_share_what_the_weights_leave(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 4, "vocab_size": 1024}
    Qwen3Config(**sizes, num_attention_heads=4, num_key_value_heads=2, head_dim=64).save_pretrained(tmp_path / "wide")
    for name in ("tokenizer.json", "model.safetensors"):  # only the shape of config.json is read
        shutil.copy(NANO_CHECKPOINT / name, tmp_path / "wide")
    one = ("update.micro_batch_size=1", "model.device=cpu", "model.dtype=float32", "engine.batch_size=512")
    wide = nano(tmp_path, f"model.path={tmp_path / 'wide'}", "model.max_context=2048", *one)
    monkeypatch.setattr(room, "free_memory", lambda: 4 * 2**30)
    # A token takes 2 * 2 heads * 64 * 4 layers * 4 bytes = 4 KiB, a row with its spare columns 10 MiB.
    said = room.memory_needed(wide)
    assert "known prompts up to 1.0 GiB" in said and "8.0 MiB of KV cache a row of 2,048 tokens" in said
    assert "(204 of 512 rows fit at full length; engine.batch_size is reduced to what fits)" in said
    assert "(306 of 512 rows fit at full length; engine.batch_size is halved" in room.memory_needed(wide, 4.0)
    none = nano(tmp_path, f"model.path={tmp_path / 'wide'}", *one, "engine.prefix_cache_gib=0", "engine.batch_size=2")
    assert "known" not in room.memory_needed(none) and "(2 of 2 rows fit" in room.memory_needed(none)
    much = nano(tmp_path, f"model.path={tmp_path / 'wide'}", *one, "engine.prefix_cache_gib=4")
    with pytest.raises(ConfigError, match=r"known prompts up to 4\.0 GiB, more than .*engine\.prefix_cache_gib lower"):
        room.memory_needed(much)


def test_a_gpu_too_small_is_a_check_that_fails(tmp_path: Path) -> None:
    found = preflight(nano(tmp_path, "tracking.enabled=false", "data.train.count=4"), gpu_memory=0.1)
    assert [check.name for check in found.checks if not check.ok] == ["memory"] and not found.ok


def test_versions_that_do_not_fit_the_disk_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = nano(tmp_path, "update.keep_versions=1")
    assert "3 versions of 3.5 MiB take 10.5 MiB" in room.disk_needed(config)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=10 * 2**20))
    with pytest.raises(ConfigError, match=r"job\.root: 3 versions .* but there are 10\.0 MiB free .*keep_versions"):
        room.disk_needed(config)


def test_a_served_model_needs_no_memory_here_to_generate(tmp_path: Path) -> None:
    served = nano(tmp_path, "engine={type: server, endpoints: ['http://localhost:1']}", "update.method=lora")
    assert "generating runs on the endpoints, which are not checked" in room.memory_needed(served)


def test_a_reason_common_to_several_checks_is_reported_once(tmp_path: Path) -> None:
    checks = preflight(load_config(NANO, ["model.path=nowhere/at/all", f"job.root={tmp_path}"]), probe=0).checks
    by_name = {check.name: check for check in checks}
    assert "nowhere/at/all" in by_name["model and lengths"].detail
    for name in ("training prompts", "disk"):
        assert not by_name[name].ok and by_name[name].detail == "see model and lengths"
