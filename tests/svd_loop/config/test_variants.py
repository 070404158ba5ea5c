"""Jobs begun before a variant had a name: what is left out in their configuration means the same job."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from svd_loop.config import load_config, parse_config
from svd_loop.errors import ConfigError, JobConflictError
from svd_loop.ledger.identity import refuse_changes

NANO = Path(__file__).parents[3] / "configs" / "nano.yaml"


def begun() -> dict[str, Any]:
    """The configuration of a job, as ledgers hold it."""
    return load_config(NANO).model_dump(mode="json")


def test_a_job_begun_before_update_algorithms_had_names_goes_on(tmp_path: Path) -> None:
    old = begun()
    del old["update"]["algorithm"]
    refuse_changes(tmp_path, old, load_config(NANO))
    assert parse_config(old) == load_config(NANO)


def test_the_built_in_stages_and_domains_of_a_job_do_not_depend_on_what_else_there_is() -> None:
    config = begun()
    assert config["cascade"]["stages"] == ["cycle_consistency", "factuality", "correctness"]
    assert config["data"]["train"]["domains"] == ["math", "science", "coding"]


def test_another_engine_is_another_job(tmp_path: Path) -> None:
    with pytest.raises(JobConflictError, match=r"engine\.type: 'transformers' -> 'scripted'"):
        refuse_changes(tmp_path, begun(), load_config(NANO, ["engine={type: scripted}"]))


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        (
            "update.algorithm.type=dopo",
            "update.algorithm.type: no update algorithm is called 'dopo'; known: dpo, grpo, kto, sft",
        ),
        ("update.algorithm.colour=1", "update.algorithm.sft.colour: unknown key; known keys here: type"),
        ("engine=5", "engine: "),
    ],
)
def test_a_mistake_in_a_variant_is_one_message(override: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(NANO, [override])
    assert complaint in str(caught.value)


@pytest.mark.parametrize(
    ("name", "overrides", "dropped"),
    [
        ("qwen3-0.6b", ["engine.type=transformers"], ["engine.gpu_memory_utilization"]),
        ("qwen3-4b", ["engine.type=transformers"], ["engine.gpu_memory_utilization"]),
        ("qwen3-4b-served", ["engine.type=vllm"], ["engine.endpoints"]),
        ("nano", ["engine.batch_size=7", "engine.type=transformers"], []),
        ("nano", ["data.train={type: files, paths: [x]}", "data.train.type=files"], ["data.train.count"]),
    ],
)
def test_another_type_drops_what_it_does_not_know_with_a_warning(
    name: str, overrides: list[str], dropped: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    config = load_config(NANO.with_name(f"{name}.yaml"), overrides)
    assert f"type={config.engine.type}" in overrides[-1] or config.data.train.type == "files"
    for key in dropped:
        assert f"{overrides[-1]}: dropped what this type does not know" in caplog.text and f"{key}: " in caplog.text
    assert dropped or not caplog.records


def test_a_key_given_beside_the_type_is_not_dropped(caplog: pytest.LogCaptureFixture) -> None:
    for overrides in (["engine.type=scripted", "engine.batch_size=7"], ["engine.batch_size=7", "engine.type=scripted"]):
        with pytest.raises(ConfigError, match=r"engine\.scripted\.batch_size: unknown key"):
            load_config(NANO, overrides)


def test_an_engine_without_a_type_is_the_default_one() -> None:
    engine = load_config(NANO, ["engine={threads: 1}"]).engine
    assert engine.type == "transformers" and engine.model_dump()["threads"] == 1
