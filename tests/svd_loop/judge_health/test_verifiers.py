from __future__ import annotations

import math
from random import Random

import numpy as np
import pytest

from svd_loop.contracts import BUILT_IN_STAGES, JudgedCandidate, Stage, Vote, VoteValue
from svd_loop.judge_health.verifiers import (
    CASCADE,
    agreement_name,
    by_name,
    class_beliefs,
    decisions,
    j_of,
    labelled_rates,
    latent_rates,
    vote_figures,
)
from svd_loop.support.statistics import share_of_clusters, wilson

V = 3


def votes(stage: str, yes: int, cast: int = V, text: str = "It holds. [[Y]]") -> list[Vote]:
    return [Vote("p", 0, stage, v, VoteValue.YES if v < yes else VoteValue.NO, text) for v in range(cast)]


def judged(prompt: int, yes: dict[str, int], right: bool | None = None, **agreement: int) -> JudgedCandidate:
    cast = tuple(vote for stage, count in yes.items() for vote in votes(stage, count))
    return JudgedCandidate(f"p{prompt}", cast, right, **agreement)


def drawn(count: int, tpr: float, fpr: float, *, seed: int = 0, labelled: bool = True) -> list[JudgedCandidate]:
    """Candidates, half of them right, whose stages say yes with all votes or with none, independently."""
    draw = Random(seed)
    made = []
    for number in range(count):
        right = draw.random() < 0.5
        chance = tpr if right else fpr
        yes = {stage: V if draw.random() < chance else 0 for stage in BUILT_IN_STAGES}
        made.append(judged(number, yes, right if labelled else None))
    return made


def test_a_stage_passes_with_all_its_votes_and_the_cascade_with_all_its_stages() -> None:
    found = decisions(
        [judged(0, {"factuality": 3, "correctness": 3}), judged(1, {"factuality": 2, "correctness": 3})],
        ["factuality", "correctness"],
        needed=3,
    )
    assert {name: passed.tolist() for name, (passed, _) in found.items()} == {
        "factuality": [True, False],
        "correctness": [True, True],
        CASCADE: [True, False],
    }


def test_agreement_is_a_verifier_for_every_number_of_candidates_that_agree() -> None:
    candidates = [judged(0, {}, agreeing=size, compared=3) for size in (0, 1, 2, 3)] + [judged(1, {})]
    found = decisions(candidates, [], needed=1)
    assert list(found) == [agreement_name(2, 3), agreement_name(3, 3)]
    passed, asked = found["agreement_2_of_3"]
    assert passed.tolist() == [False, False, True, True, False]
    assert asked.tolist() == [True, True, True, True, False]


def test_rates_with_labels() -> None:
    made = [judged(n, {Stage.CORRECTNESS: 3 if n < 6 else 0}, right=n % 2 == 0) for n in range(8)]
    [stage, cascade] = labelled_rates(made, [Stage.CORRECTNESS], needed=3)
    assert (stage.name, cascade.name, stage.labelled) == (Stage.CORRECTNESS, CASCADE, True)
    assert (stage.tpr, stage.fpr) == (wilson(3, 4), wilson(3, 4))
    assert stage.j.value == 0.0 and stage.j.low < -0.4 and stage.j.high > 0.4
    assert (stage.right, stage.wrong) == (4, 4)


def test_without_candidates_nothing_is_known() -> None:
    assert labelled_rates([], BUILT_IN_STAGES, needed=3) == ()
    assert latent_rates([], [], BUILT_IN_STAGES, needed=3) == ()
    only_right = labelled_rates([judged(0, {Stage.CORRECTNESS: 3}, right=True)], [Stage.CORRECTNESS], needed=3)[0]
    assert math.isnan(only_right.fpr.value) and (only_right.fpr.low, only_right.fpr.high) == (0.0, 1.0)
    assert math.isnan(only_right.j.value) and (only_right.j.low, only_right.j.high) == (-1.0, 1.0)
    assert math.isnan(vote_figures([], Stage.CORRECTNESS).spread)


