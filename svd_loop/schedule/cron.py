"""Ticks at the times of a cron expression, in this process.

cronsim reads the expression and computes its times as Debian's cron does. At a change of summer time, a fixed time that
is skipped comes when the clock has jumped, and one that occurs twice comes the first time; a `*` or `*/n` in the minute
or hour follows the clock. No scheduler library runs the ticks: those work in threads, and a job listens to Ctrl-C,
which Python allows on the main thread alone. Times that pass while a tick is at work, or while no process was running,
are made up for by one tick.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, tzinfo
from zoneinfo import ZoneInfo

from svd_loop.errors import ConfigError, JobInterrupted, SvdError

log = logging.getLogger(__name__)
_LONGEST_SLEEP = 60.0
"""Seconds. A machine that was suspended, or whose clock was set, is noticed within this time."""


@dataclass(frozen=True)
class CronTrigger:
    """A five-field cron expression, known to be valid, in a time zone."""

    expression: str
    zone: tzinfo

    def next_time(self, after: float) -> float | None:
        """The first time later than `after`, both in seconds since 1970; None when there is none in fifty years."""
        from cronsim import CronSim

        for moment in CronSim(self.expression, datetime.fromtimestamp(after, self.zone)):
            # In the hour that occurs twice, cronsim starts from the local time and may name a time already past.
            if (due := float(moment.timestamp())) > after:
                return due
        return None


def cron_trigger(expression: str, timezone: str | None = None) -> CronTrigger:
    """The trigger of a five-field cron expression, in a time zone (None: the machine's).

    Raises:
        ConfigError: it is no such expression, or there is no such zone.
    """
    from cronsim import CronSim, CronSimError

    trigger = CronTrigger(expression, _zone(timezone))
    try:
        if (count := len(expression.split())) != 5:
            raise CronSimError(f"{count} fields, where five are expected")
        CronSim(expression, datetime.now(trigger.zone))
    except (CronSimError, ValueError) as error:
        raise ConfigError(
            f"--cron {expression}: not a cron expression: {error}; as in '0 3 * * 1' for Mondays at 03:00"
        ) from None
    return trigger


def _zone(name: str | None) -> tzinfo:
    import tzlocal

    try:
        return tzlocal.get_localzone() if name is None else ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:
        where = "the machine's time zone" if name is None else f"--timezone {name}"
        raise ConfigError(
            f"{where}: {error.args[0] if error.args else error}; as in --timezone Europe/Zurich"
        ) from None


def run_on_cron(
    tick: Callable[[], object],
    trigger: CronTrigger,
    *,
    last: float | None = None,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Tick for ever, or until the trigger has no further time.

    An error a user can cause is logged, and the next tick comes at its time; a defect ends the process.

    Args:
        tick: does what is due.
        trigger: see `cron_trigger`.
        last: when the last tick was (seconds since 1970), in whatever process; None: never.
        clock: seconds since 1970.
        sleep: waits so many seconds.
    """
    due = trigger.next_time(clock() if last is None else min(last, clock()))
    while due is not None:
        if (wait := due - clock()) > 0:
            sleep(min(wait, _LONGEST_SLEEP))
            continue
        try:
            tick()
        except JobInterrupted:
            raise
        except SvdError as error:
            log.warning("the tick failed, the next one comes at its time: %s: %s", type(error).__name__, error)
        due = trigger.next_time(clock())
