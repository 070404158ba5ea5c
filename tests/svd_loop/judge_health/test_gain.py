from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from svd_loop.contracts import BUILT_IN_STAGES, JudgedCandidate, Vote, VoteValue
from svd_loop.judge_health import gain
from svd_loop.judge_health.gain import Setting, detectable, forecast_gain, recommendation

SETTING = Setting(
    BUILT_IN_STAGES,
    BUILT_IN_STAGES,
    n=4,
    votes=3,
    needed=3,
    problems=100,
    samples=2,
    sample_tokens=10.0,
    vote_tokens=90.0,
)


def judged(count: int, tpr: float, fpr: float, *, share: float = 0.4, seed: int = 0) -> list[JudgedCandidate]:
    """Candidates whose stages all say the same, with all their votes."""
    draw, made = Random(seed), []
    for number in range(count):
        right = draw.random() < share
        yes = draw.random() < (tpr if right else fpr)
        value = VoteValue.YES if yes else VoteValue.NO
        votes = tuple(Vote(f"p{number}", 0, stage, v, value) for stage in BUILT_IN_STAGES for v in range(3))
        agreeing = 2 if right else 1
        made.append(JudgedCandidate(f"p{number}", votes, right, agreeing, 2, agreeing, 0.8 if right else 0.1))
    return made


def test_the_configured_job_comes_first_and_every_option_once() -> None:
    found = forecast_gain(judged(60, 0.9, 0.1), SETTING)
    assert (found[0].verifier, found[0].n, found[0].v) == ("cascade", 4, 3)
    names = [(one.verifier, one.n, one.v) for one in found]
    assert len(set(names)) == len(names)
    assert {"correctness", "agreement_2_of_2", "agreement_2_of_2+cascade"} <= {one.verifier for one in found}
    assert {one.n for one in found if one.verifier == "cascade"} == {2, 4, 8}
    assert all(one.gain.low <= one.gain.value <= one.gain.high for one in found)


def test_a_better_judge_is_forecast_to_bring_more_and_a_coin_nothing() -> None:
    good, weak, coin, harmful = (
        forecast_gain(judged(400, tpr, fpr), SETTING)[0].gain
        for tpr, fpr in ((0.9, 0.1), (0.7, 0.4), (0.5, 0.5), (0.1, 0.9))
    )
    assert good.value > weak.value > coin.value > harmful.value
    assert coin.value == pytest.approx(gain.INTERCEPT, abs=0.1) and coin.low < 0 < coin.high
    assert good.low > 0


def test_precision_recall_and_acceptance_are_those_of_the_model() -> None:
    perfect = forecast_gain(judged(300, 1.0, 0.0), replace(SETTING, n=1))[0]
    assert perfect.precision > 0.98 and perfect.recall > 0.98
    assert perfect.accepted == pytest.approx(0.38, abs=0.08)  # n = 1: the share of right candidates
    more = forecast_gain(judged(300, 1.0, 0.0), replace(SETTING, n=16))[0]
    assert more.accepted > perfect.accepted + 0.2 and more.tokens > perfect.tokens


def test_fewer_votes_accept_more() -> None:
    mixed = [
        replace(one, votes=tuple(replace(v, value=VoteValue.YES if v.vote else VoteValue.NO) for v in one.votes))
        for one in judged(40, 1.0, 0.0)
    ]
    found = {(one.v, one.n): one for one in forecast_gain(mixed, SETTING) if one.verifier == "correctness"}
    assert found[3, 4].recall < 0.05 and found[1, 4].recall == pytest.approx(2 / 3, abs=0.05)


def test_nothing_is_forecast_without_both_kinds() -> None:
    assert forecast_gain([], SETTING) == ()
    assert forecast_gain(judged(10, 1.0, 1.0, share=1.0), SETTING) == ()
    assert "Nothing can be forecast" in recommendation(())


def test_the_recommendation_names_an_option_with_a_gain_or_none() -> None:
    good = forecast_gain(judged(300, 0.9, 0.1), SETTING)
    assert "precision" in recommendation(good) and "configured" in recommendation(good)
    hopeless = [one for one in forecast_gain(judged(300, 0.2, 0.8), SETTING) if not one.verifier.startswith("agree")]
    assert recommendation(hopeless).startswith("No verifier")


def test_the_same_candidates_give_the_same_forecast() -> None:
    assert forecast_gain(judged(30, 0.8, 0.3), SETTING) == forecast_gain(judged(30, 0.8, 0.3), SETTING)


def test_more_problems_show_smaller_differences() -> None:
    assert detectable(replace(SETTING, problems=400)) == pytest.approx(detectable(SETTING) / 2)
    assert detectable(replace(SETTING, problems=0)) == 1.0
