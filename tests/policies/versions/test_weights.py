"""The version store: whole or not at all, damage found, nothing deleted that is needed."""

import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from policies.versions.checkpoints import export_merged
from policies.versions.stored import MANIFEST, read_manifest
from policies.versions.weights import Origin, WeightStore
from svd_loop.errors import WeightsError
from tests.processes import run

NANO = Path(__file__).parents[3] / "policies" / "nano"


def make_base(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"base weights")
    (folder / "config.json").write_text("{}")
    (folder / "README.md").write_text("not part of the model")
    return folder


def fill(content: bytes = b"weights") -> object:
    def write(folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(content)

    return write


def store_with(folder: Path, rounds: int = 2) -> WeightStore:
    store = WeightStore(folder / "versions")
    store.add_base(make_base(folder / "base"))
    for round in range(1, rounds + 1):
        store.write(round, "full", fill(b"weights %d" % round), Origin(round - 1, "data", "config"))
    return store


def test_a_version_comes_back_as_it_was_written(tmp_path: Path) -> None:
    store = store_with(tmp_path)
    assert store.rounds() == [0, 1, 2]
    stored = store.load(2)
    assert (stored.version.name, stored.kind, stored.parent, stored.checkpoint) == ("round-002", "full", 1, stored.path)
    assert stored.version.fingerprint != store.load(1).version.fingerprint
    manifest = read_manifest(stored.path)
    assert (manifest.data_digest, manifest.config_digest) == ("data", "config")
    assert "torch" in manifest.libraries


@pytest.mark.parametrize("links", [True, False])
def test_a_chosen_checkpoint_becomes_the_version_and_outlives_the_others(
    tmp_path: Path, links: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not links:  # a file system that has none cannot be had at will

        def refused(self: Path, target: object) -> None:
            raise OSError(errno.EPERM, "Operation not permitted")

        monkeypatch.setattr(Path, "hardlink_to", refused)
    store = store_with(tmp_path, 1)
    for step in (5, 10):
        store.write(2, "full", fill(b"after %d" % step), Origin(1, "data", "config", steps=step), step=step)
    assert (store.steps(2), store.steps(1), store.rounds()) == ([5, 10], [], [0, 1])
    last, first = store.choose(2, 10), store.choose(2, 5)
    assert last.version != first.version == store.load(2).version == store.choose(2, 5).version
    assert read_manifest(store.path(2)).steps == 5
    store.drop_steps(1)
    assert store.steps(2) == [5, 10]
    store.drop_steps(2)
    assert store.steps(2) == [] and not store.step_path(2, 5).parent.exists()
    assert (store.load(2).path / "model.safetensors").read_bytes() == b"after 5"
    assert store.existing(2, "data", "config") == first


def test_choosing_what_is_not_there_leaves_everything_as_it_was(tmp_path: Path) -> None:
    store = store_with(tmp_path, 1)
    with pytest.raises(WeightsError, match="step-000007: no version is stored here"):
        store.choose(1, 7)
    assert store.load(1).version.name == "round-001"


@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o027, 0o640), (0o077, 0o600)])
def test_files_of_a_version_and_of_an_export_follow_the_umask(tmp_path: Path, umask: int, mode: int) -> None:
    def modes(folder: Path) -> set[int]:
        return {path.stat().st_mode & 0o777 for path in folder.rglob("*") if path.is_file()}

    def save(folder: Path) -> None:
        save_file({"a": torch.zeros(2)}, folder / "model.safetensors")

    before = os.umask(umask)
    try:
        store = WeightStore(tmp_path / "versions")
        base = store.add_base(NANO)
        version = store.write(1, "full", save, Origin(0, "data", "config"))
        export_merged(base, tmp_path / "export")
    finally:
        os.umask(before)
    assert modes(version.path) == modes(tmp_path / "export") == {mode}


def test_the_base_is_kept_by_reference_and_recognised(tmp_path: Path) -> None:
    store = store_with(tmp_path, rounds=0)
    stored = store.load(0)
    assert stored.checkpoint == (tmp_path / "base").resolve()
    assert [path.name for path in stored.path.iterdir()] == [MANIFEST]
    (tmp_path / "base" / "README.md").write_text("changed, and no matter")
    assert store.add_base(tmp_path / "base") == stored
    (tmp_path / "base" / "config.json").write_text('{"changed": 1}')
    with pytest.raises(WeightsError, match="not the checkpoint this job started from"):
        store.add_base(tmp_path / "base")


def test_equal_files_have_equal_fingerprints_wherever_they_lie(tmp_path: Path) -> None:
    first, second = store_with(tmp_path / "a"), store_with(tmp_path / "b")
    assert first.load(1).version == second.load(1).version


@pytest.mark.parametrize("damage", ["truncate", "flip", "remove"])
def test_damage_names_the_file_and_the_last_good_version(tmp_path: Path, damage: str) -> None:
    store = store_with(tmp_path, rounds=3)
    weights = store.path(3) / "model.safetensors"
    if damage == "truncate":
        os.truncate(weights, 3)
    elif damage == "flip":
        weights.write_bytes(b"weights 4")
    else:
        weights.unlink()
    with pytest.raises(WeightsError) as caught:
        store.load(3)
    assert str(weights) in str(caught.value) and "last good version is round-002" in str(caught.value)
    assert store.load(3, verify=False).version.round == 3


