from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from svd_loop.config.gate import GateSection
from svd_loop.contracts import Estimate, Scores
from svd_loop.promotion.gate import Decision, Evidence, Finding, GateRule

SAMPLES = 4
QUICK = GateSection()
COUNTS = st.lists(st.integers(0, SAMPLES), min_size=1, max_size=40)


def evidence(
    correct: list[int], domains: list[str] | None = None, *, tokens: float = 100.0, truncated: float = 0.0
) -> Evidence:
    figures = {"output_tokens": tokens, "truncated": truncated}
    overall = {name: Estimate(value, value, value) for name, value in figures.items()}
    names = tuple(f"p{place}" for place in range(len(correct)))
    groups = tuple(domains or ["math"] * len(correct))
    return Evidence("model version 2", Scores("test", SAMPLES, names, groups, tuple(correct), {"overall": overall}))


def refused(challenger: Evidence, champion: Evidence | None, settings: GateSection = QUICK) -> list[str]:
    decision = GateRule(settings).decide(challenger, champion)
    assert decision.passed == (not decision.refusals)
    return [finding.rule for finding in decision.refusals]


CHAMPION = evidence([1, 2, 3, 2] * 20)
BETTER = evidence([2, 3, 4, 3] * 20)


def test_a_clear_gain_passes_every_rule() -> None:
    decision = GateRule(QUICK).decide(BETTER, CHAMPION)
    assert decision.passed
    rules = ["health", "leaks", "pass@1", "domain.math", "pass@k", "length", "truncation"]
    assert [finding.rule for finding in decision.findings] == rules


def test_the_bound_decides_and_not_the_mean() -> None:
    noisy = evidence([4, 0, 3, 2] * 5 + [1, 2, 3, 3])
    champion = evidence([0, 4, 3, 2] * 5 + [1, 2, 3, 2])
    (finding,) = GateRule(QUICK).decide(noisy, champion).refusals
    assert finding.rule == "pass@1"
    assert finding.value < finding.limit == QUICK.margin
    assert "+1.0 points on 24 problems" in finding.text and "gate.margin" in finding.text


def test_a_gain_must_exceed_the_margin() -> None:
    assert refused(BETTER, CHAMPION, QUICK.model_copy(update={"margin": 0.25})) == ["pass@1"]
    assert refused(BETTER, CHAMPION, QUICK.model_copy(update={"margin": 0.24})) == []


def test_undecided_samples_count_for_neither_version() -> None:
    few, many = (0,) * 79 + (1,), (1,) * 80
    new, old = BETTER.scores, CHAMPION.scores
    assert refused(replace(BETTER, scores=replace(new, correct=(*new.correct[:-1], 2), undecided=few)), CHAMPION) == []
    unsure = replace(CHAMPION, scores=replace(old, undecided=many))
    (finding, *_) = GateRule(QUICK).decide(BETTER, unsure).refusals
    assert finding.rule == "pass@1" and "80 undecided samples" in finding.text and "score them again" in finding.text
    assert finding.value <= 0.0
    worse = replace(CHAMPION, scores=replace(old, correct=tuple(count - 1 for count in old.correct), undecided=few))
    (finding, *_) = GateRule(QUICK).decide(worse, BETTER).refusals
    assert "score them again" not in finding.text, "it is refused however they are counted"


def test_no_domain_may_pay_for_the_others() -> None:
    domains = ["math"] * 60 + ["science"] * 20
    champion = evidence([2] * 80, domains)
    assert "domain.science" in refused(evidence([3] * 60 + [1] * 20, domains), champion)
    slightly = evidence([3] * 60 + [1] * 4 + [2] * 16, domains)  # science loses exactly the five points allowed
    assert refused(slightly, champion) == []


def test_variety_may_not_collapse() -> None:
    champion = evidence([1] * 80)  # each problem is solved by one sample in four
    surer = evidence([4] * 40 + [0] * 40)  # better at pass@1, and half of the problems are out of reach now
    assert refused(surer, champion) == ["pass@k"]


@pytest.mark.parametrize(
    ("challenger", "rule"),
    [
        (replace(BETTER, alarms=1.0), "health"),
        (replace(BETTER, leaks=3), "leaks"),
        (replace(BETTER, leaks=None), "leaks"),
        (evidence([2, 3, 4, 3] * 20, tokens=151), "length"),
        (evidence([2, 3, 4, 3] * 20, tokens=66), "length"),
        (evidence([2, 3, 4, 3] * 20, truncated=0.03), "truncation"),
    ],
)
def test_each_rule_refuses_alone(challenger: Evidence, rule: str) -> None:
    assert refused(challenger, CHAMPION) == [rule]


@pytest.mark.parametrize("tokens, truncated", [(150, 0.02), (100 / 1.5, 0.0)])
def test_bounds_are_inclusive(tokens: float, truncated: float) -> None:
    assert refused(evidence([2, 3, 4, 3] * 20, tokens=tokens, truncated=truncated), CHAMPION) == []


def test_what_was_not_measured_of_both_is_not_compared() -> None:
    bare = replace(BETTER, scores=replace(BETTER.scores, estimates={}))
    rules = {finding.rule for finding in GateRule(QUICK).decide(bare, CHAMPION).findings}
    assert rules == {"health", "leaks", "pass@1", "domain.math", "pass@k"}


def test_without_a_champion_a_version_answers_for_itself() -> None:
    assert refused(BETTER, None) == []
    assert refused(replace(BETTER, alarms=2.0), None) == ["health"]


@pytest.mark.parametrize("other", [evidence([1, 2, 3]), replace(CHAMPION, scores=replace(CHAMPION.scores, samples=8))])
def test_only_the_same_problems_and_samples_are_compared(other: Evidence) -> None:
    with pytest.raises(ValueError, match="same problems"):
        GateRule(QUICK).decide(BETTER, other)


@given(COUNTS)
def test_a_version_never_beats_itself(correct: list[int]) -> None:
    assert refused(evidence(correct), evidence(correct)) == ["pass@1"]


@given(COUNTS.flatmap(lambda old: st.tuples(st.just(old), st.permutations(old))))
def test_of_two_versions_at_most_one_beats_the_other(case: tuple[list[int], list[int]]) -> None:
    one, other = evidence(case[0]), evidence(list(case[1]))
    rule = GateRule(QUICK)
    assert not (rule.decide(one, other).passed and rule.decide(other, one).passed)
    assert rule.decide(one, other) == rule.decide(one, other)


@given(st.lists(st.booleans(), max_size=6))
def test_a_decision_is_the_conjunction_of_its_findings(passed: list[bool]) -> None:
    findings = tuple(Finding(str(place), one, 0.0, 0.0, "") for place, one in enumerate(passed))
    assert Decision.of(findings).passed == all(passed)
    assert len(Decision.of(findings).refusals) == passed.count(False)
