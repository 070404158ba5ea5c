"""One tick that kills itself: `python -m tests.svd_loop.schedule.kill_tick ROOT PLACE`; see `kill_cli` for places."""

from __future__ import annotations

import sys
from pathlib import Path

from svd_loop.schedule import Schedule
from tests.svd_loop.kill_cli import Moment, watch
from tests.svd_loop.schedule.schedule_support import Clock, StandIn, schedule_config


def main(root: Path, place: str) -> None:
    watch(Moment(place))
    models = StandIn(root)
    Schedule(schedule_config(root), root / "inbox", gate=models.gate, models=models, clock=Clock()).tick()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
