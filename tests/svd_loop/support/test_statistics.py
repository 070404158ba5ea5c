from __future__ import annotations

import math
from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from svd_loop.contracts import Estimate
from svd_loop.support.statistics import (
    bootstrap_mean,
    crossed_mean,
    detectable_difference,
    net_change,
    paired_bound,
    paired_difference,
    pass_at_k,
    pass_at_k_of_decided,
    wilson,
)

FRACTIONS = st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), min_size=1, max_size=40)


@given(st.integers(1, 7).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n), st.integers(1, n))))
def test_pass_at_k_counts_the_draws_that_hold_a_right_sample(case: tuple[int, int, int]) -> None:
    n, c, k = case
    draws = list(combinations([1] * c + [0] * (n - c), k))
    assert pass_at_k([c], n, k)[0] == pytest.approx(sum(any(draw) for draw in draws) / len(draws))


def test_pass_at_k_is_one_where_too_few_wrong_samples_are_left_and_does_not_overflow() -> None:
    assert pass_at_k([8], 10, 3).tolist() == [1.0]
    large = pass_at_k([1, 5000, 0], 10_000, 5000)
    assert large == pytest.approx([0.5, 1.0, 0.0])


@given(st.lists(st.integers(0, 6), min_size=1, max_size=20))
def test_pass_at_1_is_the_mean_and_pass_at_k_grows_with_k(correct: list[int]) -> None:
    curves = np.array([pass_at_k(correct, 6, k) for k in range(1, 7)])
    assert curves[0] == pytest.approx(np.array(correct) / 6)
    assert (np.diff(curves, axis=0) >= -1e-12).all()


def test_pass_at_k_of_nothing_is_nothing() -> None:
    assert pass_at_k([], 4, 2).shape == (0,)


@pytest.mark.parametrize(("correct", "k"), [([1], 0), ([1], 5), ([5], 1), ([-1], 1), ([math.nan], 1)])
def test_pass_at_k_refuses_what_makes_no_sense(correct: list[float], k: int) -> None:
    with pytest.raises(ValueError, match="pass@k"):
        pass_at_k(correct, 4, k)


@settings(deadline=None)  # scipy is imported by the first call
@given(FRACTIONS, st.integers(0, 3))
def test_bootstrap_interval_holds_the_mean_stays_in_range_and_repeats(values: list[float], seed: int) -> None:
    estimate = bootstrap_mean(values, resamples=200, seed=seed)
    assert min(values) <= estimate.low <= estimate.high <= max(values)
    assert estimate.value == pytest.approx(np.mean(values))
    assert estimate == bootstrap_mean(values, resamples=200, seed=seed)


def test_bootstrap_agrees_with_the_normal_interval_on_many_values() -> None:
    values = np.random.default_rng(0).random(2000)
    estimate = bootstrap_mean(values, seed=1)
    half = 1.96 * values.std() / math.sqrt(values.size)
    assert estimate.high - estimate.value == pytest.approx(half, rel=0.1)
    assert estimate.value - estimate.low == pytest.approx(half, rel=0.1)


def test_bootstrap_of_nothing_of_equals_and_of_nan() -> None:
    nothing = bootstrap_mean([])
    assert all(math.isnan(figure) for figure in (nothing.value, nothing.low, nothing.high))
    equal = bootstrap_mean([0.5, 0.5, 0.5])
    assert (equal.value, equal.low, equal.high) == (0.5, 0.5, 0.5)
    for bad in (math.nan, math.inf):
        with pytest.raises(ValueError, match="1 of 2"):
            bootstrap_mean([0.0, bad])


def test_pairing_takes_the_difficulty_of_problems_out() -> None:
    rng = np.random.default_rng(0)
    difficulty = rng.random(300)
    old, new = difficulty, difficulty + 0.03 + rng.normal(0, 0.02, 300)
    difference = paired_difference(new, old)
    assert 0.02 < difference.low < 0.03 < difference.high < 0.04
    assert bootstrap_mean(new).high - bootstrap_mean(new).low > 5 * (difference.high - difference.low)


def test_the_bound_is_wrong_as_often_as_its_level_says() -> None:
    rng = np.random.default_rng(0)
    bounds = [paired_bound(rng.binomial(4, 0.55, 200) / 4, np.full(200, 0.5), level=0.02)[1] for _ in range(3000)]
    assert 0.012 < np.mean(np.array(bounds) > 0.05) < 0.028


def test_the_bound_falls_with_its_level_and_is_exact_on_equal_differences() -> None:
    new, old = [1.0, 0.5, 0.5, 1.0], [0.5, 0.5, 0.0, 0.25]
    (mean, loose), (_, tight) = (paired_bound(new, old, level=level) for level in (0.05, 0.001))
    assert tight < loose < mean == 0.4375
    assert paired_bound([1.0, 0.5], [0.5, 0.0], level=1e-6) == (0.5, 0.5)


