from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from policies.versions.portable import make_portable
from policies.versions.stored import stored_version
from policies.versions.weights import Origin, WeightStore, check_intact
from svd_loop.errors import WeightsError


@pytest.fixture
def store(tmp_path: Path) -> WeightStore:
    """A base by reference, an adapter on it, and full weights."""
    checkpoint = tmp_path / "checkpoint"
    checkpoint.mkdir()
    (checkpoint / "model.safetensors").write_bytes(b"base weights")
    (checkpoint / "config.json").write_text("{}")
    store = WeightStore(tmp_path / "versions")
    store.add_base(checkpoint)
    store.write(1, "lora", lambda folder: fill(folder, "adapter_model.safetensors"), Origin(0, base=checkpoint))
    store.write(2, "full", lambda folder: fill(folder, "model.safetensors"), Origin(1))
    return store


def fill(folder: Path, name: str) -> None:
    (folder / name).write_bytes(name.encode())


@pytest.mark.parametrize("round", [0, 1, 2])
def test_a_portable_version_is_intact_wherever_it_is_copied(store: WeightStore, tmp_path: Path, round: int) -> None:
    (tmp_path / "links").mkdir()
    make_portable(store.path(round), tmp_path / "links")
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(tmp_path / "links", elsewhere)
    original = store.load(round)
    shutil.rmtree(store.folder)
    shutil.rmtree(tmp_path / "checkpoint")
    moved = stored_version(elsewhere)
    check_intact(moved)
    assert (moved.version, moved.kind) == (original.version, original.kind)
    (next(elsewhere.rglob("*.safetensors"))).write_bytes(b"other")
    with pytest.raises(WeightsError, match="contents changed"):
        check_intact(moved)


def test_a_version_that_lost_a_file_cannot_travel(store: WeightStore, tmp_path: Path) -> None:
    (tmp_path / "checkpoint" / "config.json").unlink()
    (tmp_path / "links").mkdir()
    with pytest.raises(WeightsError, match=r"config\.json: is part of a version and gone"):
        make_portable(store.path(1), tmp_path / "links")
