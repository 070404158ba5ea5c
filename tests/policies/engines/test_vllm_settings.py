"""What the vLLM engine decides before vLLM is asked: none of this needs it to be installed."""

from __future__ import annotations

import importlib.util
import json
import tomllib
from pathlib import Path

import pytest
import torch

from policies.engines import vllm
from policies.engines.probe import check_probe
from policies.engines.serving import Served
from policies.engines.vllm import adapter_rank, child_environment, start_message
from policies.engines.vllm_child import Start, Started, reference_logprobs
from svd_loop.config import load_config
from svd_loop.config.engines import RepetitionSection, VllmEngineSection
from svd_loop.errors import ConfigError, ModelError
from svd_loop.preflight.checks import preflight

NANO = Path(__file__).parents[3] / "configs" / "nano.yaml"
SERVED = Served(Path("/checkpoint"), "round-003-abc", 3)


def start_of(served: Served = SERVED, prompts: tuple[tuple[int, ...], ...] = ((1, 2),), **settings: object) -> Start:
    return start_message(served, VllmEngineSection(**settings), "float32", 64, (9, 4), prompts)


def test_every_parameter_vllm_would_choose_is_passed() -> None:
    start = start_of(kv_cache_gib=0.5, block_size=32)
    assert start["engine"]["generation_config"] == "vllm"
    assert start["engine"]["enable_prefix_caching"] is True
    assert start["engine"]["max_model_len"] == 64
    assert start["engine"]["kv_cache_memory_bytes"] == 2**29
    assert start["engine"]["block_size"] == 32
    assert start["sampling"]["stop_token_ids"] == [4, 9]
    assert start["sampling"]["ignore_eos"] is True  # the codec's stop tokens, and no others
    assert start["repetition"] is None
    assert "thinking_token_budget" not in start["sampling"]
    assert "enable_lora" not in start["engine"]


def test_probe_prompts_fit_the_context() -> None:
    assert len(start_of(prompts=(tuple(range(100)),))["prompts"][0]) == 63


def test_repetition_and_thinking_budget_reach_vllm_when_set() -> None:
    start = start_of(
        repetition=RepetitionSection(longest=20, count=4), thinking_token_budget=99, reasoning_parser="qwen3"
    )
    assert start["repetition"] == {"min_pattern_size": 4, "max_pattern_size": 20, "min_count": 4}
    assert start["sampling"]["thinking_token_budget"] == 99
    assert start["engine"]["reasoning_parser"] == "qwen3"
    assert start["engine"]["skip_tokenizer_init"] is False  # the parser looks tokens up


@pytest.mark.parametrize(("rank", "room"), [(1, 1), (4, 8), (8, 8), (33, 64), (512, 512)])
def test_an_adapter_gets_room_for_its_rank(tmp_path: Path, rank: int, room: int) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"r": rank}))
    served = Served(Path("/checkpoint"), "round-002-abc", 2, tmp_path)
    start = start_of(served)
    assert start["engine"]["max_lora_rank"] == adapter_rank(tmp_path) == room
    assert start["adapter"] == ("round-002-abc", 2, str(tmp_path))


@pytest.mark.parametrize(
    ("content", "message"), [('{"r": 513}', "rank 513"), ("{}", "is not an adapter configuration")]
)
def test_an_adapter_that_cannot_be_served_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "adapter_config.json").write_text(content)
    with pytest.raises(ModelError, match=message):
        adapter_rank(tmp_path)


def test_replicas_get_gpus_and_threads_of_their_own() -> None:
    settings = VllmEngineSection(replicas=2, tensor_parallel_size=2, threads=3)
    environments = [child_environment(settings, index, {"CUDA_VISIBLE_DEVICES": "4,5,6,7"}) for index in range(2)]
    assert [item["CUDA_VISIBLE_DEVICES"] for item in environments] == ["4,5", "6,7"]
    assert [item["OMP_NUM_THREADS"] for item in environments] == ["3", "3"]
    assert child_environment(settings, 1, {})["CUDA_VISIBLE_DEVICES"] == "2,3"
    assert "CUDA_VISIBLE_DEVICES" not in child_environment(VllmEngineSection(), 0, {})


def test_too_few_gpus_for_the_replicas_are_refused() -> None:
    with pytest.raises(ConfigError, match="need 4; CUDA_VISIBLE_DEVICES names 3"):
        child_environment(VllmEngineSection(replicas=4), 0, {"CUDA_VISIBLE_DEVICES": "0,1,2"})


@pytest.fixture
def without_vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(vllm.importlib.util, "find_spec", lambda name: None if name == "vllm" else find(name))


def test_check_says_what_to_install(without_vllm: None, tmp_path: Path) -> None:
    config = load_config(
        NANO,
        [
            "engine.type=vllm",
            f"job.root={tmp_path}",
            "tracking.enabled=false",
            "data.train.count=3",
            "data.development.count=1",
            "data.test=null",
        ],
    )
    (model,) = [item for item in preflight(config).checks if item.name == "model and lengths"]
    assert not model.ok
    assert "vllm is not installed" in model.detail
    (extra,) = tomllib.loads((NANO.parents[1] / "pyproject.toml").read_text())["project"]["optional-dependencies"][
        "vllm"
    ]
    assert f"pip install '{extra}'" in model.detail  # this project itself is on no index
    assert "make setup-vllm" in model.detail


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["engine.thinking_token_budget=5"], "belong together"),
        (["engine.batch_size=5"], "engine.vllm.batch_size: unknown key"),
        (["cascade.frozen_judge=true"], "keeps two models loaded at once"),
        (["engine.repetition={count: 1}"], "engine.vllm.repetition.count"),
        (["engine.repetition={longest: 3}"], "shortest: 4 exceeds longest: 3"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(NANO, ["engine.type=vllm", *overrides])
    assert message in str(caught.value)


def test_a_frozen_judge_fits_where_memory_is_divided() -> None:
    load_config(NANO, ["engine.type=vllm", "cascade.frozen_judge=true", "engine.gpu_memory_utilization=0.45"])


def started(served: list[list[float]], reference: list[list[float]] | None) -> Started:
    return Started(version="0", served=served, reference=reference)


def test_the_probe_takes_the_worst_replica() -> None:
    answers = [started([[-1.0, -2.0]], [[-1.0, -2.0]]), started([[-1.0, -2.5]], None)]
    assert check_probe(answers, 0.3, SERVED) == pytest.approx(0.25)
    with pytest.raises(ModelError, match=r"round-003-abc: .* differ by 0\.25 nats .* 0\.2 are allowed"):
        check_probe(answers, 0.2, SERVED)


def test_the_probe_refuses_what_is_not_a_number() -> None:
    with pytest.raises(ModelError, match="differ by nan"):
        check_probe([started([[float("nan")]], [[-1.0]])], 100.0, SERVED)


def test_the_probe_tells_weights_apart(checkpoint: Path, tmp_path: Path) -> None:
    from policies.versions.checkpoints import load_checkpoint

    other = load_checkpoint(checkpoint, "float32")
    with torch.no_grad():
        for weight in other.parameters():
            weight.mul_(1.05)
    other.save_pretrained(tmp_path)
    prompts = (tuple(range(10, 60)),)
    mine, theirs = (
        reference_logprobs(start_of(Served(folder, "round-000-abc", 0), prompts)) for folder in (checkpoint, tmp_path)
    )
    assert check_probe([started(mine, mine)], 0.01, SERVED) == 0.0
    with pytest.raises(ModelError, match="vLLM serves other weights"):
        check_probe([started(theirs, mine)], 0.01, SERVED)
