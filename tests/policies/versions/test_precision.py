"""The precision that `model.dtype: auto` stands for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from policies.versions import precision
from policies.versions.checkpoints import load_model
from policies.versions.precision import chosen_dtype
from policies.versions.weights import WeightStore
from svd_loop.nano import NANO_CHECKPOINT


def checkpoint(folder: Path, config: object) -> Path:
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    return folder


def supports(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    monkeypatch.setattr("torch.cpu.get_capabilities", lambda: dict.fromkeys(names, True))


@pytest.mark.parametrize(
    ("config", "capability", "expected"),
    [
        ({"hidden_size": 896}, "avx512_bf16", "bfloat16"),
        ({"hidden_size": 896}, "amx_bf16", "bfloat16"),
        ({"hidden_size": 896}, "avx512_f", "float32"),
        ({"hidden_size": 128}, "avx512_bf16", "float32"),
        ({"text_config": {"hidden_size": 128}}, "avx512_bf16", "float32"),
        ({}, "avx512_bf16", "bfloat16"),
        ([], "avx512_bf16", "bfloat16"),
    ],
)
def test_auto_depends_on_the_processor_and_the_width(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: object, capability: str, expected: str
) -> None:
    supports(monkeypatch, capability)
    assert chosen_dtype("auto", checkpoint(tmp_path, config), on_gpu=False) == expected


def test_a_named_precision_is_kept_and_a_gpu_elsewhere_is_assumed_to_have_bfloat16(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    supports(monkeypatch)
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    folder = checkpoint(tmp_path, {"hidden_size": 896})
    assert chosen_dtype("float16", folder, on_gpu=False) == "float16"
    assert chosen_dtype("auto", folder, on_gpu=True) == "bfloat16"


def test_the_embedded_model_is_loaded_in_single_precision(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    supports(monkeypatch, "avx512_bf16")
    assert precision.hidden_size(NANO_CHECKPOINT) is not None
    stored = WeightStore(tmp_path).add_base(NANO_CHECKPOINT)
    assert str(load_model(stored, dtype="auto", device="cpu").dtype) == "torch.float32"
