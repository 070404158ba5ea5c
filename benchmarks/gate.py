"""How often the gate passes a version that is no better, and how often one that is; the table of docs/promotion.md.

    python -m benchmarks.gate --comparisons 1000

Problems differ in difficulty (normal in the logit, sd 1.5, a third of them in each domain). Training moves every
problem's chance by a shift and by noise of its own (sd 0.5 in the logit), so that even a version that is no better on
average solves other problems. The shift is set for the wanted true gain over all problems there could be. Samples of both versions are
drawn independently, which is harder than the shared seeds of a real comparison.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq

from svd_loop.config.gate import GateSection
from svd_loop.contracts import Scores
from svd_loop.gate import Evidence, GateRule

SAMPLES = 4
SPREAD = 1.5
DRIFT = 0.5
DOMAINS = ("math", "science", "coding")


@dataclass(frozen=True)
class World:
    """All problems there could be: `level` is their mean logit, `shift` what training adds to every one."""

    level: float
    shift: float

    @classmethod
    def with_gain(cls, gain: float, level: float) -> World:
        """The world in which the true gain of pass@1 is `gain`."""
        points = np.linspace(-8.0, 8.0, 4001)

        def mean(at: float, sd: float) -> float:
            weights = np.exp(-0.5 * ((points - at) / sd) ** 2)
            return float(np.average(chance(points), weights=weights))

        before, sd = mean(level, SPREAD), float(np.hypot(SPREAD, DRIFT))
        return cls(level, float(brentq(lambda shift: mean(level + shift, sd) - before - gain, -2.0, 4.0)))

    def compare(self, problems: int, rng: np.random.Generator) -> tuple[Evidence, Evidence]:
        """Challenger and champion on one drawn test set."""
        old = rng.normal(self.level, SPREAD, problems)
        new = old + rng.normal(self.shift, DRIFT, problems)
        return evidence(rng.binomial(SAMPLES, chance(new))), evidence(rng.binomial(SAMPLES, chance(old)))


def chance(logit: np.ndarray) -> np.ndarray:
    return np.asarray(1.0 / (1.0 + np.exp(-logit)))


def evidence(correct: np.ndarray) -> Evidence:
    names = tuple(map(str, range(len(correct))))
    domains = tuple(DOMAINS[place % len(DOMAINS)] for place in range(len(correct)))
    return Evidence("version", Scores("test", SAMPLES, names, domains, tuple(correct.tolist())))


def main() -> None:
    """Print one line for each margin, true gain and number of problems."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--comparisons", type=int, default=1000)
    parser.add_argument("--problems", type=int, nargs="+", default=[100, 300, 1000])
    parser.add_argument("--gains", type=float, nargs="+", default=[0.0, 0.05])
    parser.add_argument("--margins", type=float, nargs="+", default=[0.0, GateSection().margin])
    parser.add_argument("--level", type=float, default=0.4, help="mean logit of the problems")
    arguments = parser.parse_args()
    say("| true gain, points | problems | margin, points | passed, % | pass@1 rule alone, % | refused by, % |")
    say("|---|---|---|---|---|---|")
    for gain in arguments.gains:
        world = World.with_gain(gain, arguments.level)
        for problems in arguments.problems:
            for margin in arguments.margins:
                say(line(world, gain, problems, margin, arguments.comparisons))


def line(world: World, gain: float, problems: int, margin: float, comparisons: int) -> str:
    """One row of the table; every row draws the same test sets."""
    rule = GateRule(GateSection(margin=margin))
    rng = np.random.default_rng(0)
    refusals: Counter[str] = Counter()
    passed = 0
    for _ in range(comparisons):
        decision = rule.decide(*world.compare(problems, rng))
        passed += decision.passed
        refusals.update({finding.rule.partition(".")[0] for finding in decision.refusals})
    better = 100 * (1 - refusals["pass@1"] / comparisons)
    others = ", ".join(f"{name} {100 * refusals[name] / comparisons:.1f}" for name in ("domain", "pass@k"))
    share = 100 * passed / comparisons
    return f"| {100 * gain:g} | {problems} | {100 * margin:g} | {share:.1f} | {better:.1f} | {others} |"


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
