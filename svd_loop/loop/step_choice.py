"""Choose among the checkpoints of an update, by their answers to held-out problems.

    choosing half of the development problems             confirming half
    all checkpoints        x 1 sample a problem
      better half, and last  x 2                          best and last  x all samples
        the best of those      x 4 ... ──► best ≠ last ──►  better there too? ──► kept
                                                            otherwise the last one is

Training always runs to its end, so that a checkpoint that is worse than the start (a dip that later steps make up for)
ends nothing. All checkpoints answer the same problems with the same seeds and are compared problem by problem with the
last one, which stays in to the end. After each look at most half of them go on, and none that is worse than the
leader beyond doubt.

The best of several noisy figures is too high by what chance added to it. So the winner is compared with the last
checkpoint once more, on problems and samples that had no part in the choice: that difference is unbiased, whether it is
in favour of the winner or not, and the winner is kept only if it is.

Left out: ending the training early, since the learning rate follows the planned number of steps, and the start of the
update as one more checkpoint, since the choice of the best round covers it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

import numpy as np

from svd_loop.contracts import Estimate, Evaluator, Half, StepChoice, StepFigure, Usage
from svd_loop.support.statistics import FloatArray, paired_bound, paired_difference
from svd_loop.support.usage import MeteredPolicy, added

_DOUBT = 0.01
"""Chance at which a checkpoint as good as the leader is dropped after one look."""


@dataclass(frozen=True, slots=True)
class StepChooser:
    """Compares the checkpoints of an update.

    Attributes:
        open_step: opens the checkpoint of a round and step.
        evaluator: counts right answers.
        samples: samples of each problem at most.
        confidence: level of the confirmed difference's interval.
    """

    open_step: Callable[[int, int], MeteredPolicy]
    evaluator: Evaluator
    samples: int
    confidence: float = 0.95

    def __call__(self, round: int, steps: Sequence[int]) -> tuple[StepChoice, dict[str, Usage]]:
        """Choose among the checkpoints of a round, given their steps; return the choice and the calls it took.

        Asking again after an interruption gives the same choice, since answers depend on weights and seeds alone.
        """
        usage: dict[str, Usage] = {}

        def count(step: int, half: Half, indices: Sequence[int]) -> list[tuple[int, int]]:
            nonlocal usage
            with closing(self.open_step(round, step)) as policy:
                found = self.evaluator.count(policy, half, indices)
                usage = added(usage, policy.take_usage())
            return found

        return choose(steps, count, samples=self.samples, confidence=self.confidence), usage


Count = Callable[[int, Half, Sequence[int]], list[tuple[int, int]]]
"""`(step, half, indices)` to right and decided samples of each problem of the half."""


def choose(steps: Sequence[int], count: Count, *, samples: int, confidence: float = 0.95) -> StepChoice:
    """Choose among the checkpoints of an update.

    Args:
        steps: the checkpoints' steps, ascending; the last one is the end of the update.
        count: measures a checkpoint.
        samples: samples of each problem at most.
        confidence: level of the confirmed difference's interval.
    """
    last = steps[-1]
    race = _Race(steps, count)
    for total in _looks(samples):
        if race.alive == [last]:
            break
        race.look(total)
        if total < samples:
            race.drop()
    best = max(race.alive, key=lambda step: (race.difference(step), step))
    figures = tuple(race.figure(step) for step in steps)
    if best == last:
        return StepChoice(figures, last, last)
    one, other = (np.array(count(step, Half.CONFIRMING, range(samples))) for step in (best, last))
    confirmed = _estimate(one, other, confidence)
    return StepChoice(figures, best, best if confirmed.value > 0 else last, confirmed)


class _Race:
    """The checkpoints still in the choice, and the right and decided samples of all of them so far."""

    def __init__(self, steps: Sequence[int], count: Count) -> None:
        self.alive = list(steps)
        self._last = steps[-1]
        self._count = count
        self._counts_M2: dict[int, np.ndarray[tuple[int, ...], np.dtype[np.int64]]] = {}
        self._samples: Mapping[int, int] = dict.fromkeys(steps, 0)
        self._figures: dict[int, StepFigure] = {}

    def look(self, total: int) -> None:
        """Give every checkpoint that is left `total` samples of each problem."""
        for step in self.alive:
            done = self._samples[step]
            found = np.array(self._count(step, Half.CHOOSING, range(done, total)), dtype=np.int64)
            self._counts_M2[step] = found + self._counts_M2.get(step, 0)
        self._samples = {**self._samples, **dict.fromkeys(self.alive, total)}
        for step in self.alive:
            right, decided = self._counts_M2[step].sum(axis=0)
            share = float(right / decided) if decided else math.nan
            self._figures[step] = StepFigure(step, total, share, self.difference(step))

    def difference(self, step: int) -> float:
        """Mean difference to the last checkpoint, 0 where there is no problem to compare on."""
        new_M, old_M = _paired(self._counts_M2[step], self._counts_M2[self._last])
        return float((new_M - old_M).mean()) if new_M.size else 0.0

    def figure(self, step: int) -> StepFigure:
        """The figures of a checkpoint at its last look."""
        return self._figures[step]

    def drop(self) -> None:
        """Leave the better half and the last checkpoint, without those that are clearly worse than the leader."""
        ranked = sorted(self.alive, key=lambda step: (self.difference(step), step), reverse=True)
        leader, kept = ranked[0], ranked[: math.ceil(len(ranked) / 2)]
        self.alive = sorted({self._last, *(step for step in kept if not self._clearly_worse(step, leader))})

    def _clearly_worse(self, step: int, leader: int) -> bool:
        new_M, old_M = _paired(self._counts_M2[leader], self._counts_M2[step])
        return new_M.size > 1 and paired_bound(new_M, old_M, level=_DOUBT)[1] > 0


def most_samples(checkpoints: int, samples: int) -> int:
    """Most samples of a problem that a choice takes of all checkpoints together, of both halves."""
    looks, left, drawn = [0, *_looks(samples)], checkpoints, 0
    for before, after in itertools.pairwise(looks):
        drawn += left * (after - before)
        left = min(left, math.ceil(left / 2) + 1)
    return drawn + samples if checkpoints > 1 else 0


def _looks(samples: int) -> list[int]:
    """Samples of each problem after each look: 1, 2, 4 and so on up to all."""
    totals = [1]
    while totals[-1] < samples:
        totals.append(min(2 * totals[-1], samples))
    return totals


def _paired(
    new_M2: np.ndarray[tuple[int, ...], np.dtype[np.int64]], old_M2: np.ndarray[tuple[int, ...], np.dtype[np.int64]]
) -> tuple[FloatArray, FloatArray]:
    """Share of right samples of both, on the problems of which both have a decided one."""
    both_M = (new_M2[:, 1] > 0) & (old_M2[:, 1] > 0)
    return new_M2[both_M, 0] / new_M2[both_M, 1], old_M2[both_M, 0] / old_M2[both_M, 1]


def _estimate(
    new_M2: np.ndarray[tuple[int, ...], np.dtype[np.int64]],
    old_M2: np.ndarray[tuple[int, ...], np.dtype[np.int64]],
    confidence: float,
) -> Estimate:
    return paired_difference(*_paired(new_M2, old_M2), confidence=confidence)
