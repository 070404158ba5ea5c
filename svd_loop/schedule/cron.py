"""Run ticks at the times of a cron expression, in this process.

cronsim parses the expression and computes the times as Debian's cron does. When summer time changes, a fixed time that
is skipped runs right after the clock jumps, and one that occurs twice runs at its first occurrence; a `*` or `*/n` in
the minute or hour field follows the clock. No scheduler library runs the ticks, because those use threads, and a job
handles Ctrl-C, which Python allows only on the main thread. If times pass during a tick, or while no process was
running, one tick makes up for all of them.
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
"""Seconds; a suspended machine or a changed clock is noticed within this time."""


@dataclass(frozen=True)
class CronTrigger:
    """A valid five-field cron expression in a time zone."""

    expression: str
    zone: tzinfo

    def next_time(self, after: float) -> float | None:
        """Return the first time later than `after` (seconds since 1970), or None if there is none within 50 years."""
        from cronsim import CronSim

        for moment in CronSim(self.expression, datetime.fromtimestamp(after, self.zone)):
            # In the hour that occurs twice, cronsim starts from the local time and may return a time already past.
            if (due := float(moment.timestamp())) > after:
                return due
        return None


def cron_trigger(expression: str, timezone: str | None = None) -> CronTrigger:
    """Parse a five-field cron expression in a time zone (None: the machine's).

    Raises:
        ConfigError: the expression is invalid, or the time zone does not exist.
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
    """Call `tick` at each time of the trigger until it has no further time.

    An `SvdError` is logged, and the next tick runs at its time; any other exception ends the process.

    Args:
        tick: performs one tick.
        trigger: see `cron_trigger`.
        last: time of the last tick of any process (seconds since 1970); None if there was none.
        clock: returns seconds since 1970.
        sleep: waits the given number of seconds.
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
            log.warning("the tick failed, the next one runs at its time: %s: %s", type(error).__name__, error)
        due = trigger.next_time(clock())
