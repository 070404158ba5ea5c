"""TensorBoard event files: what is in them, once, and again after a kill."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from svd_loop.config.tracking import TensorBoardTrackerSection, TrackingSection
from svd_loop.contracts import JobResult, RoundRecord
from svd_loop.errors import ConfigError
from svd_loop.mlflow_store.tensorboard_tracker import TensorBoardTracker, make_tracker
from svd_loop.mlflow_store.trackers import TrackedJob


def tracker(root: Path, **settings: Any) -> TensorBoardTracker:
    pytest.importorskip("tensorboardX", reason="the extra svd-loop[tensorboard] is not installed")
    section = TensorBoardTrackerSection(**settings)
    return make_tracker(section, TrackedJob(TrackingSection(), root, "demo", {}))


def events(folder: Path) -> Iterator[Any]:
    """The events of all files in a folder, as TensorBoard reads them: records of length, checksum, bytes, checksum."""
    from tensorboardX.proto.event_pb2 import Event

    for path in sorted(folder.iterdir()):
        data = path.read_bytes()
        while data:
            (length,) = struct.unpack("<Q", data[:8])
            yield Event.FromString(data[12 : 12 + length])
            data = data[16 + length :]


def scalars(folder: Path, name: str) -> list[tuple[int, float]]:
    found = [(event.step, value) for event in events(folder) for value in event.summary.value]
    return [(step, round(value.simple_value, 4)) for step, value in found if value.tag == name]


def test_rounds_are_steps_and_the_end_is_logged(tmp_path: Path, history: list[RoundRecord], result: JobResult) -> None:
    one = tracker(tmp_path)
    one.start()
    for count in range(1, len(history) + 1):
        one.sync(history[:count])
    one.finish(result)
    folder = tmp_path / "jobs" / "demo" / "tensorboard"
    assert scalars(folder, "pass_at_1/overall") == [(0, 0.40), (1, 0.52), (2, 0.58), (3, 0.57)]
    assert scalars(folder, "test/pass_at_1/overall") == [(0, 0.41), (2, 0.55)]
    assert any(b"Stopped because" in event.SerializeToString() for event in events(folder))


def test_a_process_that_continues_shows_every_round_once(tmp_path: Path, history: list[RoundRecord]) -> None:
    for count in (2, 4):
        one = tracker(tmp_path, folder=tmp_path / "boards")
        one.start()
        one.sync(history[:count])
        one.pause()
    assert [step for step, _ in scalars(tmp_path / "boards" / "demo", "pass_at_1/overall")] == [0, 1, 2, 3]


def test_a_missing_library_is_an_error_at_the_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"tensorboardX: pip install -e '.\[tensorboard\]'"):
        TensorBoardTracker(tmp_path / "boards").start()
    assert not (tmp_path / "boards").exists()
