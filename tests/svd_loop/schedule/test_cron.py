"""Ticks at the right times, on a clock that costs nothing."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from svd_loop.errors import ConfigError, JobInterrupted, ScheduleError
from svd_loop.schedule.cron import cron_trigger, next_time, run_on_cron

DAY = 86_400.0
SUNDAY = datetime(2026, 3, 1, tzinfo=UTC).timestamp()
MONDAYS = cron_trigger("0 3 * * mon", "UTC")


class Enough(Exception):
    """Ends a loop that would go on for ever."""


class Time:
    def __init__(self, now: float) -> None:
        self.now = now
        self.ticks: list[float] = []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        assert 0 < seconds <= 60
        self.now += seconds

    def ticks_of(self, count: int, *, takes: float = 0.0, last: float | None = None) -> list[float]:
        def tick() -> None:
            self.ticks.append(self.now)
            self.now += takes
            if len(self.ticks) == count:
                raise Enough

        with pytest.raises(Enough):
            run_on_cron(tick, MONDAYS, last=last, clock=self.clock, sleep=self.sleep)
        return [(moment - SUNDAY) / DAY for moment in self.ticks]


def test_every_monday_at_three() -> None:
    assert Time(SUNDAY).ticks_of(3) == [1.125, 8.125, 15.125]


def test_times_missed_by_a_long_tick_are_made_up_for_by_one() -> None:
    assert Time(SUNDAY).ticks_of(2, takes=17 * DAY) == [1.125, 22.125]


def test_times_missed_while_nothing_ran_are_made_up_for_at_once_by_one() -> None:
    assert Time(SUNDAY + 30 * DAY).ticks_of(2, last=SUNDAY) == [30.0, 36.125]
    assert Time(SUNDAY + 2 * DAY).ticks_of(1, last=SUNDAY + 1.2 * DAY) == [8.125]
    assert Time(SUNDAY).ticks_of(1, last=SUNDAY + 90 * DAY) == [1.125]  # the clock was set back


def test_a_failed_tick_is_not_the_last_one() -> None:
    time = Time(SUNDAY)
    errors = [ScheduleError("a folder is gone"), JobInterrupted("Ctrl-C")]

    def tick() -> None:
        time.ticks.append(time.now)
        raise errors[len(time.ticks) - 1]

    with pytest.raises(JobInterrupted):
        run_on_cron(tick, MONDAYS, clock=time.clock, sleep=time.sleep)
    assert [(moment - SUNDAY) / DAY for moment in time.ticks] == [1.125, 8.125]


def test_a_trigger_has_an_end() -> None:
    run_on_cron(lambda: None, cron_trigger("0 0 30 2 *", "UTC"), clock=lambda: SUNDAY)  # there is no such day


def test_summer_time_is_the_zones() -> None:
    nightly = cron_trigger("0 3 * * *", "Europe/Berlin")
    change = datetime(2026, 3, 29, tzinfo=UTC).timestamp()
    first = next_time(nightly, change - DAY)
    assert first is not None and (first - change + DAY) / 3600 == 2  # 03:00 is 02:00 UTC in winter
    second = next_time(nightly, first)
    assert second is not None and (second - first) / 3600 == 23


@pytest.mark.parametrize(
    ("field", "days"),
    [("0", "7"), ("7", "7"), ("1-5", "12345"), ("0-2,fri", "1257"), ("*/2", "2467"), ("mon", "1"), ("*", "1234567")],
)
def test_weekdays_count_from_sunday_as_cron_does(field: str, days: str) -> None:
    trigger = cron_trigger(f"0 0 * * {field}", "UTC")
    found, moment = set(), SUNDAY
    for _ in range(7):
        moment = next_time(trigger, moment) or 0.0
        found.add(str(datetime.fromtimestamp(moment, UTC).isoweekday()))
    assert "".join(sorted(found)) == days


@pytest.mark.parametrize(
    ("expression", "zone"), [("every monday", None), ("0 3 * *", None), ("", None), ("0 3 * * 1", "Nowhere/X")]
)
def test_what_cannot_be_read_is_refused(expression: str, zone: str | None) -> None:
    with pytest.raises(ConfigError, match="--cron" if zone is None else "--timezone Nowhere/X: "):
        cron_trigger(expression, zone)