def test_paired_comparison_needs_the_same_problems() -> None:
    with pytest.raises(ValueError, match="same problems"):
        paired_difference([1.0], [1.0, 0.0])


@settings(deadline=None)
@given(st.integers(0, 50).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_proportion_and_stays_in_range(case: tuple[int, int]) -> None:
    successes, trials = case
    estimate = wilson(successes, trials)
    assert 0.0 <= estimate.low <= estimate.high <= 1.0
    if trials:
        assert estimate.low - 1e-12 <= successes / trials <= estimate.high + 1e-12
    else:
        assert math.isnan(estimate.value) and (estimate.low, estimate.high) == (0.0, 1.0)


def test_wilson_matches_the_closed_form_and_refuses_nonsense() -> None:
    assert wilson(0, 10).high == pytest.approx(1.959964**2 / (10 + 1.959964**2), rel=1e-5)
    with pytest.raises(ValueError, match="wilson"):
        wilson(3, 2)


def test_detectable_difference_shrinks_with_problems_and_is_detected_at_its_power() -> None:
    smallest = detectable_difference(0.245, 300, power=0.8)
    assert smallest == pytest.approx((1.95996 + 0.84162) * 0.245 / math.sqrt(300), rel=1e-4)
    assert detectable_difference(0.245, 1200) == pytest.approx(smallest / 2)
    assert detectable_difference(0.1, 0) == math.inf
    draws = np.random.default_rng(0).normal(smallest, 0.245, (4000, 300))
    significant = np.abs(draws.mean(axis=1)) > 1.96 * 0.245 / math.sqrt(300)
    assert significant.mean() == pytest.approx(0.8, abs=0.02)


def crossed(seeds: int, problems: int, of_seed: float, of_problem: float, rng: np.random.Generator) -> np.ndarray:
    a, b = rng.normal(0, of_seed, (seeds, 1)), rng.normal(0, of_problem, (1, problems))
    return a + b + rng.normal(0, 1.0, (seeds, problems))


@pytest.mark.parametrize(("of_seed", "of_problem"), [(0.0, 0.0), (0.3, 0.0), (0.0, 2.0), (0.3, 1.0)])
def test_the_crossed_interval_covers_the_truth_as_often_as_it_says(of_seed: float, of_problem: float) -> None:
    rng = np.random.default_rng(5)
    estimates = [crossed_mean(crossed(4, 60, of_seed, of_problem, rng)) for _ in range(600)]
    covered = np.mean([estimate.low <= 0.0 <= estimate.high for estimate in estimates])
    assert 0.92 <= covered <= 1.0


def test_the_crossed_interval_of_one_seed_is_that_of_its_problems() -> None:
    values = np.array([[0.0, 1.0, 1.0, 0.0, 1.0]])
    estimate = crossed_mean(values)
    low, high = stats.t.interval(0.95, 4, loc=values.mean(), scale=stats.sem(values[0]))
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((0.6, low, high))


def test_the_crossed_interval_of_equal_values_has_no_width_and_of_nothing_no_mean() -> None:
    assert crossed_mean(np.full((3, 4), 2.0)) == Estimate(2.0, 2.0, 2.0)
    assert math.isnan(crossed_mean(np.zeros((0, 4))).value)
    with pytest.raises(ValueError, match="finite"):
        crossed_mean(np.array([[math.nan, 1.0]]))


def test_pass_at_k_is_of_the_decided_samples() -> None:
    found = pass_at_k_of_decided([4, 1, 0, 0], [0, 2, 3, 4], samples=4, k=2)
    assert found == pytest.approx([1.0, 1.0, 0.5, 0.5])  # the last two have fewer than two decided samples
    assert pass_at_k_of_decided([2, 3], [0, 0], 4, 1).tolist() == pass_at_k([2, 3], 4, 1).tolist()


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 100))
def test_a_net_change_is_clear_of_zero_exactly_where_the_mid_p_test_rejects(gained: int, lost: int, kept: int) -> None:
    change = net_change(gained, lost, gained + lost + kept, level=0.01)
    if gained + lost + kept == 0:
        assert math.isnan(change.value)
        return
    assert change.value == (gained - lost) / (gained + lost + kept) and change.low <= change.value <= change.high
    by_chance = stats.binom(gained + lost, 0.5)
    p = by_chance.sf(gained) + by_chance.pmf(gained) / 2 if gained + lost else 1.0
    assert (change.low > 0) == (p < 0.01)
    mirrored = net_change(lost, gained, gained + lost + kept, level=0.01)
    assert (mirrored.low, mirrored.high) == pytest.approx((-change.high, -change.low))
