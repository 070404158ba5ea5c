from __future__ import annotations

from svd_loop.contracts import HealthMeasure, JobResult, JobState, RoundRecord
from svd_loop.report.overview import HEALTH_WORDS, overview


def test_a_finished_job_has_its_best_round_notes_and_figures(result: JobResult) -> None:
    page = overview(result, {"a": 1})
    assert [view.number for view in page.rounds if view.is_best] == [2]
    assert page.tiles[0].value == "58.0 (53.0–63.0)" and "+18.0 points" in page.tiles[0].below
    assert page.ended and page.notes[-1] == "3 problems detect 40 points"
    assert [name for name, _, _ in page.panels] == ["overall", "math", "science", "coding"]


def test_a_running_job_names_the_best_round_so_far(history: list[RoundRecord]) -> None:
    page = overview(JobState("demo", tuple(history[:2])), {})
    assert not page.ended and [view.is_best for view in page.rounds] == [False, True]


def test_a_round_has_its_funnel_votes_and_cost(history: list[RoundRecord]) -> None:
    view = overview(JobState("demo", tuple(history)), {}).rounds[1]
    assert view.funnel[-1] == ("accepted", 300, 0.375) and view.votes == [("factuality", 380, 100, 20)]
    assert ("round", "grader") in [(purpose, role) for purpose, role, _ in view.cost] and view.seconds == 10.0


def test_an_alarm_has_its_limit_beside_the_figure(alarmed: list[RoundRecord]) -> None:
    page = overview(JobState("demo", tuple(alarmed)), {})
    assert page.has_alarm and page.rounds[2].health[0].limit == 0.1
    assert any(tile.tone == "bad" and "alarm in 1 of 2 rounds" in tile.below for tile in page.tiles)


def test_a_job_without_rounds_has_a_page() -> None:
    page = overview(JobState("demo"), {})
    assert page.groups == [] and page.panels == [] and page.rounds == []


def test_every_measure_of_health_has_its_words() -> None:
    assert set(HEALTH_WORDS) == set(HealthMeasure)