def test_nan_is_refused() -> None:
    values = np.array([[0.5, math.nan, 1.0]])
    assert np.isfinite(class_beliefs(values, np.array([False]), np.ones((1, 1)))).all()  # missing, and said to be
    with pytest.raises(ValueError, match="finite"):
        class_beliefs(values, np.array([False]), np.array([[math.nan]]))
    with pytest.raises(ValueError, match="within 0 to 1"):
        class_beliefs(values * 3, np.array([False]), np.ones((1, 1)))


def test_candidates_of_one_prompt_count_less() -> None:
    passed = np.array([True] * 10 + [False] * 10)
    apart = share_of_clusters(passed, np.arange(20))
    together = share_of_clusters(passed, np.repeat([0, 1, 2, 3], 5))
    assert (apart.low, apart.high) == pytest.approx((wilson(10, 20).low, wilson(10, 20).high), abs=0.02)
    assert together.value == apart.value and together.high - together.low > 1.5 * (apart.high - apart.low)
    assert share_of_clusters(np.ones(4, dtype=bool), np.arange(4)).low == pytest.approx(wilson(4, 4).low)


def test_the_interval_of_j_covers_the_truth() -> None:
    covered = 0
    for seed in range(60):
        rates = by_name(labelled_rates(drawn(80, 0.8, 0.4, seed=seed), BUILT_IN_STAGES, needed=V), labelled=True)
        covered += rates[Stage.FACTUALITY].j.low <= 0.4 <= rates[Stage.FACTUALITY].j.high
    assert covered >= 54  # 57 expected


def test_without_labels_the_rates_are_found_where_stages_are_independent() -> None:
    wrong = [one for one in drawn(400, 0.9, 0.3, seed=9) if not one.right][:40]
    found = by_name(latent_rates(drawn(400, 0.9, 0.3), wrong, BUILT_IN_STAGES, needed=V), labelled=False)
    for stage in BUILT_IN_STAGES:
        assert found[stage].tpr.value == pytest.approx(0.9, abs=0.1)
        assert found[stage].fpr.value == pytest.approx(0.3, abs=0.1)
        assert found[stage].j.low <= 0.6 <= found[stage].j.high
    assert found[CASCADE].right == pytest.approx(200, abs=40)


def test_canaries_tell_which_class_is_right() -> None:
    """A judge that says yes to wrong candidates more often than to right ones."""
    wrong = [judged(1000 + n, dict.fromkeys(BUILT_IN_STAGES, V)) for n in range(60)]
    found = by_name(latent_rates(drawn(300, 0.1, 0.9), wrong, BUILT_IN_STAGES, needed=V), labelled=False)
    assert found[CASCADE].j.value < 0


def test_two_indicators_cannot_tell_two_classes_apart() -> None:
    assert latent_rates(drawn(50, 0.9, 0.1), [], BUILT_IN_STAGES[:2], needed=V) == ()
    agreeing = [judged(n, dict.fromkeys(BUILT_IN_STAGES[:2], 3), agreeing=2, compared=4) for n in range(9)]
    names = [one.name for one in latent_rates(agreeing, [], BUILT_IN_STAGES[:2], needed=V)]
    assert names == [*BUILT_IN_STAGES[:2], CASCADE, *(agreement_name(k, 4) for k in (2, 3, 4))]


def test_the_same_votes_give_the_same_rates() -> None:
    one, other = (latent_rates(drawn(60, 0.8, 0.2), [], BUILT_IN_STAGES, needed=V, seed=3) for _ in range(2))
    assert one == other


def test_what_votes_look_like() -> None:
    replies = ["[[Y]]", "**[[N]]**", "Step 2 is wrong: 4 + 4 = 9. [[N]]", "no verdict"]
    values = [VoteValue.YES, VoteValue.NO, VoteValue.NO, VoteValue.INVALID]
    cast = [Vote("p", 0, "s", v, value, text) for v, (value, text) in enumerate(zip(values, replies, strict=True))]
    found = vote_figures([JudgedCandidate("p", tuple(cast)), JudgedCandidate("q", tuple(cast[:1]))], "s")
    assert (found.votes, found.invalid, found.bare) == (5, 0.2, 0.6)
    assert found.spread == pytest.approx(0.375) and found.split == 1.0
    assert found.characters == 9


def test_an_unknown_rate_says_nothing_of_j() -> None:
    assert math.isnan(j_of(wilson(0, 0), wilson(1, 2)).value)
