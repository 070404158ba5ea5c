"""The forecast: what the first round will bring with each verifier, from the labelled part of the verifier test.

A prompt's candidates are right with a chance p of its own, and p differs between prompts by a beta distribution that is
fitted to the samples of the development problems. A verifier accepts a right candidate with chance TPR and a wrong one
with chance FPR, independently. With a(p) = p TPR + (1 - p) FPR, a prompt has an accepted candidate among n with chance
1 - (1 - a)^n, and the first one is right with chance p TPR / a. The means over p are the share of prompts that are
accepted, A, and the precision of what is selected, P. Agreement looks at all candidates of a prompt at once, so there A
is the measured share of prompts with an answer that is frequent enough.

Training on selected solutions moves the policy towards them. The gain of pass@1, m, in one round is taken to be

    INTERCEPT + TRANSFER * A * (P - m)

with constants fitted to rounds of the embedded model (`benchmarks/forecast.py`, docs/results/forecast.md).
The interval holds the uncertainty of TPR, FPR and m, that of the constants, and what the fitted rounds scattered by.

Left out: that the candidates of a prompt share their errors, that judge and policy change over the rounds, and the
number of rows and steps. Another model, data set or update has another transfer: the sign and the order of the options
are worth more than the number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from svd_loop.contracts import Estimate, GainForecast, JudgedCandidate, StageName, VoteValue
from svd_loop.judge_health.verifiers import CASCADE, agreement_name
from svd_loop.support.statistics import detectable_difference

FloatArray = npt.NDArray[np.float64]

INTERCEPT, TRANSFER = 0.010, 0.142
TRANSFER_SE, RESIDUAL = 0.029, 0.019
_DRAWS, _GRID = 400, 48
_ALL_JUDGES = "judges"
"""The stages that ask a judge, where the cascade has others too."""
_REJECTED_COST = 0.4
"""Share of a candidate's votes that are cast before it is rejected, roughly."""


@dataclass(frozen=True, slots=True)
class Setting:
    """A job as configured, as far as the forecast needs it.

    Attributes:
        stages: of the cascade.
        judges: of them, those that ask a judge.
        n: candidates per prompt.
        votes: of a stage.
        needed: yes votes that a stage needs.
        problems: development problems.
        samples: of each of them.
        sample_tokens: of a candidate.
        vote_tokens: of all votes of all stages on a candidate.
    """

    stages: Sequence[StageName]
    judges: Sequence[StageName]
    n: int
    votes: int
    needed: int
    problems: int
    samples: int
    sample_tokens: float
    vote_tokens: float


@dataclass(frozen=True, slots=True)
class _Option:
    """A verifier with v votes: the chance that it passes each labelled candidate, and what it costs."""

    name: str
    v: int
    passes: FloatArray
    share_of_votes: float
    agreement: int = 0


def forecast_gain(judged: Sequence[JudgedCandidate], setting: Setting, *, seed: int = 0) -> tuple[GainForecast, ...]:
    """The forecast of every option; the first is the configured one. Empty without right and wrong candidates.

    Args:
        judged: labelled candidates; those that are not complete count as rejected.
        setting: the job as configured.
        seed: of the draws behind the intervals.
    """
    labelled = [one for one in judged if one.right is not None]
    right = np.array([one.right for one in labelled], dtype=bool)
    if not labelled or right.all() or not right.any():
        return ()
    ability = _Ability.of(labelled, setting.samples)
    configured = _forecast(_configured(labelled, setting), setting.n, labelled, ability, setting, seed)
    others = [
        _forecast(option, n, labelled, ability, setting, seed)
        for option in _options(labelled, setting)
        for n in _counts(option, labelled, setting)
    ]
    same = (configured.verifier, configured.n, configured.v)
    return (configured, *(one for one in others if (one.verifier, one.n, one.v) != same))