def test_a_missing_version_and_a_damaged_manifest_are_clear_errors(tmp_path: Path) -> None:
    store = store_with(tmp_path)
    with pytest.raises(
        WeightsError,
        match=r"round-007: no version is stored here.*there are .*round-002; the last good version is round-002",
    ):
        store.load(7)
    (store.path(2) / MANIFEST).write_text('{"round": 2,')
    with pytest.raises(WeightsError, match=r"manifest\.json: damaged.*last good version is round-001"):
        store.load(2)
    (store.path(1) / MANIFEST).write_text('{"format": 99}')
    with pytest.raises(WeightsError, match="newer svd-loop"):
        store.load(1)


@pytest.mark.parametrize("change", ["parent", "steps", "data_digest", "digest", "digest lost"])
def test_a_changed_manifest_is_damaged(tmp_path: Path, change: str) -> None:
    store = store_with(tmp_path)
    path = store.path(2) / MANIFEST
    data = json.loads(path.read_text())
    if change == "digest lost":
        del data["digest"]
    else:
        data[change] = f"{data[change]}1" if isinstance(data[change], str) else data[change] + 1
    path.write_text(json.dumps(data))
    with pytest.raises(WeightsError, match=r"round-002/manifest\.json: damaged.*last good version is round-001"):
        store.load(2)


def test_a_manifest_from_before_the_digest_is_read(tmp_path: Path) -> None:
    store = store_with(tmp_path)
    path = store.path(2) / MANIFEST
    data = json.loads(path.read_text())
    del data["digest"]
    path.write_text(json.dumps(data | {"format": 1}))
    assert store.load(2).parent == 1


def test_a_damaged_base_leaves_nothing_to_go_back_to(tmp_path: Path) -> None:
    store = store_with(tmp_path, rounds=0)
    os.truncate(tmp_path / "base" / "model.safetensors", 1)
    with pytest.raises(WeightsError, match="no intact version is left"):
        store.load(0)


KILLED = """
import os, sys
from pathlib import Path
from policies.versions.weights import Origin, WeightStore
store = WeightStore(Path(sys.argv[1]))
real = Path.rename
Path.rename = lambda self, target: os._exit(9)
store.write(2, "full", lambda folder: (folder / "model.safetensors").write_bytes(b"new") and None, Origin(1))
"""


def test_a_kill_before_the_rename_leaves_the_old_state(tmp_path: Path) -> None:
    store = store_with(tmp_path, rounds=1)
    done = run([sys.executable, "-c", KILLED, str(store.folder)])
    assert done.returncode == 9
    assert len(list(store.folder.glob(".unfinished-*"))) == 1
    reopened = WeightStore(store.folder)
    assert reopened.rounds() == [0, 1] and not list(store.folder.glob(".unfinished-*"))
    assert reopened.load(1).version == store.load(1).version


def test_a_writer_that_fails_leaves_nothing(tmp_path: Path) -> None:
    store = store_with(tmp_path, rounds=1)

    def disk_full(folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    with pytest.raises(WeightsError, match="round-002: cannot be written: No space left on device"):
        store.write(2, "full", disk_full, Origin(1))
    assert sorted(path.name for path in store.folder.iterdir()) == ["round-000", "round-001"]


def test_writing_again_replaces(tmp_path: Path) -> None:
    store = store_with(tmp_path, rounds=1)
    again = store.write(1, "full", fill(b"other"), Origin(0))
    assert store.load(1) == again
    assert sorted(path.name for path in store.folder.iterdir()) == ["round-000", "round-001"]


def test_an_existing_version_is_found_by_data_and_configuration(tmp_path: Path) -> None:
    store = store_with(tmp_path, rounds=1)
    assert store.existing(1, "data", "config") == store.load(1)
    assert store.existing(1, "other", "config") is None
    assert store.existing(1, "data", "other") is None
    assert store.existing(2, "data", "config") is None
    os.truncate(store.path(1) / "model.safetensors", 1)
    assert store.existing(1, "data", "config") is None


@given(st.integers(0, 6), st.sets(st.integers(0, 8)))
def test_retention_deletes_exactly_what_is_not_kept(rounds: int, keep: set[int]) -> None:
    folder = Path(tempfile.mkdtemp())
    try:
        store = store_with(folder, rounds)
        deleted = store.retain(keep)
        assert set(deleted) == set(range(1, rounds + 1)) - keep
        assert store.rounds() == sorted({0} | (set(range(rounds + 1)) & keep))
        assert store.retain(keep) == []
    finally:
        shutil.rmtree(folder)


def test_what_a_kept_adapter_belongs_to_is_kept(tmp_path: Path) -> None:
    store = store_with(tmp_path, rounds=2)
    adapter = store.write(3, "lora", fill(b"adapter"), Origin(2, base=store.path(2)))
    assert store.retain([3]) == [1]
    os.truncate(store.path(2) / "model.safetensors", 1)
    with pytest.raises(WeightsError, match=r"round-002/model\.safetensors: damaged"):
        store.load(adapter.version.round)


def test_listing_versions_loads_no_torch() -> None:
    code = "import sys, policies.versions.weights; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parents[3], check=False).returncode == 0
