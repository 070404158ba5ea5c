"""Figures of a judge's health, and the rule that turns them into alarms."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy import stats

from svd_loop.config.health import HealthSection
from svd_loop.contracts import (
    AlarmAction,
    Candidate,
    Episode,
    HealthAlarm,
    HealthFigure,
    HealthMeasure,
    HealthReport,
    PanelVotes,
    PolicyVersion,
    RoundRecord,
    Scores,
    Stage,
    StageName,
    Verdict,
    Vote,
    VoteValue,
)
from svd_loop.loop.health_rule import PANEL_LEVEL, HealthRule, episode_health, explain, outcome
from svd_loop.support.statistics import difference_of_shares, net_change, wilson

Y, N, INVALID = VoteValue.YES, VoteValue.NO, VoteValue.INVALID
SCORES = Scores("development", 1, (), (), ())


def candidate(prompt: str, index: int, text: str, tokens: int = 10) -> Candidate:
    return Candidate(prompt, index, text, token_ids=(1,) * tokens)


def verdict(prompt: str, index: int, *values: VoteValue, stage: StageName = Stage.FACTUALITY) -> Verdict:
    votes = tuple(Vote(prompt, index, stage, place, value) for place, value in enumerate(values))
    return Verdict(prompt, index, all(value is Y for value in values), votes=votes)


def episode(candidates: list[Candidate], verdicts: list[Verdict]) -> Episode:
    return Episode(1, len({c.prompt_id for c in candidates}), tuple(candidates), tuple(verdicts), ())


def record(round: int, health: HealthReport | None) -> RoundRecord:
    return RoundRecord(round, PolicyVersion(1, "ab"), SCORES, health=health)


def figure(name: str) -> HealthFigure:
    measure, _, stage = name.partition(".")
    return HealthFigure(HealthMeasure(measure), stage if stage else None)


def shares(successes: int, trials: int, name: str = "false_accept") -> HealthReport:
    return HealthReport({figure(name): wilson(successes, trials)})


def assessed(report: HealthReport, history: Sequence[RoundRecord] = (), **settings: Any) -> HealthReport:
    found = HealthRule(HealthSection(**settings)).assess(report, history)
    assert found is not None
    return found


def names(report: HealthReport) -> list[str]:
    return [alarm.figure.name for alarm in report.alarms]


def test_figures_of_a_small_episode_by_hand() -> None:
    report = episode_health(
        episode(
            [candidate("a", 0, "x"), candidate("a", 1, "x"), candidate("b", 0, "u"), candidate("b", 1, "w")],
            [verdict("a", 0, Y, Y), verdict("a", 1, Y, N), verdict("b", 0, N), verdict("b", 1, Y, INVALID)],
        )
    )
    assert {share.name: estimate.value for share, estimate in report.shares.items()} == {
        "accepted": 1 / 4,
        "distinct": 1.0,
        "invalid.factuality": 1 / 7,
        "agreement.factuality": 1 / 3,
    }
    assert report.entropy == pytest.approx(0.5)  # no doubt about a, one bit about b
    assert report.length_ratio is None and not report.is_empty


def test_the_length_ratio_needs_enough_accepted_candidates() -> None:
    long = [candidate("a", index, f"{index}", tokens=30) for index in range(20)]
    short = [candidate("a", 20 + index, f"s{index}", tokens=10) for index in range(20)]
    verdicts = [verdict("a", index, Y if index < 20 else N) for index in range(40)]
    assert episode_health(episode(long + short, verdicts)).length_ratio == pytest.approx(1.5)
    verdicts[0] = verdict("a", 0, N)
    assert episode_health(episode(long + short, verdicts)).length_ratio is None


def test_an_empty_episode_has_no_figures() -> None:
    assert episode_health(episode([], [])).is_empty


@pytest.mark.parametrize("accepted, alarmed", [(0, False), (7, False), (8, True), (40, True)])
def test_a_share_alarms_only_when_its_interval_is_clear_of_the_limit(accepted: int, alarmed: bool) -> None:
    found = assessed(shares(accepted, 40))
    assert found.alarms == ((HealthAlarm(figure("false_accept"), 0.1),) if alarmed else ())
    assert found.action == (AlarmAction.STOP if alarmed else None)


@pytest.mark.parametrize(
    "name, begins, trials",
    [
        ("false_accept", 11, 60),
        ("false_accept.factuality", 12, 12),
        ("false_accept.correctness", 47, 60),
        ("drift", 13, 60),
    ],
)
def test_the_default_limits_alarm_from_the_counts_that_the_docs_name(name: str, begins: int, trials: int) -> None:
    history = [record(1, shares(0, trials))] if name == "drift" else []
    share = name.replace("drift", "false_accept")
    for count, alarmed in ((begins - 1, False), (begins, True)):
        assert (name in names(assessed(shares(count, trials, share), history))) is alarmed


@pytest.mark.parametrize(
    "report, name",
    [
        (shares(8, 8, "false_accept.factuality"), "false_accept.factuality"),
        (shares(60, 100, "invalid.correctness"), "invalid.correctness"),
        (shares(2, 30, "distinct"), "distinct"),
        (HealthReport(length_ratio=2.4), "length_ratio"),
        (HealthReport(length_ratio=0.3), "length_ratio"),
    ],
)
def test_every_threshold_can_alarm_and_be_switched_off(report: HealthReport, name: str) -> None:
    found = assessed(report)
    assert names(found) == [name]
    assert outcome(record(1, found)) == "stopped, nothing learned" and "limit" in explain(record(1, found))
    off = dict.fromkeys(("false_accept", "stage_false_accept", "drift", "invalid", "length_band", "distinct"))
    assert assessed(report, **off).alarms == ()


def test_a_high_accepted_share_alarms_only_where_asked_for() -> None:
    report = shares(99, 100, "accepted")
    assert assessed(report).alarms == ()
    assert names(assessed(report, accepted=0.9)) == ["accepted"]


def test_drift_is_measured_from_the_first_round_with_canaries() -> None:
    history = [record(0, None), record(1, HealthReport()), record(2, shares(0, 40)), record(3, shares(9, 40))]
    assert assessed(shares(9, 40), history, false_accept=None).alarms == ()
    found = assessed(shares(10, 40), history, false_accept=None)
    assert found.drift is not None and found.drift.value == pytest.approx(0.25)
    assert names(found) == ["drift"] and "first round 0.25" in explain(record(4, found))
    assert assessed(shares(10, 40), history[:2]).drift is None


def test_rounds_without_figures_are_not_assessed() -> None:
    assert HealthRule(HealthSection()).assess(None, []) is None


@pytest.mark.parametrize(
    "action, distrusts, ends", [("warn", False, False), ("stop", True, True), ("rollback", True, False)]
)
def test_what_each_action_means(action: str, distrusts: bool, ends: bool) -> None:
    rule = HealthRule(HealthSection(action=AlarmAction(action)))
    bad = record(1, rule.assess(shares(40, 40), []))
    assert (rule.distrusts(bad), rule.ends(bad)) == (distrusts, ends)
    good = record(1, rule.assess(shares(0, 40), []))
    assert not rule.distrusts(good) and not rule.ends(good)
    assert explain(good) == outcome(good) == ""


def test_an_alarm_is_told_with_its_figures() -> None:
    report = HealthReport({**shares(20, 40).shares, **shares(8, 8, "false_accept.factuality").shares})
    assert explain(record(3, assessed(report, action=AlarmAction.ROLLBACK))) == (
        "Round 3, rolled back to round-001: canaries accepted by the cascade 0.50 (0.35 to 0.65; limit 0.1); "
        "canaries let through (factuality) 1.00 (0.68 to 1.00; limit 0.65)."
    )


def test_the_difference_of_shares_is_newcombes() -> None:
    # Newcombe 1998, table II, row (a), method 10: 56/70 - 48/80 = 0.2, interval 0.0524 to 0.3339.
    difference = difference_of_shares(wilson(56, 70), wilson(48, 80))
    assert (difference.value, difference.low, difference.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=5e-5)
    same = difference_of_shares(wilson(0, 40), wilson(0, 40))
    assert same.value == 0 and math.isclose(same.low, -same.high)


@pytest.mark.parametrize(
    ("first", "now", "rings"), [(120, 20, True), (120, 60, False), (120, 50, False), (3, 0, False), (20, 200, False)]
)
def test_refusing_too_much_raises_an_alarm(first: int, now: int, rings: bool) -> None:
    history = [record(1, shares(first, 200, "accepted"))]
    report = HealthRule(HealthSection()).assess(shares(now, 200, "accepted"), history)
    assert report is not None and bool(report.alarms) is rings
    silent = HealthRule(HealthSection(accepted_drop=None)).assess(shares(now, 200, "accepted"), history)
    assert silent is not None and not silent.alarms


def test_the_alarm_about_refusals_names_its_limit() -> None:
    history = [record(1, shares(120, 200, "accepted"))]
    report = HealthRule(HealthSection()).assess(shares(5, 200, "accepted"), history)
    assert "candidates accepted 0.03" in explain(record(2, report))


def panel(wrong: str, right: str = "y" * 400, digest: str = "d") -> HealthReport:
    return HealthReport(panel=PanelVotes(1, (("p", 0),), 400, digest, right, wrong))


@pytest.mark.parametrize(
    ("to_yes", "to_no", "rings"),
    [(9, 0, False), (10, 0, True), (10, 2, False), (18, 3, True), (0, 40, False), (64, 30, True)],
)
def test_votes_that_turned_to_yes_raise_an_alarm_when_they_are_too_many(to_yes: int, to_no: int, rings: bool) -> None:
    first = "n" * 300 + "y" * 100
    now = "y" * to_yes + "n" * (300 - to_yes + to_no) + "y" * (100 - to_no)
    found = assessed(panel(now), [record(1, panel(first))])
    assert names(found) == (["drift_to_yes"] if rings else [])
    change = found.shares[figure("drift_to_yes")]
    assert change.value == pytest.approx((to_yes - to_no) / 400) and change.low <= change.value <= change.high
    assert found.shares[figure("drift_to_no")].value == 0.0
    assert not assessed(panel(now), [record(1, panel(first))], drift=None).alarms


def test_ten_rounds_of_a_steady_judge_raise_an_alarm_in_less_than_one_job_of_a_hundred() -> None:
    """Whatever share of the votes turns by chance: nine comparisons of two halves, each vote as likely either way."""
    votes = 400
    chances = np.zeros(votes + 1)
    for turned in range(1, votes + 1):
        counts = np.arange(turned // 2, turned + 1)
        place = bisect_left(counts, True, key=lambda yes: alarming(int(yes), turned - int(yes), votes))
        chances[turned] = stats.binom.sf(turned // 2 + place - 1, turned, 0.5)
    shares = np.linspace(0.0, 0.5, 101)[:, None]  # two draws of a vote differ in at most half of the cases
    of_a_comparison = (stats.binom.pmf(np.arange(votes + 1), votes, shares) * chances).sum(axis=1)
    assert 0.0075 < 18 * of_a_comparison.max() < 0.01


def alarming(gained: int, lost: int, votes: int) -> bool:
    return net_change(gained, lost, votes, level=PANEL_LEVEL).low > 0.0


def test_votes_on_accepted_solutions_that_turned_to_no_raise_the_other_alarm() -> None:
    history = [record(1, panel("n" * 400))]
    found = assessed(panel("n" * 400, "n" * 6 + "i" * 6 + "y" * 388), history)
    assert names(found) == ["drift_to_no"] and "turned to no 0.03" in explain(record(2, found))
    assert not assessed(panel("n" * 400, "y" * 400), [record(1, panel("n" * 400, "n" * 400))]).alarms  # it improved


def test_a_panel_is_compared_with_the_first_one_of_the_same_questions() -> None:
    other = record(1, panel("y" * 400, digest="other"))
    assert figure("drift_to_yes") not in assessed(panel("y" * 400), [other]).shares
    history = [other, record(2, panel("n" * 400)), record(3, panel("y" * 400))]
    assert assessed(panel("y" * 400), history).shares[figure("drift_to_yes")].value == 1.0