def recommendation(forecasts: Sequence[GainForecast]) -> str:
    """A sentence: the option whose gain has the highest lower bound, and what the configured one brings."""
    if not forecasts:
        return "Nothing can be forecast: the development samples that were judged are all right or all wrong."
    configured = forecasts[0]
    useful = [one for one in forecasts if one.gain.low > 0.0]
    if not useful:
        return (
            "No verifier tested is shown to help: the interval of every expected gain holds 0 or less. Test more "
            "candidates, or use a stronger model."
        )
    best = max(useful, key=lambda one: (round(one.gain.low, 3), -one.tokens))
    sentence = f"{_words(best)}, expected gain {_points(best.gain)} in the first round"
    if best is configured:
        return f"As configured: {sentence}."
    return f"{sentence[0].upper()}{sentence[1:]}; as configured ({_words(configured)}) {_points(configured.gain)}."


def detectable(setting: Setting) -> float:
    """The smallest difference in pass@1 between two rounds that the development problems can show."""
    return min(1.0, detectable_difference(math.sqrt(0.5 / setting.samples), setting.problems))


def _words(one: GainForecast) -> str:
    votes = f", v = {one.v}" if one.v else ""
    return (
        f"{one.verifier.replace('_', ' ').replace('+', ', then ')} with n = {one.n}{votes}: precision "
        f"{one.precision:.2f}, {one.accepted:.0%} of prompts, {one.tokens:,.0f} tokens each"
    )


def _points(gain: Estimate) -> str:
    return f"{100 * gain.value:+.1f} points ({100 * gain.low:+.1f} to {100 * gain.high:+.1f})"


@dataclass(frozen=True, slots=True)
class _Ability:
    """How often samples are right: the mean over prompts, its standard error, and quantiles of the beta fit."""

    mean: float
    error: float
    quantiles: FloatArray

    @classmethod
    def of(cls, labelled: Sequence[JudgedCandidate], samples: int) -> _Ability:
        """Fit by the method of moments; with one sample a problem, half of the variance is taken to be prompts'."""
        from scipy import stats

        solved = np.array([one.solved if one.solved is not None else float(bool(one.right)) for one in labelled])
        mean = min(max(float(solved.mean()), 0.5 / len(solved)), 1 - 0.5 / len(solved))
        whole = mean * (1 - mean)
        between = (solved.var() - whole / samples) / (1 - 1 / samples) if samples > 1 else whole / 2
        between = min(max(float(between), 0.02 * whole), 0.95 * whole)
        concentration = whole / between - 1
        grid = (np.arange(_GRID) + 0.5) / _GRID
        quantiles = stats.beta.ppf(grid, mean * concentration, (1 - mean) * concentration)
        return cls(mean, float(solved.std() / math.sqrt(len(solved))), np.asarray(quantiles, dtype=np.float64))


def _forecast(
    option: _Option, n: int, labelled: Sequence[JudgedCandidate], ability: _Ability, setting: Setting, seed: int
) -> GainForecast:
    right = np.array([bool(one.right) for one in labelled])
    groups = option.passes[right], option.passes[~right]
    rates = [(float(group.sum()) + 0.5) / (group.size + 1) for group in groups]  # 0 of 10 is not never
    rng = np.random.default_rng(seed)
    drawn = [
        np.append(rate, rng.beta(rate * group.size + 0.5, (1 - rate) * group.size + 0.5, _DRAWS))
        for rate, group in zip(rates, groups, strict=True)
    ]
    frequent = None if not option.agreement else _share_frequent(labelled, option.agreement)
    accepted, precision, tries = _selected(drawn[0], drawn[1], n, ability.quantiles, frequent)
    mean = np.append(ability.mean, np.clip(rng.normal(ability.mean, ability.error, _DRAWS), 0.0, 1.0))
    transfer = np.append(TRANSFER, rng.normal(TRANSFER, TRANSFER_SE, _DRAWS))
    noise = np.append(0.0, rng.normal(0.0, RESIDUAL, _DRAWS))
    lift = accepted * (precision - mean)
    gains = INTERCEPT + transfer * lift + noise
    low, high = np.percentile(gains[1:], [5, 95])
    rejected = 1 - accepted[0] / max(tries[0], 1e-9)
    judged = setting.vote_tokens * option.share_of_votes * (1 - (1 - _REJECTED_COST) * rejected)
    return GainForecast(
        option.name,
        n,
        option.v,
        precision=float(precision[0]),
        recall=rates[0],
        accepted=float(accepted[0]),
        tokens=float(tries[0]) * (setting.sample_tokens + judged),
        gain=Estimate(float(gains[0]), min(float(low), float(gains[0])), max(float(high), float(gains[0]))),
    )


