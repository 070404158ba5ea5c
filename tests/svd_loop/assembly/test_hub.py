"""What is said of a `model.path` that is not there: a folder is no hub name, and advice fits an offline machine."""

from __future__ import annotations

from pathlib import Path

import huggingface_hub.constants
import pytest

from svd_loop.assembly.backends import checkpoint_path
from svd_loop.assembly.hub import looks_local
from svd_loop.errors import ConfigError


@pytest.mark.parametrize("path", ["/no/such", "./x", "../x", "~/models/x", "a/b/c", "x.gguf", "a/b/", "C:\\models\\x"])
def test_a_wrong_folder_is_told_as_one(tmp_path: Path, path: str) -> None:
    with pytest.raises(ConfigError, match="no such folder") as caught:
        checkpoint_path(path, tmp_path)
    message = str(caught.value)
    assert path in message and "hub" not in message and "repo" not in message.lower()


def test_what_lies_beside_a_wrong_folder_is_listed(tmp_path: Path) -> None:
    (tmp_path / "qwen3-1.7b").mkdir()
    with pytest.raises(ConfigError, match=r"no such folder; .* has qwen3-1\.7b"):
        checkpoint_path(str(tmp_path / "qwen3-1.7B-instruct"), tmp_path)
    with pytest.raises(ConfigError, match=r"~ is not expanded here, write /"):
        checkpoint_path("~/nothing", tmp_path)


def test_a_relative_path_below_a_folder_that_is_here_is_no_hub_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models").mkdir()
    monkeypatch.chdir(tmp_path)
    assert looks_local("models/mine") and not looks_local("Qwen/Qwen3-1.7B") and not looks_local("gpt2")


def test_without_a_network_nobody_is_told_to_switch_one_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match=r"Qwen/none: no such folder, .* cannot be asked from here") as caught:
        checkpoint_path("Qwen/none", tmp_path)
    assert "HF_HUB_OFFLINE" not in str(caught.value) and "hf download Qwen/none" in str(caught.value)


def test_what_can_be_no_hub_name_is_told_how_one_looks(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"no such folder, and a model of the hub is named OWNER/NAME"):
        checkpoint_path("my model", tmp_path)
