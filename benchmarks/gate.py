"""How often the gate passes a version that is no better, and how often a better one; and the same over a year.

Prints the tables of docs/results/gate.md.

    python -m benchmarks.gate --comparisons 1000
    python -m benchmarks.gate_year --histories 4000

Problems differ in difficulty (normal in the logit, sd 1.5, a third of them in each domain). Training moves every
problem's chance by a shift and by noise of its own (sd 0.5 in the logit), so that even a version that is no better on
average solves other problems. The shift is set for the wanted true gain over all problems there could be. Samples of
both versions are drawn independently, which is harder than the shared seeds of a real comparison.
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
from svd_loop.promotion.gate import Decision, Evidence, GateRule

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
            decisions = decide(world, problems, arguments.comparisons)
            for margin in arguments.margins:
                say(line(decisions, f"{100 * gain:g} | {problems}", margin))


def decide(world: World, problems: int, comparisons: int) -> list[Decision]:
    """What the gate says of every simulated comparison; the margin is put in later, since it moves no figure."""
    rule, rng = GateRule(GateSection(margin=0.0)), np.random.default_rng(0)
    return [rule.decide(*world.compare(problems, rng)) for _ in range(comparisons)]


def line(decisions: list[Decision], case: str, margin: float) -> str:
    """One row of the table."""
    refusals: Counter[str] = Counter()
    for decision in decisions:
        rules = {finding.rule.partition(".")[0] for finding in decision.refusals if finding.rule != "pass@1"}
        bound = next(finding.value for finding in decision.findings if finding.rule == "pass@1")
        rules |= {"pass@1"} if bound <= margin else set()
        refusals.update(rules | ({"any"} if rules else set()))
    share = {name: 100 * refusals[name] / len(decisions) for name in ("any", "pass@1", "domain", "pass@k")}
    others = f"domain {share['domain']:.1f}, pass@k {share['pass@k']:.1f}"
    return f"| {case} | {100 * margin:g} | {100 - share['any']:.1f} | {100 - share['pass@1']:.1f} | {others} |"


def say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
