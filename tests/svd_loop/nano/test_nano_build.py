"""`svd-loop nano build`, in miniature: everything runs and what comes out is a checkpoint with a card."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from policies.text.chat import ChatCodec
from policies.versions.stored import checkpoint_digests
from svd_loop.nano.build import build


@pytest.mark.slow
def test_a_quick_build_is_a_checkpoint_with_measurements_and_a_card(tmp_path: Path) -> None:
    measured = build(tmp_path / "nano", size="small", seed=1, steps=8, quick=True)
    assert json.loads((tmp_path / "nano" / "measurements.json").read_text()) == measured
    assert set(measured["solving"]) == {"overall", "math", "science", "coding"}
    card = (tmp_path / "nano" / "README.md").read_text()
    assert "## Judging its own solutions" in card
    assert ChatCodec.load(tmp_path / "nano").stop_ids
    assert "model.safetensors" in checkpoint_digests(tmp_path / "nano")


@pytest.mark.parametrize(
    ("wish", "message"),
    [
        ({"size": "huge"}, "size must be one of"),
        ({"steps": 0}, "at least 1"),
    ],
)
def test_invalid_arguments_are_reported(tmp_path: Path, wish: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build(tmp_path / "nano", **wish)  # type: ignore[arg-type]
