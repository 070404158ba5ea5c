"""Statistics with uncertainty: pass@k, intervals over problems, paired comparisons, power.

Pure functions over arrays, all seeded. The unit of resampling is the problem, never the sample: samples of
one problem share its difficulty, so treating them as independent would make every interval too narrow.

Empty input has no mean, so its estimate is NaN throughout. NaN input is a defect of the caller and raises
`ValueError`: a missing score silently skipped would move the mean. Input whose values are all equal has an
interval of zero width, because a bootstrap uses only its data (for proportions, use `wilson`).

`scipy.stats` takes most of a second to import and is therefore imported where it is used: the command line's
help must not wait for it.

Left out: BCa intervals (for means of a hundred problems and more they differ from percentiles in the third
decimal, and are undefined on constant data), and corrections for looking at several metrics at once.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from svd_loop.contracts import Estimate

FloatArray = npt.NDArray[np.float64]
ArrayLike = Sequence[float] | Sequence[int] | npt.NDArray[np.generic]

_BATCH_CELLS = 2_000_000
"""Resampled values held in memory at once (16 MB)."""


def pass_at_k(correct_M: ArrayLike, samples: int, k: int) -> FloatArray:
    """Unbiased pass@k of every problem: the chance that k of its samples, without replacement, hold a correct one.

    1 - C(n-c, k) / C(n, k), computed as a product so that no binomial overflows (Chen et al. 2021,
    "Evaluating Large Language Models Trained on Code", arXiv 2107.03374, equation 1).

    Args:
        correct_M: right samples of each problem, within 0 to `samples`; shape (M,).
        samples: samples of each problem (n).
        k: draws, within 1 to `samples`.

    Returns:
        Fractions, shape (M,).

    Raises:
        ValueError: `k` or a count lies outside its range.
    """
    correct = np.asarray(correct_M, dtype=np.float64)
    if not 1 <= k <= samples:
        raise ValueError(f"pass@k: k must lie within 1 to the number of samples, {samples}; it is {k}")
    if correct.size and not (correct.min() >= 0 and correct.max() <= samples):
        raise ValueError(f"pass@k: counts must lie within 0 to {samples}, found {correct.min()} to {correct.max()}")
    draws = np.arange(k)
    miss = np.clip((samples - correct[:, None] - draws) / (samples - draws), 0.0, None)
    return np.asarray(1.0 - miss.prod(axis=1), dtype=np.float64)


def pass_at_k_of_decided(correct_M: ArrayLike, undecided_M: ArrayLike, samples: int, k: int) -> FloatArray:
    """Pass@k of every problem over its decided samples; shape (M,).

    If fewer than k were decided, it is the mean of the values with all undecided ones wrong and all right.

    Raises:
        ValueError: `k` or a count lies outside its range.
    """
    correct, undecided = np.asarray(correct_M, dtype=np.int64), np.asarray(undecided_M, dtype=np.int64)
    low, high = pass_at_k(correct, samples, k), pass_at_k(correct + undecided, samples, k)
    figures = (low + high) / 2
    for count in np.unique(undecided[undecided <= samples - k]):
        members = undecided == count
        figures[members] = pass_at_k(correct[members], int(samples - count), k)
    return np.asarray(figures, dtype=np.float64)


def bootstrap_mean(values_M: ArrayLike, *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0) -> Estimate:
    """Mean over problems with its percentile bootstrap interval (Efron and Tibshirani 1993, chapter 13).

    Args:
        values_M: one value a problem; shape (M,).
        confidence: level of the two-sided interval, within (0, 1).
        resamples: bootstrap resamples.
        seed: the same seed gives the same interval.

    Raises:
        ValueError: a value is not finite.
    """
    from scipy import stats

    values = _finite(values_M)
    if values.size == 0:
        return Estimate(math.nan, math.nan, math.nan)
    mean = float(values.mean())
    if np.all(values == values[0]):
        return Estimate(mean, mean, mean)
    result = stats.bootstrap(
        (values,),
        np.mean,
        method="percentile",
        confidence_level=confidence,
        n_resamples=resamples,
        batch=max(1, _BATCH_CELLS // values.size),
        rng=np.random.default_rng(seed),
    )
    low, high = result.confidence_interval
    return Estimate(mean, float(low), float(high))


def paired_difference(
    new_M: ArrayLike, old_M: ArrayLike, *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Estimate:
    """Mean of `new - old` over the same problems, with its bootstrap interval over problems.

    Raises:
        ValueError: the lengths differ, or a value is not finite.
    """
    return bootstrap_mean(_differences(new_M, old_M), confidence=confidence, resamples=resamples, seed=seed)


def paired_bound(new_M: ArrayLike, old_M: ArrayLike, *, level: float) -> tuple[float, float]:
    """Mean of `new - old` over the same problems, with its lower one-sided bound by Student's paired t.

    For levels far below those of `paired_difference`, whose bootstrap would need some 100 / level resamples.

    Args:
        new_M: one value a problem; shape (M,), M at least 1.
        old_M: of the same problems.
        level: chance that the bound lies above the true mean, within (0, 1).

    Raises:
        ValueError: the lengths differ, or a value is not finite.
    """
    from scipy import stats

    values = _differences(new_M, old_M)
    mean = float(values.mean())
    if np.all(values == values[0]):
        return mean, mean
    found = stats.ttest_1samp(values, 0.0, alternative="greater").confidence_interval(1 - level)
    return mean, float(found.low)


def crossed_mean(values_SM: npt.NDArray[np.float64], *, confidence: float = 0.95) -> Estimate:
    """Mean over seeds and problems, both treated as random samples, with its interval.

    Every seed (row) is measured on the same problems (columns), so values share a seed's luck along a row and a
    problem's difficulty along a column. With the mean squares of the two-way layout the variance of the mean is
    (MS_seeds + MS_problems - MS_rest) / (S M), with Satterthwaite's degrees of freedom (1946; Searle, Casella and
    McCulloch, "Variance Components", 1992, section 4.3 and appendix S). Where that is smaller than what problems or
    seeds alone would give, the larger of those is taken. With one seed its variance is unknown: the interval is then
    over problems alone.

    Args:
        values_SM: one value a seed and problem; shape (S, M).
        confidence: level of the two-sided interval, within (0, 1).

    Raises:
        ValueError: a value is not finite.
    """
    from scipy import stats

    _finite(values_SM)
    S, M = values_SM.shape
    if S == 0 or M == 0:
        return Estimate(math.nan, math.nan, math.nan)
    mean = float(values_SM.mean())
    if M == 1 and S == 1:
        return Estimate(mean, math.nan, math.nan)
    rows, columns = values_SM.mean(axis=1), values_SM.mean(axis=0)
    of_seeds = M * rows.var(ddof=1) if S > 1 else 0.0
    of_problems = S * columns.var(ddof=1) if M > 1 else 0.0
    rest = values_SM - rows[:, None] - columns[None, :] + mean
    of_rest = float((rest**2).sum()) / ((S - 1) * (M - 1)) if S > 1 and M > 1 else 0.0
    total = of_seeds + of_problems - of_rest
    terms = [(of_seeds, S - 1), (of_problems, M - 1), (of_rest, (S - 1) * (M - 1))]
    freedom = total**2 / sum(square**2 / degrees for square, degrees in terms if square > 0) if total > 0 else 0
    if total < max(of_seeds, of_problems):
        total, freedom = max((of_seeds, S - 1), (of_problems, M - 1))
    if total == 0.0:
        return Estimate(mean, mean, mean)
    half = float(stats.t.ppf((1 + confidence) / 2, max(freedom, 1))) * math.sqrt(total / (S * M))
    return Estimate(mean, mean - half, mean + half)


def wilson(successes: int, trials: int, *, confidence: float = 0.95) -> Estimate:
    """A proportion with Wilson's score interval (1927), valid at 0, at 1 and for few trials.

    Without trials the value is NaN and the interval is [0, 1].

    Raises:
        ValueError: `successes` lies outside 0 to `trials`.
    """
    from scipy import stats

    if not 0 <= successes <= trials:
        raise ValueError(f"wilson: successes must lie within 0 to trials, found {successes} of {trials}")
    if trials == 0:
        return Estimate(math.nan, 0.0, 1.0)
    interval = stats.binomtest(successes, trials).proportion_ci(confidence, method="wilson")
    return Estimate(successes / trials, float(interval.low), float(interval.high))


def share_of_clusters(passed_C: npt.NDArray[np.bool_], clusters_C: npt.NDArray[np.generic]) -> Estimate:
    """A proportion over candidates that come in clusters, with Wilson's interval at the effective number of them.

    That number is C / d, where d, at least 1, is the design effect: the variance of the proportion as a ratio over
    clusters, G / (G - 1) * sum((sum of the cluster's deviations)^2) / C^2, over that of clusters of one (Kish 1965).
    A proportion of 0 or 1 does not tell how alike the candidates of a cluster are: they count as one.
    Without candidates the value is NaN and the interval is [0, 1].

    Args:
        passed_C: whether each candidate passed; shape (C,).
        clusters_C: the cluster of each; shape (C,).
    """
    count = passed_C.size
    if count == 0:
        return Estimate(math.nan, 0.0, 1.0)
    share = float(passed_C.mean())
    members = np.unique(clusters_C, return_inverse=True)[1]
    sums = np.bincount(members, weights=passed_C - share)
    effect = 1.0
    if 0.0 < share < 1.0 and sums.size > 1:
        alone = count**2 / (count - 1) * share * (1 - share)
        effect = max(1.0, sums.size / (sums.size - 1) * float((sums**2).sum()) / alone)
    elif share in (0.0, 1.0):
        effect = count / sums.size
    return wilson_share(share, count / effect)


def wilson_share(share: float, trials: float) -> Estimate:
    """`wilson` at 95% for a share of a number of trials that need not be whole; above 0."""
    from scipy import stats

    z = float(stats.norm.ppf(0.975))
    centre = (share + z**2 / (2 * trials)) / (1 + z**2 / trials)
    half = z / (1 + z**2 / trials) * math.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    return Estimate(share, max(0.0, min(centre - half, share)), min(1.0, max(centre + half, share)))


def difference_of_shares(new: Estimate, old: Estimate) -> Estimate:
    """`new - old` of two independent proportions with Newcombe's hybrid score interval (1998, method 10).

    Takes both proportions with their Wilson intervals; the result has their level.
    """
    value = new.value - old.value
    below = math.hypot(new.value - new.low, old.high - old.value)
    above = math.hypot(new.high - new.value, old.value - old.low)
    return Estimate(value, value - below, value + above)


def net_change(gained: int, lost: int, trials: int, *, level: float) -> Estimate:
    """Net share of yes answers gained when the same `trials` questions are asked twice, by those that turned.

    `(gained - lost) / trials`, with the mid-p interval given how many turned, on the share that turned to yes: each end
    is exceeded with probability `level` (Lancaster 1961; half of the observed count's probability counts, so that the
    level is met on average over the number that turned). The lower end lies above 0 exactly where McNemar's mid-p test
    has p < `level` (Fagerland, Lydersen and Laake 2013). NaN without questions.
    """
    turned = gained + lost
    if trials == 0:
        return Estimate(math.nan, -1.0, 1.0)
    if turned == 0:
        return Estimate(0.0, 0.0, 0.0)
    low, high = _least_share(gained, turned, level), 1.0 - _least_share(lost, turned, level)
    scale = turned / trials
    return Estimate((gained - lost) / trials, (2 * low - 1) * scale, (2 * high - 1) * scale)


def _least_share(successes: int, trials: int, level: float) -> float:
    """The binomial share at which so many successes, half of their own probability counted, are as rare as `level`."""
    from scipy import optimize, special

    if successes == 0:
        return 0.0

    def excess(share: float) -> float:
        more, as_many = special.bdtrc([successes, successes - 1], trials, share)
        return float(more + as_many) / 2 - level

    return float(optimize.brentq(excess, 0.0, 1.0))


def detectable_difference(
    standard_deviation: float, problems: int, *, confidence: float = 0.95, power: float = 0.8
) -> float:
    """Smallest true paired difference that a two-sided test finds with chance `power`.

    (z(1 - alpha/2) + z(power)) * sd / sqrt(M), the normal approximation for paired designs (Cohen 1988, section 2;
    for evaluations of language models Miller 2024, "Adding Error Bars to Evals", arXiv 2411.00640, section 5).

    Args:
        standard_deviation: of the per-problem differences, in the unit of the result.
        problems: M; with none, nothing is detectable (infinity).
        confidence: 1 - alpha.
        power: chance to detect it.
    """
    from scipy import stats

    if problems < 1:
        return math.inf
    quantiles = stats.norm.ppf(1.0 - (1.0 - confidence) / 2.0) + stats.norm.ppf(power)
    return float(quantiles * standard_deviation / math.sqrt(problems))


def _differences(new_M: ArrayLike, old_M: ArrayLike) -> FloatArray:
    new, old = _finite(new_M), _finite(old_M)
    if new.shape != old.shape:
        raise ValueError(f"paired: both sides must cover the same problems, found {new.size} and {old.size}")
    return np.asarray(new - old, dtype=np.float64)


def _finite(values: ArrayLike) -> FloatArray:
    array = np.asarray(values, dtype=np.float64).ravel()
    if bad := int(np.count_nonzero(~np.isfinite(array))):
        raise ValueError(f"statistics: every value must be finite, {bad} of {array.size} are not")
    return array
