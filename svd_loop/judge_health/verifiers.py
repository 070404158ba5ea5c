"""Rates of verifiers from judged candidates: with labels, and without labels by a latent class model.

With labels, candidates of one prompt are correlated, so a rate's interval is Wilson's at the effective number of
candidates n / d, where the design effect d is the cluster-robust variance of the rate divided by its variance under
independence (Kish 1965, at least 1). The interval of J = TPR - FPR is Newcombe's for two such rates.

Without labels, the verifiers' votes are explained by two classes of candidates, right and wrong, within which verifiers
are independent (Dawid and Skene 1979), fitted by expectation maximisation. The votes of one stage on a candidate are
far from independent, so a stage counts as one indicator, whose value is the share of its yes votes. Two classes need
three indicators; with fewer, nothing is estimated. Canaries enter as candidates known to be wrong, which identifies the
class of wrong candidates. Intervals come from a bootstrap over prompts.

The unlabelled figures need care: the class that the verifiers agree on need not be correctness, and verifiers that make
the same errors get rates that are too good.

Pure functions. Empty input gives NaN rates with the interval 0 to 1 (J: -1 to 1); NaN input raises `ValueError`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from svd_loop.contracts import Estimate, JudgedCandidate, StageName, VerifierRates, VoteFigures, VoteValue
from svd_loop.support.statistics import difference_of_shares, share_of_clusters, wilson_share

FloatArray = npt.NDArray[np.float64]
BoolArray = npt.NDArray[np.bool_]

CASCADE = "cascade"
_STEPS, _RESAMPLES, _LEAST_INDICATORS = 60, 200, 3


def agreement_name(needed: int, compared: int) -> str:
    """Return the name of the verifier that accepts an answer given by `needed` of `compared` candidates."""
    return f"agreement_{needed}_of_{compared}"


def decisions(
    judged: Sequence[JudgedCandidate], stages: Sequence[StageName], needed: int
) -> dict[str, tuple[BoolArray, BoolArray]]:
    """Return, by verifier, whether each candidate passes and whether the verifier was applied to it.

    Both arrays have length C. Agreement is given for every k from 2 to the number of candidates compared.
    """
    passed = {
        stage: np.array([passes(one, stage, needed) for one in judged], dtype=bool) for stage in dict.fromkeys(stages)
    }
    everywhere = np.ones(len(judged), dtype=bool)
    found = {str(stage): (values, everywhere) for stage, values in passed.items()}
    if passed:
        found[CASCADE] = (np.logical_and.reduce(list(passed.values())), everywhere)
    compared = np.array([one.compared if one.agreeing is not None else 0 for one in judged], dtype=int)
    agreeing = np.array([one.agreeing or 0 for one in judged], dtype=int)
    largest = int(compared.max(initial=0))
    for k in range(2, largest + 1):
        found[agreement_name(k, largest)] = (agreeing >= k, compared == largest)
    return found


def labelled_rates(
    judged: Sequence[JudgedCandidate], stages: Sequence[StageName], needed: int
) -> tuple[VerifierRates, ...]:
    """Return the rates of every verifier on the complete candidates with labels; none without any."""
    labelled = [one for one in judged if one.right is not None and one.complete]
    if not labelled:
        return ()
    right = np.array([one.right for one in labelled], dtype=bool)
    prompts = np.array([one.prompt_id for one in labelled])
    rates = []
    for name, (passed, asked) in decisions(labelled, stages, needed).items():
        of_right, of_wrong = right & asked, ~right & asked
        tpr = share_of_clusters(passed[of_right], prompts[of_right])
        fpr = share_of_clusters(passed[of_wrong], prompts[of_wrong])
        rates.append(VerifierRates(name, tpr, fpr, j_of(tpr, fpr), True, int(of_right.sum()), int(of_wrong.sum())))
    return tuple(rates)


def j_of(tpr: Estimate, fpr: Estimate) -> Estimate:
    """Return J with its interval; -1 to 1 if a rate is unknown."""
    if math.isnan(tpr.value) or math.isnan(fpr.value):
        return Estimate(math.nan, -1.0, 1.0)
    return difference_of_shares(tpr, fpr)


def latent_rates(
    judged: Sequence[JudgedCandidate],
    wrong: Sequence[JudgedCandidate],
    stages: Sequence[StageName],
    needed: int,
    *,
    judges: Sequence[StageName] | None = None,
    seed: int = 0,
) -> tuple[VerifierRates, ...]:
    """Return rates without labels, by the latent class model of the module's docstring.

    Args:
        judged: candidates whose labels are not used; only complete ones count.
        wrong: planted candidates, known to be wrong.
        stages: stages of the cascade.
        needed: yes votes that a stage needs.
        judges: the stages that are indicators; None is all of them. Agreement is an indicator of its own.
        seed: seed of the bootstrap.

    Returns:
        The rates; empty with fewer than three indicators, or without candidates.
    """
    judged = [one for one in judged if one.complete]
    values, known = _indicators(judged, wrong, stages if judges is None else judges)
    if not judged or values.shape[1] < _LEAST_INDICATORS:
        return ()
    prompts = np.unique([one.prompt_id for one in [*judged, *wrong]], return_inverse=True)[1]
    verifiers = decisions(judged, stages, needed)
    rng = np.random.default_rng(seed)
    clusters = int(prompts.max()) + 1
    resamples = rng.multinomial(clusters, np.full(clusters, 1 / clusters), size=_RESAMPLES)[:, prompts]
    weights = np.concatenate([np.ones((1, len(values))), resamples])
    beliefs = (class_beliefs(values, known, weights) * weights)[:, : len(judged)]
    weights = weights[:, : len(judged)]
    return tuple(_latent(name, passed, asked, beliefs, weights) for name, (passed, asked) in verifiers.items())


def class_beliefs(values_C_I: FloatArray, known_wrong_C: BoolArray, weights_R_C: FloatArray) -> FloatArray:
    """Return the probability that each candidate belongs to the class of right ones, in each of R fits; shape (R, C).

    Args:
        values_C_I: yes shares in [0, 1] by indicator; NaN if an indicator has no value for a candidate.
        known_wrong_C: candidates that belong to the other class.
        weights_R_C: weight of each candidate, by fit.

    Every rate is shrunk towards one half by one pseudo-count of yes and one of no. A fit starts twice, from the mean of
    a candidate's indicators and from one minus it, and the more likely result is used: if verifiers say yes to known
    wrong candidates, the class with fewer yes votes is that of the right ones. Ties use the first start.
    """
    there = ~np.isnan(values_C_I)
    if np.any((values_C_I[there] < 0) | (values_C_I[there] > 1)) or not np.all(np.isfinite(weights_R_C)):
        raise ValueError("class_beliefs: indicators must lie within 0 to 1 and weights must be finite")
    # Few different patterns are voted: fitting to those, with their weights added up, gives the same.
    patterns, place = np.unique(np.column_stack([known_wrong_C, values_C_I]), axis=0, return_inverse=True)
    summed = [np.bincount(place, weights=one, minlength=len(patterns)) for one in weights_R_C]
    weights = np.array(summed, dtype=np.float64)
    known, values = patterns[:, 0] > 0, patterns[:, 1:]
    there = ~np.isnan(values)
    yes, no = np.where(there, values, 0.0), np.where(there, 1.0 - values, 0.0)
    mean = yes.sum(axis=1) / np.maximum(there.sum(axis=1), 1)
    belief, likelihood = _maximised(yes, no, known, weights, 0.1 + 0.8 * mean)
    if known.any():
        other, likely = _maximised(yes, no, known, weights, 0.9 - 0.8 * mean)
        belief = np.where((likely > likelihood + 1e-6)[:, None], other, belief)
    return belief[:, place]


def _maximised(
    yes: FloatArray, no: FloatArray, known_wrong: BoolArray, weights: FloatArray, start: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return the probabilities after expectation maximisation, and the log-likelihood there, by fit."""
    belief = np.broadcast_to(np.where(known_wrong, 0.0, start), weights.shape)
    free = weights * ~known_wrong
    likelihood = np.zeros(len(weights))
    for _ in range(_STEPS):
        share = (((free * belief).sum(axis=1) + 1.0) / (free.sum(axis=1) + 2.0))[:, None]
        rates = [
            (mass @ yes + 1.0) / (mass @ (yes + no) + 2.0) for mass in ((1.0 - belief) * weights, belief * weights)
        ]
        wrong, right = (np.log(rate) @ yes.T + np.log1p(-rate) @ no.T for rate in rates)
        both = np.logaddexp(wrong + np.log1p(-share), right + np.log(share))
        belief = np.where(known_wrong, 0.0, np.exp(right + np.log(share) - both))
        likelihood = (weights * np.where(known_wrong, wrong, both)).sum(axis=1)
    return belief, likelihood


