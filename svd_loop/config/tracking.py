"""The `tracking` section: the trackers of a job's rounds, and where versions are registered."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from svd_loop.config.base import ModelName, Section
from svd_loop.config.variants import OneOf
from svd_loop.support.plugins import Seam, Variant


class TrackerSection(Section):
    """What every tracker's section has; a plug-in's section derives from it."""

    type: str
    """Name of the tracker."""


class MlflowTrackerSection(TrackerSection):
    """Runs in the MLflow store of `tracking.uri`: one for the job, one for each round."""

    type: Literal["mlflow"] = "mlflow"
    traces: int = Field(default=20, ge=0, le=100)
    """Judged candidates of each round that are logged as traces, with the prompt and every vote in words; the same ones
    whenever the round is logged. 0 logs no text of the job's data to MLflow."""


class TensorBoardTrackerSection(TrackerSection):
    """Event files for TensorBoard; needs `pip install -e '.[tensorboard]'`."""

    type: Literal["tensorboard"] = "tensorboard"
    folder: Path | None = None
    """Event files are written to a folder of the job's name below this one; null is `tensorboard` in the job's
    folder."""


TRACKERS = Seam(
    "tracker",
    "tracking.trackers",
    "svd_loop.trackers",
    Variant(MlflowTrackerSection, "svd_loop.mlflow_store.mlflow_tracker:make_tracker"),
    Variant(TensorBoardTrackerSection, "svd_loop.mlflow_store.tensorboard_tracker:make_tracker"),
)
"""Trackers; `build` takes the tracker's section and a `TrackedJob` and gives a `svd_loop.contracts.Tracker`."""

AnyTracker = Annotated[TrackerSection, OneOf(TRACKERS, by_name=True)]
"""Any tracker's section, or its name alone."""


class TrackingSection(Section):
    """Trackers, and the MLflow store that keeps runs and registered models."""

    enabled: bool = True
    """false tracks nothing, registers nothing and opens no store; true and a tracker that cannot work is an error."""
    trackers: tuple[AnyTracker, ...] = (MlflowTrackerSection(),)
    """Trackers that get every round, by name or as a section: `[mlflow, {type: tensorboard, folder: boards}]`. The best
    version is registered whichever they are."""
    uri: str | None = None
    """MLflow store of runs and registered models; null is `sqlite:///<root>/mlflow.db` with artifacts beside it."""
    experiment: str = "svd-loop"
    """MLflow experiment."""
    register_as: ModelName | None = None
    """Registered model name of the best version; null is the job's name."""