def _selected(
    tpr: FloatArray, fpr: FloatArray, n: int, quantiles: FloatArray, frequent: float | None
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Share of prompts accepted, precision of the first accepted candidate, and candidates tried for a prompt.

    `tpr` and `fpr` are aligned draws; `frequent` is the share of prompts with a frequent answer, for agreement.
    """
    right = tpr[:, None] * quantiles
    each = right + fpr[:, None] * (1 - quantiles)
    some = 1 - (1 - each) ** n
    share = np.divide(right, each, out=np.zeros_like(right), where=each > 0)
    total = some.mean(axis=1)
    precision = np.divide((some * share).mean(axis=1), total, out=np.zeros_like(total), where=total > 0)
    if frequent is not None:
        return np.minimum(total, frequent), precision, np.full_like(total, float(n))
    tries = np.divide(some, each, out=np.full_like(some, float(n)), where=each > 0)
    return total, precision, tries.mean(axis=1)


def _share_frequent(labelled: Sequence[JudgedCandidate], needed: int) -> float:
    return sum(one.largest >= needed for one in labelled) / len(labelled)


def _configured(labelled: Sequence[JudgedCandidate], setting: Setting) -> _Option:
    passes = np.prod([_chances(labelled, stage, setting, setting.votes) for stage in setting.stages], axis=0)
    votes = setting.votes if setting.judges else 0
    agreement = 2 if len(setting.judges) < len(setting.stages) else 0  # a stage that sees all candidates needs two
    return _Option(CASCADE, votes, np.asarray(passes, dtype=np.float64), 1.0, agreement)


def _options(labelled: Sequence[JudgedCandidate], setting: Setting) -> list[_Option]:
    """Stages alone, the cascade, agreement, and agreement followed by each of these; with fewer and all votes."""
    judges = []
    for v in sorted({1, min(3, setting.votes), setting.votes}):
        chances = {stage: _chances(labelled, stage, setting, v) for stage in setting.judges}
        share = v / setting.votes
        judges += [_Option(stage, v, passes, share / len(chances)) for stage, passes in chances.items()]
        if len(chances) > 1:
            judges.append(
                _Option(
                    _ALL_JUDGES if len(chances) < len(setting.stages) else CASCADE,
                    v,
                    np.prod(list(chances.values()), axis=0),
                    share,
                )
            )
    options = list(judges)
    compared = max((one.compared for one in labelled), default=0)
    for k in range(2, compared + 1):
        agrees = np.array([one.complete and (one.agreeing or 0) >= k for one in labelled], dtype=np.float64)
        name = agreement_name(k, compared)
        options.append(_Option(name, 0, agrees, 0.0, agreement=k))
        options += [
            _Option(f"{name}+{judge.name}", judge.v, agrees * judge.passes, judge.share_of_votes, agreement=k)
            for judge in judges
            if judge.v == setting.votes
        ]
    return options


def _counts(option: _Option, labelled: Sequence[JudgedCandidate], setting: Setting) -> list[int]:
    """Numbers of candidates worth a forecast; agreement is known for the number that was compared alone."""
    if option.agreement:
        return [max(one.compared for one in labelled)]
    return sorted({max(1, setting.n // 2), setting.n, 2 * setting.n})


def _chances(labelled: Sequence[JudgedCandidate], stage: StageName, setting: Setting, v: int) -> FloatArray:
    """The chance that v of a candidate's votes, drawn without replacement, pass the stage; length C."""
    from scipy import stats

    needed = v if setting.needed == setting.votes else math.ceil(setting.needed * v / setting.votes)
    counts = [[vote.value is VoteValue.YES for vote in one.votes if vote.stage == stage] for one in labelled]
    chances = [
        float(stats.hypergeom.sf(min(needed, len(yes)) - 1, len(yes), sum(yes), min(v, len(yes)))) if yes else 0.0
        for yes in counts
    ]
    return np.array(chances, dtype=np.float64)
