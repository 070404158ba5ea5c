"""The error budget of a test set, as a function of what was compared on it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svd_loop.config.gate import GateSection
from svd_loop.mlflow_store.records import Event
from svd_loop.promotion.budget import AlphaBudget, Look, budgets, levels, looks_of

SETTINGS = GateSection(confidence=0.9, looks=4)
OUTCOMES = st.lists(st.booleans(), max_size=80)


def compared(what: str, version: int, over: int, test: str = "one") -> Event:
    return Event(0, what, version, over, test=test, score=0.6, over_score=0.5)


def test_shares_fall_and_a_refusal_uses_its_level_up() -> None:
    found = list(levels(0.1, 4, [False] * 4))
    assert found[:4] == pytest.approx([0.1 * 12 / 25 / number for number in (1, 2, 3, 4)])
    assert found[4] == 0.0


def test_a_promotion_hands_its_level_on() -> None:
    first, second, third = levels(0.1, 4, [True, False])
    assert second == pytest.approx(1.5 * first) and third == pytest.approx(first / 3)


@given(st.integers(1, 60), OUTCOMES)
def test_levels_of_refused_comparisons_never_exceed_the_budget(limit: int, outcomes: list[bool]) -> None:
    found = list(levels(0.05, limit, outcomes))
    assert sum(level for level, promoted in zip(found, outcomes, strict=False) if not promoted) <= 0.05 + 1e-12
    assert all(level <= 0.05 + 1e-12 for level in found)


@given(st.integers(1, 30), OUTCOMES)
def test_what_is_left_covers_the_next_comparison_until_nothing_is(limit: int, outcomes: list[bool]) -> None:
    looks = tuple(Look(number, 1, promoted) for number, promoted in enumerate(outcomes, 2))
    budget = AlphaBudget("one", 0.05, limit, looks)
    assert budget.levels[-1] - 1e-12 <= budget.left <= 0.05
    assert budget.spent == (budget.left == 0.0)
    ended = len(looks) >= limit and not all(outcomes[limit - 1 :])
    assert budget.spent == ended


def test_looks_are_comparisons_on_one_set_each_once() -> None:
    events = [
        Event(1, "first", 1, 0),
        compared("refused", 2, 1),
        compared("refused", 3, 1, "other"),
        Event(4, "refused", 4, 1, test="one"),  # nothing was measured
        compared("refused", 2, 1),
        compared("promoted", 5, 1),
        compared("forced", 6, 5),
    ]
    assert looks_of(events, "one") == (Look(2, 1, False), Look(5, 1, True), Look(6, 5, False))


def test_the_same_two_versions_once_more_cost_nothing() -> None:
    events = [compared("refused", 2, 1), compared("refused", 3, 1)]
    budget = AlphaBudget.of(SETTINGS, events, "one")
    first, second, third = budget.levels
    assert [budget.level(version, 1) for version in (2, 3, 4)] == [first, second, third]
    assert [budget.number(version, 1) for version in (2, 3, 4)] == [1, 2, 3]
    assert budget.level(3, 2) == third, "another champion is another comparison"


def test_a_fresh_set_has_a_whole_budget() -> None:
    events = [compared("refused", version, 1) for version in range(2, 6)]
    assert AlphaBudget.of(SETTINGS, events, "one").spent
    fresh = AlphaBudget.of(SETTINGS, events, "two")
    assert not fresh.spent and fresh.left == pytest.approx(0.1)


def test_history_has_budgets_with_the_settings_of_the_newest_comparison() -> None:
    old = compared("refused", 2, 1)
    new = Event(2, "refused", 3, 1, test="one", over_score=0.5, level=0.01, alpha=0.1, looks=4)
    other = compared("refused", 4, 1, "other")
    one, unset = budgets([old, new, other])
    assert (one.limit, one.alpha, len(one.looks)) == (4, 0.1, 2)
    assert (unset.limit, unset.alpha) == (GateSection().looks, pytest.approx(0.05))
    assert one.json().keys() == {"test", "alpha", "limit", "looks", "left", "next_level", "spent"}
