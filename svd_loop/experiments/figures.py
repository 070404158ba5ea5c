"""Compute a sweep's figures with intervals: gains, lifts, shares, and whether each claim holds.

All differences are taken problem by problem and seed by seed, since every arm answers the same problems from the same
base; the interval is over both (`svd_loop.support.statistics.crossed_mean`).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from svd_loop.config.sweep import ClaimSection, SweepSection
from svd_loop.contracts import Estimate
from svd_loop.experiments.results import TEST, ArmResult, Outcome, by_arm
from svd_loop.support.statistics import FloatArray, crossed_mean, pass_at_k_of_decided

GROUPS = ("overall", "math", "science", "coding")
Verdict = Literal["holds", "does not hold", "cannot tell", "not played"]


@dataclass(frozen=True, slots=True)
class ClaimFigures:
    """A claim in one group: its difference in points, and the verdict."""

    claim: ClaimSection
    group: str
    difference: Estimate | None
    verdict: Verdict


@dataclass(frozen=True)
class Figures:
    """The results of a sweep and the figures computed from them.

    Attributes:
        section: the sweep's file.
        results: results by arm and seed.
    """

    section: SweepSection
    results: Mapping[str, Mapping[int, ArmResult]]

    @classmethod
    def of(cls, section: SweepSection, results: Sequence[ArmResult]) -> Figures:
        """Sort results by arm and seed, with arms in the order of the file."""
        found = by_arm(results)
        return cls(section, {arm: found[arm] for arm in section.arms if arm in found})

    def gain(self, arm: str, group: str = "overall", metric: str = "pass@1") -> Estimate | None:
        """Return the points over the base; None if they were not measured."""
        return self._estimate(self._over_base(arm, group, metric))

    def level(self, arm: str, group: str = "overall", metric: str = "pass@1", *, base: bool = False) -> Estimate | None:
        """Return the arm's own figure, or its base's, in points."""
        rows = []
        for result in self.results.get(arm, {}).values():
            values = self._values(result, metric, base=base)
            if values is not None:
                rows.append(values[self._mask(result, group, metric)])
        return self._estimate([row for row in rows if row.size])

    def difference(
        self, arm: str, other: str, group: str = "overall", metric: str = "pass@1", *, share: float = 1.0
    ) -> Estimate | None:
        """Return the points by which an arm's gain exceeds `share` of another's, over their common seeds."""
        own, its = self._paired(arm, other, group, metric)
        if len(own) != len(its):
            return None
        return self._estimate([a - share * b for a, b in zip(own, its, strict=True)])

    def lift(self, arm: str, group: str = "overall") -> Estimate | None:
        """Return the verification lift: points over the unverified control."""
        control = self.section.control
        return self.difference(arm, control, group) if control and control != arm else None

    def share(self, arm: str, group: str = "overall") -> float | None:
        """Return the arm's gain as a fraction of the gold arm's, over common seeds; None if that arm has no gain."""
        own, its = (self._estimate(rows) for rows in self._paired(arm, self.section.ceiling or "", group, "pass@1"))
        return own.value / its.value if own is not None and its is not None and its.value > 0 else None

    def claims(self) -> list[ClaimFigures]:
        """Return the figures of every claim in each of its groups."""
        return [self._claim(claim, group) for claim in self.section.claims for group in claim.on]

    def mean(self, arm: str, value: str) -> float | None:
        """Return the mean over seeds of `tokens`, `calls`, `seconds`, `taken`, or of a field of the rounds from 1."""
        found: list[float] = []
        for result in self.results.get(arm, {}).values():
            if value in ("tokens", "calls"):
                found.append(float(sum(getattr(result, value).values())))
            elif value in ("seconds", "taken"):
                found.append(float(getattr(result, value)))
            else:
                items = [getattr(figures, value) for figures in result.rounds[1:]]
                found += [float(item) for item in items if item is not None]
        return float(np.mean(found)) if found else None

    def by_round(self, arm: str, value: str) -> dict[int, float]:
        """Return the mean over seeds of a field of the rounds, by round."""
        found: dict[int, list[float]] = {}
        for result in self.results.get(arm, {}).values():
            for figures in result.rounds:
                item = getattr(figures, value)
                if item is not None:
                    found.setdefault(figures.round, []).append(float(item))
        return {round: float(np.mean(items)) for round, items in sorted(found.items())}

    # ---------------------------------------------------------------------------------------- inside

    def _claim(self, claim: ClaimSection, group: str) -> ClaimFigures:
        if claim.than is None:
            difference = self.gain(claim.better, group, claim.metric)
        else:
            difference = self.difference(claim.better, claim.than, group, claim.metric, share=claim.share)
        if difference is None or math.isnan(difference.low):
            return ClaimFigures(claim, group, difference, "not played")
        verdict: Verdict = "holds" if difference.low > 0 else "does not hold" if difference.high < 0 else "cannot tell"
        return ClaimFigures(claim, group, difference, verdict)

    def _paired(self, arm: str, other: str, group: str, metric: str) -> tuple[list[FloatArray], list[FloatArray]]:
        """Return both arms' gains over their bases, seed by seed, for the seeds that both have played."""
        seeds = self.results.get(arm, {}).keys() & self.results.get(other, {}).keys()
        return self._over_base(arm, group, metric, seeds), self._over_base(other, group, metric, seeds)

    def _over_base(self, arm: str, group: str, metric: str, seeds: Collection[int] | None = None) -> list[FloatArray]:
        """Return an arm's figures minus its base's, one array of problems per seed, seeds in ascending order."""
        gains = []
        for seed, result in sorted(self.results.get(arm, {}).items()):
            own, base = self._values(result, metric), self._values(result, metric, base=True)
            if (seeds is None or seed in seeds) and own is not None and base is not None:
                gains.append((own - base)[self._mask(result, group, metric)])
        return [gain for gain in gains if gain.size]

    def _values(self, result: ArmResult, metric: str, *, base: bool = False) -> FloatArray | None:
        """Return the points of every problem; None if the metric was not measured."""
        outcome = self._outcome(result, metric, base=base)
        if outcome is None:
            return None
        k = int(metric.removeprefix("pass@")) if metric.startswith("pass@") else 1
        if k > outcome.samples:
            return None
        undecided = outcome.undecided or (0,) * len(outcome.correct)
        return 100.0 * pass_at_k_of_decided(outcome.correct, undecided, outcome.samples, k)

    def _outcome(self, result: ArmResult, metric: str, *, base: bool) -> Outcome | None:
        figure = self.section.arms[result.arm].figure
        outcomes = result.base if base else result.kept if figure == "kept" else result.last
        return outcomes.get(TEST if metric.startswith("pass@") else metric)

    def _mask(self, result: ArmResult, group: str, metric: str) -> FloatArray:
        outcome = self._outcome(result, metric, base=True)
        domains = np.array(outcome.domains if outcome else ())
        return np.ones(len(domains), dtype=bool) if group == "overall" else domains == group

    def _estimate(self, rows: Sequence[FloatArray]) -> Estimate | None:
        if not rows:
            return None
        return crossed_mean(np.stack(rows), confidence=self.section.confidence)
