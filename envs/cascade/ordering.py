"""The order in which votes are asked, estimated from earlier votes. It changes the cost, never who is accepted.

An accepted candidate needs all votes in any order, so an order can save only on rejected ones: the next vote should be
the one with the highest chance of rejection per price. A greedy choice needs the probability that a vote of a stage
rejects a candidate *that has passed these votes so far*; but a judge that stops at the first no has cast few second
votes, and late stages saw survivors only. So the votes are explained by a latent class model (Lazarsfeld 1950): a
candidate belongs to one of a few classes, and within a class every stage says yes at its own rate, independently. It is
fitted by expectation maximisation (Dempster, Laird and Rubin 1977) to the votes that were cast. The missing votes may
be ignored, because whether a vote was cast depends on earlier votes only (Rubin 1976).

Independence within a class is a simplification. If it is wrong, the order costs more than the best one; nothing else
changes. Left out: a different order per candidate within a wave.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from svd_loop.contracts import StageName

Unit = tuple[StageName, int]
FloatArray = NDArray[np.float64]

_KINDS, _STEPS = 3, 200


@dataclass(frozen=True, slots=True)
class Measurements:
    """Counts and prices of earlier votes.

    Attributes:
        tallies: for each candidate with votes, yes votes and other votes by stage; length C.
        prices: output tokens of a vote by stage, on average.
    """

    tallies: Sequence[Mapping[StageName, tuple[int, int]]]
    prices: Mapping[StageName, float]


def paper_order(stages: Sequence[StageName], votes: int, once: Collection[StageName] = frozenset()) -> tuple[Unit, ...]:
    """All votes of a stage before the next stage; length S * V. Stages in `once` have a single vote."""
    return tuple((stage, vote) for stage in stages for vote in range(1 if stage in once else votes))


def measured_order(stages: Sequence[StageName], votes: int, measured: Measurements) -> tuple[Unit, ...]:
    """The units in greedy order: at each step the vote with the lowest price per chance of rejection.

    Ties keep the order of `stages`. A stage without a vote or a price is not measured; without a measurement
    of every stage the paper's order is used.

    Returns:
        A permutation of `paper_order(stages, votes)` in which the votes of a stage keep their order.
    """
    asked = {stage for tally in measured.tallies for stage, counts in tally.items() if any(counts)}
    if not stages or not all(stage in asked and measured.prices.get(stage, 0.0) > 0.0 for stage in stages):
        return paper_order(stages, votes)
    weights, rates = fit_kinds(stages, measured.tallies)
    cast: Counter[StageName] = Counter()
    order: list[Unit] = []
    while len(order) < len(stages) * votes:
        left = [place for place, stage in enumerate(stages) if cast[stage] < votes]
        rejected = 1.0 - rates @ weights  # by stage, of the candidates that passed everything so far
        best = max(left, key=lambda place: rejected[place] / measured.prices[stages[place]])
        order.append((stages[best], cast[stages[best]]))
        cast[stages[best]] += 1
        weights = weights * rates[best] / (rates[best] @ weights)
    return tuple(order)


def fit_kinds(
    stages: Sequence[StageName], tallies: Sequence[Mapping[StageName, tuple[int, int]]]
) -> tuple[FloatArray, FloatArray]:
    """Fit class shares (length K) and yes rates by stage and class (S x K) by expectation maximisation.

    The start is fixed (classes with few, many and nearly only yes votes), every rate is pulled towards one half by
    one pseudo-count of yes and one of no, which keeps it inside (0, 1), and the number of steps is fixed: the same
    votes give the same order.
    """
    patterns = Counter(tuple(tally.get(stage, (0, 0)) for stage in stages) for tally in tallies)
    counted = sorted(patterns)
    weights_C = np.array([patterns[pattern] for pattern in counted], dtype=np.float64)
    votes_C_S_2 = np.array(counted, dtype=np.float64)
    yes, no = votes_C_S_2[:, :, 0], votes_C_S_2[:, :, 1]
    shares = np.full(_KINDS, 1.0 / _KINDS)
    rates = np.tile(np.linspace(0.2, 0.95, _KINDS), (len(stages), 1))
    for _ in range(_STEPS):
        log_odds = np.log(shares) + yes @ np.log(rates) + no @ np.log1p(-rates)
        belief = np.exp(log_odds - log_odds.max(axis=1, keepdims=True))
        belief *= (weights_C / belief.sum(axis=1))[:, None]
        shares = (belief.sum(axis=0) + 1.0) / (weights_C.sum() + _KINDS)
        rates = (yes.T @ belief + 1.0) / ((yes + no).T @ belief + 2.0)
    return shares, rates
