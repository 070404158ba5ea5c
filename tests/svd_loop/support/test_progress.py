"""Plain lines where there is no terminal, by a clock that the tests move."""

from __future__ import annotations

import logging

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


@pytest.mark.parametrize("width", [20, 40, 60, 80, 200])
def test_the_live_line_fits_any_width_and_keeps_its_figures_longest(width: int) -> None:
    title, figures = (
        "round 3/10 judge (round-002 answers as grader)",
        "1,000 of 4,000 rows, 2,300 tokens/s, about 5 min left",
    )
    line = shown.fitted(title, figures, width)
    assert len(line) < width
    assert (figures in line) == (width > len(figures)) and (title in line) == (width == 200)
    assert width < 80 or "round 3/10 judge" in line


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
    assert "50 of 100 rows, 100 tokens/s, about 10 s left" in drawn and "round 1/2" in drawn
    assert "\x1b[2K" in drawn


def test_a_remark_is_shown_where_there_is_room_and_the_phase_longest() -> None:
    title = "round 3/10 judge, 90/150 accepted, job at most 12 min (round-002 answers as grader)"
    figures = "1,000 of 4,000 rows, 2,300 tokens/s, about 5 min left"
    shown_at = {width: shown.fitted(title, figures, width).removesuffix(figures) for width in (160, 120, 95, 80)}
    assert shown_at == {
        160: f"{title}: ",
        120: "round 3/10 judge, 90/150 accepted, job at most 12 min: ",
        95: "round 3/10 judge, 90/150 accepted: ",
        80: "round 3/10 judge: ",
    }


def test_the_time_left_is_that_of_the_rounds_so_far() -> None:
    assert shown.time_left([100.0, 140.0], 3) == "job at most 6 min"
    assert shown.time_left([], 3) == shown.time_left([100.0], 0) == ""
