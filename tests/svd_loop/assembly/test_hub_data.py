"""Fetching a data set: from a folder in the place of the hub, and what is said without a network."""

from __future__ import annotations

import json
from pathlib import Path

import datasets.config
import huggingface_hub.constants
import pytest

from envs.prompts import read_prompts
from svd_loop.assembly.hub_data import fetch_data
from svd_loop.config.data import FieldMap, FilesSource
from svd_loop.errors import ConfigError, DataError


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def test_a_fetched_split_is_a_source_of_prompts(tmp_path: Path) -> None:
    published = tmp_path / "published"
    published.mkdir()
    (published / "train.jsonl").write_text('{"question": "What is 1 + 1?"}\n{"question": "What is 2 + 2?"}\n')
    source = fetch_data(str(published), tmp_path / "mine")
    fields = FieldMap(prompt="question")
    read = read_prompts(FilesSource(paths=(str(tmp_path / "mine" / "train"),), domain="math", fields=fields))
    assert [prompt.text for prompt in read] == ["What is 1 + 1?", "What is 2 + 2?"]
    assert json.loads((tmp_path / "mine" / "SOURCE.json").read_text()) == source
    assert source["rows"] == 2 and source["columns"] == ["question"]
    with pytest.raises(ConfigError, match="nothing is overwritten"):
        fetch_data(str(published), tmp_path / "mine")
    with pytest.raises(DataError, match=r"test.*train"):  # an unknown split, and those that are there
        fetch_data(str(published), tmp_path / "other", split="test")
    assert not (tmp_path / "other").exists()


def test_without_a_network_the_advice_fits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    with pytest.raises(DataError, match="where there is a network") as caught:
        fetch_data("nobody/none", tmp_path / "mine")
    assert "HF_HUB_OFFLINE" not in str(caught.value) and not (tmp_path / "mine").exists()
