"""Several trackers at once: each is told everything, none can stop a job once it has started."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from svd_loop.config import load_config
from svd_loop.config.tracking import TrackingSection
from svd_loop.contracts import JobResult, RoundRecord
from svd_loop.errors import ConfigError
from svd_loop.mlflow_store.trackers import TrackedJob, Trackers, make_trackers

NANO = Path(__file__).parents[3] / "configs" / "nano.yaml"


class Noted:
    def __init__(self, log: list[str], *, fails: bool = False) -> None:
        self._log, self._fails = log, fails

    def start(self) -> None:
        self._note("start")

    def sync(self, history: Sequence[RoundRecord]) -> None:
        self._note(f"sync {len(history)}")

    def finish(self, result: JobResult) -> None:
        self._note(f"finish {result.job}")

    def pause(self) -> None:
        self._note("pause")

    def _note(self, what: str) -> None:
        self._log.append(what)
        if self._fails:
            raise LookupError("gone")


def test_one_that_fails_stops_neither_the_others_nor_the_job(
    history: list[RoundRecord], result: JobResult, caplog: pytest.LogCaptureFixture
) -> None:
    one, other = list[str](), list[str]()
    trackers = Trackers([("broken", Noted(one, fails=True)), ("sound", Noted(other))])
    trackers.sync(history)
    trackers.finish(result)
    trackers.pause()
    assert one == other == ["sync 4", "finish demo", "pause"]
    assert caplog.text.count("tracker broken failed: LookupError('gone')") == 3


def test_one_that_cannot_start_is_an_error() -> None:
    log: list[str] = []
    with pytest.raises(LookupError, match="gone"):
        Trackers([("broken", Noted(log, fails=True))]).start()


def test_tracking_switched_off_does_nothing(tmp_path: Path, history: list[RoundRecord], result: JobResult) -> None:
    trackers = make_trackers(TrackedJob(TrackingSection(enabled=False), tmp_path, "demo", {}))
    trackers.start()
    trackers.sync(history)
    trackers.finish(result)
    trackers.pause()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("overrides", "types"),
    [
        ((), ["mlflow"]),
        (("tracking.trackers=[mlflow, {type: tensorboard, folder: boards}]",), ["mlflow", "tensorboard"]),
        (("tracking.trackers=[]",), []),
    ],
)
def test_trackers_are_a_list_of_names_and_sections(overrides: tuple[str, ...], types: list[str]) -> None:
    tracking = load_config(NANO, overrides).tracking
    assert [tracker.type for tracker in tracking.trackers] == types


def test_an_unknown_tracker_lists_the_known_ones() -> None:
    with pytest.raises(
        ConfigError, match=r"tracking\.trackers: no tracker is called 'wandb'; known: mlflow, tensorboard"
    ):
        load_config(NANO, ["tracking.trackers=[mlflow, wandb]"])