def vote_figures(judged: Sequence[JudgedCandidate], stage: StageName) -> VoteFigures:
    """Return statistics of a stage's votes: invalid share, length, spread and split votes."""
    by_candidate = [[vote for vote in one.votes if vote.stage == stage] for one in judged]
    by_candidate = [votes for votes in by_candidate if votes]
    votes = [vote for group in by_candidate for vote in group]
    if not votes:
        return VoteFigures(0, *[math.nan] * 5)
    shares = [sum(vote.value is VoteValue.YES for vote in group) / len(group) for group in by_candidate]
    several = [len({vote.value for vote in group}) > 1 for group in by_candidate if len(group) > 1]
    return VoteFigures(
        votes=len(votes),
        invalid=sum(vote.value is VoteValue.INVALID for vote in votes) / len(votes),
        characters=float(np.median([len(vote.text.strip()) for vote in votes])),
        bare=sum(vote.text.lstrip(" \t\r\n*_").startswith("[[") for vote in votes) / len(votes),
        spread=float(np.std(shares)),
        split=sum(several) / len(several) if several else math.nan,
    )


def passes(one: JudgedCandidate, stage: StageName, needed: int) -> bool:
    """Whether a stage passes a candidate; one that decides by a single vote needs that one."""
    cast = sum(vote.stage == stage for vote in one.votes)
    return cast > 0 and _yes(one, stage) >= min(needed, cast)


