"""Checkpoints of others: each defect is one error that names its file."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from policies.versions.inspection import refuse_unusable, usable_checkpoint
from svd_loop.errors import ConfigError, ModelError
from svd_loop.nano import NANO_CHECKPOINT


def _config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def _only_pickle(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({"a": 1}))


def _cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def _index(folder: Path, file: str) -> None:
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": file}}))


def _fewer_layers(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file(
        {name: value for name, value in tensors.items() if ".layers.3." not in name}, folder / "model.safetensors"
    )


DEFECTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "pickle": (_only_pickle, "pytorch_model.bin, a pickle, which can run code"),
    "none": (lambda folder: (folder / "model.safetensors").unlink(), "has no weights"),
    "cut": (_cut, "model.safetensors is damaged or cut short"),
    "noise": (lambda folder: (folder / "model.safetensors").write_bytes(b"\xff" * 100), "damaged or cut short"),
    "empty": (lambda folder: (folder / "model.safetensors").write_bytes(b""), "damaged or cut short"),
    "no config": (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
    "bad config": (lambda folder: (folder / "config.json").write_text("{" * 10_000), "config.json cannot be read"),
    "deep config": (lambda folder: (folder / "config.json").write_text("[" * 100_000), "config.json cannot be read"),
    "list config": (lambda folder: (folder / "config.json").write_text("[]"), "must be a JSON object"),
    "deep settings": (
        lambda folder: (folder / "generation_config.json").write_text("[" * 100_000),
        "generation_config.json cannot be read",
    ),
    "list of settings": (
        lambda folder: (folder / "tokenizer_config.json").write_text("[1]"),
        "must be a JSON object",
    ),
    "more layers in words": (
        lambda folder: _config(folder, num_nextn_predict_layers="x", num_hidden_layers=28),
        "says 28 layers",
    ),
    "layers": (lambda folder: _config(folder, num_hidden_layers=28), "says 28 layers, the weights have 4"),
    "fewer layers": (_fewer_layers, "says 4 layers, the weights have 3"),
    "huge": (lambda folder: _config(folder, hidden_size=10**30), "hidden_size is 1000"),
    "negative": (lambda folder: _config(folder, vocab_size=-1), "vocab_size is -1"),
    "vocabulary": (lambda folder: _config(folder, vocab_size=17), "says vocab_size 17, the weights"),
    "no tokenizer": (lambda folder: [path.unlink() for path in folder.glob("tokenizer*")], "has no tokenizer"),
    "text": (lambda folder: _config(folder, text_config=3), "text_config is not a mapping"),
    "outside": (lambda folder: _index(folder, "../x.safetensors"), "names a file outside its folder"),
    "missing": (lambda folder: _index(folder, "x.safetensors"), "x.safetensors is missing|damaged"),
    "no map": (lambda folder: (folder / "model.safetensors.index.json").write_text("{}"), "has no weight_map"),
}


@pytest.mark.parametrize("kind", DEFECTS)
def test_a_defect_is_one_error_that_names_the_file(tmp_path: Path, kind: str) -> None:
    spoil, message = DEFECTS[kind]
    folder = shutil.copytree(NANO_CHECKPOINT, tmp_path / "model")
    spoil(folder)
    with pytest.raises(ModelError, match=message) as found:
        refuse_unusable(folder)
    assert str(folder) in str(found.value) and len(str(found.value)) < 1000


def test_sound_checkpoints_pass(tmp_path: Path) -> None:
    assert usable_checkpoint(NANO_CHECKPOINT, tmp_path) == NANO_CHECKPOINT
    assert torch.__version__ and not list(tmp_path.iterdir())


def test_a_file_that_is_no_gguf_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.bin").write_bytes(b"1234")
    with pytest.raises(ConfigError, match=r"x.bin is a file and not in GGUF"):
        usable_checkpoint(tmp_path / "x.bin", tmp_path)
