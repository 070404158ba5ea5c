"""Gains, lifts, shares and verdicts from results written by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svd_loop.config.sweep import SweepSection
from svd_loop.experiments.figures import Figures
from svd_loop.experiments.page import render
from svd_loop.experiments.results import ArmResult, Outcome

DOMAINS = ("math",) * 20 + ("coding",) * 20


def outcome(rate: float, seed: int, round: int = 1) -> Outcome:
    """40 problems of 4 samples, right at about a rate that wobbles with problem and seed."""
    return Outcome(round, 4, DOMAINS, tuple(min(4, int(4 * rate + ((7 * m + seed) % 5) / 5)) for m in range(40)))


def result(arm: str, seed: int, rate: float, base: float = 0.4) -> ArmResult:
    scores = {"test": outcome(rate, seed)}
    return ArmResult(
        arm, seed, "d", 1.0, {"solver": 10}, {"solver": 1}, 0, (), {"test": outcome(base, seed, 0)}, scores, scores
    )


def figures(*arms: tuple[str, float], claims: tuple[dict[str, object], ...] = (), seeds: int = 3) -> Figures:
    section = SweepSection.model_validate(
        {
            "name": "s",
            "config": "c.yaml",
            "arms": {arm: {"says": arm} for arm, _ in arms},
            "control": arms[-1][0],
            "ceiling": arms[0][0],
            "claims": claims,
        }
    )
    return Figures.of(section, [result(arm, seed, rate) for arm, rate in arms for seed in range(1, seeds + 1)])


def test_gain_lift_and_share() -> None:
    found = figures(("gold", 0.9), ("svd", 0.7), ("control", 0.4))
    gain, ceiling = found.gain("svd"), found.gain("gold")
    assert gain is not None and ceiling is not None
    assert gain.low < gain.value < gain.high and 15 < gain.value < 35
    assert found.gain("control") is not None and found.gain("control").value == 0.0  # type: ignore[union-attr]
    assert found.lift("svd").value == pytest.approx(gain.value)  # type: ignore[union-attr]
    assert found.lift("control") is None
    assert found.share("svd") == pytest.approx(gain.value / ceiling.value)
    assert found.gain("svd", "science") is None


def test_a_share_is_of_the_seeds_both_have_and_the_table_shows_how_many_an_arm_played() -> None:
    section = figures(("gold", 0.9), ("svd", 0.7), ("control", 0.4)).section
    played = {"gold": (1, 2), "svd": (3, 2, 1), "control": (1,)}
    rates = {"gold": 0.9, "svd": 0.7, "control": 0.4}
    found = Figures.of(section, [result(arm, seed, rates[arm]) for arm, seeds in played.items() for seed in seeds])
    both = Figures.of(section, [result(arm, seed, rates[arm]) for arm in ("gold", "svd") for seed in (1, 2)])
    assert found.share("svd") == pytest.approx(both.share("svd"))
    assert "| svd | 3 |" in render(found, images=None)
    assert "seeds |" not in render(both, images=None) and "| 0.0 | 0.0 |" in render(both, images=None)


def test_a_column_without_a_single_entry_is_left_out() -> None:
    found = figures(("gold", 0.9), ("svd", 0.7), ("control", 0.4))
    alone = Figures(found.section.model_copy(update={"control": None, "ceiling": None}), found.results)
    assert "| coding | lift | of gold | pass@4 |" in render(found, images=None)
    assert "| coding | pass@4 |" in render(alone, images=None)


@pytest.mark.parametrize(
    ("claim", "verdict"),
    [
        ({"claim": "c", "better": "svd"}, "holds"),
        ({"claim": "c", "better": "svd", "than": "gold"}, "does not hold"),
        ({"claim": "c", "better": "svd", "than": "gold", "share": 0.3}, "holds"),
        ({"claim": "c", "better": "twin", "than": "svd"}, "cannot tell"),
        ({"claim": "c", "better": "svd", "metric": "pass@2"}, "holds"),
        ({"claim": "c", "better": "svd", "metric": "pass@9"}, "not played"),
        ({"claim": "c", "better": "svd", "on": ["science"]}, "not played"),
    ],
)
def test_a_claim_holds_only_where_its_interval_lies_above_nothing(claim: dict[str, object], verdict: str) -> None:
    found = figures(("gold", 0.9), ("svd", 0.65), ("twin", 0.65), ("control", 0.4), claims=(claim,))
    assert [item.verdict for item in found.claims()] == [verdict]


def test_arms_are_compared_over_the_seeds_both_have() -> None:
    found = figures(("a", 0.9), ("b", 0.6))
    fewer = Figures(found.section, {"a": found.results["a"], "b": {1: found.results["b"][1]}})
    one = Figures(found.section, {arm: {1: seeds[1]} for arm, seeds in found.results.items()})
    assert fewer.difference("a", "b") == one.difference("a", "b")


@given(st.floats(0.0, 1.0), st.floats(0.0, 1.0))
def test_a_difference_is_the_difference_of_the_gains(a: float, b: float) -> None:
    found = figures(("a", a), ("b", b))
    gains = [found.gain(arm) for arm in ("a", "b")]
    difference = found.difference("a", "b")
    assert difference is not None and gains[0] is not None and gains[1] is not None
    assert difference.value == pytest.approx(gains[0].value - gains[1].value, abs=1e-9)


def test_a_page_names_a_further_held_out_set_only_for_arms_that_were_measured_on_it() -> None:
    arms = {"new": {"says": "measured", "also": ["far"]}, "old": {"says": "played before the set", "also": ["far"]}}
    section = SweepSection.model_validate(
        {"name": "s", "config": "c.yaml", "arms": arms, "held_out": {"far": {"type": "arithmetic", "count": 4}}}
    )
    measured = result("new", 1, 0.9)
    there = {"test": measured.last["test"], "far": outcome(0.8, 1)}
    base = {"test": measured.base["test"], "far": outcome(0.2, 1, 0)}
    measured = replace(measured, base=base, last=there, kept=there)
    [line] = [
        row
        for row in render(Figures.of(section, [measured, result("old", 1, 0.9)]), None).splitlines()
        if row.startswith("- on `far`")
    ]
    assert "measured" in line and "played before" not in line