def _yes(one: JudgedCandidate, stage: StageName) -> int:
    return sum(vote.stage == stage and vote.value is VoteValue.YES for vote in one.votes)


def _indicators(
    judged: Sequence[JudgedCandidate], wrong: Sequence[JudgedCandidate], stages: Sequence[StageName]
) -> tuple[FloatArray, BoolArray]:
    """Return yes shares by candidate and indicator (stages, and agreement if any), and the known wrong ones."""
    rows = []
    for one in [*judged, *wrong]:
        cast = {stage: sum(vote.stage == stage for vote in one.votes) for stage in stages}
        row = [_yes(one, stage) / cast[stage] if cast[stage] else math.nan for stage in stages]
        rows.append([*row, _agreeing_share(one)])
    values = np.array(rows, dtype=np.float64).reshape(len(rows), len(stages) + 1)
    useful = ~np.all(np.isnan(values[: len(judged)]), axis=0)
    known = np.arange(len(rows)) >= len(judged)
    return values[:, useful], known


def _agreeing_share(one: JudgedCandidate) -> float:
    """Return the share of the prompt's other candidates with this one's answer; NaN if none was compared."""
    if one.agreeing is None or one.compared < 2:
        return math.nan
    return max(one.agreeing - 1, 0) / (one.compared - 1)


def _latent(name: str, passed: BoolArray, asked: BoolArray, beliefs: FloatArray, weights: FloatArray) -> VerifierRates:
    """Return a verifier's rates from the fit to the data (the first) and to its resamples (the others).

    A bootstrap of a rate of 0 or 1 has no width, so an interval is never narrower than Wilson's.
    """
    draws = np.array([_weighted(passed, asked, b, w) for b, w in zip(beliefs, weights, strict=True)])
    right = float(beliefs[0][asked].sum())
    counts = right, float(asked.sum()) - right
    wilsons = [
        wilson_share(float(rate), count) if count > 0.5 and np.isfinite(rate) else Estimate(math.nan, 0.0, 1.0)
        for rate, count in zip(draws[0], counts, strict=True)
    ]
    tpr, fpr = (_percentiles(draws[:, place], wilsons[place]) for place in (0, 1))
    j = _percentiles(draws[:, 0] - draws[:, 1], j_of(*wilsons))
    return VerifierRates(name, tpr, fpr, j, False, *counts)


def _weighted(passed: BoolArray, asked: BoolArray, right: FloatArray, weights: FloatArray) -> tuple[float, float]:
    wrong = weights - right
    rates = []
    for mass in (right, wrong):
        total = mass[asked].sum()
        rates.append(float(mass[asked & passed].sum() / total) if total > 1e-9 else math.nan)
    return rates[0], rates[1]


def _percentiles(draws: FloatArray, least: Estimate) -> Estimate:
    """The first draw with the percentiles of the others, widened to the interval of `least`."""
    usable = draws[1:][np.isfinite(draws[1:])]
    if math.isnan(least.value) or usable.size == 0:
        return Estimate(math.nan, least.low, least.high)
    low, high = np.percentile(usable, [2.5, 97.5])
    return Estimate(float(draws[0]), min(float(low), least.low), max(float(high), least.high))


def by_name(rates: Sequence[VerifierRates], *, labelled: bool) -> Mapping[str, VerifierRates]:
    """Return the rates by verifier, either the labelled or the unlabelled ones."""
    return {one.name: one for one in rates if one.labelled is labelled}
