"""Plain lines where there is no terminal, by a clock that the tests move."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from svd_loop.support import progress as shown


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Clock:
    caplog.set_level(logging.INFO, logger=shown.__name__)
    monkeypatch.setattr("sys.stderr.isatty", lambda: False)
    found = Clock()
    monkeypatch.setattr(shown, "_clock", found)
    return found


def test_a_line_a_minute_counts_across_calls_and_the_end_of_a_phase_is_told(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    with shown.phase("round 3/10 judge"), shown.batch(4000) as tally:
        tally.known = tally.rows = 400  # already in the ledger
        for _ in range(9):
            with shown.progress("round-002 answers as grader", 100) as bar:
                clock.now += 10
                bar.advance(100, 23_000)
    assert caplog.messages == [
        "round 3/10 judge (round-002 answers as grader): 1,000 of 4,000 rows, 2,300 tokens/s, about 5 min left",
        "round 3/10 judge: done, 900 rows, 2,300 tokens/s in 2 min",
    ]


def test_short_work_and_work_without_a_label_say_nothing(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    with shown.phase("baseline evaluate"), shown.progress("base answers as solver", 10) as bar:
        clock.now += 5
        bar.advance(10, 100)
    with shown.progress("", 10) as bar:
        clock.now += 500
        bar.advance(10, 100)
    assert caplog.messages == []


def test_steps_are_steps_and_an_unknown_total_is_not_made_up(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    with shown.phase("round 1/2 update"), shown.progress("round-001 trains", 50, "steps") as bar:
        for _ in range(2):
            clock.now += 60
            bar.advance(5)
    with shown.progress("reading prompts", 0) as bar:
        clock.now += 61
        bar.advance(12_000)
    assert caplog.messages == [
        "round 1/2 update (round-001 trains): 5 of 50 steps, about 9 min left",
        "round 1/2 update (round-001 trains): 10 of 50 steps, about 8 min left",
        "round 1/2 update: done, 2 min",
        "reading prompts: 12,000 rows",
    ]


@pytest.fixture
def judging(clock: Clock) -> Iterator[shown.Tally]:
    """In the third of ten rounds, 2 minutes into it, a quarter of the judging done in 1 minute."""
    tally = shown.Tally(4000, clock.now + 60, rows=1000, tokens=138_000)
    with shown.one_round([300.0, 420.0], 7), shown.phase("round 3/10 judge"):
        shown.note("90/150 accepted")
        clock.now += 120
        yield tally
    shown.note("")


@pytest.mark.parametrize("width", [10, 20, 40, 60, 80, 120, 200])
def test_the_live_line_fits_any_width(judging: shown.Tally, width: int) -> None:
    assert len(shown.fitted(shown._lines("round-002 answers as grader", judging, "rows"), width)) < width


def test_at_80_columns_everything_is_told_and_at_60_all_but_the_accepted(judging: shown.Tally) -> None:
    lines = shown._lines("round-002 answers as grader", judging, "rows")
    assert {width: shown.fitted(lines, width) for width in (200, 130, 80, 60)} == {
        200: "round 3/10 judge, 90/150 accepted (round-002 answers as grader): "
        "1,000 of 4,000 rows, 2,300 tokens/s, about 3 min left, round about 4 min, job at most 46 min",
        130: "round 3/10 judge, 90/150 accepted: "
        "1,000 of 4,000 rows, 2,300 tokens/s, about 3 min left, round about 4 min, job at most 46 min",
        80: "round 3/10 judge, 90/150 accepted: 25%, 2,300 tok/s, round 4 min, job 46 min",
        60: "round 3/10 judge: 25%, 2,300 tok/s, round 4 min, job 46 min",
    }


def test_without_a_finished_round_the_work_alone_has_a_time(clock: Clock) -> None:
    tally = shown.Tally(100, clock.now, rows=25)
    clock.now += 60
    with shown.one_round([], 9), shown.phase("round 1/10 sample"):
        assert shown.fitted(shown._lines("base answers as solver", tally, "rows"), 60) == (
            "round 1/10 sample: 25 of 100 rows, about 3 min left"
        )
        assert shown._lines("base answers as solver", tally, "rows")[-1] == "25%, 3 min left"


def test_a_round_that_takes_longer_than_the_others_has_no_time_left(clock: Clock) -> None:
    with shown.one_round([60.0], 2):
        clock.now += 100
        assert shown._times_left() == ("round about 0 s, job at most 2 min", "round 0 s, job 2 min")


def test_plain_lines_tell_the_same(judging: shown.Tally, clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    with shown.progress("round-002 answers as grader", 100) as bar:
        clock.now += 60
        bar.advance(50, 6000)
    assert caplog.messages == [
        "round 3/10 judge, 90/150 accepted (round-002 answers as grader): "
        "50 of 100 rows, 100 tokens/s, about 60 s left, round about 3 min, job at most 45 min"
    ]


def test_on_a_terminal_a_line_is_drawn_and_taken_away(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    terminal = io.StringIO()
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr("sys.stderr", terminal)
    for name, value in (("COLUMNS", "60"), ("TERM", "xterm")):
        monkeypatch.setenv(name, value)
    with shown.phase("round 1/2 judge"), shown.progress("round-000 answers as grader", 100) as bar:
        clock.now += 10
        bar.advance(50, 1000)
    drawn = terminal.getvalue()
    assert "round 1/2 judge: 50%, 100 tok/s, 10 s left" in drawn
    assert "\x1b[2K" in drawn
