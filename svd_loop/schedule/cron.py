"""Ticks at the times of a cron expression, in this process.

APScheduler reads the expression and knows calendars and summer time; its own scheduler is not used, because it runs
work in threads, and a job listens to Ctrl-C, which Python allows on the main thread alone. Times that pass while a
tick is at work, or while no process was running, are made up for by one tick.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from svd_loop.errors import ConfigError, JobInterrupted, SvdError

log = logging.getLogger(__name__)
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_LONGEST_SLEEP = 60.0
"""Seconds. A machine that was suspended, or whose clock was set, is noticed within this time."""


def cron_trigger(expression: str, timezone: str | None = None) -> Any:
    """The trigger of a five-field cron expression, in a time zone (None: the machine's).

    Raises:
        ConfigError: it is no such expression, or there is no such zone.
    """
    from apscheduler.triggers.cron import CronTrigger

    try:
        *fields, weekdays = expression.split()
        return CronTrigger.from_crontab(" ".join([*fields, _named(weekdays)]), timezone)
    except KeyError as error:  # zoneinfo's, for a zone it does not know
        raise ConfigError(f"--timezone {timezone}: {error.args[0]}; as in Europe/Zurich") from None
    except ValueError as error:
        raise ConfigError(
            f"--cron {expression}: not a cron expression: {error}; as in '0 3 * * 1' for Mondays at 03:00"
        ) from None


def _named(weekdays: str) -> str:
    """Weekdays by name: cron counts them from Sunday (0 or 7), APScheduler from Monday."""
    parts = []
    for part in weekdays.split(","):
        found = re.fullmatch(r"(\*|[0-7])(?:-([0-7]))?(?:/([1-7]))?", part)
        if found is None or part == "*":
            parts.append(part)
            continue
        first, last, step = found.groups()
        start = 0 if first == "*" else int(first)
        end = int(last) if last else 6 if step else start
        parts += [_WEEKDAYS[day % 7] for day in range(start, end + 1, int(step or 1))]
    return ",".join(parts)


def next_time(trigger: Any, after: float) -> float | None:
    """The first time of a trigger later than `after`, both in seconds since 1970; None when there is none."""
    moment = datetime.fromtimestamp(after, UTC)
    due = trigger.get_next_fire_time(moment, moment)
    return None if due is None else float(due.timestamp())


def run_on_cron(
    tick: Callable[[], object],
    trigger: Any,
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
    due = next_time(trigger, clock() if last is None else min(last, clock()))
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
        due = next_time(trigger, clock())
