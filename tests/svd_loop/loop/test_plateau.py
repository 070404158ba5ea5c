from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from svd_loop.config.sections import PlateauSection
from svd_loop.contracts import Estimate, PolicyVersion, RoundRecord, Scores, StopReason
from svd_loop.loop.plateau import PlateauRule

PROBLEMS, SAMPLES = 100, 4


def record(round: int, correct: Sequence[int]) -> RoundRecord:
    value = sum(correct) / (SAMPLES * len(correct))
    scores = Scores(
        "development",
        SAMPLES,
        tuple(f"p{place}" for place in range(len(correct))),
        ("math",) * len(correct),
        tuple(correct),
        {"overall": {"pass@1": Estimate(value, value, value)}},
    )
    return RoundRecord(round, PolicyVersion(round, "f"), scores)


def history(*percent: int) -> list[RoundRecord]:
    """Rounds of the given pass@1, in percent of 400 samples over 100 problems."""
    return [
        record(round, [points * 4 // PROBLEMS + (place < points * 4 % PROBLEMS) for place in range(PROBLEMS)])
        for round, points in enumerate(percent)
    ]


def test_undecided_samples_do_not_stop_a_job(rule: PlateauRule) -> None:
    before, after = history(40)[0], history(40, 20)[1]
    undecided = tuple(min(2, SAMPLES - count) for count in after.scores.correct)
    assert rule.decide([before, after]) is StopReason.REGRESSION
    unsure = replace(after, scores=replace(after.scores, undecided=undecided))
    assert rule.decide([before, unsure]) is None
    lost = replace(after, scores=replace(after.scores, correct=(0,) * PROBLEMS, undecided=(SAMPLES,) * PROBLEMS))
    assert rule.decide([before, lost]) is None


@pytest.fixture
def rule() -> PlateauRule:
    return PlateauRule(PlateauSection(minimal_effect=0.01, patience=2, regression=0.05, confidence=0.9))


@pytest.mark.parametrize(
    ("percent", "stop"),
    [
        ((40,), None),
        ((40, 40), None),
        ((40, 40, 40), StopReason.PLATEAU),
        ((40, 45, 45), None),
        ((40, 45, 45, 45), StopReason.PLATEAU),
        ((40, 45, 45, 48), None),
        ((40, 41, 42), StopReason.PLATEAU),  # one point each is not more than one point over the best before
        ((40, 39, 41), StopReason.PLATEAU),
        ((40, 39, 42, 42), None),
        ((40, 45, 44, 43), StopReason.PLATEAU),
        ((40, 45, 30), StopReason.REGRESSION),
        ((40, 50, 43), StopReason.REGRESSION),
        ((40, 50, 46), None),
    ],
)
def test_the_declared_rule(rule: PlateauRule, percent: tuple[int, ...], stop: StopReason | None) -> None:
    assert rule.decide(history(*percent)) == stop


def test_a_fall_within_the_noise_is_no_regression(rule: PlateauRule) -> None:
    noisy = [record(0, [4, 0] * 10 + [3]), record(1, [0, 4] * 10 + [0])]
    assert noisy[1].scores.pass_at_1.value < noisy[0].scores.pass_at_1.value
    assert rule.decide(noisy) is None


def test_an_empty_history_decides_nothing(rule: PlateauRule) -> None:
    assert rule.decide([]) is None
    assert rule.explain([]) == "No round was measured."


@settings(deadline=None)
@given(st.lists(st.integers(0, 100), min_size=1, max_size=8))
def test_best_is_the_highest_and_in_a_tie_the_earliest(percent: list[int]) -> None:
    best = PlateauRule(PlateauSection()).best(history(*percent))
    assert best.round == percent.index(max(percent))


@settings(deadline=None)
@given(st.lists(st.integers(0, 100), min_size=3, max_size=8), st.integers(1, 3))
def test_a_rising_job_is_never_stopped_and_a_flat_one_always(percent: list[int], patience: int) -> None:
    rule = PlateauRule(PlateauSection(patience=patience, minimal_effect=0.01))
    rising = sorted(set(percent))[::2]
    assert all(rule.decide(history(*rising[:rounds])) is None for rounds in range(1, len(rising) + 1))
    assert rule.decide(history(*[percent[0]] * (patience + 1))) is StopReason.PLATEAU


def test_explain_gives_figures_and_says_when_they_are_weak(rule: PlateauRule) -> None:
    weak = [record(0, [0, 4, 2, 1, 3] * 4), record(1, [1, 3, 4, 0, 4] * 4)]
    sentence = rule.explain(weak)
    assert "Round 1 differs from the best before it (round 0) by +10.0 points" in sentence
    assert "90% interval" in sentence and "underpowered: 20 problems detect no less than" in sentence
    assert "0 of the 2 rounds" in sentence and "round 1 is best at 60.0%" in sentence
    strong = [record(0, [1, 2] * 50), record(1, [2, 3] * 50)]
    assert "underpowered" not in rule.explain(strong)
    assert rule.explain(history(40)) == "Only the baseline was measured: pass@1 40.0%."


def test_rounds_on_different_problems_are_refused(rule: PlateauRule) -> None:
    with pytest.raises(ValueError, match="rounds 0 and 1"):
        rule.decide([record(0, [1, 2]), record(1, [1, 2, 3])])
