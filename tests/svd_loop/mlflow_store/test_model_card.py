from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import yaml

from svd_loop.contracts import JobResult
from svd_loop.mlflow_store.model_card import CHECKPOINT, as_description, model_card
from tests.svd_loop.jobs_support import small


def card_of(result: JobResult, *overrides: str) -> str:
    config = small(Path("."), *overrides).model_dump(mode="json")
    return model_card("demo", result.best, result.history, config, CHECKPOINT.format(path="out"), test=result.test)


def test_a_card_tells_scores_data_and_how_it_was_made(result: JobResult) -> None:
    card = card_of(result)
    assert "# demo, round-002" in card and result.best.version.fingerprint in card
    assert "| development | overall | 40.0 (35.0 to 45.0) | 58.0 (53.0 to 63.0) |" in card
    assert "| test | math | 51.0 (46.0 to 56.0) | 65.0 (60.0 to 70.0) |" in card
    assert "| 2 | 100 | 90 | 180 | 0 |" in card and "\n| 3 |" not in card  # round 3 is no part of its making
    assert "the arithmetic generator, seed 0" in card and "| votes a stage | 2 |" in card
    assert 'from_pretrained("out")' in card and "Rows of all earlier rounds were added." in card


def test_the_front_matter_is_yaml_and_names_a_base_of_the_hub_only(result: JobResult) -> None:
    for path, base in (("Qwen/Qwen3-0.6B", "Qwen/Qwen3-0.6B"), ("/models/mine", None)):
        front = card_of(result, f"model.path={path}").split("---")[1]
        data = yaml.safe_load(front)
        assert data.get("base_model") == base and data["library_name"] == "transformers"


def test_replay_and_anchors_are_told(result: JobResult) -> None:
    card = card_of(result, "update.replay={rounds: 2, ratio: 0.5, anchor: own, anchor_ratio: 2}")
    assert "Rows of the last 2 rounds were added, at most 0.5 a new row, and 2.0 anchor rows (`own`)" in card


def test_a_description_fits_mlflow_and_has_no_front_matter(result: JobResult) -> None:
    long = replace(result, history=tuple(result.history) * 200)
    text = as_description(card_of(long))
    assert text.startswith("# demo") and len(text) == 5000
