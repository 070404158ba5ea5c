"""One tick without MLflow: `python -m tests.svd_loop.schedule.intake ROOT`."""

from __future__ import annotations

import sys
from pathlib import Path

from svd_loop.schedule import Schedule
from tests.svd_loop.schedule.schedule_support import Clock, StandIn, schedule_config


def tick(root: Path) -> None:
    models = StandIn(root)
    Schedule(schedule_config(root), root / "inbox", gate=models.gate, models=models, clock=Clock()).tick()


if __name__ == "__main__":
    tick(Path(sys.argv[1]))
