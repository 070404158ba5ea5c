"""Configurations by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from svd_loop.config import load_config
from svd_loop.config.shipped import config_file, shipped
from svd_loop.errors import ConfigError

CONFIGS = Path(__file__).parents[3] / "configs"


def test_every_shipped_name_is_a_job(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert {"nano", "scripted", "qwen3-4b", "paper/qwen3-0.6b"} <= set(shipped())
    for name, path in shipped().items():
        assert load_config(name) == load_config(path)


def test_a_file_of_the_same_name_comes_first_and_a_folder_does_not(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nano").mkdir()
    assert config_file(Path("nano")) == CONFIGS / "nano.yaml"
    (tmp_path / "scripted").write_text("x")
    assert config_file(Path("scripted")) == Path("scripted")


@pytest.mark.parametrize("name", ["nan", "nano.yml", "/nowhere/nano.yaml", "accelerate/ddp"])
def test_an_unknown_name_lists_what_there_is(name: str) -> None:
    with pytest.raises(ConfigError, match=r"no such configuration file; shipped with svd-loop, by name: nano, paper/"):
        config_file(Path(name))
