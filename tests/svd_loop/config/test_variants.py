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
        ("update.algorithm.type=dopo", "update.algorithm.type: no update algorithm is called 'dopo'; known: sft"),
        ("update.algorithm.colour=1", "update.algorithm.sft.colour: unknown key; known keys here: type"),
        ("engine=5", "engine: "),
    ],
)
def test_a_mistake_in_a_variant_is_one_message(override: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(NANO, [override])
    assert complaint in str(caught.value)


def test_an_engine_without_a_type_is_the_default_one() -> None:
    engine = load_config(NANO, ["engine={threads: 1}"]).engine
    assert engine.type == "transformers" and engine.model_dump()["threads"] == 1
