"""Ticks at the right times, on a simulated clock."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest

from svd_loop.errors import ConfigError, JobInterrupted, ScheduleError
from svd_loop.schedule.cron import cron_trigger, run_on_cron

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


def test_a_day_that_is_rare_is_found_and_one_that_never_comes_is_refused() -> None:
    leap_monday = cron_trigger("0 0 29 2 *", "UTC")  # the next of 2100's missing 29 February is eight years away
    assert (
        leap_monday.next_time(datetime(2096, 3, 1, tzinfo=UTC).timestamp())
        == datetime(2104, 2, 29, tzinfo=UTC).timestamp()
    )
    with pytest.raises(ConfigError, match="Bad day-of-month"):
        cron_trigger("0 0 30 2 *", "UTC")


def slots(expression: str, zone: str, start: str, count: int) -> list[str]:
    """Local times, with their offset, of the ticks that follow one another, each asked for from the last."""
    trigger, moment = cron_trigger(expression, zone), datetime.fromisoformat(start).timestamp()
    found = []
    for _ in range(count):
        moment = trigger.next_time(moment) or 0.0
        found.append(datetime.fromtimestamp(moment, ZoneInfo(zone)).strftime("%d %H:%M%z"))
    return found


@pytest.mark.parametrize(
    ("expression", "zone", "start", "expected"),
    [
        ("0 0 * * *", "Europe/Berlin", "2026-03-28T12:00Z", ["29 00:00+0100", "30 00:00+0200", "31 00:00+0200"]),
        ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00Z", ["29 03:00+0200", "30 02:30+0200"]),  # skipped, so after
        ("15,45 2 * * *", "Europe/Berlin", "2026-03-28T12:00Z", ["29 03:00+0200", "30 02:15+0200", "30 02:45+0200"]),
        ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00Z", ["25 02:30+0200", "26 02:30+0100"]),  # the first of two
        ("30 2 * * *", "Europe/Berlin", "2026-10-25T01:10Z", ["26 02:30+0100"]),  # from between the two
        ("0 0 * * *", "US/Pacific", "2026-03-08T00:00Z", ["08 00:00-0800", "09 00:00-0700", "10 00:00-0700"]),
        ("30 1 * * *", "US/Pacific", "2026-10-31T12:00Z", ["01 01:30-0700", "02 01:30-0800"]),
        ("15 2 * * *", "Australia/Lord_Howe", "2026-10-03T00:00Z", ["04 02:30+1100", "05 02:15+1100"]),
        ("45 1 * * *", "Australia/Lord_Howe", "2026-04-04T00:00Z", ["05 01:45+1100", "06 01:45+1030"]),
        ("0 0 * * *", "America/Havana", "2026-03-07T12:00Z", ["08 01:00-0400", "09 00:00-0400"]),
        (
            "*/30 * * * *",
            "Europe/Berlin",
            "2026-10-25T00:15Z",
            ["25 02:30+0200", "25 02:00+0100", "25 02:30+0100", "25 03:00+0100"],
        ),
        ("*/30 * * * *", "Europe/Berlin", "2026-03-29T00:15Z", ["29 01:30+0100", "29 03:00+0200"]),
    ],
)
def test_summer_time_is_handled_as_cron_does(expression: str, zone: str, start: str, expected: list[str]) -> None:
    assert slots(expression, zone, start, len(expected)) == expected


@pytest.mark.parametrize("zone", ["Europe/Berlin", "US/Pacific", "Australia/Lord_Howe", "America/Santiago", "UTC"])
@pytest.mark.parametrize("minute", [0, 30])
@pytest.mark.parametrize("hour", range(4))
def test_every_day_of_a_year_has_one_tick(zone: str, minute: int, hour: int) -> None:
    # Asked for at any time of the day and not only from tick to tick, as after restarts.
    trigger = cron_trigger(f"{minute} {hour} * * *", zone)
    start = datetime(2026, 1, 1, tzinfo=ZoneInfo(zone)).timestamp()
    ticks: list[float] = []
    for day in range(365):
        for sixth in range(0, 144, 11):
            due = trigger.next_time(start + day * DAY + sixth * 600.0)
            assert due is not None and due > start + day * DAY + sixth * 600.0
            ticks.append(due)
    days = [datetime.fromtimestamp(tick, ZoneInfo(zone)).date() for tick in sorted(set(ticks))]
    assert len(days) == len(set(days)) and len(days) in (365, 366)


def test_a_day_of_the_month_or_of_the_week_is_enough() -> None:
    assert slots("0 0 13 * fri", "UTC", "2026-03-07T00:00Z", 3) == ["13 00:00+0000", "20 00:00+0000", "27 00:00+0000"]


@pytest.mark.parametrize(
    ("field", "days"),
    [("0", "7"), ("7", "7"), ("1-5", "12345"), ("0-2,fri", "1257"), ("*/2", "2467"), ("mon", "1"), ("*", "1234567")],
)
def test_weekdays_count_from_sunday_as_cron_does(field: str, days: str) -> None:
    trigger = cron_trigger(f"0 0 * * {field}", "UTC")
    found, moment = set(), SUNDAY
    for _ in range(7):
        moment = trigger.next_time(moment) or 0.0
        found.add(str(datetime.fromtimestamp(moment, UTC).isoweekday()))
    assert "".join(sorted(found)) == days


@pytest.mark.parametrize(
    ("expression", "zone"),
    [
        ("every monday", None),
        ("0 3 * *", None),
        ("", None),
        ("0 0 3 * * 1", None),
        ("61 * * * *", None),
        ("*/0 * * * *", None),
        ("1" * 5000 + " * * * *", None),
        ("0 3 * * 1", "Nowhere/X"),
        ("0 3 * * 1", "Europe"),
        ("0 3 * * 1", "../x"),
        ("0 3 * * 1", ""),
    ],
)
def test_invalid_expressions_and_zones_are_refused(expression: str, zone: str | None) -> None:
    with pytest.raises(ConfigError, match="--cron" if zone is None else f"--timezone {zone}: "):
        cron_trigger(expression, zone)
