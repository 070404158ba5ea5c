"""Nano's anchors are for nano and what was trained from it, whatever its folder is called."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from svd_loop.assembly.backends import refuse_foreign_anchors
from svd_loop.config import Config, load_config
from svd_loop.errors import ConfigError, ModelError
from svd_loop.nano import NANO_CHECKPOINT

NANO = Path(__file__).parents[3] / "configs" / "nano.yaml"


def config_of(checkpoint: str, *overrides: str) -> Config:
    return load_config(NANO, [f"model.path={checkpoint}", *overrides])


def test_anchors_go_with_the_vocabulary(tmp_path: Path) -> None:
    refuse_foreign_anchors(config_of("nano"))
    descendant = tmp_path / "round-003"
    shutil.copytree(NANO_CHECKPOINT, descendant)
    refuse_foreign_anchors(config_of(str(descendant)))
    tokenizer = json.loads((descendant / "tokenizer.json").read_text())
    first, second, *_ = vocabulary = tokenizer["model"]["vocab"]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]
    (descendant / "tokenizer.json").write_text(json.dumps(tokenizer))
    with pytest.raises(ConfigError, match=r"update\.replay\.anchor: posttrain .*round-003; use own or none"):
        refuse_foreign_anchors(config_of(str(descendant)))
    refuse_foreign_anchors(config_of(str(descendant), "update.replay.anchor=own"))
    with pytest.raises(ModelError, match=r"has no config\.json"):
        refuse_foreign_anchors(config_of(str(tmp_path)))
