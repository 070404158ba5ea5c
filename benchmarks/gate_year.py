"""One test set against many comparisons: false promotions with and without the error budget, and what it costs.

Prints the tables of docs/results/gate.md about a test set's life.

    python -m benchmarks.gate_year --histories 4000

The world is that of `benchmarks.gate`. A history keeps its problems and the champion's samples; each comparison draws a
challenger that starts from the champion; histories end at the first promotion. Only the pass@1 rule is asked: the other
rules refuse more, never less. Levels come from `svd_loop.promotion.budget`, and the bound is that of
`svd_loop.support.statistics.paired_bound`, computed here for all histories at once.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from scipy import stats

from benchmarks.gate import DRIFT, SAMPLES, SPREAD, World, chance, say
from svd_loop.config.gate import GateSection
from svd_loop.promotion.budget import levels
from svd_loop.support.statistics import FloatArray

Levels = Callable[[list[bool]], float]
"""The level of the next comparison after those with these outcomes."""


def by_budget(promoted: list[bool]) -> float:
    """As the gate does."""
    settings = GateSection()
    return list(levels(1 - settings.confidence, settings.looks, promoted))[-1]


def each_alone(promoted: list[bool]) -> float:
    """Without a budget: every comparison at the whole level."""
    return 1 - GateSection().confidence


@dataclass
class Histories:
    """Histories side by side, each with its test set and champion."""

    world: World
    count: int
    problems: int
    rng: np.random.Generator
    logits: FloatArray = field(init=False)
    scores: FloatArray = field(init=False)

    def __post_init__(self) -> None:
        self.logits = self.rng.normal(self.world.level, SPREAD, (self.count, self.problems))
        self.scores = self._sampled(self.logits)

    def p_values(self, shift: float) -> FloatArray:
        """One challenger each: p of a gain no larger than the margin."""
        difference = self._sampled(self.logits + self.rng.normal(shift, DRIFT, self.logits.shape)) - self.scores
        error = difference.std(axis=1, ddof=1) / np.sqrt(self.problems)
        t = (difference.mean(axis=1) - GateSection().margin) / error
        return np.asarray(stats.t.sf(t, self.problems - 1))

    def _sampled(self, logits: FloatArray) -> FloatArray:
        return self.rng.binomial(SAMPLES, chance(logits)) / SAMPLES


def false_promotions(gain: float, problems: int, looks: int, count: int, rules: Mapping[str, Levels]) -> str:
    """A row: the share of histories in which some of `looks` challengers passed, all with the same true gain."""
    world = World.with_gain(gain, 0.4)
    histories = Histories(world, count, problems, np.random.default_rng(1))
    smallest = {name: np.full(count, False) for name in rules}
    for look in range(looks):
        p = histories.p_values(world.shift)
        for name, rule in rules.items():
            smallest[name] |= p < rule([False] * look)
    shares = " | ".join(f"{100 * found.mean():.1f}" for found in smallest.values())
    return f"| {100 * gain:g} | {problems} | {shares} |"


def power(gain: float, problems: int, count: int, places: list[list[bool]]) -> str:
    """A row: how often one challenger with a true gain passes, at the whole level and after these outcomes."""
    world = World.with_gain(gain, 0.4)
    p = Histories(world, count, problems, np.random.default_rng(2)).p_values(world.shift)
    shares = [np.mean(p < level) for level in (each_alone([]), *map(by_budget, places))]
    return f"| {100 * gain:g} | {problems} | " + " | ".join(f"{100 * share:.0f}" for share in shares) + " |"


def patience(gain: float, problems: int, count: int, places: list[int]) -> str:
    """A row: how often one of the first so many challengers passes, all with this gain over the same champion."""
    world = World.with_gain(gain, 0.4)
    histories = Histories(world, count, problems, np.random.default_rng(3))
    passed = {name: np.full(count, False) for name in (by_budget, each_alone)}
    cells: list[str] = []
    for look in range(max(places)):
        p = histories.p_values(world.shift)
        for rule, found in passed.items():
            found |= p < rule([False] * look)
        if look + 1 in places:
            cells.append(" / ".join(f"{100 * found.mean():.0f}" for found in passed.values()))
    return f"| {100 * gain:g} | {problems} | " + " | ".join(cells) + " |"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--histories", type=int, default=4000)
    parser.add_argument("--problems", type=int, nargs="+", default=[100, 300, 1000])
    arguments = parser.parse_args()
    count = arguments.histories
    rules = {"alone": each_alone, "budget": by_budget}
    say("| true gain of all, points | problems | some promotion in 52, each at 5%, % | with the budget, % |")
    say("|---|---|---|---|")
    for gain in (0.0, GateSection().margin):
        for problems in arguments.problems:
            say(false_promotions(gain, problems, GateSection().looks, count, rules))
    places = [[False] * made for made in (0, 4, 12, 25, 51)] + [[False] * 4 + [True], [True] * 5]
    after = "1st | 5th | 13th | 26th | 52nd | 6th, 5th promoted | 6th, all promoted"
    say(f"\n| true gain, points | problems | at 5% | {after} |")
    say("|---|---|---|---|---|---|---|---|---|---|")
    for gain in (0.03, 0.05, 0.08):
        for problems in arguments.problems:
            say(power(gain, problems, count, places))
    weeks = [1, 4, 13, 26, 52]
    say("\n| true gain of each, points | problems | " + " | ".join(f"within {week}" for week in weeks) + " |")
    say("|---|---|---|---|---|---|---|")
    for gain in (0.03, 0.05, 0.08):
        for problems in arguments.problems:
            say(patience(gain, problems, count, weeks))


if __name__ == "__main__":
    main()
